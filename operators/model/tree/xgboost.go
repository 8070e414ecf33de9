package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// xgbHeader is the size of the header of XGBoost's binary format.
const xgbHeader = 136

// xgbTree is a tree as XGBoost has it: nodes in lists, and the value of a leaf in
// place of its condition.
type xgbTree struct {
	left, right []int32
	feature     []int32
	value       []float32
	defaultLeft []bool
	// sets are the categories of nodes that have some.
	sets  map[int][]uint32
	group int
	// weight is 1 but for dart.
	weight float32
}

// xgbMargin turns "less than t in single precision" into "at most": it returns the
// largest number that, rounded to single precision, is less than t.
func xgbMargin(t float32) (float64, error) {
	if t != t || t == float32(math.Inf(-1)) || t == float32(math.Inf(1)) {
		return 0, fmt.Errorf("the condition %g", t)
	}
	below := math.Nextafter32(t, float32(math.Inf(-1)))
	if below == float32(math.Inf(-1)) {
		return 0, fmt.Errorf("the condition %g", t)
	}
	middle := (float64(below) + float64(t)) / 2
	if math.Float32bits(below)&1 != 0 {
		// The middle is rounded to the even neighbour, which is t.
		middle = math.Nextafter(middle, math.Inf(-1))
	}
	return middle, nil
}

// xgboostTree adds a tree.
func (b *builder) xgboostTree(t xgbTree) error {
	n := len(t.left)
	if n == 0 {
		return errors.New("it has no nodes")
	}
	if len(t.right) != n || len(t.feature) != n || len(t.value) != n || len(t.defaultLeft) != n {
		return errors.New("its lists of nodes have different lengths")
	}
	// Node i becomes split at[i], or leaf ^at[i].
	p, at := plan{sparse: true}, make([]int, n)
	splits := 0
	for i := range n {
		if t.left[i] < 0 {
			at[i] = ^len(p.leaves)
			p.leaves, p.ids = append(p.leaves, float64(t.value[i]*t.weight)), append(p.ids, i)
			continue
		}
		at[i] = splits
		splits++
	}
	if at[0] != 0 && at[0] != ^0 {
		return errors.New("its root is not its first node")
	}
	for i := range n {
		if t.left[i] < 0 {
			continue
		}
		l, r := int(t.left[i]), int(t.right[i])
		if l >= n || r < 0 || r >= n {
			return fmt.Errorf("node %d has the children %d and %d of %d", i, l, r, n)
		}
		s := split{feature: int(t.feature[i]), left: at[l], right: at[r]}
		if !t.defaultLeft[i] {
			s.missing = 1
		}
		if set, ok := t.sets[i]; ok {
			s.kind, s.set = inSetRight, set
		} else {
			var err error
			if s.value, err = xgbMargin(t.value[i]); err != nil {
				return fmt.Errorf("node %d: %w", i, err)
			}
		}
		p.splits = append(p.splits, s)
	}
	return b.tree(p, t.group)
}

// xgboostBase sets the objective and the base score, raw or in the unit of
// predictions.
func (b *builder) xgboostBase(objective string, score []float64, raw bool) error {
	l, margin, err := xgboostLink(objective)
	if err != nil {
		return err
	}
	b.m.link, b.m.single, b.m.info.Objective = l, true, objective
	if len(score) != 1 && len(score) != len(b.m.base) {
		return fmt.Errorf("%d base scores for %d outputs", len(score), len(b.m.base))
	}
	for i := range b.m.base {
		s := score[i%len(score)]
		if !raw {
			if s, err = margin(s); err != nil {
				return err
			}
		}
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return fmt.Errorf("the base score is %g", s)
		}
		b.m.base[i] = float64(float32(s))
	}
	return nil
}

// xgboostLinear sets the weights of a gblinear: those of all outputs for each
// feature, and then their biases.
func (b *builder) xgboostLinear(w []float32) error {
	k, f := b.m.info.NumOutputs, b.m.info.NumFeatures
	if len(w) != (f+1)*k {
		return fmt.Errorf("%d weights for %d features and %d outputs", len(w), f, k)
	}
	b.m.weights = make([]float64, f*k)
	for i := range w {
		v := float64(w[i])
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("weight %d is %g", i, v)
		}
		if i < f*k {
			b.m.weights[i] = v
		} else {
			b.m.base[i-f*k] = float64(float32(b.m.base[i-f*k]) + w[i])
		}
	}
	return nil
}

