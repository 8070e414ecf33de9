package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"unsafe"
)

// Cursor is a place in a walk over a table. The zero value is the beginning. It
// may be kept as long as the table that is walked does not change; other tables
// may.
type Cursor struct {
	pos  uint64 // entries of lower positions are done
	skip int    // as well as this many entries at pos
	done bool
	run  []walked // scratch
}

// walked is one entry of a cluster, to be sorted.
type walked struct {
	pos  uint64
	slot unsafe.Pointer
}

// Done reports whether the walk has come to its end.
func (c *Cursor) Done() bool { return c.done }

// Walk calls f for at most max entries in the order of their hashes, entries with
// equal hashes in the order of their keys, and reports whether the walk is done.
// It goes on where the cursor stands, and stops early when f returns false; that
// entry counts as visited.
//
// An integer key is given as 8 bytes, big-endian. val is the memory of a fixed
// value (aligned to 8 bytes) or the bytes of a variable one. Both are valid until
// f returns. f may change other tables of the backend, but not this one.
func (t *Table) Walk(c *Cursor, max int, f func(hash uint64, key, val []byte) bool) (done bool) {
	if t.stored > 0 {
		return t.walkMerged(c, max, f)
	}
	t.b.walking++
	defer func() { t.b.walking-- }()
	var kb [8]byte
	left := max
	t.scan(c, func(hash uint64, slot unsafe.Pointer) bool {
		left--
		key := kb[:]
		if t.g.layout.key == KeyUint64 {
			binary.BigEndian.PutUint64(key, *(*uint64)(slot))
		} else {
			key = keyBytes(slot)
		}
		return f(hash, key, t.g.layout.value(slot)) && left > 0
	})
	return c.done
}

// scan visits live entries in memory from the cursor on, in order, until f
// returns false.
func (t *Table) scan(c *Cursor, f func(hash uint64, slot unsafe.Pointer) bool) {
	for !c.done {
		s := t.dir[t.index(c.pos)]
		end, last := segmentEnd(s)
		i := s.homeOf(max(c.pos, s.prefix))
		for i > 0 && metaOf(s.slot(i-1)).flags != 0 {
			i-- // entries at home here may lie behind others of their cluster
		}
		for i < s.slots-1 {
			if metaOf(s.slot(i)).flags == 0 {
				i++
				continue
			}
			i = t.cluster(c, s, i)
			if !visit(c, f, t) {
				return
			}
		}
		c.pos, c.skip, c.done = end, 0, last
	}
}

// segmentEnd returns the first position after s; last says that there is none.
func segmentEnd(s *segment) (end uint64, last bool) {
	if s.depth == 0 {
		return 0, true
	}
	end = s.prefix + 1<<(64-s.depth)
	return end, end == 0
}

// cluster sorts the live entries of the cluster that starts at slot i into c.run
// and returns the slot behind it.
func (t *Table) cluster(c *Cursor, s *segment, i int) int {
	c.run = c.run[:0]
	for ; ; i++ {
		slot := s.slot(i)
		m := metaOf(slot)
		if m.flags == 0 {
			break
		}
		if m.flags&tombstone == 0 {
			if pos := t.position(t.hashOf(slot)); pos >= c.pos {
				c.run = append(c.run, walked{pos, slot})
			}
		}
	}
	if len(c.run) > 1 {
		slices.SortFunc(c.run, func(a, b walked) int {
			if a.pos != b.pos {
				return cmp.Compare(a.pos, b.pos)
			}
			return t.compareKeys(a.slot, b.slot)
		})
	}
	return i
}

// compareKeys orders entries of one position.
func (t *Table) compareKeys(a, b unsafe.Pointer) int {
	if c := cmp.Compare(t.hashOf(a), t.hashOf(b)); c != 0 || t.g.layout.key == KeyUint64 {
		return c
	}
	return bytes.Compare(keyBytes(a), keyBytes(b))
}

// visit calls f for the entries in c.run that the cursor has not passed, and
// moves the cursor along.
func visit(c *Cursor, f func(hash uint64, slot unsafe.Pointer) bool, t *Table) bool {
	seen := 0 // entries at c.pos in this run
	for _, w := range c.run {
		if w.pos != c.pos {
			c.pos, c.skip, seen = w.pos, 0, 0
		}
		if seen++; seen <= c.skip {
			continue
		}
		c.skip++
		if !f(t.hashOf(w.slot), w.slot) {
			return false
		}
	}
	return true
}
