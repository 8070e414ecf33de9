package state

import (
	"fmt"
	"unsafe"
)

// UpsertBytes is UpsertU64 for byte keys of up to MaxKeyLen bytes. The key is
// copied.
func (t *Table) UpsertBytes(hash uint64, key []byte) (p unsafe.Pointer, fresh bool) {
	if t.b.over {
		t.b.relieve()
	}
	return t.upsertBytes(hash, key)
}

func (t *Table) upsertBytes(hash uint64, key []byte) (p unsafe.Pointer, fresh bool) {
	s, i, slot, ok := t.findBytes(hash, key)
	if !ok {
		s, i, slot, ok = t.admitBytes(hash, key)
		if !ok {
			return t.g.layout.fixedValue(slot), true
		}
	}
	return t.use(s, i, slot)
}

// admitBytes is admitU64 for byte keys.
func (t *Table) admitBytes(hash uint64, key []byte) (s *segment, i int, slot unsafe.Pointer, ok bool) {
	if len(key) > MaxKeyLen {
		t.b.fail(keyError(t, fmt.Sprintf("a key has %d bytes; at most %d are allowed", len(key), MaxKeyLen)))
		key = key[:MaxKeyLen]
	}
	t.checkOwned(hash)
	s, _ = t.locate(hash)
	if s.onDisk && t.loadKey(s, hash, key) {
		s, i, slot, _ = t.findBytes(hash, key)
		return s, i, slot, true
	}
	for {
		s, i, slot, _ = t.findBytes(hash, key)
		if t.room(s, i, hash) {
			break
		}
	}
	t.setKey(s, slot, hash, key)
	t.fill(s, slot)
	t.grew(t.entrySize(slot))
	t.b.mark(s, i)
	t.b.pressure()
	return s, i, slot, false
}

// setKey writes a byte key into an empty slot.
func (t *Table) setKey(s *segment, slot unsafe.Pointer, hash uint64, key []byte) {
	*(*uint64)(slot) = hash
	m := metaOf(slot)
	m.keyLen = uint16(len(key))
	dst := unsafe.Add(slot, keyOff)
	if len(key) > inlineKey {
		p := s.arena.alloc(t.b.mem, len(key))
		*(*unsafe.Pointer)(dst) = p
		m.flags |= farKey
		dst = p
	}
	copy(unsafe.Slice((*byte)(dst), len(key)), key)
}

// GetBytes is GetU64 for byte keys.
func (t *Table) GetBytes(hash uint64, key []byte) unsafe.Pointer {
	slot := t.lookBytes(hash, key)
	if slot == nil {
		return nil
	}
	return t.read(slot)
}

// lookBytes returns the slot of a key, loading it if need be; nil when there is none.
func (t *Table) lookBytes(hash uint64, key []byte) unsafe.Pointer {
	s, _, slot, ok := t.findBytes(hash, key)
	if ok {
		return slot
	}
	if !s.onDisk {
		return nil
	}
	if t.b.over {
		t.b.relieve()
	}
	if s, _ = t.locate(hash); !t.loadKey(s, hash, key) {
		return nil
	}
	_, _, slot, _ = t.findBytes(hash, key)
	return slot
}

// DeleteBytes is DeleteU64 for byte keys.
func (t *Table) DeleteBytes(hash uint64, key []byte) bool {
	if t.lookBytes(hash, key) == nil {
		return false
	}
	s, i, slot, _ := t.findBytes(hash, key)
	return t.delete(s, i, slot)
}

// UpsertBatchBytes is UpsertBatchU64 for byte keys.
func (t *Table) UpsertBatchBytes(hashes []uint64, keys [][]byte, out []unsafe.Pointer) {
	if t.b.over {
		t.b.relieve()
	}
	hashes, out = hashes[:len(keys)], out[:len(keys)]
	if t.stored > 0 {
		t.PrefetchBytes(hashes, keys)
	}
	if len(t.dir) > 1 {
		t.warm(hashes)
	}
	before := t.b.structure
	for i, key := range keys {
		out[i], _ = t.upsertBytes(hashes[i], key)
	}
	if t.b.structure != before {
		for i, key := range keys {
			_, _, slot, _ := t.findBytes(hashes[i], key)
			out[i] = t.g.layout.fixedValue(slot)
		}
	}
}

// PutVar stores a variable value; key and value are copied. Only for tables whose
// group has ValueSize 0.
func (t *Table) PutVar(hash uint64, key, val []byte) {
	if t.b.over {
		t.b.relieve()
	}
	t.upsertBytes(hash, key)
	s, _, slot, _ := t.findBytes(hash, key)
	t.setVar(s, slot, val)
}

// setVar stores the value of an entry that is marked as changed already.
func (t *Table) setVar(s *segment, slot unsafe.Pointer, val []byte) {
	v := (*varRef)(unsafe.Add(slot, t.g.layout.valOff))
	t.grew(len(val) - int(v.len))
	t.setVarBytes(s, slot, val)
	t.b.pressure()
}

// setVarBytes writes a value that is counted already.
func (t *Table) setVarBytes(s *segment, slot unsafe.Pointer, val []byte) {
	v := (*varRef)(unsafe.Add(slot, t.g.layout.valOff))
	if len(val) > int(v.cap) {
		room := len(val)
		if v.cap > 0 { // it has grown before; expect it to grow again
			if room <= maxShared {
				_, room = classOf(room)
			} else {
				room += room / 8
			}
		}
		s.freeVar(v)
		v.p, v.cap = s.allocVar(room)
	}
	v.len = uint32(len(val))
	copy(unsafe.Slice((*byte)(v.p), len(val)), val)
}

// allocVar returns memory for a variable value of n bytes, and for how many there is
// room.
func (s *segment) allocVar(n int) (p unsafe.Pointer, room uint32) {
	if p, room := s.arena.reuse(n); p != nil {
		return p, uint32(room)
	}
	if s.arena.wasteful() {
		s.copyArena()
	}
	return s.arena.alloc(s.t.b.mem, n), uint32(round8(n))
}

// GetVar returns a variable value. It is valid until the next call on the
// backend, and must not be changed.
func (t *Table) GetVar(hash uint64, key []byte) ([]byte, bool) {
	slot := t.lookBytes(hash, key)
	if slot == nil || metaOf(slot).flags&tombstone != 0 {
		return nil, false
	}
	metaOf(slot).ref = 1
	return t.g.layout.value(slot), true
}

// PutVarU64 is PutVar for integer keys.
func (t *Table) PutVarU64(hash, key uint64, val []byte) {
	if t.b.over {
		t.b.relieve()
	}
	t.upsertU64(hash, key)
	s, _, slot, _ := t.findU64(hash, key)
	t.setVar(s, slot, val)
}

// GetVarU64 is GetVar for integer keys.
func (t *Table) GetVarU64(hash, key uint64) ([]byte, bool) {
	_, _, slot, ok := t.findU64(hash, key)
	if !ok {
		if slot = t.fetchU64(hash, key); slot == nil {
			return nil, false
		}
	}
	if metaOf(slot).flags&tombstone != 0 {
		return nil, false
	}
	metaOf(slot).ref = 1
	return t.g.layout.value(slot), true
}
