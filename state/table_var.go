package state

import "unsafe"

// Warm loads what finding the keys of these hashes reads first: the loads of
// different keys overlap. It is a hint.
func (t *Table) Warm(hashes []uint64) {
	if len(t.dir) == 1 {
		return // it is small
	}
	sum := byte(0)
	for _, h := range hashes {
		s, i := t.locate(h)
		slot := s.slot(i)
		sum += *(*byte)(slot)
		if l := &t.g.layout; l.stride > 32 { // it may lie in two cache lines
			sum += *(*byte)(unsafe.Add(slot, l.stride-1))
		}
	}
	t.b.sink = uint64(sum)
}

// PeekVar is GetVar for what is in memory: it loads nothing and notes no use, so
// that what it returns is valid until the next call of another method.
func (t *Table) PeekVar(hash uint64, key []byte) ([]byte, bool) {
	_, _, slot, ok := t.findBytes(hash, key)
	if !ok || metaOf(slot).flags&tombstone != 0 {
		return nil, false
	}
	return t.g.layout.value(slot), true
}

// inMemoryBytes says that a key is in memory, as an entry or a tombstone.
func (t *Table) inMemoryBytes(hash uint64, key []byte) bool {
	_, _, _, ok := t.findBytes(hash, key)
	return ok
}

// ChangeVar returns a variable value to be changed in place, and marks its entry as
// changed; false when there is none. The value is valid until the next call on the
// backend; its length cannot be changed.
func (t *Table) ChangeVar(hash uint64, key []byte) ([]byte, bool) {
	if t.b.over {
		t.b.relieve()
	}
	s, i, slot, ok := t.findBytes(hash, key)
	if !ok {
		if !s.onDisk || !t.loadKey(s, hash, key) {
			return nil, false
		}
		s, i, slot, _ = t.findBytes(hash, key)
	}
	if metaOf(slot).flags&tombstone != 0 {
		return nil, false
	}
	t.use(s, i, slot)
	return t.g.layout.value(slot), true
}
