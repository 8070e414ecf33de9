package pattern

// idSet is a set of conditions.
type idSet []uint64

func (s idSet) has(id int32) bool {
	w := int(id >> 6)
	return w < len(s) && s[w]>>(id&63)&1 != 0
}

func (s idSet) with(id int32) idSet {
	for len(s) <= int(id>>6) {
		s = append(s, 0)
	}
	s[id>>6] |= 1 << (id & 63)
	return s
}

// concerns returns Equal conditions of which one holds for every event that does
// anything to a run, or begins one; not ok if there are no such conditions.
func (p *Program[T]) concerns() (ids idSet, ok bool) {
	if p.exact() {
		return nil, false
	}
	firsts, ok := p.firsts()
	if !ok {
		return nil, false
	}
	for _, id := range firsts {
		ids = ids.with(id)
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
		for _, id := range list {
			ids = ids.with(id)
		}
	}
	return ids, true
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
