package pattern

import (
	"cmp"
	"slices"
)

// Patterns of a set that begin with the same stages keep the runs in these stages
// once. A shared run stops in front of the first stage that is not shared; a pattern
// takes its copy from there when an event comes that concerns it, which is found by
// the Equal conditions of that stage. Until then the run costs the same however many
// patterns wait with it.

// group is the patterns that share their first stages.
type group[T any] struct {
	depth int // number of stages that are shared
	// strict says that the next event, whatever it is, ends the wait of a shared run.
	strict   bool
	m        *member[T] // steps the shared runs; no pattern of the set
	branches []*member[T]
	has      map[uint64]bool // tags of the branches
	// byNext finds the patterns that an event concerns by the Equal conditions that
	// hold.
	byNext map[int32][]*member[T]
	// gone says that the patterns have changed since; next is the group that has
	// taken over, if one has.
	gone bool
	next *group[T]
}

// heir is a pattern that takes shared runs on with the event in hand.
type heir[T any] struct {
	m    *member[T]
	runs []early[T]
	// whole is set if the event completes them all; else dec is what it does.
	whole *branch[T]
	dec   decision
}

// regroup finds the patterns that share stages, each as many as it can with another.
func (s *Set[T]) regroup() {
	count := map[string]int{}
	for _, m := range s.members {
		for _, l := range m.leads {
			count[l.key]++
		}
	}
	found := map[string]*group[T]{}
	old := s.groups
	s.groups = nil
	for _, m := range s.members {
		m.group = nil
		for i := len(m.leads) - 1; i >= 0 && m.group == nil; i-- {
			l := &m.leads[i]
			if count[l.key] < 2 {
				continue
			}
			g := found[l.key]
			if g == nil {
				g = &group[T]{depth: l.depth, strict: l.strict, has: map[uint64]bool{}, byNext: map[int32][]*member[T]{}}
				g.m = &member[T]{m: newMatcher(m.m.p.prefix(l.depth), s.eval), shares: g}
				g.m.concerns, g.m.quiet = g.m.m.p.concerns()
				found[l.key] = g
				s.groups = append(s.groups, g)
			}
			g.add(m, l)
		}
	}
	s.groups = slices.DeleteFunc(s.groups, func(g *group[T]) bool {
		if len(g.branches) == 1 {
			g.branches[0].group = nil
		}
		return len(g.branches) == 1
	})
	for _, m := range s.members {
		m.m.noEntry = m.group != nil
	}
	s.succeed(old)
}

func (g *group[T]) add(m *member[T], l *lead) {
	m.group = g
	g.branches = append(g.branches, m)
	g.has[m.tag] = true
	for _, id := range l.ids {
		g.byNext[id] = append(g.byNext[id], m)
	}
}

// succeed finds, for groups that are gone, the group that takes over the runs: that of
// all its patterns, if it shares as many stages. Else each takes copies of the runs.
func (s *Set[T]) succeed(old []*group[T]) {
	for _, g := range old {
		g.gone = true
		left := s.survivors(g)
		same := len(left) > 0 && left[0].group != nil && left[0].group.depth == g.depth && left[0].group.strict == g.strict
		for _, m := range left {
			same = same && m.group == left[0].group
		}
		if same {
			g.next = left[0].group
			continue
		}
		for _, m := range left {
			m.open, m.left = m.open+g.m.open-m.left, 0
		}
	}
	for _, g := range old {
		if g.next == nil {
			continue
		}
		g.next.m.open += g.m.open
		for _, m := range g.next.branches {
			if !g.has[m.tag] {
				m.left += g.m.open
			}
		}
	}
}

// survivors lists the patterns of a group that are still in the set.
func (s *Set[T]) survivors(g *group[T]) []*member[T] {
	var left []*member[T]
	for _, b := range g.branches {
		if m := s.byTag[b.tag]; m != nil {
			left = append(left, m)
		}
	}
	return left
}

