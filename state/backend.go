package state

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/invariants"
)

// Backend is the keyed state of one subtask. It belongs to one goroutine: no
// method locks, and none may be called concurrently with another.
type Backend struct {
	store *Store
	mem   *pool
	opts  BackendOptions
	place placer

	// epoch stamps entries: it numbers the Freezes of this process, so that it
	// differs between two attempts at one checkpoint.
	epoch uint32
	// structure changes whenever a slot or a value may have moved.
	structure uint64
	// over says that the memory budget is exceeded; see relieve.
	over    bool
	walking int
	victim  victim
	// spillSeq changes whenever the spill store does.
	spillSeq               uint64
	diskKeyBuf, diskValBuf []byte
	fresh                  []loaded
	diskStep               int // spilled entries that a sweep reads at a time

	groups   []*Group
	restored bool
	ring     []*segment // all segments, for the clock of eviction
	hand     int
	err      error

	// changedSegs are the segments with dirty bits of the running epoch.
	changedSegs []*segment
	// out receives what is recorded in the running epoch before its barrier:
	// dropped namespaces and changed entries that are evicted.
	out *stream
	copying
	plan sweepPlan
	// stateBytes is the size of all live entries as a stream would write them.
	stateBytes int64

	// failed is set by the writer when an object was lost: everything has to be
	// written again.
	failed atomic.Bool

	times
	key   currentKey
	stale []staleEntry // found by a sweep, to be removed
	sink  uint64       // keeps the compiler from dropping loads
}

// firstStamp is above 1, so that no running epoch follows the stamp 0 of restored
// entries and untouched segments.
const firstStamp = 2

func newBackend(s *Store, opts BackendOptions) *Backend {
	b := &Backend{store: s, mem: &pool{a: s.mem}, opts: opts, place: newPlacer(opts.Range), epoch: firstStamp, diskStep: sweepDiskStep}
	b.times = times{base.MinTime, base.MinTime, base.MinTime}
	b.out = b.newStream()
	return b
}

// Close frees the memory of all tables and forgets snapshots that are not durable.
func (b *Backend) Close() error {
	s := b.store
	s.mu.Lock()
	_, open := s.backends[b]
	delete(s.backends, b)
	s.setShare()
	closed := s.closed
	s.mu.Unlock()
	if !open || closed {
		return nil
	}
	b.sweep.close()
	b.out.discard()
	if b.frozen != nil {
		b.frozen.discard()
		b.frozen = nil
	}
	for _, t := range b.zombies {
		t.free()
	}
	for _, g := range b.groups {
		for _, t := range g.tables {
			t.free()
		}
		g.tables, g.order, g.last = nil, nil, nil
	}
	s.writer.forget(b)
	return nil
}

// Err returns the first error of the spill store, or of a key that did not belong
// here; nil if there was none. After an error results are not to be trusted: the
// subtask must stop.
func (b *Backend) Err() error { return b.err }

func (b *Backend) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// tracked says that changes are recorded for checkpoints.
func (b *Backend) tracked() bool { return b.store.opts.Blob != nil }

// mark notes that slot i of s was changed in the running epoch.
func (b *Backend) mark(s *segment, i int) {
	if s.dirtyEpoch != b.epoch {
		b.enlist(s)
	}
	if !getBit(s.dirty, i) {
		setBit(s.dirty, i)
		s.dirtyN++
	}
}

// enlist starts the running epoch in a segment. Bits of the epoch before become
// the frozen ones, unless the copier did that already.
func (b *Backend) enlist(s *segment) {
	s.rotate(b.epoch - 1)
	s.dirtyEpoch = b.epoch
	b.changedSegs = append(b.changedSegs, s)
}

// rotate makes the dirty bits of an epoch the frozen ones.
func (s *segment) rotate(epoch uint32) {
	if s.dirtyEpoch != epoch || s.dirtyN == 0 {
		return
	}
	if invariants.Enabled {
		invariants.Check(s.frozenN == 0, "a segment is frozen again before it was copied")
	}
	s.dirty, s.frozen = s.frozen, s.dirty
	s.frozenN, s.dirtyN = s.dirtyN, 0
	s.dirtyEpoch = 0
}

// touch prepares an entry of an earlier epoch to be changed in this one: its
// value at the barrier is copied out first if that is still to be done.
func (b *Backend) touch(s *segment, i int, slot unsafe.Pointer) {
	b.mark(s, i)
	m := metaOf(slot)
	if b.frozen != nil {
		switch {
		case s.frozenN > 0 && getBit(s.frozen, i):
			clearBit(s.frozen, i)
			s.frozenN--
			b.record(b.frozen, s.t, slot)
		case b.sweeping && m.stamp < b.frozen.stamp && b.unswept(s.t, slot):
			b.recordBase(s.t, slot)
		}
	}
	m.stamp = b.epoch
}

// dropTable takes a table out of service. Its memory stays while a barrier that
// it belongs to is being copied out.
func (b *Backend) dropTable(t *Table) {
	b.structure++
	t.dead = true
	t.each(func(s *segment) { s.dead = true })
	b.stateBytes -= t.bytes
	if t.recordedYet() {
		b.out.drop(t)
	}
	if b.frozen != nil {
		b.zombies = append(b.zombies, t)
		return
	}
	b.bury(t)
}

// bury frees a dropped table.
func (b *Backend) bury(t *Table) {
	b.store.disk.drop(t)
	t.free()
}

// recordedYet says that an object of the chain may hold entries of the table, or
// will.
func (t *Table) recordedYet() bool {
	if !t.wasRecorded && t.b.frozen != nil {
		t.each(func(s *segment) {
			if s.frozenN > 0 || s.dirtyN > 0 && s.dirtyEpoch == t.b.frozen.stamp {
				t.wasRecorded = true
			}
		})
	}
	return t.wasRecorded && t.b.tracked()
}

// String returns the task's name and range.
func (b *Backend) String() string { return fmt.Sprintf("%s (%s)", b.opts.Task, b.opts.Range) }
