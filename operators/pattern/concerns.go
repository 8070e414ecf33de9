package pattern

import "slices"

// concerns returns Equal conditions of which one holds for every event that does
// anything to a run, or begins one; not ok if there are no such conditions.
func (p *Program[T]) concerns() (ids []int32, ok bool) {
	if p.exact() {
		return nil, false
	}
	if ids, ok = p.firsts(); !ok {
		return nil, false
	}
	for n := range p.nodes {
		node := &p.nodes[n]
		if uint16(n) == p.start || node.kind == finalNode || node.kind == stopNode {
			continue
		}
		list, drops, ok := p.stays(uint16(n))
		if !drops || !ok {
			return nil, false
		}
		ids = append(ids, list...)
	}
	slices.Sort(ids)
	return slices.Compact(ids), true
}

// stays lists Equal conditions without which an event leaves a run in node n as it is,
// or, if drops is not set, ends it.
func (p *Program[T]) stays(n uint16) (ids []int32, drops, ok bool) {
	if len(p.nodes[n].edges) == 1 && p.nodes[n].edges[0].cond == exprTrue {
		return nil, p.nodes[n].edges[0].act == actIgnore && p.nodes[n].edges[0].to == n, true
	}
	ids, strict, ok := p.waitsFor(n)
	return ids, !strict, ok
}
