package window

import "github.com/weirflow/weir/internal/base"

// Slicer cuts the time axis of a tumbling or sliding window into slices, such
// that every window is a whole number of slices and each record belongs to one.
// An operator aggregates per (key, slice) and combines slices when a window fires.
//
// The cuts are the starts and ends of all windows and nothing else: where the
// slide divides the size, slices are one slide long (the greatest common divisor
// of both); otherwise slices of size mod slide and of the rest of the slide
// alternate. That is never more slices than cutting at every greatest common
// divisor, and at most 2*size/slide + 1 in a window whatever the two are.
//
// A slice is named by its end, which is above every time in it. Slicer is an
// immutable value.
type Slicer struct {
	spec Spec
	cut  int64 // size mod slide: where the slide is cut in two, 0 when it is not
}

// Slicer returns the slicer of a valid tumbling or sliding spec.
func (s Spec) Slicer() Slicer { return Slicer{spec: s, cut: s.size % s.slide} }

// Spec returns the window that is sliced.
func (s Slicer) Spec() Spec { return s.spec }

// SlicesPerWindow returns how many slices a window consists of.
func (s Slicer) SlicesPerWindow() int {
	n := s.spec.size / s.spec.slide
	if s.cut != 0 {
		n = 2*n + 1
	}
	return int(n)
}

// SliceEnd returns the end of the slice that contains t. Given the end of a
// slice it returns the end of the next one. It saturates at base.MaxTime.
func (s Slicer) SliceEnd(t base.Timestamp) base.Timestamp {
	return s.sliceEndAt(t, phaseOf(t, s.spec.slide, s.spec.offset))
}

func (s Slicer) sliceEndAt(t base.Timestamp, phase int64) base.Timestamp {
	if phase < s.cut {
		return base.AddTime(t, s.cut-phase)
	}
	return base.AddTime(t, s.spec.slide-phase)
}

// SliceStart returns the start of the slice that ends at sliceEnd, which is the
// end of the slice before it. It saturates at base.MinTime.
func (s Slicer) SliceStart(sliceEnd base.Timestamp) base.Timestamp {
	if sliceEnd == base.MinTime {
		return sliceEnd
	}
	last := sliceEnd - 1
	phase := phaseOf(last, s.spec.slide, s.spec.offset)
	if phase >= s.cut {
		phase -= s.cut
	}
	return base.AddTime(last, -phase)
}

// Index numbers the slices of the time axis consecutively; it is used to group
// slices into blocks. sliceEnd must be the end of a slice.
func (s Slicer) Index(sliceEnd base.Timestamp) int64 {
	last := sliceEnd - 1
	k := floorDiv(last, s.spec.slide)
	phase := floorMod(last, s.spec.slide) - s.spec.offset
	if phase < 0 {
		phase += s.spec.slide
		k--
	}
	if s.cut == 0 {
		return k
	}
	if phase < s.cut {
		return 2 * k
	}
	return 2*k + 1
}

// WindowEndsOf returns the ends of the first and the last window that contain the
// slice; the ends between are one slide apart. ok is false when the slice lies in
// a gap between windows.
func (s Slicer) WindowEndsOf(sliceEnd base.Timestamp) (first, last base.Timestamp, ok bool) {
	return s.endsAt(sliceEnd-1, phaseOf(sliceEnd-1, s.spec.slide, s.spec.offset))
}

// endsAt is WindowEndsOf for the slice that contains t, whose phase is given.
func (s Slicer) endsAt(t base.Timestamp, phase int64) (first, last base.Timestamp, ok bool) {
	n := s.spec.windowsAt(phase)
	toEnd := s.spec.size - phase
	skip := int64(0)
	if over := t - (base.MaxTime - max(toEnd, 0)); t > 0 && over > 0 {
		// These windows would end beyond the time axis.
		skip = (over-1)/s.spec.slide + 1
	}
	if skip >= n {
		return 0, 0, false
	}
	return t + toEnd - (n-1)*s.spec.slide, t + toEnd - skip*s.spec.slide, true
}

// Slices returns the ends of the first and the last slice of the window that ends
// at windowEnd; the last one equals windowEnd. Walk them with SliceEnd.
func (s Slicer) Slices(windowEnd base.Timestamp) (first, last base.Timestamp) {
	return s.SliceEnd(base.AddTime(windowEnd, -s.spec.size)), windowEnd
}

// WindowAt returns the window that ends at windowEnd.
func (s Slicer) WindowAt(windowEnd base.Timestamp) Window {
	return Window{Start: base.AddTime(windowEnd, -s.spec.size), End: windowEnd}
}

// NextWindowEnd returns the smallest window end above w: the next window that
// will fire when the watermark is w. ok is false when there is none on the axis.
func (s Slicer) NextWindowEnd(w base.Timestamp) (end base.Timestamp, ok bool) {
	origin := (s.spec.offset + s.spec.size) % s.spec.slide
	step := s.spec.slide - phaseOf(w, s.spec.slide, origin)
	if w > base.MaxTime-step {
		return 0, false
	}
	return w + step, true
}

// DropAt returns the watermark from which on the slice is needed no more: the end
// of the last window that contains it plus the allowed lateness, saturated at
// base.MaxTime. The slice must belong to a window.
func (s Slicer) DropAt(sliceEnd base.Timestamp) base.Timestamp {
	_, last, _ := s.WindowEndsOf(sliceEnd)
	return base.AddTime(last, s.spec.lateness)
}

// Verdict says what becomes of a record at the current watermark.
type Verdict uint8

const (
	// OnTime: the record counts, and no window that is still kept must fire again.
	OnTime Verdict = iota
	// Update: the record counts, and at least one of its windows has fired, is
	// still kept, and must fire again with the record in it: see Refires.
	Update
	// Late: all windows of the record are gone; it goes to the late output.
	Late
	// NoWindow: the record lies between two windows and is dropped and counted,
	// but is not late.
	NoWindow
)

// Classify returns the end of the slice that a record with time t goes to, and
// what becomes of the record when the watermark is w. The same verdict holds for
// every record of the slice.
func (s Slicer) Classify(t, w base.Timestamp) (sliceEnd base.Timestamp, v Verdict) {
	phase := phaseOf(t, s.spec.slide, s.spec.offset)
	sliceEnd = s.sliceEndAt(t, phase)
	first, last, ok := s.endsAt(t, phase)
	switch {
	case !ok:
		return sliceEnd, NoWindow
	case first > w:
		return sliceEnd, OnTime
	case base.AddTime(last, s.spec.lateness) <= w:
		return sliceEnd, Late
	}
	if _, _, again := s.Refires(sliceEnd, w); again {
		return sliceEnd, Update
	}
	return sliceEnd, OnTime
}

// Refires returns the ends of the first and the last window that must fire again
// after a record was added to the slice: those that have fired by watermark w and
// are still kept; the ends between are one slide apart. ok is false when there is
// none.
func (s Slicer) Refires(sliceEnd, w base.Timestamp) (first, last base.Timestamp, ok bool) {
	first, last, ok = s.WindowEndsOf(sliceEnd)
	if !ok || first > w || base.AddTime(last, s.spec.lateness) <= w {
		return 0, 0, false
	}
	slide := s.spec.slide
	if last > w {
		last -= ((last-w-1)/slide + 1) * slide
	}
	if gone := base.AddTime(first, s.spec.lateness); gone <= w {
		first += ((w-gone)/slide + 1) * slide
	}
	return first, last, first <= last
}
