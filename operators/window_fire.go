package operators

import (
	"sort"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state"
)

// firing is the window that is being fired.
type firing struct {
	active bool
	end    base.Timestamp
	phase  firePhase
	// todo are the slices that the phase walks; at is the one in hand.
	todo   []*paneSlice
	at     int
	walk   state.Cursor
	ingest base.Timestamp
}

type firePhase uint8

const (
	// fireEnter takes the slices that are new to the window into the members.
	fireEnter firePhase = iota
	// fireEmit emits the result of every key.
	fireEmit
	// fireLeave takes the slices that the next window does not contain out.
	fireLeave
)

// Advance fires the windows that end up to w, in order. It stops at the deadline.
func (o *panes[K, T, A, R]) Advance(w base.Timestamp, deadline int64) (done bool) {
	if w <= o.prog.w && !o.busy {
		return true
	}
	o.busy = true
	o.prog.w = max(o.prog.w, w)
	for o.fired < o.prog.w || len(o.held) > 0 {
		// Records that wait come after one watermark and before the next.
		goal := o.prog.w
		if len(o.held) > 0 {
			goal = o.held[0].w
		}
		if !o.fireUpTo(goal, deadline) || !o.release(deadline) {
			return false
		}
	}
	o.prog.reach(o.prog.w)
	o.busy = false
	return true
}

// fireUpTo fires the windows that end up to w.
func (o *panes[K, T, A, R]) fireUpTo(w base.Timestamp, deadline int64) (done bool) {
	for {
		if !o.f.active {
			end, ok := o.nextEnd()
			if !ok || end > w {
				break
			}
			o.start(end)
		}
		if !o.step(deadline) {
			return false
		}
		o.fired = o.f.end
		o.f.active = false
		o.forget()
	}
	o.fired = w
	o.forget()
	return true
}

// release takes the records that waited for what has been fired.
func (o *panes[K, T, A, R]) release(deadline int64) (done bool) {
	n := 0
	for n < len(o.held) && o.held[n].w <= o.fired && (n == 0 || o.s.Env.Clock.Mono() <= deadline) {
		h := &o.held[n]
		n++
		o.s.cur = &h.meta
		w := o.prog.later(h.w, h.meta.Hash)
		end, _ := o.slicer.Classify(h.meta.Time, w)
		o.addFired(o.slice(end), &h.meta, &h.val, w)
		if o.s.err != nil {
			return false
		}
	}
	k := copy(o.held, o.held[n:])
	clear(o.held[k:])
	o.held = o.held[:k]
	return k == 0 || o.held[0].w > o.fired
}

// nextEnd returns the end of the first window after those fired that contains a
// slice with records.
func (o *panes[K, T, A, R]) nextEnd() (base.Timestamp, bool) {
	i := sort.Search(len(o.slices), func(i int) bool { return o.slices[i].last > o.fired })
	if i == len(o.slices) {
		return 0, false
	}
	sl, slide := o.slices[i], int64(o.spec.Window.Slide())
	if sl.first > o.fired {
		return sl.first, true
	}
	return sl.first + ((o.fired-sl.first)/slide+1)*slide, true
}

// forget drops the slices that no window needs any more.
func (o *panes[K, T, A, R]) forget() {
	late, n := int64(o.spec.Window.AllowedLateness()), 0
	for n < len(o.slices) && base.AddTime(o.slices[n].last, late) <= o.fired {
		if o.cur == o.slices[n] {
			o.cur = nil
		}
		o.store.group.Drop(o.slices[n].end)
		n++
	}
	if n > 0 {
		k := copy(o.slices, o.slices[n:])
		clear(o.slices[k:])
		o.slices = o.slices[:k]
	}
}

// start begins to fire the window that ends at end.
func (o *panes[K, T, A, R]) start(end base.Timestamp) {
	o.s.Env.Stats.TimersFired.Add(1)
	f := &o.f
	f.active, f.end, f.ingest = true, end, o.s.Env.Clock.Now()
	if o.members == nil {
		o.phase(fireEmit, end, end)
		return
	}
	first, last := o.slicer.Slices(end)
	o.phase(fireEnter, o.members.enter(first, last), last)
}

