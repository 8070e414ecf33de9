package state

import (
	"encoding/binary"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirflow/weir/internal/crash"
)

// diskTable is the spilled part of a table. On disk an entry has the key
//
//	8 table | 8 position | key bytes (integers: 8, big-endian)
//
// and the value
//
//	4 stamp | 8 hash (byte keys that are not scattered) | value
//
// Whatever is on disk is recorded in the chain, or about to be.
type diskTable struct {
	id     uint64
	filter filter
}

const diskHeader = 4

// diskKey appends the key of an entry.
func (t *Table) diskKey(dst []byte, pos uint64, key []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, t.disk.id)
	dst = binary.BigEndian.AppendUint64(dst, pos)
	return append(dst, key...)
}

// headerLen returns the length of what precedes a value on disk.
func (t *Table) diskHeaderLen() int {
	if t.g.layout.key == KeyBytes && !t.scattered {
		return diskHeader + 8
	}
	return diskHeader
}

// diskValue appends the stored form of an entry.
func (t *Table) diskValue(dst []byte, slot unsafe.Pointer) []byte {
	m := metaOf(slot)
	dst = binary.LittleEndian.AppendUint32(dst, m.stamp)
	if t.diskHeaderLen() > diskHeader {
		dst = binary.LittleEndian.AppendUint64(dst, t.hashOf(slot))
	}
	return append(dst, t.g.layout.value(slot)...)
}

// loadKey loads an entry from the spill store; false when it has none, or after
// an error, which Err reports. An integer key is 8 bytes, big-endian.
func (t *Table) loadKey(s *segment, hash uint64, key []byte) bool {
	if t.disk == nil || !s.onDisk {
		return false
	}
	pos := t.position(hash)
	if !t.disk.filter.has(pos) {
		return false
	}
	b := t.b
	b.diskKeyBuf = t.diskKey(b.diskKeyBuf[:0], pos, key)
	val, ok, err := b.store.disk.get(b.diskKeyBuf, b.diskValBuf[:0])
	if err != nil {
		b.fail(err)
		return false
	}
	if !ok {
		return false
	}
	b.diskValBuf = val
	return t.admitLoaded(hash, key, val)
}

// loadEntry is loadKey for a restore.
func (t *Table) loadEntry(s *segment, e *entry) bool {
	if t.g.layout.key == KeyUint64 {
		var kb [8]byte
		binary.BigEndian.PutUint64(kb[:], e.u64)
		return t.loadKey(s, e.hash, kb[:])
	}
	return t.loadKey(s, e.hash, e.key)
}

// admitLoaded puts what the spill store gave into memory, where it is not yet.
func (t *Table) admitLoaded(hash uint64, key, val []byte) bool {
	n := t.diskHeaderLen()
	if len(val) < n || t.g.layout.size > 0 && len(val) != n+t.g.layout.size {
		t.b.fail(stateError(CodeSpill, "the spill store returned a damaged entry", t.g.String(), "the job restarts from its last checkpoint", nil))
		return false
	}
	e := entry{hash: hash, key: key}
	if t.g.layout.key == KeyUint64 {
		e.u64 = binary.BigEndian.Uint64(key)
	}
	s, i, slot, _ := t.find(&e)
	for !t.room(s, i, hash) {
		s, i, slot, _ = t.find(&e)
	}
	if t.g.layout.key == KeyUint64 {
		*(*uint64)(slot) = e.u64
	} else {
		t.setKey(s, slot, hash, key)
	}
	t.fill(s, slot)
	t.stored--
	m := metaOf(slot)
	m.stamp = binary.LittleEndian.Uint32(val)
	m.flags = m.flags&^changed | onDisk | recorded
	if t.g.layout.form == varForm {
		t.setVarBytes(s, slot, val[n:])
	} else {
		copy(unsafe.Slice((*byte)(t.g.layout.fixedValue(slot)), t.g.layout.size), val[n:])
	}
	if m.stamp == t.b.epoch { // it will be changed in the running epoch without being touched
		t.b.mark(s, i)
	}
	t.b.pressure()
	return true
}

