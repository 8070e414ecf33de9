package state

import (
	"math/bits"
)

// maxDepth bounds the directory of a table.
const maxDepth = 40

// grow makes room in a segment: twice the memory, or two segments instead of one.
func (t *Table) grow(s *segment) {
	b := t.b
	b.structure++
	b.flushSegment(s)
	size, overflow := s.mem.size, s.overflow()
	crowded := s.count < s.limit // it ran out of overflow slots, not of slots
	if crowded && s.count < s.limit/2 {
		overflow *= 2
	}
	if (size >= maxSegment || s.arena.live > maxPayload) && t.splittable(s) {
		if t.split(s) {
			return
		}
	}
	for {
		if s.arena.live <= maxPayload || s.count >= s.limit || crowded {
			size *= 2
		}
		if t.rehash(s, size, overflow) {
			return
		}
		overflow *= 2
	}
}

// splittable says that cutting s in two is likely to help: it has entries enough,
// and its prefix is not already far longer than a table of this size needs, as it
// would be when many keys share one hash.
func (t *Table) splittable(s *segment) bool { return t.mayDeepen(s, 4) }

func (t *Table) mayDeepen(s *segment, spare int) bool {
	if s.count < 16 || int(s.depth) >= maxDepth {
		return false
	}
	need := bits.Len(uint(t.slotsUsed / max(1, s.count)))
	if t.scattered {
		spare += sliceBits
	}
	return int(s.depth) < need+spare
}

// maxProbe is how far from its home a new entry may lie before its segment is
// spread out. Hashes that come at random stay far below it up to the load at
// which a segment grows; those that come in order, as in a restore and from a
// walk over another table, crowd at its beginning, where each would be probed for
// through all before it.
const maxProbe = 512

// spread cuts a segment in two because its entries lie too densely, and reports
// whether that changed anything. It is bounded like every split, with more to
// spare: entries that come in order fill the empty halves later.
func (t *Table) spread(s *segment) bool {
	if s.rigid || !t.mayDeepen(s, 12) {
		return false
	}
	t.b.structure++
	t.b.flushSegment(s)
	s.rigid = !t.split(s)
	return !s.rigid
}

// rehash moves the entries of s into memory of another size.
func (t *Table) rehash(s *segment, size, overflow int) bool {
	old := *s
	s.newSlots(t.b.mem, size, overflow)
	if !moveAll(&old, func(uint64) *segment { return s }, false) {
		t.b.mem.release(s.mem)
		*s = old
		return false
	}
	t.b.mem.release(old.mem)
	t.slotsUsed += s.count - old.count
	return true
}

// moveAll moves every entry of old into the segment that to names for its
// position. It leaves clean tombstones behind that nothing needs any more.
func moveAll(old *segment, to func(pos uint64) *segment, payload bool) bool {
	for i := range old.slots {
		slot := old.slot(i)
		m := metaOf(slot)
		if m.flags == 0 {
			continue
		}
		dirty := getBit(old.dirty, i)
		if m.flags&(tombstone|onDisk) == tombstone && !dirty {
			continue
		}
		if !to(old.t.position(old.t.hashOf(slot))).put(slot, dirty, payload) {
			return false
		}
	}
	return true
}

// split replaces s by two segments, for the lower and the upper half of its
// positions. It reports false when even much overflow does not make room in one of
// them.
func (t *Table) split(s *segment) bool {
	old := *s
	bit := uint64(1) << (63 - s.depth)
	up := t.b.newSegment(t)
	up.depth, up.prefix = s.depth+1, s.prefix|bit
	up.onDisk, up.dirtyEpoch = s.onDisk, 0
	s.depth++
	if !t.halve(&old, s, up, bit) {
		t.b.dropSegment(up)
		*s = old
		return false
	}
	old.release()
	t.slotsUsed += s.count + up.count - old.count
	t.link(up, int(old.depth))
	if up.dirtyN > 0 {
		t.b.enlist(up)
	}
	return true
}

// halve moves the entries of old into s and up, by a bit of their positions. A half
// that entries crowd at the end of needs more overflow slots, and one that has
// nearly all entries of a large segment as much memory as that.
func (t *Table) halve(old, s, up *segment, bit uint64) bool {
	mem := t.b.mem
	size := min(old.mem.size, maxSegment)
	if old.count < old.limit/2 { // split because of its payload
		size = max(old.mem.size/2, minSegment)
	}
	to := func(pos uint64) *segment {
		if pos&bit != 0 {
			return up
		}
		return s
	}
	for ; size <= old.mem.size; size *= 2 {
		for overflow := old.overflow(); ; overflow *= 2 {
			s.arena, up.arena = arena{expect: old.arena.live / 2}, arena{expect: old.arena.live / 2}
			s.newSlots(mem, size, overflow)
			up.newSlots(mem, size, overflow)
			if moveAll(old, to, true) {
				return true
			}
			most := s.overflow() < overflow // no more can be had of this size
			s.release()
			up.release()
			if most {
				break
			}
		}
	}
	return false
}

// link enters the upper half of a segment of the given depth in the directory.
func (t *Table) link(up *segment, depth int) {
	if depth == t.depth {
		dir := make([]*segment, 2*len(t.dir))
		for i, s := range t.dir {
			dir[2*i], dir[2*i+1] = s, s
		}
		t.setDir(dir)
	}
	first := t.index(up.prefix)
	for i := range 1 << (t.depth - depth - 1) {
		t.dir[first+i] = up
	}
}

func (t *Table) setDir(dir []*segment) {
	t.dir = dir
	t.depth = bits.Len(uint(len(dir))) - 1
	t.shift = uint8(63 - t.depth)
}

// index returns the place of a position in the directory.
func (t *Table) index(pos uint64) int { return int(pos >> 1 >> (t.shift & 63)) }

// release frees the memory of s.
func (s *segment) release() {
	s.t.b.mem.release(s.mem)
	s.arena.release(s.t.b.mem)
	s.mem, s.base = block{}, nil
}

// copyArena copies what is live in the arena of s.
func (s *segment) copyArena() {
	old := s.arena
	s.arena = arena{expect: old.live}
	for i := range s.slots {
		if slot := s.slot(i); metaOf(slot).flags != 0 {
			s.adopt(slot)
		}
	}
	old.release(s.t.b.mem)
	s.t.b.structure++
}
