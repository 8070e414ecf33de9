package pattern

import (
	"encoding/binary"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state"
)

// open makes a key the one in hand and returns its state. Keys that hold nothing stay
// in the cache too, so that most records need no look into the table.
func (n *Detector[K, T, R, TO]) open(hash uint64, k K) *entry[K, T] {
	for e := n.cache[hash]; e != nil; e = e.next {
		if e.key == k {
			n.cur = e
			return e
		}
	}
	if n.cached >= n.spec.Cache {
		n.evict()
	}
	e := &entry[K, T]{key: k, hash: hash, timer: never, next: n.cache[hash]}
	n.cache[hash] = e
	n.cached++
	n.cur = e
	blob, ok := n.table.GetVar(hash, n.encodeKey(k))
	if !ok {
		return e
	}
	e.stored = true
	if err := n.set.Load(blob, &e.state, n.spec.Values); err != nil {
		n.s.Fail(n.stateError(err))
	}
	return e
}

// close notes what has become of the key in hand, and sees to a timer.
func (n *Detector[K, T, R, TO]) close(e *entry[K, T]) {
	if e.state.changed {
		e.state.changed, e.dirty = false, true
	}
	n.wake(e)
}

// wake registers a timer for the next time at which time alone changes the key,
// unless there is one before: somewhat later if nobody hears of the change. A window of
// processing time ends by the clock.
func (n *Detector[K, T, R, TO]) wake(e *entry[K, T]) {
	due := base.AddTime(e.state.expires(), n.set.slack)
	if len(e.state.queue) > 0 {
		due = min(due, base.AddTime(e.state.queue[0].ts, 1))
	}
	if due >= e.timer {
		return
	}
	e.timer = due
	kind := state.EventTimer
	if n.spec.Processing {
		kind = state.ProcessingTimer
	}
	n.setKey(e)
	n.timers.Register(kind, due)
}

// evict writes a part of the cache back. Which keys go has no effect on results.
func (n *Detector[K, T, R, TO]) evict() {
	left := n.spec.Cache/8 + 1
	for hash, e := range n.cache {
		busy := false
		for p := e; p != nil; p = p.next {
			busy = busy || p == n.cur || p.behind
		}
		if busy {
			continue
		}
		for p := e; p != nil; p = p.next {
			n.write(p)
			n.cached--
			left--
		}
		delete(n.cache, hash)
		if left <= 0 {
			return
		}
	}
}

// write writes a key back.
func (n *Detector[K, T, R, TO]) write(e *entry[K, T]) {
	if !e.dirty {
		return
	}
	e.dirty = false
	key := n.encodeKey(e.key)
	if e.state.Empty() {
		if e.stored {
			n.table.DeleteBytes(e.hash, key)
		}
		e.stored = false
		return
	}
	n.blob = n.set.Append(n.blob[:0], &e.state, n.spec.Values)
	n.table.PutVar(e.hash, key, n.blob)
	e.stored = true
}

// Barrier implements operators.Barrierer: everything goes into the keyed state, and
// changes that wait for it are made.
func (n *Detector[K, T, R, TO]) Barrier(base.Epoch) error {
	n.park()
	n.publish(true)
	for _, e := range n.cache {
		for ; e != nil; e = e.next {
			n.write(e)
		}
	}
	n.makeChanges()
	return n.s.Err()
}

// park moves the records that wait into the states of their keys, which wake up for
// them by timers.
func (n *Detector[K, T, R, TO]) park() {
	for i := n.done; i < len(n.pending); i++ {
		a := &n.pending[i]
		e := n.open(a.hash, a.key)
		e.state.queue = enqueue(e.state.queue, a.ts, &a.val)
		e.dirty = true
		n.close(e)
	}
	clear(n.pending)
	n.pending, n.done, n.sorted = n.pending[:0], 0, true
}