// pressure notes that the budget is exceeded; the next call relieves it.
func (b *Backend) pressure() {
	if b.mem.a.used.Load() > b.store.limit {
		b.over = b.store.disk.enabled()
	}
}

const (
	// spillChunk is how many entries are written to the spill store at once,
	// which takes about half a millisecond.
	spillChunk = 1024
	// spillSlack in 100 is the part of the budget below which eviction ends.
	spillSlack = 98
)

// victim is the segment that is being evicted. First its changed entries that
// were not used lately are written to the spill store, some at a time; then all
// unused ones leave memory at once.
type victim struct {
	s    *segment
	base unsafe.Pointer // its slots when it was chosen
	at   int
}

// relieve takes a step towards the memory budget: it writes some entries to the
// spill store or evicts those of one segment that were not used since the clock
// came by last.
func (b *Backend) relieve() {
	limit := b.store.limit
	if b.walking > 0 {
		return
	}
	if b.mem.a.used.Load() <= limit*spillSlack/100 || b.mem.held < b.store.share.Load()/2 || b.store.disk.open() == nil {
		b.over = false
		if f := b.store.disk.fault.Load(); f != nil {
			b.fail(f)
		}
		return
	}
	if v := &b.victim; v.s == nil || v.s.dead || v.s.base != v.base {
		if !b.chooseVictim() {
			b.over = false
			return
		}
	}
	v := &b.victim
	if !b.writeBack(v) {
		return
	}
	b.evict(v.s)
	v.s = nil
}

// chooseVictim moves the hand of the clock to the next segment that has anything.
// It avoids segments that a sweep is reading the spilled entries of.
func (b *Backend) chooseVictim() bool {
	for pass := range 2 {
		for range b.ring {
			b.hand++
			if b.hand >= len(b.ring) {
				b.hand = 0
			}
			s := b.ring[b.hand]
			if s.dead || s.count == 0 || s.mem.size+s.arena.size() <= 2*minSegment {
				continue
			}
			if swept := b.sweptNow(s); pass == 1 || !swept {
				b.victim = victim{s: s, base: s.base}
				if swept {
					b.spillSeq++
				}
				return true
			}
		}
	}
	return false
}

// sweptNow says that a sweep is reading spilled entries with positions of the
// segment: they must not change behind its back.
func (b *Backend) sweptNow(s *segment) bool {
	if b.frozen == nil || !b.sweeping || b.sweep.disk.it == nil || b.table != s.t {
		return false
	}
	end, last := segmentEnd(s)
	return s.prefix <= b.posHi && (last || end > b.posLo)
}

// writeBack writes unused, changed entries of the victim to the spill store, at
// most spillChunk of them, and reports whether there are no more.
func (b *Backend) writeBack(v *victim) bool {
	s, t := v.s, v.s.t
	if t.disk == nil {
		t.disk = &diskTable{id: b.store.disk.ids.Add(1)}
	}
	crash.At(crash.SnapBeforeWriteback)
	batch := b.store.disk.db.NewBatch()
	n := 0
	for ; v.at < s.slots && n < spillChunk; v.at++ {
		slot := s.slot(v.at)
		m := metaOf(slot)
		if m.flags == 0 || m.stays() || m.flags&(changed|onDisk) == onDisk {
			continue
		}
		if m.flags&(tombstone|onDisk) == tombstone {
			continue // nothing there to be deleted
		}
		n++
		if err := b.spillEntry(batch, t, slot); err != nil {
			b.fail(err)
		}
	}
	if n == 0 {
		_ = batch.Close() // an empty batch holds nothing
		return true
	}
	if err := b.store.disk.apply(batch); err != nil {
		b.fail(err)
		return true
	}
	s.onDisk = true
	if b.sweptNow(s) {
		b.spillSeq++
	}
	crash.At(crash.SnapAfterWriteback)
	return v.at >= s.slots
}

