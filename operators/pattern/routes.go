package pattern

import (
	"math"
	"slices"
)

// route is what an event may touch that meets an Equal condition. Patterns are named by
// their places in the set, which ascend.
type route[T any] struct {
	// hears lists the patterns whose own runs the event may concern, groups what steps
	// shared runs that it may concern.
	hears, groups []int32
	// firsts lists those that the event may begin.
	firsts []*member[T]
	used   bool
	// heirs lists the patterns that may take shared runs on.
	heirs []branch[T]
}

// branch is a pattern that goes on from shared runs; shared is the place of what steps
// these.
type branch[T any] struct {
	m      *member[T]
	shared int32
	node   uint16 // where the runs wait
	strict bool
	// whole says that the event completes all runs there, into the stage.
	whole  bool
	stage  uint16
	stages []stageInfo
}

// branchOf returns a branch to a pattern for events that meet a condition.
func (g *group[T]) branchOf(m *member[T], id int32) branch[T] {
	b := branch[T]{m: m, shared: g.m.ord, node: uint16(g.depth), strict: g.strict}
	p := m.m.p
	node := &p.nodes[b.node]
	take := &node.edges[0]
	b.stage, b.stages = node.stage, p.stages
	b.whole = take.act == actTake && take.cond == id && take.gap == 0 && p.nodes[take.to].kind == finalNode && g.depth < p.opts.limits.Length
	for _, e := range node.edges[1:] {
		x := &p.table.exprs[e.cond]
		b.whole = b.whole && e.act == actIgnore && x.op == opNot && x.a == id
	}
	return b
}

func (s *Set[T]) route(id int32) *route[T] {
	r := &s.routes[id]
	r.used = true
	return r
}

// index sorts the members by tag and by the conditions that concern them.
func (s *Set[T]) index() {
	s.version++
	clear(s.byTag)
	for i, m := range s.members {
		s.byTag[m.tag], m.ord = m, int32(i)
	}
	s.slack = s.patience()
	s.regroup()
	s.shared = int32(len(s.members))
	s.routes = make([]route[T], len(s.table.exprs))
	s.any = s.any[:0]
	s.loud, s.loudGroups = 0, 0
	for _, m := range s.members {
		m.loud = !m.quiet
		s.enter(m)
	}
	for i, g := range s.groups {
		g.m.ord = s.shared + int32(i)
		g.m.loud = !g.m.quiet || g.strict
		s.enter(g.m)
		for id, branches := range g.byNext {
			r := s.route(id)
			for _, m := range branches {
				r.heirs = append(r.heirs, g.branchOf(m, id))
			}
		}
	}
}

// patience returns how much later than they end runs may be taken out, in nanoseconds,
// where nothing but that they are gone is to be seen of their end. One timer serves for
// many of them then.
func (s *Set[T]) patience() int64 {
	least := int64(math.MaxInt64)
	for _, m := range s.members {
		p := m.m.p
		if p.window > 0 {
			least = min(least, p.window)
		}
		matures := slices.ContainsFunc(p.nodes, func(n node) bool { return n.matures })
		if s.out.Want || p.skip.Kind != NoSkip || p.prevs || matures || p.exact() {
			return 0
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least / 8
}

// enter enters a member into the routes.
func (s *Set[T]) enter(m *member[T]) {
	for _, id := range m.concerns {
		if r := s.route(id); m.shares != nil {
			r.groups = append(r.groups, m.ord)
		} else {
			r.hears = append(r.hears, m.ord)
		}
	}
	if m.loud {
		s.loud++
		if m.shares != nil {
			s.loudGroups++
		}
	}
	if m.group != nil {
		return // its runs begin among those that are shared
	}
	firsts, ok := m.m.p.firsts()
	if !ok {
		s.any = append(s.any, m)
		return
	}
	for _, id := range firsts {
		r := s.route(id)
		r.firsts = append(r.firsts, m)
	}
}

// hear finds the routes of the event in hand.
func (s *Set[T]) hear() {
	s.heard = s.heard[:0]
	for f := range s.table.fields {
		if id := s.eval.hit(int32(f)); int(id) < len(s.routes) && s.routes[id].used {
			s.heard = append(s.heard, &s.routes[id])
		}
	}
}

// hears says that the event in hand meets a condition without which it does nothing in
// the pattern at a place of the set.
func (s *Set[T]) hears(ord int32) bool {
	for _, r := range s.heard {
		list := r.hears
		if ord >= s.shared {
			list = r.groups
		}
		if _, ok := slices.BinarySearch(list, ord); ok {
			return true
		}
	}
	return false
}

// plan lists the patterns of a key, in their order, that the event in hand may concern.
func (s *Set[T]) plan(k *SetKey[T]) {
	s.todo = s.todo[:0]
	own := s.own(k)
	switch one := len(s.heard) == 1 && s.loud == s.loudGroups; {
	case own == 0:
	case one && len(s.heard[0].hears) < own/4:
		for _, ord := range s.heard[0].hears {
			if i := k.find(ord); i >= 0 {
				s.todo = append(s.todo, i)
			}
		}
	default:
		s.sift(k, 0, own)
	}
	switch {
	case own == len(k.subs):
	case len(s.heard) > 1 || s.loudGroups > 0:
		s.sift(k, own, len(k.subs))
	case len(s.heard) == 1:
		for _, ord := range s.heard[0].groups {
			if i := s.findShared(k, ord); i >= 0 {
				s.todo = append(s.todo, i)
			}
		}
	}
}

// own counts the patterns in which a key has runs of their own.
func (s *Set[T]) own(k *SetKey[T]) int {
	if len(k.subs) == 0 || k.subs[0].ord >= s.shared {
		return 0
	}
	return k.from(s.shared)
}

// sift looks for runs that the event may concern.
func (s *Set[T]) sift(k *SetKey[T], from, to int) {
	for i := from; i < to; i++ {
		if sb := &k.subs[i]; sb.loud || s.hears(sb.ord) {
			s.todo = append(s.todo, i)
		}
	}
}
