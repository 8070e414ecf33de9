package state

import (
	"encoding/binary"
	"slices"
	"sync"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"
)

// diskCursor is the iterator of a sweep over spilled entries.
type diskCursor struct {
	it  *pebble.Iterator
	seq uint64 // spillSeq when it was opened
	pos uint64 // entries at lower positions are done
	on  bool
}

func (c *diskCursor) close() error {
	it := c.it
	c.it = nil
	if it == nil {
		return nil
	}
	return it.Close()
}

// diskIter returns an iterator over the spilled entries of a table from a
// position on; nil after a fault.
func (t *Table) diskIter(from uint64) *pebble.Iterator {
	db := t.b.store.disk.open()
	if db == nil {
		t.b.fail(t.b.store.disk.fault.Load())
		return nil
	}
	lo := t.diskKey(nil, from, nil)
	hi := binary.BigEndian.AppendUint64(nil, t.disk.id+1)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		t.b.store.disk.fail(err)
		t.b.fail(t.b.store.disk.fault.Load())
		return nil
	}
	it.First()
	return it
}

// stored is one spilled entry.
type storedEntry struct {
	pos, hash, u64 uint64
	key, val       []byte
	stamp          uint32
}

// parseStored reads the entry at which an iterator stands.
func (t *Table) parseStored(it *pebble.Iterator, e *storedEntry) bool {
	k, v := it.Key(), it.Value()
	n := t.diskHeaderLen()
	if len(k) < 16 || len(v) < n {
		return false
	}
	e.pos, e.key, e.val = binary.BigEndian.Uint64(k[8:]), k[16:], v[n:]
	e.stamp, e.hash = binary.LittleEndian.Uint32(v), e.pos
	if t.g.layout.key == KeyUint64 {
		if len(e.key) != 8 {
			return false
		}
		e.u64 = binary.BigEndian.Uint64(e.key)
		e.hash = hashU64(e.u64)
	} else if n > diskHeader {
		e.hash = binary.LittleEndian.Uint64(v[diskHeader:])
	}
	return t.g.layout.size == 0 || len(e.val) == t.g.layout.size
}

// inMemory returns the slot of a stored entry that is in memory too.
func (t *Table) inMemory(e *storedEntry) unsafe.Pointer {
	_, _, slot, ok := t.find(&entry{hash: e.hash, u64: e.u64, key: e.key})
	if !ok {
		return nil
	}
	return slot
}

// sweepDiskStep is how many spilled entries one step of a sweep reads.
const sweepDiskStep = 256

// sweepSpilled writes some spilled entries of a table and reports whether there
// are more. An entry that is in memory counts as it is there.
func (b *Backend) sweepSpilled(t *Table) bool {
	c := &b.disk
	if !c.on {
		*c = diskCursor{on: true, pos: b.posLo}
	}
	if c.it == nil || c.seq != b.spillSeq {
		_ = c.close() // it has read all it will
		if c.it = t.diskIter(c.pos); c.it == nil {
			*c = diskCursor{}
			return false
		}
		c.seq = b.spillSeq
	}
	var e storedEntry
	for n := 0; c.it.Valid(); n++ {
		if !t.parseStored(c.it, &e) {
			b.fail(stateError(CodeSpill, "the spill store returned a damaged entry", t.g.String(), "the job restarts from its last checkpoint", nil))
			break
		}
		if e.pos > b.posHi {
			break
		}
		c.pos = e.pos
		if n >= b.diskStep {
			return true
		}
		b.sweepStored(t, &e)
		c.it.Next()
	}
	if err := c.it.Error(); err != nil {
		b.store.disk.fail(err)
		b.fail(b.store.disk.fault.Load())
	}
	_ = c.close()
	*c = diskCursor{}
	b.expireStale()
	return false
}

// sweepStored writes one spilled entry if it did not change in the frozen epoch.
func (b *Backend) sweepStored(t *Table, e *storedEntry) {
	if slot := t.inMemory(e); slot != nil {
		if m := metaOf(slot); m.stamp < b.frozen.stamp {
			b.recordBase(t, slot)
			if t.g.decl.expires && m.flags&tombstone == 0 {
				b.age(t, slot)
			}
		}
		return
	}
	if e.stamp >= b.frozen.stamp {
		return
	}
	w := b.frozen
	before := w.bytes
	w.stored(t, e)
	t.wasRecorded = true
	w.base(before)
	w.again += w.bytes - before
	if t.g.decl.expires && b.past(expiryOf(e.val), t.g.decl.TTL) {
		b.stale = append(b.stale, staleEntry{t.g, t.ns, e.hash, slices.Clone(e.key), false})
	}
}

