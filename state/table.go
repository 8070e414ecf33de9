package state

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
)

// Table is one namespace of a group: a flat hash table whose entries lie in the
// order of their hashes. It belongs to the goroutine of its backend.
//
// Addresses that its methods return are valid until the next call on the same
// backend. A value obtained by an Upsert may be changed through its address; one
// obtained by a Get or a Walk must not be.
type Table struct {
	b         *Backend
	g         *Group
	place     placer
	dir       []*segment
	shift     uint8 // 63 - depth
	scattered bool
	dead      bool

	depth     int
	ns        int64
	len       int // live entries in memory
	slotsUsed int // slots in use, tombstones included
	// stored is the number of live entries that are only in the spill store.
	stored int
	// bytes is the size of the live entries as a stream would write them.
	bytes int64
	// swept is the stamp of the last sweep that was through with the table.
	swept uint32
	// wasRecorded says that some object of the chain may hold entries.
	wasRecorded bool
	disk        *diskTable // nil until something was spilled
}

// Len returns the number of entries, those that are spilled included.
func (t *Table) Len() int { return t.len + t.stored }

// NS returns the namespace.
func (t *Table) NS() int64 { return t.ns }

// locate returns the segment and the home slot of a hash.
func (t *Table) locate(hash uint64) (*segment, int) {
	pos := hash
	if !t.scattered {
		x := (hash - t.place.lo) << (t.place.shift & 63)
		hi, _ := bits.Mul64(x, t.place.frac)
		pos = x + hi
	}
	s := t.dir[pos>>1>>(t.shift&63)]
	hi, _ := bits.Mul64(pos<<(s.depth&63), s.home)
	return s, int(hi)
}

// findU64 returns the slot of a key, or the empty slot where it would go.
func (t *Table) findU64(hash, key uint64) (s *segment, i int, slot unsafe.Pointer, ok bool) {
	s, i = t.locate(hash)
	for slot = s.slot(i); ; slot, i = unsafe.Add(slot, s.stride), i+1 {
		if metaOf(slot).flags == 0 {
			return s, i, slot, false
		}
		if *(*uint64)(slot) == key {
			return s, i, slot, true
		}
	}
}

// findBytes is findU64 for byte keys.
func (t *Table) findBytes(hash uint64, key []byte) (s *segment, i int, slot unsafe.Pointer, ok bool) {
	s, i = t.locate(hash)
	for slot = s.slot(i); ; slot, i = unsafe.Add(slot, s.stride), i+1 {
		if metaOf(slot).flags == 0 {
			return s, i, slot, false
		}
		if *(*uint64)(slot) == hash && string(keyBytes(slot)) == string(key) {
			return s, i, slot, true
		}
	}
}

// UpsertU64 returns the address of the value of a key, zeroed when it is fresh,
// and marks the entry as changed. hash must be base.HashUint64(key).
func (t *Table) UpsertU64(hash, key uint64) (p unsafe.Pointer, fresh bool) {
	if t.b.over {
		t.b.relieve()
	}
	return t.upsertU64(hash, key)
}

func (t *Table) upsertU64(hash, key uint64) (p unsafe.Pointer, fresh bool) {
	s, i, slot, ok := t.findU64(hash, key)
	if !ok {
		s, i, slot, ok = t.admitU64(hash, key)
		if !ok {
			return t.g.layout.fixedValue(slot), true
		}
	}
	return t.use(s, i, slot)
}

// use makes the entry in a slot ready to be changed.
func (t *Table) use(s *segment, i int, slot unsafe.Pointer) (p unsafe.Pointer, fresh bool) {
	m := metaOf(slot)
	m.ref = 1
	if m.stamp != t.b.epoch {
		t.b.touch(s, i, slot)
	}
	m.flags |= changed
	if m.flags&tombstone != 0 {
		t.revive(s, slot)
		return t.g.layout.fixedValue(slot), true
	}
	if t.g.layout.form == inlineForm {
		return unsafe.Add(slot, t.g.layout.valOff), false
	}
	return t.g.layout.fixedValue(slot), false
}

