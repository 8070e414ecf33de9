package pattern

import (
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// had returns up to which start a pattern has had the shared runs.
func (ln *lane[T]) had(m *member[T]) (at eventID, any bool) {
	for i := range ln.marks {
		if ln.marks[i].m == m {
			return ln.marks[i].at, true
		}
	}
	return eventID{}, false
}

func (ln *lane[T]) mark(m *member[T], at eventID) *mark[T] {
	for i := range ln.marks {
		if ln.marks[i].m == m {
			ln.marks[i].at = at
			return &ln.marks[i]
		}
	}
	ln.marks = append(ln.marks, mark[T]{m: m, at: at})
	return &ln.marks[len(ln.marks)-1]
}

// recount counts, after shared runs have changed, those that patterns have had, and
// drops marks that are about none any more. counted says that the patterns know of
// those that are there.
func (s *Set[T]) recount(ln *lane[T], counted bool) {
	kept := ln.marks[:0]
	for _, mk := range ln.marks {
		n := ln.upTo(mk.at)
		if !counted {
			mk.m.left += int64(n - mk.n)
		}
		if mk.n = n; n > 0 {
			kept = append(kept, mk)
		}
	}
	clear(ln.marks[len(kept):])
	ln.marks = kept
}

// visitLane gives the event in hand to the shared runs of a key.
func (s *Set[T]) visitLane(k *SetKey[T], sb *sub[T], ts int64) error {
	m, ln := sb.m, sb.lane
	if m.shares.strict {
		s.leave(k, sb)
		if m.quiet && !s.hears(sb.ord) {
			return nil
		}
	}
	had, dropped := len(ln.runs), m.m.stats.Overflowed
	changed, err := m.m.stepLane(ln, ts)
	if changed {
		k.touch()
		m.open += int64(len(ln.runs) - had)
		s.touch(m)
	}
	if len(ln.marks) > 0 && (!m.quiet || m.m.stats.Overflowed > dropped) {
		s.recount(ln, false) // runs may have ended
	}
	return err
}

// beginLane gives the event in hand to a group in which the key has no runs.
func (s *Set[T]) beginLane(k *SetKey[T], m *member[T], ts int64) error {
	if !m.m.begins() {
		return nil
	}
	ln := m.freshLane()
	_, err := m.m.stepLane(ln, ts)
	k.touch()
	s.touch(m)
	if len(ln.runs) == 0 {
		m.lanes = append(m.lanes, ln)
		return err
	}
	m.open += int64(len(ln.runs))
	k.add(newSub(m, nil, ln))
	return err
}

func (m *member[T]) freshLane() *lane[T] {
	n := len(m.lanes) - 1
	if n < 0 {
		return newLane[T]()
	}
	ln := m.lanes[n]
	m.lanes = m.lanes[:n]
	return ln
}

// leave ends the wait of shared runs for the very next event.
func (s *Set[T]) leave(k *SetKey[T], sb *sub[T]) {
	n := len(sb.lane.waiting(uint16(sb.m.shares.depth)))
	if n == 0 {
		return
	}
	sb.lane.cut(n)
	sb.m.open -= int64(n)
	k.touch()
	s.recount(sb.lane, false)
	s.touch(sb.m)
}

// expireLane ends the shared runs whose window is over.
func (s *Set[T]) expireLane(sb *sub[T], due int64, sink Sink[T]) {
	g, ln := sb.m.shares, sb.lane
	n := 0
	for n < len(ln.runs) && base.AddTime(ln.runs[n].ts, g.m.m.p.window) <= due {
		n++
	}
	g.m.open -= int64(n)
	g.m.m.stats.Timeouts += int64(n)
	for j := range ln.marks {
		mk := &ln.marks[j]
		if had := min(ln.upTo(mk.at), n); had > 0 {
			mk.n -= had
			mk.m.spared += int64(had)
			mk.m.left -= int64(had)
			s.touch(mk.m)
		}
	}
	for i := range ln.runs[:n] {
		if s.out.Want {
			s.timeout(ln, g, &ln.runs[i], due, sink)
		}
	}
	ln.cut(n)
	s.touch(g.m)
	ln.marks = slices.DeleteFunc(ln.marks, func(mk mark[T]) bool { return mk.n == 0 })
}

// timeout reports the end of a shared run for all patterns that have not had it.
func (s *Set[T]) timeout(ln *lane[T], g *group[T], r *early[T], now int64, sink Sink[T]) {
	for _, m := range g.branches {
		if at, any := ln.had(m); any && r.start().compare(at) <= 0 {
			continue
		}
		s.out.Timeouts = append(s.out.Timeouts, Timeout[T]{m.m.p.materialize(r.path, now, true), base.AddTime(r.ts, g.m.m.p.window)})
		s.flush(m, sink)
	}
}