// stored writes a spilled entry.
func (w *stream) stored(t *Table, e *storedEntry) {
	l := &t.g.layout
	n := len(e.val)
	if l.form == varForm {
		n += 4
	}
	p := w.rawKey(t, e, n)
	if l.form == varForm {
		binary.LittleEndian.PutUint32(p, uint32(len(e.val)))
		p = p[4:]
	}
	copy(p, e.val)
	w.count()
}

// rawKey is key for a spilled entry.
func (w *stream) rawKey(t *Table, e *storedEntry, extra int) []byte {
	if t.g.layout.key == KeyUint64 {
		p := w.room(t, sectionPut, 8+extra)
		binary.LittleEndian.PutUint64(p, e.u64)
		return p[8:]
	}
	n := 2 + len(e.key)
	if !t.scattered {
		n += 8
	}
	p := w.room(t, sectionPut, n+extra)
	if !t.scattered {
		binary.LittleEndian.PutUint64(p, e.hash)
		p = p[8:]
	}
	binary.LittleEndian.PutUint16(p, uint16(len(e.key)))
	copy(p[2:], e.key)
	return p[2+len(e.key):]
}

// prefetchMin is the number of misses from which it pays to read concurrently.
const prefetchMin = 8

// prefetchers is how many goroutines read the misses of one batch.
const prefetchers = 8

// prefetchRelief bounds the steps towards the budget that one batch takes.
const prefetchRelief = 4

// miss is an entry to be read.
type miss struct {
	hash     uint64
	key, val []byte
	dk       []byte
	ok       bool
	err      error
}

// PrefetchU64 reads those keys of a batch from the spill store, concurrently, that
// are not in memory. It is a hint: calls for single keys load what they need.
func (t *Table) PrefetchU64(hashes, keys []uint64) {
	if t.stored == 0 {
		return
	}
	var list []miss
	for i, k := range keys {
		s, _, _, ok := t.findU64(hashes[i], k)
		if ok || !s.onDisk || !t.disk.filter.has(t.position(hashes[i])) {
			continue
		}
		list = append(list, miss{hash: hashes[i], key: binary.BigEndian.AppendUint64(nil, k)})
	}
	t.readAll(list)
}

// PrefetchBytes is PrefetchU64 for byte keys.
func (t *Table) PrefetchBytes(hashes []uint64, keys [][]byte) {
	if t.stored == 0 {
		return
	}
	var list []miss
	for i, k := range keys {
		s, _, _, ok := t.findBytes(hashes[i], k)
		if ok || !s.onDisk || !t.disk.filter.has(t.position(hashes[i])) {
			continue
		}
		list = append(list, miss{hash: hashes[i], key: k})
	}
	t.readAll(list)
}

// readAll reads misses on several goroutines and admits what they find.
func (t *Table) readAll(list []miss) {
	if len(list) < prefetchMin {
		return
	}
	t.b.cool()
	// Room first: reads alone would not make any.
	for n := 0; t.b.over && n < prefetchRelief; n++ {
		t.b.relieve()
	}
	for i := range list {
		list[i].dk = t.diskKey(nil, t.position(list[i].hash), list[i].key)
	}
	slices.SortFunc(list, func(a, b miss) int { return slices.Compare(a.dk, b.dk) })
	list = slices.CompactFunc(list, func(a, b miss) bool { return string(a.dk) == string(b.dk) })
	var wg sync.WaitGroup
	d := t.b.store.disk
	per := (len(list) + prefetchers - 1) / prefetchers
	for part := range slices.Chunk(list, per) {
		wg.Go(func() {
			for i := range part {
				m := &part[i]
				m.val, m.ok, m.err = d.get(m.dk, nil)
			}
		})
	}
	wg.Wait()
	for i := range list {
		m := &list[i]
		if m.err != nil {
			t.b.fail(m.err)
			return
		}
		if m.ok && t.admitLoaded(m.hash, m.key, m.val) {
			t.b.fresh = append(t.b.fresh, loaded{t, m.hash})
		}
	}
}

// loaded names an entry that was read ahead.
type loaded struct {
	t    *Table
	hash uint64
}

// cool forgets that the entries that were read ahead last have been used: it is what
// they were read for. Those that are not used again are the first to be evicted.
func (b *Backend) cool() {
	for _, l := range b.fresh {
		if l.t.dead {
			continue
		}
		s, i := l.t.locate(l.hash)
		for slot := s.slot(i); metaOf(slot).flags != 0; slot = unsafe.Add(slot, s.stride) {
			if m := metaOf(slot); l.t.hashOf(slot) == l.hash {
				m.ref = 0
				break
			}
		}
	}
	clear(b.fresh)
	b.fresh = b.fresh[:0]
}
