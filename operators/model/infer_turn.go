package model

import (
	"slices"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
)

var _ operators.Async = (*infer[int, int, int, int])(nil)

// one takes a record.
func (n *infer[T, In, Out, O]) one(m *base.Meta, v *T) {
	n.s.InHand(n.op, m)
	n.enc = n.spec.In.Append(n.enc[:0], v)
	n.seq++
	c := &call[T, Out]{seq: n.seq, since: n.w, id: identity(m, n.enc), meta: *m, val: *v, choice: n.choose(m.Hash)}
	n.add(c)
	n.shade(c)
}

// add takes a record up: it waits to be asked for, unless the journal knows the answer.
func (n *infer[T, In, Out, O]) add(c *call[T, Out]) {
	c.took = n.s.Env.Clock.Mono()
	n.all = append(n.all, c)
	n.live++
	n.figs.pending.Set(int64(n.live))
	if n.spec.Order == PerKey {
		if before := n.last[c.meta.Hash]; before != nil {
			before.after, c.behind = c, true
		}
		n.last[c.meta.Hash] = c
	}
	if c.arrived || n.lookUp(c) {
		n.finish(c)
		return
	}
	n.arms[c.lane].wait(c, c.took)
}

// lookUp takes the result from the journal of an earlier run.
func (n *infer[T, In, Out, O]) lookUp(c *call[T, Out]) bool {
	if n.log == nil || n.log.Left() == 0 {
		return false
	}
	data, ok := n.log.Take(c.journalID())
	if !ok || n.decodeResult(data, &c.res) != nil {
		return false
	}
	c.arrived = true
	n.arms[c.lane].figs.avoided.Add(1)
	return true
}

// finish notes that a record can be emitted as far as its own result is concerned.
func (n *infer[T, In, Out, O]) finish(c *call[T, Out]) {
	c.phase = done
	if n.spec.Order != Ordered && !c.behind {
		n.ready = append(n.ready, c)
	}
}

// Advance implements operators.Watermarker. The watermark goes on once all records that
// are here have left.
func (n *infer[T, In, Out, O]) Advance(w base.Timestamp, _ int64) bool {
	if w == base.MaxTime {
		n.shadows.before = n.w
		n.cut()
	}
	n.w = w
	return true
}

// Passed implements operators.Async. Only the end of input waits for shadows.
func (n *infer[T, In, Out, O]) Passed() base.Timestamp {
	for n.head < len(n.all) && n.all[n.head].phase == left {
		n.all[n.head] = nil
		n.head++
	}
	if n.head == len(n.all) {
		n.all, n.head = n.all[:0], 0
		if n.w == base.MaxTime && n.shadows.live > 0 {
			return n.shadows.before
		}
		return n.w
	}
	return n.all[n.head].since
}

// Pending implements operators.Async. Only the end of input waits for shadows.
func (n *infer[T, In, Out, O]) Pending() int {
	if n.w == base.MaxTime {
		return n.live + n.shadows.live
	}
	return n.live
}

// Busy implements operators.Async.
func (n *infer[T, In, Out, O]) Busy() bool { return n.busy.Load() > 0 }

// maxJournal bounds the journal of a subtask in bytes: beyond it, no input is taken
// until a checkpoint lets some of it go.
const maxJournal = 512 << 20

// Full implements operators.Async.
func (n *infer[T, In, Out, O]) Full() bool {
	return n.live >= n.spec.Capacity || n.log != nil && n.log.Bytes() > maxJournal
}

// ProcessingTime implements operators.ProcessingTimer: it sends the batches that have
// waited long enough.
func (n *infer[T, In, Out, O]) ProcessingTime(base.Timestamp) base.Timestamp {
	n.send()
	return n.wake
}

// Turn implements operators.Async.
func (n *infer[T, In, Out, O]) Turn(deadline int64) (again bool) {
	n.collect()
	again = n.emit(deadline) || n.emitShadows(deadline)
	n.compact()
	n.send()
	if n.log != nil {
		n.figs.lost.Set(n.log.Failed())
	}
	return again
}

