package window

import "github.com/weirflow/weir/internal/base"

// Interval holds the times of the first and the last record of a session.
type Interval struct {
	First, Last base.Timestamp
}

// Window returns the window of the session: [First, Last + gap), gap in
// nanoseconds.
func (iv Interval) Window(gap int64) Window {
	return Window{Start: iv.First, End: base.AddTime(iv.Last, gap)}
}

// ClosesAt returns the watermark at which the session is closed and fires: one
// above the end of its window, because a record at Last + gap still joins.
func (iv Interval) ClosesAt(gap int64) base.Timestamp {
	return base.AddTime(base.AddTime(iv.Last, gap), 1)
}

// joins reports whether a record at t belongs to the session.
func (iv Interval) joins(t base.Timestamp, gap int64) bool {
	return t <= base.AddTime(iv.Last, gap) && base.AddTime(t, gap) >= iv.First
}

// SessionRules are the rules of a session spec. It is an immutable value.
type SessionRules struct {
	gap, lateness int64
}

// SessionRules returns the rules of a valid session spec.
func (s Spec) SessionRules() SessionRules { return SessionRules{gap: s.gap, lateness: s.lateness} }

// Window returns the window of a session.
func (r SessionRules) Window(iv Interval) Window { return iv.Window(r.gap) }

// ClosesAt returns the watermark at which the session fires for the first time.
func (r SessionRules) ClosesAt(iv Interval) base.Timestamp { return iv.ClosesAt(r.gap) }

// DropAt returns the watermark from which on the session is gone: no record can
// join it any more. A session that is not gone is live.
func (r SessionRules) DropAt(iv Interval) base.Timestamp {
	return base.AddTime(iv.ClosesAt(r.gap), r.lateness)
}

// SessionSet holds the live sessions of one key in time order. They are more than
// the gap apart, so both ends ascend. An operator keeps its accumulators in a
// parallel slice and does to it what a Placement says.
type SessionSet []Interval

// Placement says where a record goes. Sessions [Lo, Hi) of the set and the record
// become one session, Merged, at position Lo; at most two sessions can be
// bridged. Lo == Hi means a new session inserted at Lo.
type Placement struct {
	Lo, Hi int
	Merged Interval
	// Verdict is OnTime when Merged has not closed yet, Update when it has and
	// must fire (again) at once, Late when the record joins no live session and
	// the session it would open is gone already. A Late record is not applied.
	Verdict Verdict
}

// Gone returns how many sessions at the front of the set are gone at watermark w.
// They must be removed before Place is called with that watermark.
func (s SessionSet) Gone(r SessionRules, w base.Timestamp) int {
	n := 0
	for n < len(s) && r.DropAt(s[n]) <= w {
		n++
	}
	return n
}

// Closed returns how many sessions at the front of the set have closed at
// watermark w. Those that had not closed at the watermark before must fire now.
func (s SessionSet) Closed(r SessionRules, w base.Timestamp) int {
	n := 0
	for n < len(s) && r.ClosesAt(s[n]) <= w {
		n++
	}
	return n
}

// Place returns where a record with time t goes at watermark w. All sessions of
// the set must be live. It changes nothing.
func (s SessionSet) Place(r SessionRules, t, w base.Timestamp) Placement {
	lo := len(s)
	for lo > 0 && base.AddTime(s[lo-1].Last, r.gap) >= t {
		lo-- // most records belong to the newest session: search from the end
	}
	p := Placement{Lo: lo, Hi: lo, Merged: Interval{First: t, Last: t}}
	for p.Hi < len(s) && s[p.Hi].joins(t, r.gap) {
		p.Merged.First = min(p.Merged.First, s[p.Hi].First)
		p.Merged.Last = max(p.Merged.Last, s[p.Hi].Last)
		p.Hi++
	}
	switch {
	case r.DropAt(p.Merged) <= w:
		p.Verdict = Late
	case r.ClosesAt(p.Merged) <= w:
		p.Verdict = Update
	}
	return p
}

// Apply returns the set after the placement; it reuses the memory of s.
func (s SessionSet) Apply(p Placement) SessionSet {
	return Splice(s, p, p.Merged)
}

// Splice replaces elements [Lo, Hi) of a slice that runs parallel to a SessionSet
// by one element, reusing its memory.
func Splice[S ~[]A, A any](parallel S, p Placement, merged A) S {
	if p.Lo == p.Hi {
		var zero A
		parallel = append(parallel, zero)
		copy(parallel[p.Lo+1:], parallel[p.Lo:])
		parallel[p.Lo] = merged
		return parallel
	}
	parallel[p.Lo] = merged
	n := copy(parallel[p.Lo+1:], parallel[p.Hi:])
	clear(parallel[p.Lo+1+n:])
	return parallel[:p.Lo+1+n]
}
