package operators

import (
	"sort"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/window"
)

// paneSlice is a slice of the time axis with records. Every window that
// contains it shares its accumulators.
type paneSlice struct {
	start, end base.Timestamp
	// first and last are the ends of the first and last window that contain it.
	first, last base.Timestamp
	table       *state.Table
}

// panes is the operator of tumbling and sliding windows. A record is added to
// the accumulator of its key in the one slice that contains it. When the
// watermark passes the end of a window, the window's keys are walked, in turns
// that stop at a deadline; a slice that no window needs any more is dropped as a
// whole.
//
// While a firing is under way, records of slices that no due window contains go
// on as usual. A record that would change what is being fired waits.
type panes[K comparable, T, A, R any] struct {
	windowBase[K, T, A, R]
	slicer window.Slicer
	store  *accStore[K, A]
	slices []*paneSlice // ascending
	cur    *paneSlice   // that of the record before
	// members is nil where a window is one slice.
	members *members[K, A]

	fired base.Timestamp // every window up to here has fired
	busy  bool           // Advance has not returned true yet
	f     firing
	held  []held[T]

	// Scratch of one batch: the slices of its records, and those not added yet.
	in        keyBatch
	places    [MaxBatch]*paneSlice
	left, run []int32
	// key is the key in hand, walked the one that a walk over a table yields.
	key, walked stateKey
	arena       []byte
	// look finds the accumulator of key in a slice.
	look window.Lookup[A]
}

func newPanes[K comparable, T, A, R any](s *Subtask, spec WindowSpec[K, T, A, R], out Consumer[Windowed[K, R]], late Consumer[T]) (Consumer[T], error) {
	o := &panes[K, T, A, R]{
		windowBase: newWindowBase(s, &spec, out, late), slicer: spec.Window.Slicer(),
		fired: base.MinTime, in: newKeyBatch(),
	}
	var err error
	if o.store, err = newAccStore(s, spec.UID, "slices", spec.Keys, spec.Acc); err != nil {
		return Consumer[T]{}, err
	}
	o.keys = &o.store.keys
	if o.slicer.SlicesPerWindow() > 1 {
		if o.members, err = newMembers(s, spec.UID, &o.spec.Ops, o.store, o.slicer.SlicesPerWindow()); err != nil {
			return Consumer[T]{}, err
		}
	}
	o.look = func(end base.Timestamp) *A {
		if sl := o.find(end); sl != nil {
			return o.store.get(sl.table, &o.key)
		}
		return nil
	}
	s.Add(o)
	return Consumer[T]{One: o.one, Batch: o.batch}, nil
}

// Open lists the slices of the restored state.
func (o *panes[K, T, A, R]) Open() error {
	o.fired = o.prog.w
	for _, end := range o.store.group.Namespaces() {
		if t := o.store.group.Existing(end); t != nil {
			o.slices = append(o.slices, o.newSlice(end, t))
		}
	}
	if o.members != nil {
		o.members.clear()
	}
	return nil
}

func (o *panes[K, T, A, R]) newSlice(end base.Timestamp, t *state.Table) *paneSlice {
	sl := &paneSlice{start: o.slicer.SliceStart(end), end: end, table: t}
	sl.first, sl.last, _ = o.slicer.WindowEndsOf(end)
	return sl
}

// from returns the index of the first slice whose end is not below end.
func (o *panes[K, T, A, R]) from(end base.Timestamp) int {
	if n := len(o.slices); n == 0 || o.slices[n-1].end < end {
		return n
	}
	return sort.Search(len(o.slices), func(i int) bool { return o.slices[i].end >= end })
}

func (o *panes[K, T, A, R]) find(end base.Timestamp) *paneSlice {
	if i := o.from(end); i < len(o.slices) && o.slices[i].end == end {
		return o.slices[i]
	}
	return nil
}

// slice returns the slice that ends at end; it is made if there is none.
func (o *panes[K, T, A, R]) slice(end base.Timestamp) *paneSlice {
	i := o.from(end)
	if i < len(o.slices) && o.slices[i].end == end {
		return o.slices[i]
	}
	sl := o.newSlice(end, o.store.group.Namespace(end))
	o.slices = append(o.slices, nil)
	copy(o.slices[i+1:], o.slices[i:])
	o.slices[i] = sl
	return sl
}

// place returns the slice of a record when adding to it is all there is to do.
// It returns nil after it has dealt with the record otherwise.
func (o *panes[K, T, A, R]) place(m *base.Meta, v *T) *paneSlice {
	w := o.prog.w
	if len(o.prog.ahead) > 0 {
		w = o.prog.of(m.Hash)
	}
	// A slice that is in no window up to w has not been read by any firing.
	if c := o.cur; c != nil && c.start <= m.Time && m.Time < c.end && c.first > w {
		return c
	}
	end, verdict := o.slicer.Classify(m.Time, w)
	if verdict == window.Late || verdict == window.NoWindow {
		o.drop(verdict, m, v)
		return nil
	}
	sl := o.slice(end)
	if sl.first > w {
		o.cur = sl
		return sl
	}
	if !o.busy {
		o.addFired(sl, m, v, w)
		return nil
	}
	o.held = append(o.held, held[T]{*m, *v, o.prog.w})
	if len(o.held) >= maxHeld {
		o.Advance(o.prog.w, noDeadline)
	}
	return nil
}

