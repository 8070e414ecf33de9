package pattern

import (
	"cmp"
	"math"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// eventID orders the events of a key: by time, then by their number within it.
type eventID struct {
	ts  int64
	num uint32
}

func (a eventID) compare(b eventID) int {
	if c := cmp.Compare(a.ts, b.ts); c != 0 {
		return c
	}
	return cmp.Compare(a.num, b.num)
}

// record is an event that some run has accepted.
type record[T any] struct {
	ts   int64 // and num: its identity
	num  uint32
	mark uint32 // index in the blob under way
	val  T
}

func (r *record[T]) id() eventID { return eventID{r.ts, r.num} }

// link is one step of a path: an event accepted into a stage.
type link[T any] struct {
	ev    *record[T]
	prev  *link[T]
	aggs  []AggValue
	depth uint32
	mark  uint32
	stage uint16
}

// run is a partial match, or a match that is held.
type run[T any] struct {
	path  *link[T] // nil for the entry run
	start eventID
	// ord and width are the interval that the run has among those of its start: what
	// it turns into shares it, in the order in which it comes about.
	ord, width uint64
	node       uint16
	// matched says that the path, or the beginning of it that this run grew from
	// last, has been completed already.
	matched bool
}

// before orders runs: by start, then as if each had been put in the place of the one
// it grew from.
func (r *run[T]) before(o *run[T]) bool {
	if c := r.start.compare(o.start); c != 0 {
		return c < 0
	}
	return r.ord < o.ord
}

// last is the time of the last accepted event.
func (r *run[T]) last() int64 { return r.path.ev.ts }

// bucket holds the runs that wait in one node, by start.
type bucket[T any] struct {
	runs   []run[T]
	active bool // listed in Key.active
	// ordered is how many runs are in order while others are being put in; 0: all.
	ordered int32
}

// waiting is an event that waits for the watermark.
type waiting[T any] struct {
	ts  int64
	val T
}

// Key is the state of one key in one pattern. The zero Key is that of a key without
// events. It belongs to one goroutine.
type Key[T any] struct {
	// buckets has an element for every node, or none as long as there are no runs.
	buckets []bucket[T]
	active  []uint16
	live    int
	// heap holds the runs in FlinkCompat, the entry run included.
	heap []run[T]
	// done holds the matches that wait for older runs, by start.
	done []run[T]
	buf  []waiting[T]

	lastTS  int64
	lastNum uint32
	// due is a time before which nothing expires, if there are runs.
	due int64
}

// Empty says that the key holds nothing: it need not be kept.
func (k *Key[T]) Empty() bool {
	return k.live == 0 && len(k.done) == 0 && len(k.buf) == 0 && len(k.heap) <= 1
}

// Runs returns the number of open runs, and of matches held back by a skip strategy.
func (k *Key[T]) Runs() (open, held int) {
	return k.live + max(len(k.heap)-1, 0), len(k.done)
}

// Buffered returns the number of events that wait for the watermark.
func (k *Key[T]) Buffered() int { return len(k.buf) }

// reset forgets everything and keeps the memory.
func (k *Key[T]) reset() {
	for _, n := range k.active {
		b := &k.buckets[n]
		clear(b.runs)
		b.runs, b.active = b.runs[:0], false
	}
	clear(k.heap)
	clear(k.done)
	clear(k.buf)
	*k = Key[T]{buckets: k.buckets, active: k.active[:0], heap: k.heap[:0], done: k.done[:0], buf: k.buf[:0]}
}

// Due returns the next time at which time alone can change the key: the first event
// that waits, or the end of a window. ok is false if there is none.
func (m *Matcher[T]) Due(k *Key[T]) (at int64, ok bool) {
	at = math.MaxInt64
	if open, _ := k.Runs(); open > 0 {
		at = k.due
	}
	if len(k.buf) > 0 {
		at = min(at, k.buf[0].ts)
	}
	return at, at < math.MaxInt64
}

// number gives the event in hand its identity.
func (k *Key[T]) number(ts int64) eventID {
	if ts == k.lastTS && (k.live > 0 || len(k.done) > 0 || len(k.heap) > 0) {
		k.lastNum++
	} else {
		k.lastTS, k.lastNum = ts, 0
	}
	return eventID{ts, k.lastNum}
}

// expiry returns the time at which r ends where it waits; MaxInt64 for never.
func (p *Program[T]) expiry(r *run[T]) int64 {
	at := int64(math.MaxInt64)
	if p.window > 0 {
		at = base.AddTime(r.start.ts, p.window)
	}
	if w := p.nodes[r.node].prev; w > 0 {
		at = min(at, base.AddTime(r.last(), w))
	}
	return at
}

// insert puts runs into their buckets, which stay in order.
func (m *Matcher[T]) insert(k *Key[T], runs []run[T]) {
	if len(runs) == 0 {
		return
	}
	if k.buckets == nil {
		k.buckets = make([]bucket[T], len(m.p.nodes))
	}
	if k.live == 0 {
		k.due = math.MaxInt64
	}
	k.live += len(runs)
	bounded, many := m.p.window > 0 || m.p.prevs, len(runs) > fewRuns
	for i := range runs {
		r := &runs[i]
		b := &k.buckets[r.node]
		if !b.active {
			b.active = true
			k.active = append(k.active, r.node)
		}
		m.put(b, r, many)
		if bounded {
			k.due = min(k.due, m.p.expiry(r))
		}
	}
	if many {
		for _, n := range k.active {
			k.buckets[n].mix(&m.aside)
		}
	}
}

// cut removes the first n runs.
func (b *bucket[T]) cut(n int) {
	left := copy(b.runs, b.runs[n:])
	clear(b.runs[left:])
	b.runs = b.runs[:left]
}

// settle takes empty buckets off the list.
func (k *Key[T]) settle() {
	kept := k.active[:0]
	for _, n := range k.active {
		if b := &k.buckets[n]; len(b.runs) > 0 {
			kept = append(kept, n)
		} else {
			b.active = false
		}
	}
	k.active = kept
}

// relabel spreads the intervals of the runs of one start.
func (k *Key[T]) relabel(start eventID) {
	var runs []*run[T]
	for _, n := range k.active {
		b := &k.buckets[n]
		for i := range b.runs {
			if b.runs[i].start == start {
				runs = append(runs, &b.runs[i])
			}
		}
	}
	slices.SortFunc(runs, func(a, b *run[T]) int { return cmp.Compare(a.ord, b.ord) })
	width := math.MaxUint64 / uint64(len(runs)+1)
	for i, r := range runs {
		r.ord, r.width = uint64(i)*width, width
	}
}
