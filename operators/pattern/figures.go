package pattern

import "github.com/weirflow/weir/internal/base"

// published are the figures of a pattern in a subtask that anybody may read.
type published struct {
	matches, timeouts, pruned, started, dropped, active, held *base.Figure
}

// publish shows the figures of the patterns that were touched since the last time; those
// of patterns that share runs only if all is set, for they are many.
func (s *Set[T]) publish(f *base.Figures, uid string, all bool) {
	if all {
		s.settle()
		s.fold()
		for _, g := range s.groups {
			if g.m.touched {
				g.m.touched = false
				for _, m := range g.branches {
					s.touch(m)
				}
			}
		}
	}
	left := s.touched[:0]
	for _, m := range s.touched {
		switch {
		case m.gone:
		case m.shares != nil:
			if m.touched && !m.shares.gone {
				left = append(left, m)
			}
		default:
			m.touched = false
			m.publish(f, uid)
		}
	}
	clear(s.touched[len(left):])
	s.touched = left
}

func (m *member[T]) publish(f *base.Figures, uid string) {
	if m.pub == nil {
		m.pub = newPublished(f, uid, m.id)
	}
	st := m.stats()
	m.pub.matches.Set(st.Matches)
	m.pub.timeouts.Set(st.Timeouts)
	m.pub.pruned.Set(st.Pruned)
	m.pub.started.Set(st.Started)
	m.pub.dropped.Set(st.Overflowed)
	m.pub.active.Set(m.active())
	m.pub.held.Set(m.held)
}

func newPublished(f *base.Figures, uid, id string) *published {
	of := func(name string) *base.Figure { return f.New("pattern_"+name, uid, id) }
	return &published{
		matches: of("matches_total"), timeouts: of("timeouts_total"), pruned: of("pruned_total"),
		started: of("started_total"), dropped: of("dropped_total"), active: of("active_runs"), held: of("held_matches"),
	}
}
