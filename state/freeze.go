package state

import (
	"time"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/invariants"
)

// copying is the state of copying a barrier out. It is in use while frozen is
// not nil.
type copying struct {
	frozen     *stream
	checkpoint base.Epoch
	frozenSegs []*segment // with frozen bits, or dirty bits of the frozen epoch
	segAt      int        // the next of them
	slotAt     int        // the next slot of it
	zombies    []*Table   // dropped after the barrier, freed when it is copied out

	sweep
}

// copyCheck is how many entries are copied between two looks at the clock.
const copyCheck = 64

// Freeze fixes the state as it is now, as the state at the barrier of an epoch,
// without any I/O and in time independent of its size. CopyTurn then has to be
// called until it is done. If the copying for the barrier before is not done yet,
// it is finished first.
//
// A second attempt at the same epoch is another Freeze: both objects are in its
// chain.
func (b *Backend) Freeze(epoch base.Epoch) {
	if !b.tracked() {
		b.fail(stateError(CodeWrite, "a checkpoint of state without a checkpoint store", b.opts.Task, "configure a checkpoint store", nil))
		return
	}
	b.CopyAll()
	b.frozen, b.checkpoint = b.out, epoch
	b.epoch++
	b.out = b.newStream()
	b.frozenSegs, b.changedSegs = b.changedSegs, b.frozenSegs[:0]
	b.segAt, b.slotAt = 0, 0
	b.planSweep()
}

// CopyTurn copies frozen entries out for about the given time and reports whether
// the barrier is copied completely. It returns early when the writer is behind.
// It also does what else is due for the state in the background, so it is worth
// calling when nothing is frozen.
func (b *Backend) CopyTurn(budget time.Duration) (done bool) {
	clk := b.store.opts.Clock
	deadline := clk.Mono() + int64(budget)
	for b.pressure(); b.over && clk.Mono() < deadline; {
		b.relieve()
	}
	if b.frozen == nil {
		return true
	}
	return b.copyUntil(deadline, true)
}

// CopyAll copies everything that is frozen, waiting for the writer where it must.
func (b *Backend) CopyAll() {
	if b.frozen != nil {
		b.copyUntil(1<<63-1, false)
	}
}

// copyUntil copies until a time of the monotonic clock. A polite copier stops
// when buffers are short.
func (b *Backend) copyUntil(deadline int64, polite bool) bool {
	for n := 0; ; {
		if polite && b.frozen.scarce() && !b.store.writer.idle() {
			return false
		}
		if b.segAt < len(b.frozenSegs) {
			n += b.copySome()
		} else if !b.sweeping || !b.sweepStep() {
			break
		} else {
			n += copyCheck // a step of a sweep copies about that many
		}
		if n >= copyCheck && polite {
			if n = 0; b.store.opts.Clock.Mono() >= deadline {
				return false
			}
		}
	}
	b.finishCopy()
	return true
}

// copyBatch is how many entries are looked up before they are copied, so that
// their cache misses overlap.
const copyBatch = 32

// copySome copies a few frozen entries, or leaves a segment that has none, and
// returns how much was done.
func (b *Backend) copySome() int {
	s := b.frozenSegs[b.segAt]
	s.rotate(b.frozen.stamp)
	if s.frozenN == 0 {
		b.segAt, b.slotAt = b.segAt+1, 0
		crash.At(crash.SnapMidCopy)
		return 1
	}
	var list [copyBatch]int
	n, sum := 0, uint64(0)
	for i := next(s.frozen, b.slotAt); i >= 0; i = next(s.frozen, i+1) {
		list[n] = i
		sum += *(*uint64)(s.slot(i))
		if n++; n == copyBatch {
			break
		}
	}
	b.sink = sum
	if n == 0 { // an entry moved to the left since it was passed
		b.slotAt = 0
		return 1
	}
	for _, i := range list[:n] {
		clearBit(s.frozen, i)
		s.frozenN--
		slot := s.slot(i)
		b.record(b.frozen, s.t, slot)
		b.slotAt = i + 1
		if m := metaOf(slot); m.flags&(tombstone|onDisk) == tombstone && m.stamp == b.frozen.stamp {
			s.remove(i) // the delete is recorded; what moves here is looked at again
			s.t.slotsUsed--
			b.structure++
			b.slotAt = i
			break
		}
	}
	return n
}

// record writes an entry to a stream.
func (b *Backend) record(w *stream, t *Table, slot unsafe.Pointer) {
	before := w.bytes
	w.entry(t, slot)
	m := metaOf(slot)
	if m.flags&recorded != 0 {
		w.again += w.bytes - before
	}
	m.flags |= recorded
	t.wasRecorded = true
}

// recordBase writes an entry that did not change in the frozen epoch.
func (b *Backend) recordBase(t *Table, slot unsafe.Pointer) {
	if metaOf(slot).flags&tombstone != 0 {
		return
	}
	w := b.frozen
	before := w.bytes
	b.record(w, t, slot)
	w.base(before)
}

// flushSegment copies all frozen entries of a segment whose slots are about to
// move.
func (b *Backend) flushSegment(s *segment) {
	if b.frozen == nil {
		return
	}
	s.rotate(b.frozen.stamp)
	for i := next(s.frozen, 0); i >= 0 && s.frozenN > 0; i = next(s.frozen, i+1) {
		clearBit(s.frozen, i)
		s.frozenN--
		b.record(b.frozen, s.t, s.slot(i))
	}
}

// finishCopy hands the barrier to the writer.
func (b *Backend) finishCopy() {
	if invariants.Enabled {
		for _, s := range b.frozenSegs {
			invariants.Check(s.frozenN == 0, "a segment is copied completely")
		}
	}
	w := b.frozen
	w.flush()
	end := &endOfEpoch{
		epoch: b.checkpoint, first: b.first, slices: b.slices,
		bytes: w.bytes, entries: w.entries, baseBytes: w.baseBytes, baseEntries: w.baseEntries,
	}
	b.settle(w)
	b.store.writer.end(b, w.stamp, end)
	b.frozen, b.sweeping = nil, false
	for _, t := range b.zombies {
		b.bury(t)
	}
	clear(b.zombies)
	b.zombies = b.zombies[:0]
}