// revive turns a tombstone into an entry with a zero value.
func (t *Table) revive(s *segment, slot unsafe.Pointer) {
	metaOf(slot).flags &^= tombstone
	t.zeroValue(s, slot)
	t.len++
	t.grew(t.entrySize(slot))
}

func (t *Table) zeroValue(s *segment, slot unsafe.Pointer) {
	l := &t.g.layout
	if l.form == farForm {
		p := s.arena.allocFixed(t.b.mem, l.size)
		clear(unsafe.Slice((*byte)(p), l.size))
		*(*unsafe.Pointer)(unsafe.Add(slot, l.valOff)) = p
		return
	}
	clear(unsafe.Slice((*byte)(unsafe.Add(slot, l.valOff)), l.stride-l.valOff))
}

// admitU64 makes room for a key that is not in memory. It returns ok when the
// spill store had it; otherwise the slot holds a fresh entry.
func (t *Table) admitU64(hash, key uint64) (s *segment, i int, slot unsafe.Pointer, ok bool) {
	var kb [8]byte
	if want := base.HashUint64(key); want != hash {
		t.b.fail(keyError(t, fmt.Sprintf("the hash %016x does not belong to the integer key %d", hash, key)))
		hash = want
	}
	t.checkOwned(hash)
	binary.BigEndian.PutUint64(kb[:], key)
	s, _ = t.locate(hash)
	if s.onDisk && t.loadKey(s, hash, kb[:]) {
		s, i, slot, _ = t.findU64(hash, key)
		return s, i, slot, true
	}
	for {
		s, i, slot, _ = t.findU64(hash, key)
		if t.room(s, i, hash) {
			break
		}
	}
	*(*uint64)(slot) = key
	t.fill(s, slot)
	t.grew(t.entrySize(slot))
	t.b.mark(s, i)
	t.b.pressure()
	return s, i, slot, false
}

// room says that slot i of s may be filled with an entry of that hash. Otherwise
// it has made room, and the slot has to be looked for again.
func (t *Table) room(s *segment, i int, hash uint64) bool {
	if s.count >= s.limit || s.arena.live > 2*maxPayload && s.count >= 32 {
		t.grow(s)
		return false
	}
	end := i >= s.slots-1
	if !end && i-s.homeOf(t.position(hash)) <= maxProbe {
		return true
	}
	if t.spread(s) {
		return false
	}
	if end {
		t.grow(s)
	}
	return !end
}

// fill makes a slot whose key is set into a fresh entry; the caller marks it.
func (t *Table) fill(s *segment, slot unsafe.Pointer) {
	m := metaOf(slot)
	m.flags |= occupied | changed
	m.ref, m.stamp = 1, t.b.epoch
	t.zeroValue(s, slot)
	s.count++
	t.slotsUsed++
	t.len++
}

// grew adds to the size of the live entries.
func (t *Table) grew(n int) {
	t.bytes += int64(n)
	t.b.stateBytes += int64(n)
}

// entrySize returns the size of an entry as a stream would write it.
func (t *Table) entrySize(slot unsafe.Pointer) int {
	l, n := &t.g.layout, 8
	if l.key == KeyBytes {
		n = 10 + int(metaOf(slot).keyLen)
	}
	if l.form == varForm {
		return n + 4 + int((*varRef)(unsafe.Add(slot, l.valOff)).len)
	}
	return n + l.size
}

// checkOwned reports a hash outside the range of the backend. The entry is
// accepted all the same, so that memory stays sound; the job stops.
func (t *Table) checkOwned(hash uint64) {
	if !t.scattered && !t.b.opts.Range.Contains(hash) {
		t.b.fail(keyError(t, fmt.Sprintf("the hash %016x lies outside the task's range %s", hash, t.b.opts.Range)))
	}
}

func keyError(t *Table, what string) error {
	return base.Fatal(stateError(CodeKey, what, t.g.String(), "this is a fault of the engine or of an operator; please report it", nil))
}

