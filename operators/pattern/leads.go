package pattern

import (
	"fmt"
	"slices"
)

// lead is a way to share the first stages of a pattern.
type lead struct {
	key    string // equal for patterns that can share
	depth  int
	strict bool
	ids    []int32 // Equal conditions of which one holds for events that concern the pattern
}

// leads lists the ways to share the first stages of a program, the longest last.
func (p *Program[T]) leads() []lead {
	if p.exact() || p.skip.Kind != NoSkip || p.prevs || len(p.aggs) > 0 {
		return nil
	}
	var out []lead
	key := fmt.Sprint(p.window, p.opts)
	for n := uint16(0); p.simple(n); n++ {
		key += fmt.Sprint(";", p.nodes[n].edges)
		if ids, strict, ok := p.waitsFor(n + 1); ok {
			out = append(out, lead{fmt.Sprint(key, strict), int(n) + 1, strict, ids})
		}
	}
	return out
}

// simple says that a run waits in node n for one event only, which takes it to node
// n+1, so that a start never has two runs and a later one never overtakes it.
func (p *Program[T]) simple(n uint16) bool {
	node := &p.nodes[n]
	if !node.plain || node.twin || node.matures || len(node.edges) == 0 || len(node.edges) > 2 {
		return false
	}
	take := &node.edges[0]
	if take.act != actTake || take.gap != 0 || take.to != n+1 || p.nodes[take.to].kind != normalNode {
		return false
	}
	if len(node.edges) == 1 {
		return true
	}
	drop := &node.edges[1]
	x := &p.table.exprs[drop.cond]
	return drop.act == actIgnore && drop.to == n && drop.gap == 0 && x.op == opNot && x.a == take.cond
}

// waitsFor lists Equal conditions of which one holds for all events that do anything
// to a run in node n; all others are dropped or, if it is strict, end the run.
func (p *Program[T]) waitsFor(n uint16) (ids []int32, strict, ok bool) {
	node := &p.nodes[n]
	if node.kind != normalNode || node.matures || !node.plain {
		return nil, false, false
	}
	strict = true
	var others []int32
	for _, e := range node.edges {
		switch x := &p.table.exprs[e.cond]; {
		case e.gap != 0 || e.act == actIgnore && (e.to != n || e.cond != exprTrue && x.op != opNot):
			return nil, false, false
		case e.act == actProceed && p.nodes[e.to].kind != stopNode:
			return nil, false, false
		case e.act == actIgnore:
			strict = false
			if e.cond != exprTrue {
				if others, ok = p.table.needs(x.a, others); !ok {
					return nil, false, false
				}
			}
		default:
			if ids, ok = p.table.needs(e.cond, ids); !ok {
				return nil, false, false
			}
		}
	}
	for _, id := range others {
		if !slices.Contains(ids, id) {
			return nil, false, false
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), strict, len(ids) > 0
}

// prefix is the program of the first stages: its last node holds runs and does nothing.
func (p *Program[T]) prefix(depth int) *Program[T] {
	q := &Program[T]{table: p.table, stages: p.stages, window: p.window, opts: p.opts, source: p.source}
	q.nodes = append(q.nodes, p.nodes[:depth]...)
	wait := node{stage: p.nodes[depth].stage, plain: true}
	wait.edges = []edge{{act: actIgnore, to: uint16(depth), cond: exprTrue}}
	q.nodes = append(q.nodes, wait)
	return q
}
