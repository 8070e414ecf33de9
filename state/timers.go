package state

import (
	"container/heap"
	"encoding/binary"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// TimerKind says which time a timer waits for.
type TimerKind uint8

const (
	// EventTimer waits for the watermark.
	EventTimer TimerKind = iota
	// ProcessingTimer waits for the wall clock.
	ProcessingTimer
	numTimerKinds
)

// Timer is a timer that is due.
type Timer struct {
	Kind TimerKind
	At   base.Timestamp
	// Hash and Key are those of the user key it was registered under. An integer
	// key is 8 bytes, big-endian. The bytes are valid until the next call.
	Hash uint64
	Key  []byte
}

// Timers wake keys up at given times. A timer is identified by key, time and
// kind; registering it twice is registering it once. They lie in buckets of time,
// each one a namespace: only the timers of the bucket of about one second that is
// due are held in memory in order.
type Timers struct {
	b      *Backend
	wheels [numTimerKinds]wheel
}

// Timers declares the timers of an operator. It acts on the backend's current key.
func (b *Backend) Timers(operator string, _ KeyKind) (*Timers, error) {
	t := &Timers{b: b}
	for kind, name := range [numTimerKinds]string{"timers.event", "timers.processing"} {
		g, err := b.Group(Decl{Operator: operator, Name: name, Key: KeyBytes, ValueSize: 1, Schema: "timer", scattered: true})
		if err != nil {
			return nil, err
		}
		t.wheels[kind] = wheel{b: b, g: g, now: base.MinTime}
	}
	return t, nil
}

// Register makes the current key be woken up at a time.
func (t *Timers) Register(kind TimerKind, at base.Timestamp) { t.wheels[kind].register(at) }

// Delete takes a timer of the current key back and reports whether there was one.
func (t *Timers) Delete(kind TimerKind, at base.Timestamp) bool { return t.wheels[kind].remove(at) }

// Next returns a time before which no timer of the kind is due; not ok when there
// are none.
func (t *Timers) Next(kind TimerKind) (at base.Timestamp, ok bool) {
	w := &t.wheels[kind]
	w.open()
	if len(w.heap) > 0 {
		at, ok = w.heap[0].at, true
	}
	if len(w.buckets) > 0 && (!ok || w.buckets[0].start() < at) {
		at, ok = w.buckets[0].start(), true
	}
	return at, ok
}

// Due removes the timers whose time is at most now and calls f for each, in the
// order of their times, then of their hashes and keys, until f returns false.
// It stops after about max steps of work and reports whether none is left, so
// that firing can go on in short turns. f may register and delete timers.
func (t *Timers) Due(kind TimerKind, now base.Timestamp, max int, f func(*Timer) bool) (done bool) {
	return t.wheels[kind].due(kind, now, max, f)
}

// A wheel has levels of buckets: the buckets of level l are 2^(30+6l) nanoseconds
// wide, which is about 1.07 s, 69 s, 73 min, 78 h, 209 days and 37 years. A timer
// lies in the lowest level whose next 64 buckets reach its time. When a bucket of
// a higher level is reached, its timers move down.
const (
	timerShift  = 30
	timerBits   = 6
	timerLevels = 6
)

// bucket names a namespace: index and level.
type bucket struct {
	index int64
	level uint8
}

func (b bucket) ns() int64             { return b.index<<3 | int64(b.level) }
func bucketOf(ns int64) bucket         { return bucket{ns >> 3, uint8(ns & 7)} }
func (b bucket) start() base.Timestamp { return b.index << (timerShift + timerBits*int(b.level)) }

func bucketAt(at base.Timestamp, level int) bucket {
	return bucket{at >> (timerShift + timerBits*level), uint8(level)}
}

// compareBuckets orders by start, the wider first: it has to be spread out before
// the narrower one may be taken.
func compareBuckets(a, b bucket) int {
	switch as, bs := a.start(), b.start(); {
	case as < bs, as == bs && a.level > b.level:
		return -1
	case a == b:
		return 0
	}
	return 1
}

type wheel struct {
	b       *Backend
	g       *Group
	opened  bool
	now     base.Timestamp
	buckets []bucket // not in the heap, in order
	loaded  []bucket // in the heap
	heap    timerHeap
	loading bool   // a bucket is being loaded,
	current bucket // this one,
	cursor  Cursor // from here on
	spread  spread
	key     []byte
}

// spread is how far a bucket has moved to narrower ones. It goes on there when an
// earlier bucket has come between: nothing is added to a bucket once it is reached.
type spread struct {
	on     bool
	bucket bucket
	cursor Cursor
}

// open lists the buckets of restored state.
func (w *wheel) open() {
	if w.opened {
		return
	}
	w.opened = true
	for _, ns := range w.g.Namespaces() {
		w.buckets = append(w.buckets, bucketOf(ns))
	}
	slices.SortFunc(w.buckets, compareBuckets)
}

// timerKey is the key of a timer's entry: hash of the owner, time, key.
func timerKey(dst []byte, hash uint64, at base.Timestamp, key []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, hash)
	dst = binary.BigEndian.AppendUint64(dst, uint64(at))
	return append(dst, key...)
}

func timeOf(key []byte) base.Timestamp { return int64(binary.BigEndian.Uint64(key[8:])) }

// place returns the bucket of a time as seen from another.
func place(at, from base.Timestamp) bucket {
	for l := range timerLevels - 1 {
		if a, f := bucketAt(at, l), bucketAt(from, l); a.index-f.index < 1<<timerBits {
			return a
		}
	}
	return bucketAt(at, timerLevels-1)
}

