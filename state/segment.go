package state

import (
	"math/bits"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
)

const (
	minSegment = 1 << minOrder
	// maxSegment bounds the memory of the slots of one segment, and with it the
	// pause of a rehash to about a millisecond: it has at most 11 k slots.
	maxSegment = 256 << 10
	// maxPayload bounds the arena of a segment likewise.
	maxPayload = 256 << 10
)

// segment is one open-addressing table for the hashes with a common prefix. Its
// slots lie in the order of their hashes, except that an entry may be displaced
// to the right of its home by entries with the same or nearby homes. Behind the
// home slots lie overflow slots and one guard slot that is always empty, so that
// probing never wraps around.
type segment struct {
	base   unsafe.Pointer
	home   uint64 // number of slots that a hash can map to
	stride uintptr
	depth  uint8 // length of the common prefix
	// onDisk says that the spill store may hold entries of this segment that are
	// not in memory.
	onDisk bool
	dead   bool // the table was dropped
	rigid  bool // spreading these slots was tried in vain

	slots  int // all, with overflow and guard
	count  int // in use, tombstones included
	limit  int // count at which it grows
	prefix uint64
	t      *Table

	// dirty has a bit for each slot changed in dirtyEpoch, frozen one for each
	// that is still to be copied out for the barrier before.
	dirty, frozen   []uint64
	dirtyN, frozenN int
	dirtyEpoch      uint32

	mem   block
	arena arena
	ring  int // index in the backend's ring of segments
}

// newSlots gives s fresh memory of a size and an overflow area of at least
// overflow slots. The caller keeps what it needs of the old memory.
func (s *segment) newSlots(a *pool, size, overflow int) {
	s.mem = a.alloc(size)
	stride := int(s.t.g.layout.stride)
	n := s.mem.size * 8 / (stride*8 + 2)
	for n*stride+2*bitmapBytes(n) > s.mem.size {
		n--
	}
	overflow = min(max(overflow, 3, min(n/8, 64)), n/2)
	s.base, s.stride, s.slots = s.mem.p, uintptr(stride), n
	s.home = uint64(n - overflow - 1)
	s.limit = max(1, int(s.home)*5/8)
	words := bitmapBytes(n) / 8
	s.dirty = unsafe.Slice((*uint64)(unsafe.Add(s.base, n*stride)), words)
	s.frozen = unsafe.Slice((*uint64)(unsafe.Add(s.base, n*stride+words*8)), words)
	s.count, s.dirtyN, s.frozenN, s.rigid = 0, 0, 0, false
}

func bitmapBytes(n int) int { return (n + 63) / 64 * 8 }

// overflow returns the number of overflow slots.
func (s *segment) overflow() int { return s.slots - int(s.home) - 1 }

// homeOf returns the slot at which the probe for a position starts.
func (s *segment) homeOf(pos uint64) int {
	hi, _ := bits.Mul64(pos<<(s.depth&63), s.home)
	return int(hi)
}

func (s *segment) slot(i int) unsafe.Pointer { return unsafe.Add(s.base, uintptr(i)*s.stride) }

func getBit(b []uint64, i int) bool { return b[i>>6]>>(i&63)&1 != 0 }
func setBit(b []uint64, i int)      { b[i>>6] |= 1 << (i & 63) }
func clearBit(b []uint64, i int)    { b[i>>6] &^= 1 << (i & 63) }

// moveBit moves bit j to i.
func moveBit(b []uint64, i, j int) {
	if getBit(b, j) {
		setBit(b, i)
		clearBit(b, j)
	} else {
		clearBit(b, i)
	}
}

// hashOf returns the hash of a slot; for scattered tables it is a position.
func (t *Table) hashOf(slot unsafe.Pointer) uint64 {
	if t.g.layout.key == KeyUint64 {
		return base.HashUint64(*(*uint64)(slot))
	}
	return *(*uint64)(slot)
}

// position returns where a hash lies in the order of the table.
func (t *Table) position(hash uint64) uint64 {
	if t.scattered {
		return hash
	}
	return t.place.at(hash)
}

