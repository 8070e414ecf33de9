package window

import "github.com/weirflow/weir/internal/base"

// Window is the half-open interval [Start, End) of event time.
type Window struct {
	Start, End base.Timestamp
}

// Contains reports whether t lies in the window.
func (w Window) Contains(t base.Timestamp) bool { return w.Start <= t && t < w.End }

// String renders the window for people.
func (w Window) String() string {
	return "[" + base.FormatTime(w.Start) + ", " + base.FormatTime(w.End) + ")"
}

// AppendWindows appends the windows that a record with time t belongs to, ordered
// by start, and returns the extended slice. Several, one or none for a sliding
// window; for a session the window of the record alone, before any merge.
func (s Spec) AppendWindows(dst []Window, t base.Timestamp) []Window {
	if s.kind == KindSession {
		return append(dst, Interval{First: t, Last: t}.Window(s.gap))
	}
	phase := phaseOf(t, s.slide, s.offset)
	for k := s.windowsAt(phase) - 1; k >= 0; k-- {
		toEnd := s.size - phase - k*s.slide
		if t > base.MaxTime-toEnd {
			break // and so do the later windows
		}
		dst = append(dst, Window{Start: base.AddTime(t, -phase-k*s.slide), End: t + toEnd})
	}
	return dst
}

// windowsAt returns how many windows contain a time that lies phase behind the
// last window start at or before it. Window k of them, counted from the last,
// starts phase + k*slide before that time.
func (s Spec) windowsAt(phase int64) int64 {
	if phase >= s.size {
		return 0
	}
	return (s.size-phase-1)/s.slide + 1
}

// phaseOf returns (t - origin) mod step without overflow; origin is in [0, step).
func phaseOf(t base.Timestamp, step, origin int64) int64 {
	r := floorMod(t, step) - origin
	if r < 0 {
		r += step
	}
	return r
}

// floorMod is the remainder of the division that rounds down: in [0, m) for m > 0.
func floorMod(x, m int64) int64 {
	r := x % m
	if r < 0 {
		r += m
	}
	return r
}

// floorDiv is the quotient of the division that rounds down, for m > 0.
func floorDiv(x, m int64) int64 {
	q := x / m
	if x%m < 0 {
		q--
	}
	return q
}
