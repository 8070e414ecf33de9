package tree

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// lgbHeader is what LightGBM's text and JSON have in common.
type lgbHeader struct {
	version      string
	perIteration int
	maxFeature   int
	objective    string
	average      bool
	features     []string
}

// lightgbm sets the model up by the header.
func (b *builder) lightgbm(h lgbHeader) error {
	if h.perIteration < 1 {
		return fmt.Errorf("%d trees for each iteration", h.perIteration)
	}
	if err := b.start(h.maxFeature+1, h.perIteration); err != nil {
		return err
	}
	if err := b.names(h.features); err != nil {
		return err
	}
	l, err := lightgbmLink(h.objective)
	if err != nil {
		return err
	}
	if h.average && (h.version == "" || h.version == "v2") {
		l = link{kind: identity} // leaves of forests of that version are converted
	}
	b.m.link, b.m.average, b.m.info.Objective = l, h.average, h.objective
	return nil
}

// missingTypes are the bits of a decision type that say what is missing.
const (
	missingNone = iota
	missingZero
	missingNaN
)

// lgbSplit makes a split of the parts that LightGBM has. Categories are missing by
// other rules in version v2.
func lgbSplit(version string, feature int, value float64, set []uint32, categorical, defaultLeft bool, missing int) (split, error) {
	s := split{feature: feature, value: value, set: set}
	switch {
	case categorical:
		s.kind, s.missing = inSetLeft, 1
		if version == "v2" && missing != missingNaN && len(set) > 0 && set[0]&1 != 0 {
			s.missing = 0 // NaN is category 0
		}
		return s, nil
	case missing == missingNone:
		if !(0 <= value) {
			s.missing = 1 // NaN is 0
		}
	case missing == missingZero || missing == missingNaN:
		if missing == missingZero {
			s.kind = compareZero
		}
		if !defaultLeft {
			s.missing = 1
		}
	default:
		return s, fmt.Errorf("missing type %d is not known", missing)
	}
	return s, nil
}

// section is a run of lines "key=value".
type section map[string]string

// lightgbmText reads a model in LightGBM's text format.
func (b *builder) lightgbmText(text string) error {
	_, text, _ = strings.Cut(text, "\n")
	text, _, ended := strings.Cut(text, "\nend of trees")
	head, rest, _ := strings.Cut(text, "\nTree=")
	h, err := lgbTextHeader(parseSection(head))
	if err != nil {
		return err
	}
	if err := b.lightgbm(h); err != nil {
		return err
	}
	if !ended && h.version != "" && h.version != "v2" {
		return fmt.Errorf("it is cut off: the end of the trees is missing")
	}
	i := 0
	for part := range strings.SplitSeq(rest, "\nTree=") {
		if strings.TrimSpace(part) == "" {
			break
		}
		p, err := lgbTree(h.version, parseSection("number="+part), b.limits.Nodes)
		if err == nil {
			err = b.tree(p, i%h.perIteration)
		}
		if err != nil {
			return fmt.Errorf("tree %d: %w", i, err)
		}
		i++
	}
	return b.whole(i, h.perIteration)
}

// whole checks that no tree of the last iteration is missing.
func (b *builder) whole(trees, perIteration int) error {
	if trees%perIteration != 0 {
		return fmt.Errorf("%d trees are not whole iterations of %d", trees, perIteration)
	}
	return nil
}

func parseSection(text string) section {
	s := section{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "" {
			s[key] = value
		}
	}
	return s
}

func lgbTextHeader(s section) (h lgbHeader, err error) {
	h.version, h.objective = s["version"], s["objective"]
	h.features = strings.Fields(s["feature_names"])
	_, h.average = s["average_output"]
	for key, to := range map[string]*int{"num_tree_per_iteration": &h.perIteration, "max_feature_idx": &h.maxFeature} {
		if *to, err = s.int(key); err != nil {
			return h, err
		}
	}
	return h, nil
}

