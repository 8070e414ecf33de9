package pattern

import (
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// program numbers the nodes that can be reached and derives what the matcher needs.
func (c *compiler[T]) program(start *cnode) *Program[T] {
	first := c.pat.stages[0]
	order := reachable(start)
	if c.full || len(order) > maxNodes {
		c.fail(first, fmt.Sprintf("the pattern needs more than %d nodes", maxNodes), "lower Times")
		return nil
	}
	p := &Program[T]{
		table: c.table, stages: c.stages, window: c.window, skip: c.pat.skip,
		target: c.stageOf[c.pat.skip.Stage], opts: c.opts, source: c.pat,
	}
	index := map[*cnode]uint16{}
	for i, n := range order {
		index[n] = uint16(i)
	}
	for _, n := range order {
		m := node{kind: n.kind, stage: n.stage, prev: n.prev, matures: n.matures, twin: n.twin}
		for _, e := range n.edges {
			if e.cond != exprFalse {
				m.edges = append(m.edges, edge{act: e.act, to: index[e.to], cond: e.cond, gap: e.gap})
			}
		}
		p.prevs = p.prevs || n.prev > 0
		p.nodes = append(p.nodes, m)
	}
	if !p.acyclic() {
		c.fail(first, "the pattern can go round without an event", "make a stage of the loop not optional")
		return nil
	}
	if p.ways() > maxWays {
		c.fail(first, fmt.Sprintf("there are more than %d ways to leave stages of the pattern out at one event", maxWays), "make fewer stages and groups optional")
		return nil
	}
	for i := range p.nodes {
		p.nodes[i].plain = p.isPlain(uint16(i))
	}
	if !c.opts.flink {
		p.mature()
	}
	if p.leadsTo(p.start, stopNode, nil) {
		c.fail(first, "a NOT stage can be reached before any event was accepted", "begin with a stage that is not optional")
	}
	p.empty = p.leadsTo(p.start, finalNode, nil) || p.leadsTo(p.start, pendingNode, nil)
	c.bindAggs(p)
	p.stages = c.table.common(p.stages)
	p.growth = p.grow()
	p.warn()
	p.shape = p.fingerprint()
	return p
}

// reachable lists the nodes that a run can come to, the start first.
func reachable(start *cnode) []*cnode {
	seen := map[*cnode]bool{start: true}
	order := []*cnode{start}
	for i := 0; i < len(order); i++ {
		for _, e := range order[i].edges {
			if e.cond != exprFalse && !seen[e.to] {
				seen[e.to] = true
				order = append(order, e.to)
			}
		}
	}
	return order
}

// acyclic says that no node leads back to itself by PROCEED.
func (p *Program[T]) acyclic() bool {
	state := make([]uint8, len(p.nodes))
	var visit func(n uint16) bool
	visit = func(n uint16) bool {
		state[n] = 1
		for _, e := range p.nodes[n].edges {
			if e.act == actProceed && (state[e.to] == 1 || state[e.to] == 0 && !visit(e.to)) {
				return false
			}
		}
		state[n] = 2
		return true
	}
	for i := range p.nodes {
		if state[i] == 0 && !visit(uint16(i)) {
			return false
		}
	}
	return true
}

// maxWays bounds the ways to go on from a node without an event. Compiling, and each
// event, looks at all of them.
const maxWays = 1 << 12

// ways returns the largest number of ways to go on from a node by PROCEED, or a number
// above maxWays.
func (p *Program[T]) ways() int {
	memo := make([]int, len(p.nodes))
	var count func(n uint16) int
	count = func(n uint16) int {
		if memo[n] == 0 {
			w := 1
			for _, e := range p.nodes[n].edges {
				if e.act == actProceed {
					w = min(w+count(e.to), maxWays+1)
				}
			}
			memo[n] = w
		}
		return memo[n]
	}
	most := 0
	for i := range p.nodes {
		most = max(most, count(uint16(i)))
	}
	return most
}

// isPlain says that what a run at n does depends on the event alone, what is looked
// ahead at included.
func (p *Program[T]) isPlain(n uint16) bool {
	for _, e := range p.nodes[n].edges {
		if e.gap > 0 || !p.table.exprs[e.cond].plain {
			return false
		}
		switch {
		case e.act == actProceed && !p.isPlain(e.to), e.act == actTake && !p.plainAhead(e.to):
			return false
		}
	}
	return true
}

func (p *Program[T]) plainAhead(n uint16) bool {
	for _, e := range p.nodes[n].edges {
		if e.act == actProceed && (!p.table.exprs[e.cond].plain || !p.plainAhead(e.to)) {
			return false
		}
	}
	return true
}

// leadsTo says that a node leads to one of a kind by PROCEED edges alone. through
// says which nodes may be passed; nil is all.
func (p *Program[T]) leadsTo(n uint16, kind nodeKind, through func(*node) bool) bool {
	for _, e := range p.nodes[n].edges {
		if e.act != actProceed {
			continue
		}
		to := &p.nodes[e.to]
		if to.kind == kind || to.kind == normalNode && (through == nil || through(to)) && p.leadsTo(e.to, kind, through) {
			return true
		}
	}
	return false
}

// mature marks the nodes in which a run is complete but for a trailing
// NotFollowedBy.
func (p *Program[T]) mature() {
	for i := range p.nodes {
		n := &p.nodes[i]
		if n.kind == normalNode && !n.twin && p.leadsTo(uint16(i), pendingNode, func(m *node) bool { return !p.stages[m.stage].not }) {
			n.matures = true
		}
	}
}

// bindAggs notes for every stage the aggregates that it feeds. They are numbered in
// the order in which the edges ask for them, so that programs of one shape number
// them alike.
func (c *compiler[T]) bindAggs(p *Program[T]) {
	var used []int
	for i := range p.nodes {
		for _, e := range p.nodes[i].edges {
			used = c.aggsOf(e.cond, used)
		}
	}
	p.aggLocal = make([]int, len(c.table.aggs))
	for local, slot := range used {
		d := c.table.aggs[slot]
		p.aggLocal[slot] = local
		p.aggs = append(p.aggs, d)
		for _, name := range d.stages {
			i, ok := c.stageOf[name]
			if !ok || p.stages[i].not {
				c.errs = append(c.errs, &base.Error{Code: CodePattern, What: fmt.Sprintf("an aggregate is over %q, which is no stage that accepts events", name), Where: c.pat.stages[0].call, Next: "name a stage of the pattern"})
				continue
			}
			p.stages[i].aggs = append(p.stages[i].aggs, local)
		}
	}
}

// aggsOf adds the slots of the aggregates that an expression asks for.
func (c *compiler[T]) aggsOf(id int32, used []int) []int {
	x := &c.table.exprs[id]
	switch x.op {
	case opLeaf:
		if x.leaf.kind == condAgg && !slices.Contains(used, x.agg) {
			used = append(used, x.agg)
		}
	case opNot:
		return c.aggsOf(x.a, used)
	default:
		return c.aggsOf(x.b, c.aggsOf(x.a, used))
	}
	return used
}

// fingerprint hashes what stored runs depend on. Conditions that are functions
// cannot be told apart.
func (p *Program[T]) fingerprint() uint64 {
	h := base.HashString(fmt.Sprint(p.window, p.skip, p.opts.flink, p.start))
	for i := range p.stages {
		h = base.Mix(h, base.HashString(p.stages[i].name))
	}
	for i := range p.nodes {
		n := &p.nodes[i]
		h = base.Mix(h, base.HashString(fmt.Sprint(n.kind, n.stage, n.prev, n.matures)))
		for _, e := range n.edges {
			h = base.Mix(h, base.HashString(fmt.Sprint(e.act, e.to, e.gap, p.table.text(e.cond))))
		}
	}
	return h
}