// fold adds what the groups have counted to the counts of their patterns.
func (s *Set[T]) fold() {
	for _, g := range s.groups {
		c := &g.m.m.stats
		if *c == (Stats{MaxRuns: c.MaxRuns}) {
			continue
		}
		for _, m := range g.branches {
			st := &m.m.stats
			st.Events += c.Events
			st.Started += c.Started
			st.Timeouts += c.Timeouts
			st.Overflowed += c.Overflowed
			st.MaxRuns = max(st.MaxRuns, c.MaxRuns)
			s.touch(m)
		}
		*c = Stats{MaxRuns: c.MaxRuns}
	}
}

// active returns the number of open runs of a pattern, of all keys.
func (m *member[T]) active() int64 {
	if m.group == nil {
		return m.open
	}
	return max(m.open+m.group.m.open-m.left, 0)
}

// inherit finds the patterns that the event in hand makes take shared runs on: into
// runs of their own, or to an end.
func (s *Set[T]) inherit(k *SetKey[T]) {
	s.heirs = s.heirs[:0]
	for _, r := range s.heard {
		at, i := int32(-1), -1
		for j := range r.heirs {
			b := &r.heirs[j]
			if b.shared != at {
				at, i = b.shared, s.findShared(k, b.shared)
			}
			if i >= 0 {
				s.offer(k, &k.subs[i], b)
			}
		}
	}
	if len(s.heirs) > 1 {
		slices.SortFunc(s.heirs, func(a, b heir[T]) int { return cmp.Compare(a.m.ord, b.m.ord) })
	}
}

// offer lets a pattern take on the shared runs that it has not had, if the event in hand
// does anything to them there.
func (s *Set[T]) offer(k *SetKey[T], sb *sub[T], b *branch[T]) {
	m, ln := b.m, sb.lane
	all := ln.waiting(b.node)
	runs := all
	if at, any := ln.had(m); any {
		i := len(runs)
		for i > 0 && at.compare(runs[i-1].start()) < 0 {
			i--
		}
		runs = runs[i:]
	}
	if len(runs) == 0 {
		return
	}
	var d decision
	whole := b
	if !b.whole {
		whole = nil
		if d = m.m.decide(b.node, nil); d.stays && d.hi-d.lo == 1 {
			return
		}
	}
	k.touch()
	s.touch(m)
	if !b.strict {
		// No run that waits here began after one that has not come so far.
		ln.mark(m, runs[len(runs)-1].start()).n = len(all)
		m.left += int64(len(runs))
	}
	if i := k.find(m.ord); i >= 0 {
		m.open += int64(len(runs))
		m.m.insert(k.subs[i].key, s.convert(runs))
		return
	}
	s.heirs = append(s.heirs, heir[T]{m, runs, whole, d})
}

// convert makes shared runs such as other matchers have. They are valid until it is
// called again.
func (s *Set[T]) convert(runs []early[T]) []run[T] {
	clear(s.runs)
	s.runs = s.runs[:0]
	for i := range runs {
		s.runs = append(s.runs, runs[i].run())
	}
	return s.runs
}

// takeOn gives the event in hand to runs that a pattern, in which the key has none,
// takes on.
func (s *Set[T]) takeOn(k *SetKey[T], h *heir[T], ts int64, sink Sink[T]) error {
	m := h.m
	if h.whole != nil {
		s.complete(h, ts)
		s.flush(m, sink)
		return nil
	}
	runs := s.convert(h.runs)
	if h.dec.stays {
		key := m.fresh()
		m.open += int64(len(runs))
		m.m.insert(key, runs)
		err := s.take(k, m, key, ts, sink)
		s.settleOn(k, m, key)
		return err
	}
	m.m.branch(runs, h.dec, ts)
	var err error
	if len(m.m.born) > 0 {
		key := m.fresh()
		err = m.m.settleIn(key, ts)
		m.open += int64(key.live)
		s.settleOn(k, m, key)
	}
	if len(m.m.done) > 0 && err == nil {
		m.m.emitAll(ts, false, &s.out)
		m.m.finish()
		s.flush(m, sink)
	}
	return err
}