func (s section) int(key string) (int, error) {
	text, ok := s[key]
	if !ok {
		return 0, fmt.Errorf("%s is missing", key)
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < 0 || v > math.MaxInt32 {
		return 0, fmt.Errorf("%s is %q", key, text)
	}
	return v, nil
}

// lgbTree reads one tree.
func lgbTree(version string, s section, most int) (p plan, err error) {
	leaves, err := s.int("num_leaves")
	if err != nil {
		return p, err
	}
	if leaves < 1 || leaves > most {
		return p, fmt.Errorf("%d leaves", leaves)
	}
	if s["is_linear"] == "1" {
		return p, fmt.Errorf("its leaves are linear models, which are not supported")
	}
	if p.leaves, err = numbers(s, "leaf_value", leaves, parseFloat); err != nil || leaves == 1 {
		return p, err
	}
	n := leaves - 1
	features, err1 := numbers(s, "split_feature", n, strconv.Atoi)
	values, err2 := numbers(s, "threshold", n, parseFloat)
	left, err3 := numbers(s, "left_child", n, strconv.Atoi)
	right, err4 := numbers(s, "right_child", n, strconv.Atoi)
	types, err5 := numbers(s, "decision_type", n, strconv.Atoi)
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			return p, err
		}
	}
	sets, err := lgbSets(s)
	if err != nil {
		return p, err
	}
	p.splits = make([]split, n)
	for i := range n {
		categorical := types[i]&1 != 0
		var set []uint32
		if categorical {
			if v := values[i]; !(v >= 0 && v < float64(len(sets))) {
				return p, fmt.Errorf("node %d splits by set %g of %d", i, v, len(sets))
			}
			set = sets[int(values[i])]
		}
		if p.splits[i], err = lgbSplit(version, features[i], values[i], set, categorical, types[i]&2 != 0, types[i]>>2); err != nil {
			return p, fmt.Errorf("node %d: %w", i, err)
		}
		p.splits[i].left, p.splits[i].right = left[i], right[i]
	}
	return p, nil
}

// lgbSets reads the sets of categories, as bits.
func lgbSets(s section) ([][]uint32, error) {
	n := 0
	if _, ok := s["num_cat"]; ok {
		var err error
		if n, err = s.int("num_cat"); err != nil {
			return nil, err
		}
	}
	if n == 0 {
		return nil, nil
	}
	// The counts are checked against what is there before anything is made by them.
	bounds, err := numbers(s, "cat_boundaries", n+1, strconv.Atoi)
	if err != nil {
		return nil, err
	}
	words, err := numbers(s, "cat_threshold", bounds[n], func(text string) (uint32, error) {
		v, err := strconv.ParseUint(text, 10, 32)
		return uint32(v), err
	})
	if err != nil {
		return nil, err
	}
	sets := make([][]uint32, n)
	for i := range sets {
		lo, hi := bounds[i], bounds[i+1]
		if lo < 0 || hi < lo || hi > len(words) {
			return nil, fmt.Errorf("set %d goes from %d to %d", i, lo, hi)
		}
		sets[i] = words[lo:hi]
	}
	return sets, nil
}

func parseFloat(text string) (float64, error) { return strconv.ParseFloat(text, 64) }

// numbers reads a list of n numbers.
func numbers[V any](s section, key string, n int, parse func(string) (V, error)) ([]V, error) {
	text, ok := s[key]
	if !ok {
		return nil, fmt.Errorf("%s is missing", key)
	}
	if n < 0 || n > (len(text)+1)/2 {
		return nil, fmt.Errorf("%s has fewer than %d numbers", key, n)
	}
	out := make([]V, 0, n)
	for f := range strings.FieldsSeq(text) {
		v, err := parse(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out = append(out, v)
	}
	if len(out) != n {
		return nil, fmt.Errorf("%s has %d numbers, not %d", key, len(out), n)
	}
	return out, nil
}