// put moves a slot from another segment into s, with its dirty bit, and reports
// false when there is no room. With payload, what the slot refers to is copied.
func (s *segment) put(slot unsafe.Pointer, dirty, payload bool) bool {
	i := s.homeOf(s.t.position(s.t.hashOf(slot)))
	for metaOf(s.slot(i)).flags != 0 {
		i++
	}
	if i == s.slots-1 {
		return false
	}
	dst := s.slot(i)
	copy(unsafe.Slice((*byte)(dst), s.stride), unsafe.Slice((*byte)(slot), s.stride))
	if payload {
		s.adopt(dst)
	}
	if dirty {
		setBit(s.dirty, i)
		s.dirtyN++
	}
	s.count++
	return true
}

// adopt copies what a slot refers to into the arena of s.
func (s *segment) adopt(slot unsafe.Pointer) {
	l, mem := &s.t.g.layout, s.t.b.mem
	if m := metaOf(slot); m.flags&farKey != 0 {
		old := keyBytes(slot)
		p := s.arena.alloc(mem, len(old))
		copy(unsafe.Slice((*byte)(p), len(old)), old)
		*(*unsafe.Pointer)(unsafe.Add(slot, keyOff)) = p
	}
	switch l.form {
	case farForm:
		ref := (*unsafe.Pointer)(unsafe.Add(slot, l.valOff))
		if *ref == nil {
			return
		}
		p := s.arena.alloc(mem, l.size)
		copy(unsafe.Slice((*byte)(p), l.size), unsafe.Slice((*byte)(*ref), l.size))
		*ref = p
	case varForm:
		v := (*varRef)(unsafe.Add(slot, l.valOff))
		if v.p == nil {
			return
		}
		p := s.arena.alloc(mem, int(v.len))
		copy(unsafe.Slice((*byte)(p), int(v.len)), unsafe.Slice((*byte)(v.p), int(v.len)))
		*v = varRef{p, v.len, uint32(round8(int(v.len)))}
	}
}

// freeValue gives back the value of a slot.
func (s *segment) freeValue(slot unsafe.Pointer) {
	l := &s.t.g.layout
	switch l.form {
	case farForm:
		ref := (*unsafe.Pointer)(unsafe.Add(slot, l.valOff))
		if *ref != nil {
			s.arena.freeFixed(*ref, l.size)
			*ref = nil
		}
	case varForm:
		s.freeVar((*varRef)(unsafe.Add(slot, l.valOff)))
	}
}

func (s *segment) freeVar(v *varRef) {
	if v.cap > 0 {
		s.arena.freeVar(v.p, int(v.cap))
	}
	*v = varRef{}
}

// remove empties slot i and moves later entries of its cluster up, so that every
// entry stays reachable from its home.
func (s *segment) remove(i int) {
	slot := s.slot(i)
	s.freeValue(slot)
	if m := metaOf(slot); m.flags&farKey != 0 {
		s.arena.drop(int(m.keyLen))
	}
	s.unmark(i)
	for j := i + 1; ; j++ {
		from := s.slot(j)
		if metaOf(from).flags == 0 {
			break
		}
		if s.homeOf(s.t.position(s.t.hashOf(from))) > i {
			continue
		}
		copy(unsafe.Slice((*byte)(slot), s.stride), unsafe.Slice((*byte)(from), s.stride))
		moveBit(s.dirty, i, j)
		moveBit(s.frozen, i, j)
		i, slot = j, from
	}
	clear(unsafe.Slice((*byte)(slot), s.stride))
	s.count--
}

// unmark clears the bits of slot i.
func (s *segment) unmark(i int) {
	if getBit(s.dirty, i) {
		clearBit(s.dirty, i)
		s.dirtyN--
	}
	if getBit(s.frozen, i) {
		clearBit(s.frozen, i)
		s.frozenN--
	}
}

// next returns the first slot at or after i whose bit is set, or -1.
func next(b []uint64, i int) int {
	w := i >> 6
	if w >= len(b) {
		return -1
	}
	if x := b[w] >> (i & 63); x != 0 {
		return i + bits.TrailingZeros64(x)
	}
	for w++; w < len(b); w++ {
		if b[w] != 0 {
			return w<<6 + bits.TrailingZeros64(b[w])
		}
	}
	return -1
}