// complete makes matches of shared runs that the event in hand completes. It keeps to
// what is at hand: among many patterns, each is seldom used.
func (s *Set[T]) complete(h *heir[T], ts int64) {
	last := &s.eval.work.last
	last.ts, last.val = ts, *s.eval.val
	l := &s.final
	l.ev, l.stage = last, h.whole.stage
	for i := range h.runs {
		l.prev, l.depth = h.runs[i].path, h.runs[i].path.depth+1
		s.out.Matches = append(s.out.Matches, matchOf(h.whole.stages, l, ts, false))
	}
	h.m.whole += int64(len(h.runs))
	*l, *last = link[T]{}, record[T]{}
}

// settleOn keeps what a pattern has taken on, if that is anything. The key is brought
// into order later.
func (s *Set[T]) settleOn(k *SetKey[T], m *member[T], key *Key[T]) {
	if key.Empty() {
		m.recycle(key)
		return
	}
	sb := newSub(m, key, nil)
	k.note(&sb)
	k.subs = append(k.subs, sb)
	s.added = true
}

// ownRuns returns a key's own runs in a pattern.
func (s *Set[T]) ownRuns(k *SetKey[T], m *member[T]) *Key[T] {
	for i := range k.subs {
		if k.subs[i].m == m {
			return k.subs[i].key
		}
	}
	key := m.fresh()
	k.subs = append(k.subs, newSub(m, key, nil))
	return key
}

// move lets shared runs go on where their patterns are now.
func (s *Set[T]) move(k *SetKey[T], sb sub[T]) {
	g, ln := sb.m.shares, sb.lane
	ln.marks = slices.DeleteFunc(ln.marks, func(mk mark[T]) bool { return s.byTag[mk.m.tag] == nil })
	for i := range ln.marks {
		ln.marks[i].m = s.byTag[ln.marks[i].m.tag]
	}
	for g.gone && g.next != nil {
		for _, b := range g.next.branches {
			if m := s.byTag[b.tag]; m != nil && !g.has[b.tag] {
				ln.mark(m, ln.latest())
			}
		}
		s.recount(ln, true)
		g = g.next
	}
	if !g.gone {
		sb.m = g.m
		ln.marks = slices.DeleteFunc(ln.marks, func(mk mark[T]) bool { return !g.has[mk.m.tag] })
		k.subs = append(k.subs, sb)
		return
	}
	for _, m := range s.survivors(g) {
		s.spill(k, ln, m)
	}
}

// spill makes shared runs a pattern's own.
func (s *Set[T]) spill(k *SetKey[T], ln *lane[T], m *member[T]) {
	runs := ln.runs
	if at, any := ln.had(m); any {
		runs = runs[ln.upTo(at):]
	}
	if len(runs) > 0 {
		m.m.insert(s.ownRuns(k, m), s.convert(runs))
	}
}

// view returns the runs of a key in a pattern, those that it shares included, as a key
// of its own, to look at; nil if there are none.
func (s *Set[T]) view(k *SetKey[T], m *member[T]) *Key[T] {
	s.refresh(k)
	var own *Key[T]
	for i := range k.subs {
		if k.subs[i].m == m {
			own = k.subs[i].key
		}
	}
	for i := range k.subs {
		sb := &k.subs[i]
		if m.group == nil || sb.m != m.group.m {
			continue
		}
		all := &Key[T]{}
		if own != nil {
			m.m.insert(all, own.sorted())
			all.done = own.done
		}
		tmp := &SetKey[T]{subs: []sub[T]{newSub(m, all, nil)}}
		s.spill(tmp, sb.lane, m)
		return all
	}
	return own
}
