package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// json reads a model in one of the JSON formats.
func (b *builder) json(data []byte) error {
	var form struct {
		Learner      json.RawMessage `json:"learner"`
		TreeInfo     json.RawMessage `json:"tree_info"`
		Coefficients json.RawMessage `json:"coefficients"`
	}
	if err := decode(data, &form); err != nil {
		return fmt.Errorf("JSON: %w", err)
	}
	switch {
	case form.Learner != nil:
		b.m.info.Format = FormatXGBoostJSON
		return b.xgboostJSON(data)
	case form.TreeInfo != nil:
		b.m.info.Format = FormatLightGBMJSON
		return b.lightgbmJSON(data)
	case form.Coefficients != nil:
		b.m.info.Format = FormatLinear
		return b.linearJSON(data)
	}
	return errors.New("its JSON is that of no model: there is no learner, tree_info or coefficients")
}

// decode reads one JSON value and nothing after it.
func decode(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the model")
	}
	return nil
}

type lgbJSON struct {
	Version      string          `json:"version"`
	PerIteration int             `json:"num_tree_per_iteration"`
	MaxFeature   int             `json:"max_feature_idx"`
	Objective    string          `json:"objective"`
	Average      json.RawMessage `json:"average_output"`
	Features     []string        `json:"feature_names"`
	Trees        []lgbJSONTree   `json:"tree_info"`
}

type lgbJSONTree struct {
	Leaves    int         `json:"num_leaves"`
	Structure lgbJSONNode `json:"tree_structure"`
}

type lgbJSONNode struct {
	Feature     *int            `json:"split_feature"`
	Threshold   json.RawMessage `json:"threshold"`
	Decision    string          `json:"decision_type"`
	DefaultLeft bool            `json:"default_left"`
	Missing     string          `json:"missing_type"`
	Left        *lgbJSONNode    `json:"left_child"`
	Right       *lgbJSONNode    `json:"right_child"`
	Index       int             `json:"leaf_index"`
	Value       *float64        `json:"leaf_value"`
	Features    []int           `json:"leaf_features"`
}

// lightgbmJSON reads what LightGBM's dump_model returns.
func (b *builder) lightgbmJSON(data []byte) error {
	var m lgbJSON
	if err := decode(data, &m); err != nil {
		return err
	}
	h := lgbHeader{
		version: m.Version, perIteration: m.PerIteration, maxFeature: m.MaxFeature, objective: m.Objective,
		average: m.Average != nil && string(m.Average) != "false", features: m.Features,
	}
	if err := b.lightgbm(h); err != nil {
		return err
	}
	for i := range m.Trees {
		f := flattener{version: m.Version}
		_, err := f.flatten(&m.Trees[i].Structure)
		if err == nil {
			err = b.tree(f.plan, i%h.perIteration)
		}
		if err != nil {
			return fmt.Errorf("tree %d: %w", i, err)
		}
	}
	return b.whole(len(m.Trees), h.perIteration)
}

// flattener makes lists of nodes of nested ones. How deep they are nested is
// bounded by the decoder.
type flattener struct {
	version string
	plan    plan
}

func (f *flattener) flatten(n *lgbJSONNode) (at int, err error) {
	if n.Feature == nil {
		switch {
		case n.Value == nil:
			return 0, errors.New("a node is neither a split nor a leaf")
		case len(n.Features) > 0:
			return 0, errors.New("its leaves are linear models, which are not supported")
		case n.Index < 0 || n.Index > math.MaxInt32:
			return 0, fmt.Errorf("leaf index %d", n.Index)
		}
		f.plan.leaves, f.plan.ids = append(f.plan.leaves, *n.Value), append(f.plan.ids, n.Index)
		return ^(len(f.plan.leaves) - 1), nil
	}
	if n.Left == nil || n.Right == nil {
		return 0, errors.New("a split has no two children")
	}
	s, err := f.split(n)
	if err != nil {
		return 0, err
	}
	at = len(f.plan.splits)
	f.plan.splits = append(f.plan.splits, s)
	left, err := f.flatten(n.Left)
	if err != nil {
		return 0, err
	}
	right, err := f.flatten(n.Right)
	f.plan.splits[at].left, f.plan.splits[at].right = left, right
	return at, err
}