func (o *panes[K, T, A, R]) one(m *base.Meta, v *T) {
	o.s.at = o.op
	o.busy = o.notice() || o.busy
	sl := o.place(m, v)
	if sl == nil {
		return
	}
	o.arena = o.arena[:0]
	o.keys.set(&o.key, m.Hash, o.spec.Key(*v), &o.arena)
	acc, _ := o.store.open(sl.table, &o.key)
	o.spec.Add(acc, *v)
	o.store.save(sl.table, &o.key)
}

// batch is one for many records: the accumulators of a slice are found together,
// so that their cache misses overlap.
func (o *panes[K, T, A, R]) batch(metas []base.Meta, vals []T) {
	o.s.at = o.op
	o.busy = o.notice() || o.busy
	for len(vals) > 0 && o.s.err == nil {
		n := min(len(vals), MaxBatch)
		o.chunk(metas[:n], vals[:n])
		metas, vals = metas[n:], vals[n:]
	}
}

func (o *panes[K, T, A, R]) chunk(metas []base.Meta, vals []T) {
	if o.store.raw && len(o.prog.ahead) == 0 {
		n := o.addFirst(metas, vals)
		metas, vals = metas[n:], vals[n:]
	}
	left := o.left[:0]
	for i := range vals {
		o.s.cur = &metas[i]
		if sl := o.place(&metas[i], &vals[i]); sl != nil {
			o.places[i] = sl
			left = append(left, int32(i))
		}
		if o.s.err != nil {
			return
		}
	}
	o.left = left
	for len(left) > 0 {
		left = o.addRun(metas, vals, left)
	}
	o.s.cur = nil
}

// addFirst adds the records up to the first that does not belong to the slice
// of the record before, and returns their number: in most batches, all.
func (o *panes[K, T, A, R]) addFirst(metas []base.Meta, vals []T) (n int) {
	c := o.cur
	if c == nil || c.first <= o.prog.w {
		return 0
	}
	in := &o.in
	in.reset()
	for n < len(vals) && c.start <= metas[n].Time && metas[n].Time < c.end {
		o.s.cur = &metas[n]
		o.column(&metas[n], o.spec.Key(vals[n]))
		n++
	}
	if n == 0 {
		return 0
	}
	add := o.spec.Add
	for i, p := range in.upsert(o.keys.ints, c.table) {
		o.s.cur = &metas[i]
		add((*A)(p), vals[i])
	}
	return n
}

// column appends a key to the batch of keys.
func (o *panes[K, T, A, R]) column(m *base.Meta, k K) {
	in := &o.in
	in.hashes = append(in.hashes, m.Hash)
	if o.keys.ints {
		in.us = append(in.us, o.keys.codec.Uint64(k))
	} else {
		in.bs = append(in.bs, o.keys.bytes(&in.arena, k))
	}
}

// addRun adds those of the records in left that belong to the slice of the
// first, and returns the others.
func (o *panes[K, T, A, R]) addRun(metas []base.Meta, vals []T, left []int32) []int32 {
	sl := o.places[left[0]]
	if !o.store.raw {
		i := left[0]
		o.s.cur = &metas[i]
		o.arena = o.arena[:0]
		o.keys.set(&o.key, metas[i].Hash, o.spec.Key(vals[i]), &o.arena)
		acc, _ := o.store.open(sl.table, &o.key)
		o.spec.Add(acc, vals[i])
		o.store.save(sl.table, &o.key)
		return left[1:]
	}
	in := &o.in
	in.reset()
	run, rest := o.run[:0], left[:0]
	for _, i := range left {
		if o.places[i] != sl {
			rest = append(rest, i)
			continue
		}
		run = append(run, i)
		o.s.cur = &metas[i]
		o.column(&metas[i], o.spec.Key(vals[i]))
	}
	add := o.spec.Add
	for j, p := range in.upsert(o.keys.ints, sl.table) {
		i := run[j]
		o.s.cur = &metas[i]
		add((*A)(p), vals[i])
	}
	o.run = run
	return rest
}

// addFired adds a record to a slice that a window which has fired contains, and
// fires those of them again that are kept. w is the watermark for the record.
func (o *panes[K, T, A, R]) addFired(sl *paneSlice, m *base.Meta, v *T, w base.Timestamp) {
	o.arena = o.arena[:0]
	o.keys.set(&o.key, m.Hash, o.spec.Key(*v), &o.arena)
	acc, fresh := o.store.open(sl.table, &o.key)
	o.spec.Add(acc, *v)
	o.store.save(sl.table, &o.key)
	if o.members != nil {
		if total := o.members.added(sl.end, &o.key, fresh); total != nil {
			o.spec.Add(total, *v)
		}
	}
	first, last, again := o.slicer.Refires(sl.end, w)
	if !again {
		return
	}
	emission := emissionBy(m.Hash, m.Origin)
	for end := first; end <= last && o.s.err == nil; end += int64(o.spec.Window.Slide()) {
		window.Recombine(o.slicer, &o.spec.Ops, end, o.look, &o.acc)
		o.begin(o.slicer.WindowAt(end), end-1)
		o.meta.Ingest = m.Ingest
		o.emit(&o.key, &o.acc, emission)
	}
}
