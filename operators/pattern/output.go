package pattern

// Output collects what a Matcher finds. It may be used again after Reset.
type Output[T any] struct {
	Matches  []Match[T]
	Timeouts []Timeout[T]
	// Want says that timed-out runs are collected.
	Want bool
}

// Reset empties the output. Matches that were taken from it stay valid.
func (o *Output[T]) Reset() {
	clear(o.Matches)
	clear(o.Timeouts)
	o.Matches, o.Timeouts = o.Matches[:0], o.Timeouts[:0]
}

// StageEvents is the events of one stage of a match, as they were accepted.
type StageEvents[T any] struct {
	Name   string
	Events []T
}

// Match is a complete match, or the part of one that a run had found when it timed
// out. Stages come in the order of their first events; those without events are
// absent.
type Match[T any] struct {
	Stages []StageEvents[T]
	// Start and End are the timestamps of the first and last event; At is that of the
	// event that completed the match, or the time to which time had advanced.
	Start, End, At int64
	// ByTime says that the end of a window completed the match, or freed it.
	ByTime bool
}

// Timeout is a run that a window ended.
type Timeout[T any] struct {
	Match[T]
	// Ended is the time at which the window ended.
	Ended int64
}

// Events returns the events of a stage; nil if it has none.
func (m *Match[T]) Events(stage string) []T {
	for i := range m.Stages {
		if m.Stages[i].Name == stage {
			return m.Stages[i].Events
		}
	}
	return nil
}

// First returns the first event of a stage; false if it has none.
func (m *Match[T]) First(stage string) (v T, ok bool) {
	if e := m.Events(stage); len(e) > 0 {
		return e[0], true
	}
	return v, false
}

// Last returns the last event of a stage; false if it has none.
func (m *Match[T]) Last(stage string) (v T, ok bool) {
	if e := m.Events(stage); len(e) > 0 {
		return e[len(e)-1], true
	}
	return v, false
}

// Len returns the number of events.
func (m *Match[T]) Len() int {
	n := 0
	for i := range m.Stages {
		n += len(m.Stages[i].Events)
	}
	return n
}

// smallMatch is the number of events up to which a match is one piece of memory.
const smallMatch = 3

// small is what a match of few events is made of.
type small[T any] struct {
	stages [smallMatch]StageEvents[T]
	events [smallMatch]T
}

// materialize makes a match of a path.
func (p *Program[T]) materialize(l *link[T], at int64, byTime bool) Match[T] {
	return matchOf(p.stages, l, at, byTime)
}

func matchOf[T any](stages []stageInfo, l *link[T], at int64, byTime bool) Match[T] {
	m := Match[T]{At: at, ByTime: byTime, End: l.ev.ts}
	n := int(l.depth)
	var few [16]*link[T]
	links := few[:]
	if n > len(few) {
		links = make([]*link[T], n)
	}
	links = links[:n]
	for i := n - 1; i >= 0; i-- {
		links[i], l = l, l.prev
	}
	m.Start = links[0].ev.ts
	var events []T
	if n <= smallMatch {
		piece := new(small[T])
		events, m.Stages = piece.events[:0], piece.stages[:0]
	} else {
		events, m.Stages = make([]T, 0, n), make([]StageEvents[T], 0, min(n, len(stages)))
	}
	for i, l := range links {
		if l == nil {
			continue
		}
		from := len(events)
		for j := i; j < n; j++ {
			if o := links[j]; o != nil && o.stage == l.stage {
				events = append(events, o.ev.val)
				if j > i {
					links[j] = nil
				}
			}
		}
		m.Stages = append(m.Stages, StageEvents[T]{stages[l.stage].name, events[from:len(events):len(events)]})
	}
	return m
}