// spillEntry adds the current version of an entry to a batch.
func (b *Backend) spillEntry(batch *pebble.Batch, t *Table, slot unsafe.Pointer) error {
	m := metaOf(slot)
	var kb [8]byte
	key := kb[:]
	if t.g.layout.key == KeyUint64 {
		binary.BigEndian.PutUint64(key, *(*uint64)(slot))
	} else {
		key = keyBytes(slot)
	}
	pos := t.position(t.hashOf(slot))
	b.diskKeyBuf = t.diskKey(b.diskKeyBuf[:0], pos, key)
	var err error
	if m.flags&tombstone != 0 {
		err = batch.Delete(b.diskKeyBuf, nil)
	} else {
		b.diskValBuf = t.diskValue(b.diskValBuf[:0], slot)
		err = batch.Set(b.diskKeyBuf, b.diskValBuf, nil)
		if m.flags&onDisk == 0 {
			t.disk.filter.add(b.mem, pos)
		}
	}
	m.flags = m.flags&^changed | onDisk
	return err
}

// stays says that the clock passes an entry by: one that was used since it came last,
// or in at least two rounds more than it was not.
func (m *meta) stays() bool { return m.ref != 0 || m.flags&allRounds > oneRound }

// age counts a round of the clock. An entry that is used often survives up to two
// rounds without use, so that many that are used once do not displace it.
func (m *meta) age() {
	switch rounds := m.flags & allRounds; {
	case m.ref == 0 && rounds > 0:
		m.flags -= oneRound
	case m.ref != 0 && rounds < allRounds:
		m.flags += oneRound
	}
	m.ref = 0
}

// evict removes the unused entries of a segment from memory, whose spilled
// versions are current, and gives memory back.
func (b *Backend) evict(s *segment) {
	b.structure++
	t, gone := s.t, 0
	failed := b.err != nil
	for i := range s.slots {
		slot := s.slot(i)
		m := metaOf(slot)
		if m.flags == 0 {
			continue
		}
		if m.stays() || m.flags&(changed|onDisk) != onDisk || failed {
			m.age()
			continue
		}
		b.recordEvicted(s, i, slot)
		s.freeValue(slot)
		if m.flags&tombstone == 0 {
			t.len--
			t.stored++
		}
		m.flags = 0 // rehash leaves it behind
		gone++
	}
	if gone == 0 {
		return
	}
	t.slotsUsed -= gone
	s.count -= gone
	size := s.mem.size
	for size > minSegment && s.count*5/4 < s.limit*(size/2)/s.mem.size {
		size /= 2
	}
	b.shrink(s, size)
}

// recordEvicted writes what the streams still need of an entry that leaves.
func (b *Backend) recordEvicted(s *segment, i int, slot unsafe.Pointer) {
	if getBit(s.dirty, i) {
		if s.dirtyEpoch == b.epoch {
			if b.tracked() {
				b.record(b.out, s.t, slot)
			}
		} else if b.frozen != nil {
			b.record(b.frozen, s.t, slot)
		}
	}
	if s.frozenN > 0 && getBit(s.frozen, i) {
		b.record(b.frozen, s.t, slot)
	}
	s.unmark(i)
}

// shrink moves what is left of a segment into new memory and drops its garbage.
func (b *Backend) shrink(s *segment, size int) {
	b.flushSegment(s)
	old, overflow := *s, s.overflow()
	for {
		s.arena = arena{expect: old.arena.live}
		s.newSlots(b.mem, size, min(overflow, 64))
		if moveAll(&old, func(uint64) *segment { return s }, true) {
			break
		}
		s.release()
		size *= 2
	}
	s.t.slotsUsed += s.count - old.count
	old.release()
}