// phase begins a phase that walks the slices with lo <= end <= hi.
func (o *panes[K, T, A, R]) phase(p firePhase, lo, hi base.Timestamp) {
	f := &o.f
	f.phase, f.at, f.walk, f.todo = p, 0, state.Cursor{}, f.todo[:0]
	for i := o.from(lo); i < len(o.slices) && o.slices[i].end <= hi; i++ {
		f.todo = append(f.todo, o.slices[i])
	}
}

// step goes on with the window in hand; it returns true when that is through.
func (o *panes[K, T, A, R]) step(deadline int64) (done bool) {
	// Other records may have been emitted since the turn before.
	o.begin(o.slicer.WindowAt(o.f.end), o.f.end-1)
	o.meta.Ingest = o.f.ingest
	for !done {
		if o.walkOn() {
			done = o.nextPhase()
		}
		if o.s.err != nil {
			return false
		}
		if !done && o.s.Env.Clock.Mono() > deadline {
			return false
		}
	}
	o.s.cur = nil
	return true
}

// nextPhase begins the phase after the one that is through; done says that there
// is none.
func (o *panes[K, T, A, R]) nextPhase() (done bool) {
	f := &o.f
	switch {
	case o.members == nil || f.phase == fireLeave:
		return true
	case f.phase == fireEnter:
		f.phase, f.walk = fireEmit, state.Cursor{}
	default:
		first, _ := o.slicer.Slices(f.end)
		keep, next := o.slicer.Slices(base.AddTime(f.end, int64(o.spec.Window.Slide())))
		o.members.leave(keep, next)
		o.phase(fireLeave, first, keep-1)
	}
	return false
}

// walkOn walks some entries of the table in hand; it returns true when the phase
// is through.
func (o *panes[K, T, A, R]) walkOn() (through bool) {
	f := &o.f
	if f.phase == fireEmit && o.members != nil {
		return o.emitMembers()
	}
	if f.at == len(f.todo) {
		return true
	}
	table := f.todo[f.at].table
	if f.phase == fireEmit {
		through = table.Walk(&f.walk, walkStep, o.emitEntry)
	} else {
		through = o.members.move(table, &f.walk, f.phase == fireEnter)
	}
	if through {
		f.at++
		f.walk = state.Cursor{}
	}
	return f.at == len(f.todo)
}

// emitEntry emits the result of one key of a window that is one slice.
func (o *panes[K, T, A, R]) emitEntry(hash uint64, key, val []byte) bool {
	if o.prog.firedBefore(hash, o.f.end) {
		return true
	}
	o.keys.walked(&o.walked, hash, key)
	o.acc = *o.store.value(val)
	o.emit(&o.walked, &o.acc, hash)
	return o.s.err == nil
}

// emitMembers emits the results of some keys of a window of many slices.
func (o *panes[K, T, A, R]) emitMembers() (through bool) {
	m := o.members
	if m.totals {
		return m.table.Walk(&o.f.walk, walkStep, o.emitTotal)
	}
	through = m.list(&o.f.walk)
	for i := 0; i < m.keys.len() && o.s.err == nil; i++ {
		m.keys.at(o.keys.ints, i, &o.key)
		if o.prog.firedBefore(o.key.hash, o.f.end) {
			continue
		}
		if m.compute(o.slicer, i, o.f.end, o.look, &o.acc) {
			o.emit(&o.key, &o.acc, o.key.hash)
		}
	}
	return through
}

// emitTotal emits one key's running total.
func (o *panes[K, T, A, R]) emitTotal(hash uint64, key, val []byte) bool {
	if o.prog.firedBefore(hash, o.f.end) {
		return true
	}
	o.keys.walked(&o.walked, hash, key)
	o.acc = *o.members.total(val)
	o.emit(&o.walked, &o.acc, hash)
	return o.s.err == nil
}