// Runs lists the partial matches of a key of the subtask's range, in all patterns, with
// what each waits for. It must be called on the goroutine of the subtask, between two
// batches, and changes nothing.
func (n *Detector[K, T, R, TO]) Runs(k K) []Partial[T] {
	defer func() { n.cur = nil }()
	return n.set.Runs(&n.open(n.spec.Keys.Hash(k), k).state)
}

// Set returns the patterns, for a look at their programs and counters.
func (n *Detector[K, T, R, TO]) Set() *Set[T] { return n.set }

func (n *Detector[K, T, R, TO]) encodeKey(k K) []byte {
	n.enc = n.spec.Keys.Append(n.enc[:0], k)
	return n.enc
}

func (n *Detector[K, T, R, TO]) decodeKey(b []byte) (K, error) {
	if n.ints {
		return n.spec.Keys.FromUint64(binary.BigEndian.Uint64(b)), nil
	}
	return n.spec.Keys.Decode(b)
}

// setKey makes a key current in the backend, for timers.
func (n *Detector[K, T, R, TO]) setKey(e *entry[K, T]) {
	if n.ints {
		n.s.Env.Backend.SetKeyU64(e.hash, n.spec.Keys.Uint64(e.key))
		return
	}
	n.s.Env.Backend.SetKey(e.hash, n.encodeKey(e.key))
}

func (n *Detector[K, T, R, TO]) stateError(err error) error {
	return base.Fatal(&base.Error{
		Code: "WEIR-0705", What: "the operator cannot read its state", Where: "operator " + n.spec.UID, Cause: err,
		Next: "restore an earlier checkpoint; if the record type has changed, give the operator a new name",
	})
}

// reached is how far event time has come. After a restore from subtasks that had come
// unequally far, some ranges are ahead.
type reached struct {
	w      int64
	schema uint64 // hash of the keys' schema
	ahead  []ahead
}

type ahead struct {
	base.HashRange
	w int64
}

// of returns the watermark of a key.
func (r *reached) of(hash uint64) int64 {
	for i := range r.ahead {
		if a := &r.ahead[i]; a.Contains(hash) {
			return max(r.w, a.w)
		}
	}
	return r.w
}

func (r *reached) reach(w int64) {
	r.w = max(r.w, w)
	kept := r.ahead[:0]
	for _, a := range r.ahead {
		if a.w > r.w {
			kept = append(kept, a)
		}
	}
	r.ahead = kept
}

// snapshot writes the hash of the keys' schema, then ranges: lowest and highest hash,
// watermark; all little-endian, the subtask's own range first.
func (r *reached) snapshot(own base.HashRange) []byte {
	b := binary.LittleEndian.AppendUint64(nil, r.schema)
	for _, a := range append([]ahead{{own, r.w}}, r.ahead...) {
		b = binary.LittleEndian.AppendUint64(b, a.Lo)
		b = binary.LittleEndian.AppendUint64(b, a.Hi)
		b = binary.LittleEndian.AppendUint64(b, uint64(a.w))
	}
	return b
}

func (r *reached) restore(own base.HashRange, parts [][]byte) bool {
	r.w, r.ahead = base.MaxTime, nil
	for _, p := range parts {
		if len(p) < 8 || (len(p)-8)%24 != 0 || binary.LittleEndian.Uint64(p) != r.schema {
			return false
		}
		for i := 8; i < len(p); i += 24 {
			u := func(j int) uint64 { return binary.LittleEndian.Uint64(p[i+8*j:]) }
			a := ahead{base.HashRange{Lo: u(0), Hi: u(1)}, int64(u(2))}
			if !a.Overlaps(own) {
				continue
			}
			if i == 8 {
				r.w = min(r.w, a.w)
			}
			r.ahead = append(r.ahead, a)
		}
	}
	if len(r.ahead) == 0 {
		r.w = base.MinTime
	}
	// The ranges of a subtask come after its own; the last that has a hash counts.
	for i, j := 0, len(r.ahead)-1; i < j; i, j = i+1, j-1 {
		r.ahead[i], r.ahead[j] = r.ahead[j], r.ahead[i]
	}
	r.reach(r.w)
	return true
}
