package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"unsafe"
)

// walkMerged is Walk for a table with spilled entries: it merges those in memory
// with those on disk, both of which come in the order of positions, then keys. An
// entry in memory hides its version on disk.
func (t *Table) walkMerged(c *Cursor, limit int, f func(hash uint64, key, val []byte) bool) bool {
	t.b.walking++
	defer func() { t.b.walking-- }()
	var mem []walked
	at := Cursor{pos: c.pos}
	t.scan(&at, func(hash uint64, slot unsafe.Pointer) bool {
		mem = append(mem, walked{t.position(hash), slot})
		return len(mem) < limit+c.skip
	})
	it := t.diskIter(c.pos)
	if it == nil {
		c.done = true
		return true
	}
	defer func() { _ = it.Close() }() // an error of reading shows in Error below
	m := merge{t: t, c: c, limit: limit, f: f}
	var e storedEntry
	for it.Valid() && !m.stop {
		if !t.parseStored(it, &e) {
			t.b.fail(stateError(CodeSpill, "the spill store returned a damaged entry", t.g.String(), "the job restarts from its last checkpoint", nil))
			break
		}
		for len(mem) > 0 && !m.stop && t.before(mem[0], &e) {
			m.slot(mem[0])
			mem = mem[1:]
		}
		if len(mem) == 0 && !at.done && !m.stop {
			break // what lies between was not collected
		}
		if !m.stop && t.inMemory(&e) == nil {
			m.visit(e.pos, e.hash, e.key, e.val)
		}
		it.Next()
	}
	exhausted := !it.Valid()
	if err := it.Error(); err != nil {
		t.b.store.disk.fail(err)
		t.b.fail(t.b.store.disk.fault.Load())
		c.done = true
		return true
	}
	for ; len(mem) > 0 && !m.stop; mem = mem[1:] {
		m.slot(mem[0])
	}
	c.done = !m.stop && exhausted && at.done
	return c.done
}

// before says that an entry in memory comes before one on disk.
func (t *Table) before(w walked, e *storedEntry) bool {
	if w.pos != e.pos || t.g.layout.key == KeyUint64 {
		return w.pos < e.pos
	}
	if c := cmp.Compare(t.hashOf(w.slot), e.hash); c != 0 {
		return c < 0
	}
	return bytes.Compare(keyBytes(w.slot), e.key) < 0
}

// merge counts what a walk visits.
type merge struct {
	t     *Table
	c     *Cursor
	limit int
	f     func(hash uint64, key, val []byte) bool
	seen  int // entries at the cursor's position that were met in this call
	stop  bool
	kb    [8]byte
	// aligned holds values from disk, which fixed values have to be.
	aligned []uint64
}

func (m *merge) slot(w walked) {
	key := m.kb[:]
	if m.t.g.layout.key == KeyUint64 {
		binary.BigEndian.PutUint64(key, *(*uint64)(w.slot))
	} else {
		key = keyBytes(w.slot)
	}
	m.pass(w.pos, m.t.hashOf(w.slot), key, m.t.g.layout.value(w.slot))
}

// visit passes an entry from disk on.
func (m *merge) visit(pos, hash uint64, key, val []byte) {
	if n := (len(val) + 7) / 8; len(m.aligned) < n {
		m.aligned = make([]uint64, n)
	}
	p := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(m.aligned))), len(m.aligned)*8)
	m.pass(pos, hash, key, p[:copy(p, val)])
}

// pass calls f unless the cursor has passed the entry.
func (m *merge) pass(pos, hash uint64, key, val []byte) {
	c := m.c
	if pos != c.pos {
		c.pos, c.skip, m.seen = pos, 0, 0
	}
	if m.seen++; m.seen <= c.skip {
		return
	}
	c.skip++
	m.limit--
	m.stop = !m.f(hash, key, val) || m.limit == 0
}
