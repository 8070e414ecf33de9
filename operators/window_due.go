package operators

import (
	"container/heap"
	"encoding/binary"
	"slices"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state"
)

// dueTable says at which watermark which keys must be looked at. It is keyed
// state: a namespace holds the keys of one stretch of event time, each with its
// time, so that a stretch is found by time and dropped as a whole. The stretch
// that the watermark is in is also held in a heap.
//
// A key has at most one time that counts, which its owner keeps with the key's
// own state. Times that were set before stay until their stretch is dropped;
// their owner recognises them and passes over them.
type dueTable struct {
	group *state.Group
	width int64 // of a stretch

	stretches []int64 // those with keys that are not in the heap, ascending
	loaded    int64   // every stretch up to here is in the heap
	dropped   []int64 // stretches in the heap, still in the state, ascending
	heap      dueHeap
	loading   bool
	walk      state.Cursor
	waiting   []due // set for the stretch that is being loaded
}

// due is a key with its time. The key is a copy.
type due struct {
	at   base.Timestamp
	hash uint64
	key  []byte
}

// minStretch is the shortest stretch, in nanoseconds.
const minStretch = 1_000_000

func newDueTable(s *Subtask, uid string, width int64) (*dueTable, error) {
	d := &dueTable{width: max(width, minStretch), loaded: base.MinTime}
	var err error
	d.group, err = s.Env.Backend.Group(state.Decl{
		Operator: uid, Name: "due", Key: state.KeyBytes, ValueSize: 8, Schema: "int64",
	})
	return d, err
}

// open lists the stretches of the restored state.
func (d *dueTable) open() { d.stretches = append(d.stretches[:0], d.group.Namespaces()...) }

// stretch returns the number of the stretch that holds t.
func (d *dueTable) stretch(t base.Timestamp) int64 {
	n := t / d.width
	if t%d.width < 0 {
		n--
	}
	return n
}

// set notes that a key is due at t.
func (d *dueTable) set(t base.Timestamp, k *stateKey) {
	n := d.stretch(t)
	if d.loading && n == d.loaded {
		// A table must not change while it is walked.
		d.waiting = append(d.waiting, due{t, k.hash, slices.Clone(k.b)})
		return
	}
	p, _ := d.group.Namespace(n).UpsertBytes(k.hash, k.b)
	*(*int64)(p) = t
	if n <= d.loaded {
		heap.Push(&d.heap, due{t, k.hash, slices.Clone(k.b)})
		insertOnce(&d.dropped, n)
		return
	}
	insertOnce(&d.stretches, n)
}

func insertOnce(s *[]int64, n int64) {
	if i, ok := slices.BinarySearch(*s, n); !ok {
		*s = slices.Insert(*s, i, n)
	}
}

// load brings the next stretch that w has reached into the heap. none says that
// there is no such stretch; otherwise call load again until it says so, and take
// out what is due when through.
func (d *dueTable) load(w base.Timestamp) (none, through bool) {
	if len(d.stretches) == 0 && !d.loading || !d.loading && d.stretches[0] > d.stretch(w) {
		d.loaded = max(d.loaded, d.stretch(w))
		return true, true
	}
	if !d.loading {
		n := d.stretches[0]
		d.stretches = d.stretches[1:]
		d.loading, d.loaded, d.walk = true, n, state.Cursor{}
		insertOnce(&d.dropped, n)
	}
	through = d.group.Namespace(d.loaded).Walk(&d.walk, walkStep, func(hash uint64, key, val []byte) bool {
		at := *(*int64)(unsafe.Pointer(unsafe.SliceData(val)))
		heap.Push(&d.heap, due{at, hash, slices.Clone(key)})
		return true
	})
	if through {
		d.loading = false
		for _, e := range d.waiting {
			d.set(e.at, &stateKey{hash: e.hash, b: e.key})
		}
		clear(d.waiting)
		d.waiting = d.waiting[:0]
	}
	return false, through
}

// take takes the earliest key out whose time w has reached.
func (d *dueTable) take(w base.Timestamp) (e due, ok bool) {
	if len(d.heap) == 0 || d.heap[0].at > w {
		return e, false
	}
	return heap.Pop(&d.heap).(due), true
}

// forget drops the stretches that lie before w as a whole.
func (d *dueTable) forget(w base.Timestamp) {
	for len(d.dropped) > 0 && (d.dropped[0] < d.stretch(w) || w == base.MaxTime) {
		d.group.Drop(d.dropped[0])
		d.dropped = d.dropped[1:]
	}
}

// dueHeap orders by time, then hash, then key, so that a replay fires in the
// same order.
type dueHeap []due

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	a, b := &h[i], &h[j]
	if a.at != b.at {
		return a.at < b.at
	}
	if a.hash != b.hash {
		return a.hash < b.hash
	}
	return string(a.key) < string(b.key)
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push appends x, for package heap.
func (h *dueHeap) Push(x any) { *h = append(*h, x.(due)) }

// Pop removes the last element, for package heap.
func (h *dueHeap) Pop() any {
	n := len(*h) - 1
	e := (*h)[n]
	(*h)[n] = due{}
	*h = (*h)[:n]
	return e
}

// appendTime appends a time to an encoded value.
func appendTime(dst []byte, t base.Timestamp) []byte {
	return binary.LittleEndian.AppendUint64(dst, uint64(t))
}
