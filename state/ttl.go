package state

import (
	"encoding/binary"
	"slices"
	"time"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
)

// Lifetime is how long an entry lives after it was written. The zero value is for
// ever.
type Lifetime struct {
	// For is the time to live.
	For time.Duration
	// Processing measures it in processing time; the default is event time.
	Processing bool
}

// times are what entries expire by.
type times struct {
	watermark, recordTime, processing base.Timestamp
}

// SetTime tells the state the watermark and the processing time. An entry with a
// TTL is hidden once the one that its TTL is measured in has reached the entry's
// time of writing plus the TTL.
func (b *Backend) SetTime(watermark, processing base.Timestamp) {
	b.watermark, b.processing = watermark, processing
}

// SetRecordTime tells the state the event time of the record or timer at hand,
// from which event-time TTLs run. The watermark counts where it is later.
func (b *Backend) SetRecordTime(at base.Timestamp) { b.recordTime = at }

// unstarted is the expiry of an entry that was written before any time was known.
// It starts to age at its first access after that.
const unstarted = base.MinTime

// now returns the time by which entries expire.
func (b *Backend) now(l Lifetime) base.Timestamp {
	if l.Processing {
		return b.processing
	}
	return b.watermark
}

// expiry returns when an entry expires that is written now.
func (b *Backend) expiry(l Lifetime) base.Timestamp {
	at := b.processing
	if !l.Processing {
		at = max(b.watermark, b.recordTime)
	}
	if at == base.MinTime {
		return unstarted
	}
	return base.AddTime(at, int64(l.For))
}

// expiryLen is the length of the expiry in front of a value.
const expiryLen = 8

func expiryOf(val []byte) base.Timestamp { return int64(binary.LittleEndian.Uint64(val)) }

func setExpiry(val []byte, at base.Timestamp) { binary.LittleEndian.PutUint64(val, uint64(at)) }

// age notes an entry with a TTL that has expired, or whose life has to begin.
func (b *Backend) age(t *Table, slot unsafe.Pointer) {
	at := expiryOf(t.g.layout.value(slot))
	start := at == unstarted && b.expiry(t.g.decl.TTL) != unstarted
	if start || b.past(at, t.g.decl.TTL) {
		b.stale = append(b.stale, staleEntry{t.g, t.ns, t.hashOf(slot), t.keyOf(slot), start})
	}
}

// setExpiryOf begins the life of an entry.
func (t *Table) setExpiryOf(e *staleEntry) {
	var u uint64
	if t.g.layout.key == KeyUint64 {
		u = binary.BigEndian.Uint64(e.key)
	}
	s, i, slot, ok := t.find(&entry{hash: e.hash, u64: u, key: e.key})
	if !ok || metaOf(slot).flags&tombstone != 0 {
		return
	}
	t.use(s, i, slot)
	setExpiry(t.g.layout.value(slot), t.b.expiry(t.g.decl.TTL))
}

func (b *Backend) past(at base.Timestamp, l Lifetime) bool { return at != unstarted && at <= b.now(l) }

// staleEntry is an expired entry that a sweep came across.
type staleEntry struct {
	g    *Group
	ns   int64
	hash uint64
	key  []byte
	// start says that it has not expired: its life begins now.
	start bool
}

// keyOf returns a copy of the key of a slot; integers as 8 bytes, big-endian.
func (t *Table) keyOf(slot unsafe.Pointer) []byte {
	if t.g.layout.key == KeyUint64 {
		return binary.BigEndian.AppendUint64(nil, *(*uint64)(slot))
	}
	return slices.Clone(keyBytes(slot))
}

// expireStale removes what the sweep found expired. Removing may change any table.
func (b *Backend) expireStale() {
	for _, e := range b.stale {
		if e.start {
			if t := e.g.Existing(e.ns); t != nil {
				t.setExpiryOf(&e)
			}
			continue
		}
		if e.g.onExpire != nil {
			e.g.onExpire(e.hash, e.key)
			continue
		}
		if t := e.g.Existing(e.ns); t != nil {
			t.deleteKey(e.hash, e.key)
		}
	}
	clear(b.stale)
	b.stale = b.stale[:0]
}

// deleteKey deletes an entry by its key in the form of keyOf.
func (t *Table) deleteKey(hash uint64, key []byte) bool {
	if t.g.layout.key == KeyUint64 {
		return t.DeleteU64(hash, binary.BigEndian.Uint64(key))
	}
	return t.DeleteBytes(hash, key)
}