// GetU64 returns the address of the value of a key, or nil. It does not mark the
// entry as changed.
func (t *Table) GetU64(hash, key uint64) unsafe.Pointer {
	_, _, slot, ok := t.findU64(hash, key)
	if !ok {
		if slot = t.fetchU64(hash, key); slot == nil {
			return nil
		}
	}
	return t.read(slot)
}

// read returns the value of a live entry and nil for a tombstone.
func (t *Table) read(slot unsafe.Pointer) unsafe.Pointer {
	m := metaOf(slot)
	if m.flags&tombstone != 0 {
		return nil
	}
	m.ref = 1
	return t.g.layout.fixedValue(slot)
}

// fetchU64 loads a key that is not in memory; nil when it does not exist.
func (t *Table) fetchU64(hash, key uint64) unsafe.Pointer {
	if s, _ := t.locate(hash); !s.onDisk {
		return nil
	}
	if t.b.over {
		t.b.relieve()
	}
	var kb [8]byte
	binary.BigEndian.PutUint64(kb[:], key)
	if s, _ := t.locate(hash); !t.loadKey(s, hash, kb[:]) {
		return nil
	}
	_, _, slot, _ := t.findU64(hash, key)
	return slot
}

// DeleteU64 deletes a key and reports whether it existed.
func (t *Table) DeleteU64(hash, key uint64) bool {
	s, i, slot, ok := t.findU64(hash, key)
	if !ok {
		if slot = t.fetchU64(hash, key); slot == nil {
			return false
		}
		s, i, slot, _ = t.findU64(hash, key)
	}
	return t.delete(s, i, slot)
}

// delete deletes the entry in a slot. It leaves a tombstone when an object of
// the chain or the spill store may hold the entry.
func (t *Table) delete(s *segment, i int, slot unsafe.Pointer) bool {
	m := metaOf(slot)
	if m.flags&tombstone != 0 {
		return false
	}
	if m.stamp != t.b.epoch {
		t.b.touch(s, i, slot)
	}
	t.len--
	t.grew(-t.entrySize(slot))
	t.b.structure++
	if m.flags&(recorded|onDisk) == 0 {
		s.remove(i)
		t.slotsUsed--
		return true
	}
	s.freeValue(slot)
	m.flags |= tombstone | changed
	return true
}

// UpsertBatchU64 is UpsertU64 for many keys at once: out[i] receives the address
// for keys[i], and all addresses are valid together. The loads of different keys
// overlap, so this is the fast way. The three slices have one length.
func (t *Table) UpsertBatchU64(hashes, keys []uint64, out []unsafe.Pointer) {
	if t.b.over {
		t.b.relieve()
	}
	hashes, out = hashes[:len(keys)], out[:len(keys)]
	if t.stored > 0 {
		t.PrefetchU64(hashes, keys)
	}
	before := t.b.structure
	epoch, off := t.b.epoch, t.g.layout.valOff
	inline := t.g.layout.form == inlineForm
	if len(t.dir) > 1 {
		t.warm(hashes)
	}
	for i, key := range keys {
		s, at := t.locate(hashes[i])
		slot := s.slot(at)
		m := metaOf(slot)
		for *(*uint64)(slot) != key && m.flags != 0 {
			slot = unsafe.Add(slot, s.stride)
			m = metaOf(slot)
		}
		// An empty slot is zero and has neither the stamp nor the flag.
		if m.stamp == epoch && m.flags&(tombstone|changed) == changed && inline {
			m.ref = 1
			out[i] = unsafe.Add(slot, off)
			continue
		}
		out[i], _ = t.upsertU64(hashes[i], key)
	}
	if t.b.structure != before { // something moved: what was found first may be stale
		for i, key := range keys {
			_, _, slot, _ := t.findU64(hashes[i], key)
			out[i] = t.g.layout.fixedValue(slot)
		}
	}
}

// warm loads the home slot of every hash. The loads do not depend on each other,
// so many cache misses overlap, which probing one key after the other would not
// achieve; Go has no prefetch instruction.
func (t *Table) warm(hashes []uint64) {
	sum := uint64(0)
	for _, h := range hashes {
		s, i := t.locate(h)
		sum += *(*uint64)(s.slot(i))
	}
	t.b.sink = sum
}
