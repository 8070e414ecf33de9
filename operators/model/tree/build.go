package tree

import (
	"errors"
	"fmt"
	"math"
)

// Limits bound what a file may hold. Fields that are 0 have their default. A model
// takes at most about 30 times the size of its file while it is read, and 32 bytes
// for each node from then on.
type Limits struct {
	// Bytes of the file; 0 is 256 MiB.
	Bytes int64
	// Features; 0 is 1,000,000. Outputs; 0 is 100,000.
	Features, Outputs int
	// Trees; 0 is 1,000,000. Nodes of all trees, leaves too; 0 is 50,000,000.
	Trees, Nodes int
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	if l.Bytes == 0 {
		l.Bytes = 256 << 20
	}
	def(&l.Features, 1_000_000)
	def(&l.Outputs, 100_000)
	def(&l.Trees, 1_000_000)
	def(&l.Nodes, 50_000_000)
	return l
}

// split is an inner node as a file has it: children are nodes of its tree, or ^i
// for leaf i.
type split struct {
	kind        kind
	feature     int
	value       float64
	set         []uint32
	missing     uint8
	left, right int
}

// plan is a tree as a file has it. The root is split 0, or leaf 0 when there are
// none.
type plan struct {
	splits []split
	leaves []float64
	// ids are the numbers of the leaves; nil: those in leaves.
	ids []int
	// sparse: not all nodes need to be reached.
	sparse bool
}

// builder puts a model together.
type builder struct {
	m      *Model
	limits Limits
	total  int // of nodes
}

// start sets the sizes.
func (b *builder) start(features, outputs int) error {
	switch {
	case features < 1 || features > b.limits.Features:
		return fmt.Errorf("%d features; 1 to %d are possible", features, b.limits.Features)
	case outputs < 1 || outputs > b.limits.Outputs:
		return fmt.Errorf("%d outputs; 1 to %d are possible", outputs, b.limits.Outputs)
	}
	b.m.info.NumFeatures, b.m.info.NumOutputs = features, outputs
	b.m.base = make([]float64, outputs)
	return nil
}

// names takes the names of the features, if there are any.
func (b *builder) names(names []string) error {
	if len(names) == 0 {
		return nil
	}
	if len(names) != b.m.info.NumFeatures {
		return fmt.Errorf("%d feature names for %d features", len(names), b.m.info.NumFeatures)
	}
	b.m.info.Features = names
	return nil
}

// tree adds a tree to an output. It checks that it is one: every node is reached
// in one way, so that every walk ends at a leaf.
func (b *builder) tree(p plan, group int) error {
	m := b.m
	if len(m.roots) >= b.limits.Trees {
		return fmt.Errorf("more than %d trees", b.limits.Trees)
	}
	if group < 0 || group >= m.info.NumOutputs {
		return fmt.Errorf("it belongs to output %d of %d", group, m.info.NumOutputs)
	}
	if b.total += len(p.splits) + len(p.leaves); b.total > b.limits.Nodes {
		return fmt.Errorf("more than %d nodes", b.limits.Nodes)
	}
	g := grower{b: b, p: &p, seenSplit: make([]bool, len(p.splits)), seenLeaf: make([]bool, len(p.leaves))}
	root := 0
	if len(p.splits) == 0 {
		root = ^0
	}
	at, err := g.grow(root)
	if err != nil {
		return err
	}
	if reached := g.splits + g.leaves; !p.sparse && reached != len(p.splits)+len(p.leaves) {
		return fmt.Errorf("only %d of its %d nodes are reached", reached, len(p.splits)+len(p.leaves))
	}
	m.roots, m.groups = append(m.roots, at), append(m.groups, int32(group))
	m.info.NumTrees++
	m.info.NumNodes += g.splits + g.leaves
	return nil
}

// grower copies the nodes of a tree into the model, in the order of a walk that
// goes left first.
type grower struct {
	b                   *builder
	p                   *plan
	seenSplit, seenLeaf []bool
	splits, leaves      int
}

// pending is a child that is still to be copied.
type pending struct {
	from   int
	parent int32 // -1 for the root
	side   int
}

func (g *grower) grow(root int) (at int32, err error) {
	m := g.b.m
	stack := []pending{{from: root, parent: -1}}
	for len(stack) > 0 {
		next := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		var id int32
		if next.from < 0 {
			id, err = g.leaf(^next.from)
		} else {
			id, err = g.split(next.from)
		}
		if err != nil {
			return 0, err
		}
		if next.parent < 0 {
			at = id
		} else {
			m.nodes[next.parent].child[next.side] = id
		}
		if id >= 0 {
			s := &g.p.splits[next.from]
			stack = append(stack, pending{s.right, id, 1}, pending{s.left, id, 0})
		}
	}
	return at, nil
}

func (g *grower) leaf(i int) (int32, error) {
	m := g.b.m
	if i >= len(g.p.leaves) {
		return 0, fmt.Errorf("leaf %d of %d", i, len(g.p.leaves))
	}
	if g.seenLeaf[i] {
		return 0, fmt.Errorf("leaf %d has two parents", i)
	}
	v := g.p.leaves[i]
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("leaf %d has the value %g", i, v)
	}
	id := i
	if g.p.ids != nil {
		id = g.p.ids[i]
	}
	g.seenLeaf[i] = true
	g.leaves++
	m.leaves, m.leafIDs = append(m.leaves, v), append(m.leafIDs, int32(id))
	return ^int32(len(m.leaves) - 1), nil
}

func (g *grower) split(i int) (int32, error) {
	m := g.b.m
	if i >= len(g.p.splits) {
		return 0, fmt.Errorf("node %d of %d", i, len(g.p.splits))
	}
	if g.seenSplit[i] {
		return 0, fmt.Errorf("node %d has two parents", i)
	}
	g.seenSplit[i] = true
	g.splits++
	s := &g.p.splits[i]
	if s.feature < 0 || s.feature >= m.info.NumFeatures {
		return 0, fmt.Errorf("node %d splits by feature %d of %d", i, s.feature, m.info.NumFeatures)
	}
	n := node{value: s.value, feature: int32(s.feature), missing: s.missing & 1, kind: s.kind}
	if s.kind == inSetLeft || s.kind == inSetRight {
		n.value = float64(len(m.sets))
		m.sets = append(m.sets, s.set)
	} else if math.IsNaN(s.value) {
		return 0, fmt.Errorf("node %d has no threshold", i)
	}
	m.nodes = append(m.nodes, n)
	return int32(len(m.nodes) - 1), nil
}

// finish checks what can only be checked at the end.
func (b *builder) finish() error {
	if b.m.weights == nil && len(b.m.roots) == 0 {
		return errors.New("it has no trees")
	}
	return nil
}
