package window

import "github.com/weirflow/weir/internal/base"

// RecombineMax is the number of slices in a window up to which computing each
// window anew from its slices is the cheapest way.
const RecombineMax = 8

// Ops are the operations on an accumulator A. The zero A is the accumulator of no
// records.
type Ops[A any] struct {
	// Merge folds src into dst. All records of src belong to later slices than
	// those of dst. It must be associative, must leave src as it is and must not
	// let dst share memory with it.
	Merge func(dst, src *A)
	// Subtract takes out of dst what Merge folded in from src: afterwards dst is
	// exactly what it would be without, to the last bit. It is nil when the
	// accumulator cannot do that, as for minima and floating-point sums.
	Subtract func(dst, src *A)
}

// Lookup returns the accumulator of the slice that ends at sliceEnd, for one key,
// or nil when the slice holds no records. The accumulator is only read, and only
// until the call that was given the Lookup returns.
type Lookup[A any] func(sliceEnd base.Timestamp) *A

// Recombine computes the window that ends at windowEnd from its slices. It
// replaces *out and returns false when the window holds no records.
func Recombine[A any](s Slicer, ops *Ops[A], windowEnd base.Timestamp, slices Lookup[A], out *A) bool {
	first, last := s.Slices(windowEnd)
	var none A
	*out = none
	found := false
	for end := first; ; end = s.SliceEnd(end) {
		if slice := slices(end); slice != nil {
			ops.Merge(out, slice)
			found = true
		}
		if end >= last {
			break
		}
	}
	return found
}

// Running is the total over the slices of one key's window that slides, for
// accumulators with Subtract: each step adds the slices that enter and subtracts
// those that leave. It holds nothing that cannot be rebuilt from the slices, so it
// is never part of a checkpoint; the zero Running is ready and builds itself on
// first use.
//
// For each window end that fires, in ascending order: call Fire, use the total,
// then call Expire before slices are dropped. When a record is added to a slice
// that the total covers, call Reset.
type Running[A any] struct {
	total   A
	entered base.Timestamp // end of the newest slice in the total
	next    base.Timestamp // the window end that Expire prepared for
	slices  int            // slices with records in the total
	ready   bool
}

// Fire returns the total of the window that ends at windowEnd and whether the
// window holds records. The total is valid until the next call and must not be
// changed. After a window end that does not follow the one before it by one slide
// the total is rebuilt.
func (r *Running[A]) Fire(s Slicer, ops *Ops[A], windowEnd base.Timestamp, slices Lookup[A]) (*A, bool) {
	from, last := s.Slices(windowEnd)
	if r.ready && r.next == windowEnd && r.slices > 0 {
		from = max(from, s.SliceEnd(r.entered))
	} else {
		r.Reset()
	}
	for end := from; end <= last; {
		if slice := slices(end); slice != nil {
			ops.Merge(&r.total, slice)
			r.slices++
		}
		if end == last {
			break
		}
		end = s.SliceEnd(end)
	}
	r.entered, r.next, r.ready = last, windowEnd, true
	return &r.total, r.slices > 0
}

// Expire takes out the slices that do not belong to the window after the one that
// was fired last. It returns false when nothing is left: the key can be forgotten
// until its next record.
func (r *Running[A]) Expire(s Slicer, ops *Ops[A], slices Lookup[A]) bool {
	if !r.ready {
		return false
	}
	start := base.AddTime(r.next, -s.spec.size)
	r.next = base.AddTime(r.next, s.spec.slide)
	keep := base.AddTime(start, s.spec.slide) // start of the next window
	for end := s.SliceEnd(start); end <= keep && end <= r.entered && r.slices > 0; {
		if slice := slices(end); slice != nil {
			ops.Subtract(&r.total, slice)
			r.slices--
		}
		following := s.SliceEnd(end)
		if following == end {
			break
		}
		end = following
	}
	if r.slices == 0 {
		r.Reset()
		return false
	}
	return true
}

// Covers reports whether the total includes the slice, so that a record added to
// the slice makes a Reset necessary.
func (r *Running[A]) Covers(sliceEnd base.Timestamp) bool {
	return r.ready && sliceEnd <= r.entered
}

// Reset forgets the total; the next Fire rebuilds it from the slices.
func (r *Running[A]) Reset() { *r = Running[A]{} }
