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
	for at >= 0 {
		n := &m.nodes[at]
		at = n.child[m.side(n, row[n.feature])&1]
	}
	return ^at
}

// walk4 is walk for four rows.
func (m *Model) walk4(root int32, r0, r1, r2, r3 []float64) (leaf [4]int32) {
	a, b, c, d := root, root, root, root
	for a >= 0 && b >= 0 && c >= 0 && d >= 0 {
		na, nb, nc, nd := &m.nodes[a], &m.nodes[b], &m.nodes[c], &m.nodes[d]
		a = na.child[m.side(na, r0[na.feature])&1]
		b = nb.child[m.side(nb, r1[nb.feature])&1]
		c = nc.child[m.side(nc, r2[nc.feature])&1]
		d = nd.child[m.side(nd, r3[nd.feature])&1]
	}
	return [4]int32{m.walk(a, r0), m.walk(b, r1), m.walk(c, r2), m.walk(d, r3)}
}

// side returns 0 for left, 1 for right.
func (m *Model) side(n *node, x float64) uint8 {
	if n.kind == compare {
		// Without branches: which way it goes cannot be foreseen.
		var right, nan uint8
		if x > n.value {
			right = 1
		}
		if x != x {
			nan = 1
		}
		return right | nan&n.missing
	}
	return m.rare(n, x)
}

// rare is side for the kinds other than compare.
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
	// Categories are cut to whole numbers; what is beyond the set is not in it.
	if x > -1 && x < float64(32*len(set)) {
		in = set[int(x)/32]>>(uint(x)%32)&1 != 0
	}
	if in == (n.kind == inSetLeft) {
		return 0
	}
	return 1
}
