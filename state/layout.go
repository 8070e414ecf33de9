package state

import (
	"math/bits"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/invariants"
)

// KeyKind says how the keys of a table are given.
type KeyKind uint8

const (
	// KeyUint64 keys are 64-bit integers whose hash is base.HashUint64.
	KeyUint64 KeyKind = 1
	// KeyBytes keys are byte strings of up to MaxKeyLen bytes, with any hash.
	KeyBytes KeyKind = 2
)

// MaxKeyLen is the longest key, in bytes.
const MaxKeyLen = 1<<16 - 1

const (
	// inlineKey is the longest key that is kept in its slot.
	inlineKey = 24
	// inlineValue is the largest fixed value that is kept in its slot.
	inlineValue = 64
)

// A slot is
//
//	u64 keys     8 key  | 8 meta |                          value
//	byte keys    8 hash | 8 meta | 24 key, or its address | value
//
// and its value is the fixed value itself up to inlineValue bytes, else the
// address of it, or a varRef for variable values. Slots are pointer-free for the
// garbage collector: all addresses lead outside the Go heap.
const (
	metaOff = 8
	keyOff  = 16
)

// meta is the second word of a slot. An empty slot is all zero.
type meta struct {
	// stamp is the running epoch in which the entry was last changed.
	stamp  uint32
	keyLen uint16
	flags  uint8
	// ref is set by each access and cleared by the clock that picks what to evict;
	// see age.
	ref uint8
}

const (
	occupied  = 1 << iota // every slot in use has it
	tombstone             // deleted, but a delete still has to be recorded
	recorded              // some object of the chain may hold the entry
	onDisk                // the spill store holds a version of the entry
	changed               // that version is not the current one
	farKey                // the key is in the arena

	// The two bits above count rounds of the clock in which the entry was used.
	oneRound  = 1 << 6
	allRounds = 3 << 6
)

// varRef is where a variable value lies.
type varRef struct {
	p        unsafe.Pointer
	len, cap uint32
}

type valueForm uint8

const (
	inlineForm valueForm = iota // in the slot
	farForm                     // fixed size, in the arena
	varForm                     // variable size, in the arena
)

// layout describes the slots of a group's tables.
type layout struct {
	key    KeyKind
	form   valueForm
	size   int // of a fixed value
	valOff uintptr
	stride uintptr
}

func newLayout(key KeyKind, valueSize int) layout {
	l := layout{key: key, size: valueSize, valOff: keyOff}
	if key == KeyBytes {
		l.valOff += inlineKey
	}
	switch {
	case valueSize == 0:
		l.form, l.stride = varForm, l.valOff+unsafe.Sizeof(varRef{})
	case valueSize <= inlineValue:
		l.stride = l.valOff + uintptr(valueSize+7)&^7
	default:
		l.form, l.stride = farForm, l.valOff+8
	}
	return l
}

func metaOf(slot unsafe.Pointer) *meta { return (*meta)(unsafe.Add(slot, metaOff)) }

// keyBytes returns the key of a slot with byte keys.
func keyBytes(slot unsafe.Pointer) []byte {
	m := metaOf(slot)
	p := unsafe.Add(slot, keyOff)
	if m.flags&farKey != 0 {
		p = *(*unsafe.Pointer)(p)
	}
	return unsafe.Slice((*byte)(p), int(m.keyLen))
}

// fixedValue returns the address of a fixed value.
func (l *layout) fixedValue(slot unsafe.Pointer) unsafe.Pointer {
	p := unsafe.Add(slot, l.valOff)
	if l.form == farForm {
		return *(*unsafe.Pointer)(p)
	}
	return p
}

// value returns the bytes of a value of either form.
func (l *layout) value(slot unsafe.Pointer) []byte {
	if l.form == varForm {
		v := (*varRef)(unsafe.Add(slot, l.valOff))
		return unsafe.Slice((*byte)(v.p), int(v.len))
	}
	return unsafe.Slice((*byte)(l.fixedValue(slot)), l.size)
}

// placer maps the hashes of a range onto all 64-bit positions, keeping their
// order, so that a task with a narrow range still fills its tables evenly.
type placer struct {
	lo    uint64
	shift uint8
	frac  uint64
}

func newPlacer(r base.HashRange) placer {
	p := placer{lo: r.Lo, shift: uint8(bits.LeadingZeros64(r.Hi - r.Lo))}
	// After the shift the range is [0, w) with 2^63 < w <= 2^64; stretch it to
	// 2^64 by multiplying by 2^64/w = 1 + frac/2^64.
	if w := (r.Hi - r.Lo + 1) << p.shift; w != 0 {
		p.frac, _ = bits.Div64(-w, 0, w)
	}
	return p
}

// at returns the position of a hash in the range.
func (p *placer) at(hash uint64) uint64 {
	x := (hash - p.lo) << (p.shift & 63)
	hi, _ := bits.Mul64(x, p.frac)
	return x + hi
}

// lowest returns the lowest hash of the range r whose position is at least pos;
// not ok when there is none.
func (p *placer) lowest(r base.HashRange, pos uint64) (hash uint64, ok bool) {
	lo, hi := r.Lo, r.Hi
	for lo < hi {
		mid := lo + (hi-lo)/2
		if p.at(mid) >= pos {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo, p.at(lo) >= pos
}

// slices is how many parts of equal width the positions of a backend are cut
// into. A base is made slice by slice.
const (
	sliceBits = 8
	numSlices = 1 << sliceBits
)

// scatter returns the position of an entry whose hash says nothing about its
// owner. Entries below one user key would otherwise share one hash. The slice is
// still that of the owner, so that slices are ranges of owners' hashes.
func (p *placer) scatter(key []byte) uint64 {
	const low = 1<<(64-sliceBits) - 1
	return p.at(ownerOf(key))&^low | base.HashKey(key)>>sliceBits
}

// ownerOf returns the hash of the user key that a scattered entry belongs to.
func ownerOf(key []byte) uint64 {
	_ = key[7]
	return uint64(key[0])<<56 | uint64(key[1])<<48 | uint64(key[2])<<40 | uint64(key[3])<<32 |
		uint64(key[4])<<24 | uint64(key[5])<<16 | uint64(key[6])<<8 | uint64(key[7])
}

// hashU64 is the hash of an integer key.
func hashU64(k uint64) uint64 { return base.HashUint64(k) }

// mangle makes use of freed memory visible in builds with invariants.
func mangle(b block) {
	if invariants.Enabled {
		invariants.Mangle(unsafe.Slice((*byte)(b.p), b.size))
	}
}
