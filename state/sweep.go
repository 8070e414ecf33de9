package state

import (
	"math"
	"math/bits"
	"slices"
	"unsafe"

	"github.com/weirflow/weir/internal/crash"
)

// A chain of deltas must not grow for ever. Instead of merging files, every epoch
// also writes a few slices of the state completely: besides the entries that
// changed, the object then holds the unchanged entries of these slices, and is a
// base for them. Older objects no longer count for a slice, and disappear from
// the chain when they count for none. The slices are taken in turn.
//
// Against merging this reads no objects back, costs nothing for entries that
// change anyway (a state that is rewritten each epoch has no cost at all), and
// spreads the work evenly. It is done by the owner of the state in its copy
// turns, so what it writes is exactly the state at the barrier.

// sweepPlan says how much is swept and when.
type sweepPlan struct {
	// credit is how many bytes sweeps may write: a fixed part of those that deltas
	// wrote for entries that were in the chain already.
	credit int64
	next   int               // the slice whose turn it is
	based  [numSlices]uint32 // the stamp of each slice's last base
	// imported is the number of objects that the restored chain had.
	imported int
}

const (
	// sweepPart in 100 is what sweeps may add to the bytes of deltas, so that no
	// more than 1.75 bytes are stored for each changed one.
	sweepPart = 75
	// wholeLimit is the size in bytes up to which the state is written completely
	// in each epoch: such an object is inline, and the chain has just one.
	wholeLimit = 24 << 10
	// longChain is the number of objects from which slices are swept without credit.
	longChain = 128
	// maxCredit is the part of the state for which credit can be saved up.
	maxCredit = 16
	// maxSweep bounds the slices of one epoch.
	maxSweep = 16
)

// planSweep decides which slices the frozen epoch is to be a base of.
func (b *Backend) planSweep() {
	p := &b.plan
	b.sweep.close()
	if len(b.frozenSegs) == 0 && b.frozen.bytes == 0 && !b.failed.Load() {
		return
	}
	switch {
	case b.failed.Swap(false), b.stateBytes <= wholeLimit:
		p.next, b.slices = 0, numSlices
	default:
		each := b.stateBytes/numSlices + 1
		b.slices = int(min(p.credit/each, maxSweep))
		if age := int(b.epoch-p.based[p.next]) + p.imported; age > longChain {
			b.slices = max(b.slices, min((age-longChain)/16+1, maxSweep))
		}
		b.slices = min(max(b.slices, 0), numSlices-p.next)
	}
	if b.slices == 0 {
		return
	}
	b.first = p.next
	b.posLo = uint64(b.first) << (64 - sliceBits)
	b.posHi = b.posLo + (uint64(b.slices) << (64 - sliceBits)) - 1
	b.lowNS = math.MinInt64
	b.sweeping = true
	crash.At(crash.SnapBeforeBase)
}

// settle accounts for a frozen epoch that is copied out.
func (b *Backend) settle(w *stream) {
	p := &b.plan
	// Entries that are new in the chain make nothing in it obsolete.
	earned := (w.again - w.baseBytes) * sweepPart / 100
	p.credit += earned - w.baseBytes
	p.credit = min(max(p.credit, -b.stateBytes), max(earned, b.stateBytes/maxCredit))
	if b.slices == 0 {
		return
	}
	for i := range b.slices {
		p.based[b.first+i] = w.stamp
	}
	p.next = (b.first + b.slices) % numSlices
	if p.next == 0 {
		p.imported = 0
	}
	crash.At(crash.SnapAfterBase)
}

// sweep is a sweep under way.
type sweep struct {
	sweeping      bool
	first, slices int
	posLo, posHi  uint64 // the positions of the slices
	group         int    // cursor: the group, and
	lowNS         int64  // the namespace from which to look for the next table,
	table         *Table // the table under way,
	pos           uint64 // up to where its memory is done,
	spilled       bool   // and whether it is about its spilled entries now
	disk          diskCursor
}

// close ends reading of spilled entries.
func (s *sweep) close() {
	_ = s.disk.close() // what it read was used already
	*s = sweep{}
}

// sweepStep sweeps a little and reports whether there is more to do.
func (b *Backend) sweepStep() bool {
	if b.table == nil {
		if b.table = b.nextTable(); b.table == nil {
			return false
		}
		b.pos, b.spilled = b.posLo, false
	}
	t := b.table
	if !b.spilled {
		b.spilled = !b.sweepMemory(t)
		b.expireStale()
		return true
	}
	if t.disk != nil && b.sweepSpilled(t) {
		return true
	}
	t.swept = b.frozen.stamp
	b.table = nil
	return true
}

// nextTable returns the next table to be swept: those that exist in their order,
// then those that were dropped since the barrier.
func (b *Backend) nextTable() *Table {
	for b.group < len(b.groups) {
		g := b.groups[b.group]
		if i, _ := slices.BinarySearch(g.order, b.lowNS); i < len(g.order) {
			t := g.tables[g.order[i]]
			if t.ns == math.MaxInt64 {
				b.group, b.lowNS = b.group+1, math.MinInt64
			} else {
				b.lowNS = t.ns + 1
			}
			return t
		}
		b.group, b.lowNS = b.group+1, math.MinInt64
	}
	for _, t := range b.zombies {
		if t.swept != b.frozen.stamp {
			return t
		}
	}
	return nil
}

// unswept says that the sweep has still to write an entry as it is now.
func (b *Backend) unswept(t *Table, slot unsafe.Pointer) bool {
	if t.swept == b.frozen.stamp {
		return false
	}
	pos := t.position(t.hashOf(slot))
	if pos < b.posLo || pos > b.posHi {
		return false
	}
	// An entry that was loaded from the spill store lay neither in memory when the
	// sweep passed there, nor will it be found spilled as it was: write it again.
	return t != b.table || t.disk != nil || pos >= b.pos
}

// sweepMemory writes a few entries of a table that are in memory and reports
// whether there are more.
func (b *Backend) sweepMemory(t *Table) bool {
	s := t.dir[t.index(b.pos)]
	end, last := segmentEnd(s)
	top := int(s.home) - 1
	if last || b.posHi < end {
		top = s.homeOf(b.posHi)
	}
	from := max(b.pos, s.prefix)
	n := 0
	for i := s.homeOf(from); i < s.slots-1; i++ {
		slot := s.slot(i)
		m := metaOf(slot)
		n++
		if m.flags == 0 {
			if i >= top {
				break
			}
			if n >= copyCheck { // everything with a home to the left is done
				b.pos = s.positionOf(i)
				return true
			}
			continue
		}
		if m.flags&(tombstone|onDisk) != 0 || m.stamp >= b.frozen.stamp {
			continue // what is spilled too comes with the spilled entries
		}
		if pos := t.position(t.hashOf(slot)); pos < from || pos > b.posHi {
			continue
		}
		b.recordBase(t, slot) // also when it has expired: the barrier has it
		if t.g.decl.expires {
			b.age(t, slot)
		}
	}
	if last || end > b.posHi {
		return false
	}
	b.pos = end
	return true
}

// positionOf returns a position from which on all have their home at slot i or
// behind it, and which leaves none of those out.
func (s *segment) positionOf(i int) uint64 {
	q, _ := bits.Div64(uint64(i), 0, s.home)
	return s.prefix | q>>(s.depth&63)
}