func (f *flattener) split(n *lgbJSONNode) (split, error) {
	missing, ok := map[string]int{"None": missingNone, "Zero": missingZero, "NaN": missingNaN}[n.Missing]
	if !ok {
		return split{}, fmt.Errorf("missing type %q is not known", n.Missing)
	}
	switch n.Decision {
	case "<=":
		var v float64
		if err := json.Unmarshal(n.Threshold, &v); err != nil {
			return split{}, fmt.Errorf("threshold: %w", err)
		}
		return lgbSplit(f.version, *n.Feature, v, nil, false, n.DefaultLeft, missing)
	case "==":
		set, err := jsonSet(n.Threshold)
		if err != nil {
			return split{}, err
		}
		return lgbSplit(f.version, *n.Feature, 0, set, true, n.DefaultLeft, missing)
	}
	return split{}, fmt.Errorf("decision type %q is not known", n.Decision)
}

// maxCategory bounds categories: their sets are kept as bits.
const maxCategory = 1 << 20

// addCategory adds a category to a set.
func addCategory(set []uint32, c int) ([]uint32, error) {
	if c < 0 || c >= maxCategory {
		return nil, fmt.Errorf("category %d is not from 0 to %d", c, maxCategory-1)
	}
	for c/32 >= len(set) {
		set = append(set, 0)
	}
	set[c/32] |= 1 << (c % 32)
	return set, nil
}

// jsonSet reads categories such as "1||10||100".
func jsonSet(threshold json.RawMessage) (set []uint32, err error) {
	var text string
	if err := json.Unmarshal(threshold, &text); err != nil {
		return nil, fmt.Errorf("categories: %w", err)
	}
	for part := range strings.SplitSeq(text, "||") {
		c, err := strconv.Atoi(part)
		if err == nil {
			set, err = addCategory(set, c)
		}
		if err != nil {
			return nil, fmt.Errorf("categories: %w", err)
		}
	}
	return set, nil
}

// Linear is Weir's own form of a linear model, as JSON: an output is its intercept
// and the sum of the products of coefficients and features.
//
//	{"features": ["amount", "age"], "coefficients": [[0.5, -2]], "intercept": [0.1], "link": "logit"}
type Linear struct {
	Features []string `json:"features,omitempty"`
	// Coefficients has a list for each output, with one for each feature.
	Coefficients [][]float64 `json:"coefficients"`
	// Intercept has one for each output; none: all are 0.
	Intercept []float64 `json:"intercept,omitempty"`
	// Link is "identity", "logit", "softmax" or "log"; "" is identity.
	Link string `json:"link,omitempty"`
}

func (b *builder) linearJSON(data []byte) error {
	var l Linear
	if err := decode(data, &l); err != nil {
		return err
	}
	if len(l.Coefficients) == 0 {
		return errors.New("coefficients has no list")
	}
	features, outputs := len(l.Coefficients[0]), len(l.Coefficients)
	if err := b.start(features, outputs); err != nil {
		return err
	}
	if err := b.names(l.Features); err != nil {
		return err
	}
	if n := len(l.Intercept); n != 0 && n != outputs {
		return fmt.Errorf("%d intercepts for %d outputs", n, outputs)
	}
	copy(b.m.base, l.Intercept)
	b.m.weights = make([]float64, features*outputs)
	for k, list := range l.Coefficients {
		if len(list) != features {
			return fmt.Errorf("output %d has %d coefficients, the first has %d", k, len(list), features)
		}
		for i, w := range list {
			b.m.weights[i*outputs+k] = w
		}
	}
	kind, ok := map[string]linkKind{"": identity, "identity": identity, "logit": sigmoid, "softmax": softmax, "log": exponential}[l.Link]
	if !ok {
		return fmt.Errorf("link %q is not identity, logit, softmax or log", l.Link)
	}
	b.m.link.kind, b.m.info.Objective = kind, l.Link
	return nil
}
