package state

import (
	"github.com/weirflow/weir/internal/base"
)

// Warm asks for what finding the key of a hash reads first. It is a hint, and does not
// wait: it is of use some records ahead of the one in hand.
func (t *Table) Warm(hash uint64) {
	s, i := t.locate(hash)
	base.Prefetch(s.slot(i), t.g.layout.stride)
}

// PeekVar is GetVar for what is in memory: it loads nothing and notes no use, so
// that what it returns is valid until the next call of another method. Longer it is
// only good for hints: until Moves returns something else it is memory that may be
// read, but its content is arbitrary.
func (t *Table) PeekVar(hash uint64, key []byte) ([]byte, bool) {
	_, _, slot, ok := t.findBytes(hash, key)
	if !ok || metaOf(slot).flags&tombstone != 0 {
		return nil, false
	}
	return t.g.layout.value(slot), true
}

// Moves changes when memory of the backend's tables may have been given back.
func (t *Table) Moves() uint64 { return t.b.structure }

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