func (w *wheel) register(at base.Timestamp) {
	w.open()
	k := &w.b.key
	w.key = timerKey(w.key[:0], k.hash, at, k.bytes)
	w.insert(w.key, at, w.now)
}

// insert adds a timer, to the heap too when its bucket is there.
func (w *wheel) insert(key []byte, at, from base.Timestamp) {
	bk := place(at, from)
	t := w.g.Namespace(bk.ns())
	p, fresh := t.UpsertBytes(w.b.place.scatter(key), key)
	*(*byte)(p) = 1
	if w.loading && w.current == bk || slices.Contains(w.loaded, bk) {
		if fresh {
			heap.Push(&w.heap, pending{at, slices.Clone(key)})
		}
		return
	}
	if i, found := slices.BinarySearchFunc(w.buckets, bk, compareBuckets); !found {
		w.buckets = slices.Insert(w.buckets, i, bk)
	}
}

func (w *wheel) remove(at base.Timestamp) bool {
	w.open()
	k := &w.b.key
	w.key = timerKey(w.key[:0], k.hash, at, k.bytes)
	return w.take(w.key, at)
}

// take deletes a timer wherever it lies.
func (w *wheel) take(key []byte, at base.Timestamp) bool {
	found := false
	for l := range timerLevels {
		if t := w.g.Existing(bucketAt(at, l).ns()); t != nil {
			found = t.DeleteBytes(w.b.place.scatter(key), key) || found
		}
	}
	return found
}

func (w *wheel) due(kind TimerKind, now base.Timestamp, limit int, f func(*Timer) bool) bool {
	w.open()
	w.now = max(w.now, now)
	for limit > 0 {
		if len(w.buckets) > 0 && w.buckets[0].start() <= now &&
			(len(w.heap) == 0 || w.buckets[0].start() <= w.heap[0].at) {
			limit -= w.advance(limit)
			continue
		}
		if len(w.heap) == 0 || w.heap[0].at > now {
			w.shed()
			return true
		}
		p := heap.Pop(&w.heap).(pending)
		limit--
		if !w.take(p.key, p.at) { // deleted after it was loaded
			continue
		}
		if !f(&Timer{kind, p.at, ownerOf(p.key), p.key[16:]}) {
			return false
		}
	}
	return false
}

// advance takes a step with the first bucket: it loads some of its timers, or
// moves some of them to narrower buckets. It returns how many.
func (w *wheel) advance(limit int) int {
	bk := w.buckets[0]
	t := w.g.Existing(bk.ns())
	if t == nil {
		w.buckets = w.buckets[1:]
		return 1
	}
	if bk.level > 0 {
		return w.narrow(bk, t, limit)
	}
	if !w.loading || w.current != bk { // else an earlier bucket has come between
		w.loading, w.current, w.cursor = true, bk, Cursor{}
	}
	n := 0
	done := t.Walk(&w.cursor, limit, func(_ uint64, key, _ []byte) bool {
		n++
		heap.Push(&w.heap, pending{timeOf(key), slices.Clone(key)})
		return true
	})
	w.cursor.skip = 0 // entries may come and go before the next step
	if done {
		w.loading = false
		w.buckets = slices.Delete(w.buckets, 0, 1)
		w.loaded = append(w.loaded, bk)
	}
	return max(1, n)
}

// narrow moves some timers of a bucket, the first, to narrower ones. Spilled ones are
// not deleted one by one, which would read each: they stay until the bucket is
// dropped, and a restore before that moves them once more, to where they are already.
func (w *wheel) narrow(bk bucket, t *Table, limit int) int {
	if s := &w.spread; !s.on || s.bucket != bk {
		*s = spread{on: true, bucket: bk}
	}
	var keys [][]byte
	before := w.spread.cursor
	done := t.Walk(&w.spread.cursor, limit, func(_ uint64, key, _ []byte) bool {
		keys = append(keys, slices.Clone(key))
		return true
	})
	c := &w.spread.cursor // it skips what is passed at its position and stays
	if c.skip = 0; c.pos == before.pos {
		c.skip = before.skip
	}
	for _, k := range keys {
		w.insert(k, timeOf(k), bk.start())
		pos := w.b.place.scatter(k)
		if t.inMemoryBytes(pos, k) {
			t.DeleteBytes(pos, k)
		} else if pos == c.pos {
			c.skip++
		}
	}
	if done {
		w.spread.on = false
		w.buckets = slices.Delete(w.buckets, 0, 1)
		w.g.Drop(bk.ns())
	}
	return max(1, len(keys))
}

// shed drops loaded buckets that have become empty.
func (w *wheel) shed() {
	w.loaded = slices.DeleteFunc(w.loaded, func(bk bucket) bool {
		t := w.g.Existing(bk.ns())
		if t != nil && t.Len() > 0 {
			return false
		}
		w.g.Drop(bk.ns())
		return true
	})
}

// pending is a timer in the heap. A timer that was deleted stays until it is due.
type pending struct {
	at  base.Timestamp
	key []byte
}

type timerHeap []pending

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	a, b := &h[i], &h[j]
	if a.at != b.at {
		return a.at < b.at
	}
	return string(a.key) < string(b.key) // hash, time, key
}

func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *timerHeap) Push(x any) { *h = append(*h, x.(pending)) }

// Pop implements heap.Interface.
func (h *timerHeap) Pop() any {
	n := len(*h) - 1
	p := (*h)[n]
	(*h)[n] = pending{}
	*h = (*h)[:n]
	return p
}