// cursor reads little-endian values. After the end all are zero.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) take(n int) []byte {
	if c.err == nil && (n < 0 || n > len(c.b)) {
		c.err = errors.New("it is cut off")
	}
	if c.err != nil {
		return nil
	}
	p := c.b[:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) int32() int32 {
	if p := c.take(4); p != nil {
		return int32(binary.LittleEndian.Uint32(p))
	}
	return 0
}

func (c *cursor) float32() float32 { return math.Float32frombits(uint32(c.int32())) }

// length reads a number of elements of that size, all of which must follow.
func (c *cursor) length(size int) int {
	p := c.take(8)
	if p == nil {
		return 0
	}
	n := binary.LittleEndian.Uint64(p)
	if n > uint64(len(c.b)/size) {
		c.err = errors.New("it is cut off")
		return 0
	}
	return int(n)
}

func (c *cursor) string() string { return string(c.take(c.length(1))) }

// xgboostBinary reads XGBoost's old binary format.
func (b *builder) xgboostBinary(data []byte) error {
	c := &cursor{b: data}
	if string(data[:4]) == "binf" {
		c.take(4)
	}
	score := c.float32()
	features, classes := c.int32(), c.int32()
	c.take(8)
	major := c.int32() // 0 before versions were written, and then the score is raw
	c.take(xgbHeader - 6*4)
	objective, booster := c.string(), c.string()
	if c.err != nil {
		return c.err
	}
	if err := b.start(int(features), max(int(classes), 1)); err != nil {
		return err
	}
	if err := b.xgboostBase(objective, []float64{float64(score)}, major == 0); err != nil {
		return err
	}
	switch booster {
	case "gblinear":
		c.take(136)
		w := make([]float32, c.length(4))
		for i := range w {
			w[i] = c.float32()
		}
		if c.err != nil {
			return c.err
		}
		return b.xgboostLinear(w)
	case "gbtree", "dart":
		return b.xgboostTrees(c, booster == "dart")
	}
	return fmt.Errorf("booster %q is not known", booster)
}

func (b *builder) xgboostTrees(c *cursor, dart bool) error {
	trees := int(c.int32())
	c.take(160 - 4)
	if trees < 0 || trees > b.limits.Trees {
		return fmt.Errorf("%d trees", trees)
	}
	var all []xgbTree
	for i := range trees {
		t, err := c.tree()
		if err != nil {
			return fmt.Errorf("tree %d: %w", i, err)
		}
		all = append(all, t)
	}
	for i := range all {
		all[i].group = int(c.int32())
	}
	if dart {
		if n := c.length(4); n != trees && c.err == nil {
			return fmt.Errorf("%d weights for %d trees", n, trees)
		}
		for i := range all {
			all[i].weight = c.float32()
		}
	}
	if c.err != nil {
		return c.err
	}
	for i := range all {
		if err := b.xgboostTree(all[i]); err != nil {
			return fmt.Errorf("tree %d: %w", i, err)
		}
	}
	return nil
}

// tree reads one tree: 148 bytes of header, 20 for each node, 16 of statistics for
// each.
func (c *cursor) tree() (t xgbTree, err error) {
	roots, nodes := c.int32(), int(c.int32())
	c.take(3 * 4)
	vector := c.int32()
	c.take(148 - 6*4)
	switch {
	case c.err != nil:
		return t, c.err
	case roots > 1 || vector > 1:
		return t, fmt.Errorf("%d roots and vectors of %d in leaves are not supported", roots, vector)
	case nodes < 1 || nodes > len(c.b)/36:
		return t, fmt.Errorf("%d nodes, which do not fit the file", nodes)
	}
	t.weight = 1
	for range nodes {
		c.take(4) // the parent
		t.left, t.right = append(t.left, c.int32()), append(t.right, c.int32())
		feature := uint32(c.int32())
		t.feature, t.defaultLeft = append(t.feature, int32(feature&(1<<31-1))), append(t.defaultLeft, feature>>31 != 0)
		t.value = append(t.value, c.float32())
	}
	c.take(16 * nodes)
	return t, c.err
}