// collect takes the answers that have come.
func (n *infer[T, In, Out, O]) collect() {
	n.mu.Lock()
	answered := n.answered
	n.answered = nil
	n.mu.Unlock()
	for _, f := range answered {
		l := f.lane
		switch {
		case f.failed:
			l.batch.Failed()
		default:
			l.batch.Done(f.ended, len(f.of), f.started)
		}
		l.flying -= len(f.of)
		if l.shadow {
			n.shadows.ready = append(n.shadows.ready, f.of...)
		} else {
			n.flying -= len(f.of)
			for _, c := range f.of {
				n.finish(c)
			}
		}
		n.busy.Add(-int64(len(f.of)))
	}
}

// checkEvery is how many records are emitted between two looks at the clock.
const checkEvery = 32

// emit hands on what can be, until the deadline, and reports whether there is more.
func (n *infer[T, In, Out, O]) emit(deadline int64) (more bool) {
	for i := 1; ; i++ {
		c := n.next()
		if c == nil || n.s.Err() != nil {
			return false
		}
		if i%checkEvery == 0 && n.s.Env.Clock.Mono() >= deadline {
			if n.spec.Order != Ordered {
				n.ready = slices.Insert(n.ready, 0, c)
			}
			return true
		}
		n.handOn(c)
	}
}

// next returns the record to emit next; nil if there is none.
func (n *infer[T, In, Out, O]) next() *call[T, Out] {
	if n.spec.Order != Ordered {
		if len(n.ready) == 0 {
			return nil
		}
		c := n.ready[0]
		n.ready[0] = nil
		n.ready = n.ready[1:]
		return c
	}
	n.Passed() // moves the head past what has left
	if n.head < len(n.all) && n.all[n.head].phase == done {
		return n.all[n.head]
	}
	return nil
}

// handOn emits a record, in front of it the watermark that was waiting for those
// before, and forgets it.
func (n *infer[T, In, Out, O]) handOn(c *call[T, Out]) {
	if w := n.Passed(); w > n.told {
		n.told = w
		n.s.Release(n)
	}
	n.s.InHand(n.op, &c.meta)
	if c.res.Err != nil {
		n.fail(c)
	} else {
		if c.res.Degraded {
			n.arms[c.lane].figs.degraded.Add(1)
		}
		c.res.Asked = n.asked(c)
		if n.spec.Make(&c.val, &c.res, &n.o) {
			n.out(&c.meta, &n.o)
		}
	}
	n.forget(c)
}

// fail hands on a record that has failed.
func (n *infer[T, In, Out, O]) fail(c *call[T, Out]) {
	n.arms[c.lane].figs.failed.Add(1)
	if n.failed == nil {
		return
	}
	fail := asFailure(c.res.Err)
	n.f = Failed[T]{
		Record: c.val, Key: n.name(c), Arm: c.arm, Routing: c.routing, Kind: fail.Kind.String(), Status: fail.Status, What: fail.Error(), Attempts: max(c.attempt, 1),
	}
	n.failed(&c.meta, &n.f)
}

// forget takes a record out that has been emitted.
func (n *infer[T, In, Out, O]) forget(c *call[T, Out]) {
	if c.stored {
		n.table.DeleteBytes(c.meta.Hash, stateKey(c.id, c.seq))
	}
	if n.spec.Order == PerKey {
		if a := c.after; a != nil {
			a.behind = false
			if a.phase == done {
				n.ready = append(n.ready, a)
			}
		} else {
			delete(n.last, c.meta.Hash)
		}
	}
	*c = call[T, Out]{since: c.since, phase: left}
	n.live--
	n.figs.pending.Set(int64(n.live))
	n.s.Env.Stats.AsyncOut.Add(1)
}

// compact drops records that have left from the middle of the list, where a slow call
// at its head keeps it from shrinking.
func (n *infer[T, In, Out, O]) compact() {
	if len(n.all) < 1024 || len(n.all)-n.head < 2*n.live {
		return
	}
	n.all = slices.DeleteFunc(n.all, func(c *call[T, Out]) bool { return c == nil || c.phase == left })
	n.head = 0
}
