package tree

import "math"

// node is an inner node of a tree. Children are indices of nodes, or ^i for leaf
// i.
type node struct {
	// value is the threshold: at most it is left. For sets it is the index of the
	// set.
	value float64
	// child is the left and the right one.
	child   [2]int32
	feature int32
	// missing is the side that a missing value goes to.
	missing uint8
	kind    kind
}

// kind says how a node decides.
type kind uint8

const (
	// compare: NaN is missing, and nothing else.
	compare kind = iota
	// compareZero: NaN and 0 are missing.
	compareZero
	// inSetLeft: a category in the set goes left, any other right.
	inSetLeft
	// inSetRight: a category in the set goes right, any other left.
	inSetRight
)

// zero is the largest value that LightGBM takes as 0: 1e-35 in single precision.
const zero = float64(float32(1e-35))

// sum adds the leaves that n rows reach to dst.
func (m *Model) sum(dst, rows []float64, n int) {
	k, f := m.info.NumOutputs, m.info.NumFeatures
	for t, root := range m.roots {
		at := int(m.groups[t])
		r := 0
		// Four rows at once: the processor looks up the nodes of one while it waits
		// for those of another.
		for ; r+4 <= n; r += 4 {
			w := rows[r*f : (r+4)*f]
			leaf := m.walk4(root, w[:f], w[f:2*f], w[2*f:3*f], w[3*f:4*f])
			for i, l := range leaf {
				m.add(&dst[(r+i)*k+at], l)
			}
		}
		for ; r < n; r++ {
			m.add(&dst[r*k+at], m.walk(root, rows[r*f:(r+1)*f]))
		}
	}
}

// add adds a leaf to a sum. The sum of two single-precision numbers that is
// rounded twice is the one rounded once.
func (m *Model) add(to *float64, leaf int32) {
	v := *to + m.leaves[leaf]
	if m.single {
		v = float64(float32(v))
	}
	*to = v
}

// walk returns the leaf that a row reaches.
func (m *Model) walk(at int32, row []float64) int32 {
	nodes := m.nodes
	for at >= 0 {
		n := &nodes[at]
		if x := row[n.feature]; n.kind == compare {
			at = n.next(x)
		} else {
			at = n.child[m.rare(n, x)&1]
		}
	}
	return ^at
}

// walk4 is walk for four rows.
func (m *Model) walk4(root int32, r0, r1, r2, r3 []float64) (leaf [4]int32) {
	nodes := m.nodes
	a, b, c, d := root, root, root, root
	for a|b|c|d >= 0 {
		na, nb, nc, nd := &nodes[a], &nodes[b], &nodes[c], &nodes[d]
		x0, x1, x2, x3 := r0[na.feature], r1[nb.feature], r2[nc.feature], r3[nd.feature]
		if na.kind|nb.kind|nc.kind|nd.kind == compare {
			a, b, c, d = na.next(x0), nb.next(x1), nc.next(x2), nd.next(x3)
			continue
		}
		a, b, c, d = m.step(na, x0), m.step(nb, x1), m.step(nc, x2), m.step(nd, x3)
	}
	return [4]int32{m.walk(a, r0), m.walk(b, r1), m.walk(c, r2), m.walk(d, r3)}
}

// step returns the child that a value leads to.
func (m *Model) step(n *node, x float64) int32 {
	if n.kind == compare {
		return n.next(x)
	}
	return n.child[m.rare(n, x)&1]
}

// next is step for nodes that compare. It has no branches: which way it goes
// cannot be foreseen.
func (n *node) next(x float64) int32 {
	var right, nan uint8
	if x > n.value {
		right = 1
	}
	if x != x {
		nan = 1
	}
	return n.child[(right|nan&n.missing)&1]
}

// rare returns the side, 0 for left, 1 for right, at nodes that do not only
// compare.
func (m *Model) rare(n *node, x float64) uint8 {
	if n.kind == compareZero {
		switch {
		case math.IsNaN(x) || math.Abs(x) <= zero:
			return n.missing
		case x > n.value:
			return 1
		}
		return 0
	}
	if math.IsNaN(x) {
		return n.missing
	}
	in, set := false, m.sets[int(n.value)]
	// Categories are cut to whole numbers; what is beyond the set is not in it, and
	// neither, for XGBoost, is anything below 0.
	if x > -1 && x < float64(32*len(set)) && (x >= 0 || n.kind == inSetLeft) {
		in = set[int(x)/32]>>(uint(x)%32)&1 != 0
	}
	if in == (n.kind == inSetLeft) {
		return 0
	}
	return 1
}
