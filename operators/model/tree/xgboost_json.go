package tree

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// xgboostJSON reads XGBoost's JSON format.
func (b *builder) xgboostJSON(data []byte) error {
	var v any
	if err := decode(data, &v); err != nil {
		return err
	}
	return b.xgboostDocument(v)
}

// xgboostUBJ reads the same document in UBJSON.
func (b *builder) xgboostUBJ(data []byte) error {
	v, err := readUBJ(data)
	if err != nil {
		return err
	}
	return b.xgboostDocument(v)
}

// xgboostDocument builds a model of a document: maps, lists, numbers and strings.
func (b *builder) xgboostDocument(v any) error {
	d := &doc{}
	learner := d.object(v, "learner")
	param := d.object(learner, "learner_model_param")
	booster := d.object(learner, "gradient_booster")
	objective := d.text(d.object(learner, "objective"), "name")
	features := d.int(param, "num_feature")
	outputs := max(d.int(param, "num_class"), 1)
	if _, ok := param["num_target"]; ok {
		outputs = max(outputs, d.int(param, "num_target"))
	}
	score := d.score(param)
	names := d.texts(learner, "feature_names")
	name := d.text(booster, "name")
	if d.err != nil {
		return d.err
	}
	if err := b.start(features, outputs); err != nil {
		return err
	}
	if err := b.names(names); err != nil {
		return err
	}
	if err := b.xgboostBase(objective, score, false); err != nil {
		return err
	}
	switch name {
	case "gblinear":
		w := d.singles(d.object(booster, "model"), "weights")
		if d.err != nil {
			return d.err
		}
		return b.xgboostLinear(w)
	case "gbtree":
		return b.xgboostForest(d, d.object(booster, "model"), nil)
	case "dart":
		weights := d.singles(booster, "weight_drop")
		return b.xgboostForest(d, d.object(d.object(booster, "gbtree"), "model"), weights)
	}
	return fmt.Errorf("booster %q is not known", name)
}

// xgboostForest adds the trees of a booster; weights are those of dart.
func (b *builder) xgboostForest(d *doc, model map[string]any, weights []float32) error {
	trees, groups := d.list(model, "trees"), d.numbers(model, "tree_info")
	switch {
	case d.err != nil:
		return d.err
	case len(groups) != len(trees):
		return fmt.Errorf("tree_info is for %d of %d trees", len(groups), len(trees))
	case weights != nil && len(weights) != len(trees):
		return fmt.Errorf("%d weights for %d trees", len(weights), len(trees))
	}
	for i, v := range trees {
		t := xgbTree{weight: 1, group: int(groups[i])}
		if weights != nil {
			t.weight = weights[i]
		}
		d.tree(&t, v)
		err := d.err
		if err == nil {
			err = b.xgboostTree(t)
		}
		if err != nil {
			return fmt.Errorf("tree %d: %w", i, err)
		}
	}
	return nil
}

// doc reads parts of a document; after the first error all are zero.
type doc struct{ err error }

func (d *doc) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// tree reads a tree.
func (d *doc) tree(t *xgbTree, v any) {
	o, ok := v.(map[string]any)
	if !ok {
		d.fail("it is no object")
		return
	}
	if p := d.object(o, "tree_param"); p["size_leaf_vector"] != nil && d.int(p, "size_leaf_vector") > 1 {
		d.fail("vectors in leaves are not supported")
	}
	t.left, t.right = d.ints(o, "left_children"), d.ints(o, "right_children")
	t.feature, t.value = d.ints(o, "split_indices"), d.singles(o, "split_conditions")
	for _, x := range d.numbers(o, "default_left") {
		t.defaultLeft = append(t.defaultLeft, x != 0)
	}
	if _, ok := o["categories_nodes"]; !ok {
		return
	}
	nodes, segments, sizes := d.ints(o, "categories_nodes"), d.ints(o, "categories_segments"), d.ints(o, "categories_sizes")
	categories := d.ints(o, "categories")
	if len(nodes) != len(segments) || len(nodes) != len(sizes) {
		d.fail("its lists of categories have different lengths")
		return
	}
	t.sets = map[int][]uint32{}
	for i, n := range nodes {
		lo, size := int(segments[i]), int(sizes[i])
		if lo < 0 || size < 0 || lo+size > len(categories) {
			d.fail("the categories %d to %d of %d", lo, lo+size, len(categories))
			return
		}
		set := []uint32{}
		for _, c := range categories[lo : lo+size] {
			var err error
			if set, err = addCategory(set, int(c)); err != nil {
				d.fail("%w", err)
				return
			}
		}
		t.sets[int(n)] = set
	}
}

// score reads the base score: a number as text, or, in newer versions, a list of
// them as text.
func (d *doc) score(param map[string]any) []float64 {
	text := strings.Trim(d.text(param, "base_score"), "[]")
	var out []float64
	for part := range strings.SplitSeq(text, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil {
			d.fail("base_score: %w", err)
			return nil
		}
		out = append(out, float64(float32(v)))
	}
	return out
}

// object returns the object of that name in v.
func (d *doc) object(v any, name string) map[string]any {
	in, _ := v.(map[string]any)
	o, ok := in[name].(map[string]any)
	if !ok {
		d.fail("there is no object %q", name)
	}
	return o
}

func (d *doc) text(o map[string]any, name string) string {
	s, ok := o[name].(string)
	if !ok {
		d.fail("there is no text %q", name)
	}
	return s
}

// texts returns a list of texts, nil when there is none.
func (d *doc) texts(o map[string]any, name string) (out []string) {
	list, _ := o[name].([]any)
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			d.fail("%s holds something that is no text", name)
		}
		out = append(out, s)
	}
	return out
}

// int returns a whole number that is written as text or number.
func (d *doc) int(o map[string]any, name string) int {
	switch v := o[name].(type) {
	case string:
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil {
			d.fail("%s: %w", name, err)
		}
		return int(n)
	case float64:
		if v != math.Trunc(v) || math.Abs(v) > math.MaxInt32 {
			d.fail("%s is %g", name, v)
			return 0
		}
		return int(v)
	}
	d.fail("there is no number %q", name)
	return 0
}

func (d *doc) list(o map[string]any, name string) []any {
	switch v := o[name].(type) {
	case []any:
		return v
	case []float64:
		if len(v) == 0 {
			return nil
		}
	}
	d.fail("there is no list %q", name)
	return nil
}

// numbers returns a list of numbers; truth values are 0 and 1.
func (d *doc) numbers(o map[string]any, name string) []float64 {
	if v, ok := o[name].([]float64); ok {
		return v
	}
	list, ok := o[name].([]any)
	if !ok {
		d.fail("there is no list %q", name)
		return nil
	}
	out := make([]float64, len(list))
	for i, v := range list {
		switch v := v.(type) {
		case float64:
			out[i] = v
		case bool:
			if v {
				out[i] = 1
			}
		default:
			d.fail("%s holds something that is no number", name)
			return nil
		}
	}
	return out
}

func (d *doc) singles(o map[string]any, name string) []float32 {
	in := d.numbers(o, name)
	out := make([]float32, len(in))
	for i, v := range in {
		out[i] = float32(v)
	}
	return out
}

func (d *doc) ints(o map[string]any, name string) []int32 {
	in := d.numbers(o, name)
	out := make([]int32, len(in))
	for i, v := range in {
		if v != math.Trunc(v) || v < math.MinInt32 || v > math.MaxInt32 {
			d.fail("%s holds %g", name, v)
			return nil
		}
		out[i] = int32(v)
	}
	return out
}
