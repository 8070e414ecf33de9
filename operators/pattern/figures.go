package pattern

import "github.com/weirflow/weir/internal/base"

// published are the figures of a pattern in a subtask that anybody may read.
type published struct {
	matches, timeouts, pruned, started, dropped, active, held *base.Figure
}

// publish shows the figures of the patterns that were touched since the last time.
func (s *Set[T]) publish(f *base.Figures, uid string) {
	for _, m := range s.touched {
		m.touched = false
		if m.gone {
			continue
		}
		if m.pub == nil {
			m.pub = newPublished(f, uid, m.id)
		}
		st := &m.m.stats
		m.pub.matches.Set(st.Matches)
		m.pub.timeouts.Set(st.Timeouts)
		m.pub.pruned.Set(st.Pruned)
		m.pub.started.Set(st.Started)
		m.pub.dropped.Set(st.Overflowed)
		m.pub.active.Set(m.open)
		m.pub.held.Set(m.held)
	}
	clear(s.touched)
	s.touched = s.touched[:0]
}

func newPublished(f *base.Figures, uid, id string) *published {
	of := func(name string) *base.Figure { return f.New("pattern_"+name, uid, id) }
	return &published{
		matches: of("matches_total"), timeouts: of("timeouts_total"), pruned: of("pruned_total"),
		started: of("started_total"), dropped: of("dropped_total"), active: of("active_runs"), held: of("held_matches"),
	}
}
