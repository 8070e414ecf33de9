package pattern

import (
	"fmt"
	"math"
	"sort"

	"github.com/weirflow/weir/internal/base"
)

// lane holds the runs of a key that patterns share. In the first stages of these each
// start has one run, and none overtakes an earlier one, so that the runs are in the
// order of their starts, those in later nodes in front.
type lane[T any] struct {
	runs []early[T]
	// marks says which patterns have had runs up to which start.
	marks   []mark[T]
	lastTS  int64
	lastNum uint32
	few     [3]early[T] // room for the first runs
}

// early is a run in the stages that are shared.
type early[T any] struct {
	path *link[T]
	ts   int64 // and num: the start
	num  uint32
	node uint16
}

func (r *early[T]) start() eventID { return eventID{r.ts, r.num} }

// run is the same run as other matchers have it.
func (r *early[T]) run() run[T] {
	return run[T]{path: r.path, start: r.start(), width: math.MaxUint64, node: r.node}
}

// mark says up to which start a pattern has had the runs of a lane.
type mark[T any] struct {
	m  *member[T]
	at eventID
	n  int // of the runs that are open
}

func newLane[T any]() *lane[T] {
	ln := &lane[T]{}
	ln.runs = ln.few[:0]
	return ln
}

// reset forgets everything.
func (ln *lane[T]) reset() {
	clear(ln.few[:])
	clear(ln.marks)
	ln.runs, ln.marks = ln.few[:0], ln.marks[:0]
	ln.lastTS, ln.lastNum = 0, 0
}

// all lists the runs as other matchers have them.
func (ln *lane[T]) all() []run[T] {
	runs := make([]run[T], len(ln.runs))
	for i := range ln.runs {
		runs[i] = ln.runs[i].run()
	}
	return runs
}

// waiting returns the runs that wait in front of what is not shared.
func (ln *lane[T]) waiting(depth uint16) []early[T] {
	n := 0
	if k := len(ln.runs); k > 8 {
		n = sort.Search(k, func(i int) bool { return ln.runs[i].node < depth })
	} else {
		for n < k && ln.runs[n].node >= depth {
			n++
		}
	}
	return ln.runs[:n]
}

// upTo counts the runs with starts up to a start.
func (ln *lane[T]) upTo(at eventID) int {
	if k := len(ln.runs); k > 8 {
		return sort.Search(k, func(i int) bool { return at.compare(ln.runs[i].start()) < 0 })
	}
	n := 0
	for n < len(ln.runs) && at.compare(ln.runs[n].start()) >= 0 {
		n++
	}
	return n
}

// latest returns the latest start.
func (ln *lane[T]) latest() eventID { return ln.runs[len(ln.runs)-1].start() }

// cut removes the first n runs.
func (ln *lane[T]) cut(n int) {
	if len(ln.runs) > 16 { // appending makes room some time
		clear(ln.runs[:n])
		ln.runs = ln.runs[n:]
		return
	}
	left := copy(ln.runs, ln.runs[n:])
	ln.trim(left)
}

// trim removes all runs but the first n.
func (ln *lane[T]) trim(n int) {
	clear(ln.runs[n:])
	ln.runs = ln.runs[:n]
}

// number gives the event in hand its identity, as Key.number does.
func (ln *lane[T]) number(ts int64) eventID {
	if ts == ln.lastTS && len(ln.runs) > 0 {
		ln.lastNum++
	} else {
		ln.lastTS, ln.lastNum = ts, 0
	}
	return eventID{ts, ln.lastNum}
}

// due returns the time before which no window ends.
func (ln *lane[T]) due(window int64) int64 {
	if window == 0 || len(ln.runs) == 0 {
		return never
	}
	return base.AddTime(ln.runs[0].ts, window)
}

// begins says that the event in hand begins a shared run.
func (m *Matcher[T]) begins() bool {
	return m.eval.eval(m.p.nodes[m.p.start].edges[0].cond, m.p, nil)
}

// stepLane gives the event in hand to shared runs, and says whether it has changed them.
func (m *Matcher[T]) stepLane(ln *lane[T], ts int64) (changed bool, err error) {
	m.stats.Events++
	m.rec, m.id = nil, ln.number(ts)
	for i := 0; i < len(ln.runs); {
		n := ln.runs[i].node
		from := i
		for i < len(ln.runs) && ln.runs[i].node == n {
			i++
		}
		switch node := &m.p.nodes[n]; {
		case node.edges[0].act != actTake: // they wait in front of what is not shared
		case m.eval.eval(node.edges[0].cond, m.p, nil):
			changed = true
			if int(n)+1 > m.p.opts.limits.Length {
				m.stats.Overflowed += int64(i - from)
				i = ln.remove(from, i)
				break
			}
			for j := from; j < i; j++ {
				r := &ln.runs[j]
				r.path, r.node = m.accept(r.path, node.stage), n+1
			}
		case len(node.edges) == 1: // the event may not be dropped
			changed = true
			i = ln.remove(from, i)
		}
	}
	if m.begins() {
		changed = true
		m.stats.Started++
		ln.runs = append(ln.runs, early[T]{path: m.accept(nil, m.p.nodes[m.p.start].stage), ts: m.id.ts, num: m.id.num, node: m.p.start + 1})
	}
	return changed, m.boundLane(ln)
}

// accept makes the link of a run that accepts the event in hand. The first one brings the
// event along: it lasts as long as any run with it, and keeps one path of a few stages
// alive at most.
func (m *Matcher[T]) accept(prev *link[T], stage uint16) *link[T] {
	var l *link[T]
	if m.rec == nil {
		l = m.withRecord()
	} else {
		l = &link[T]{ev: m.rec}
	}
	l.prev, l.stage, l.depth = prev, stage, 1
	if prev != nil {
		l.depth = prev.depth + 1
	}
	return l
}

// remove takes runs out and returns the index of those behind them.
func (ln *lane[T]) remove(from, to int) int {
	left := copy(ln.runs[from:], ln.runs[to:])
	ln.trim(from + left)
	return from
}

// boundLane enforces the limit on runs.
func (m *Matcher[T]) boundLane(ln *lane[T]) error {
	l := &m.p.opts.limits
	m.stats.MaxRuns = max(m.stats.MaxRuns, int64(len(ln.runs)))
	over := len(ln.runs) - l.Runs
	if over <= 0 {
		return nil
	}
	switch l.Overflow {
	case FailOnOverflow:
		return fmt.Errorf("%w: %d runs; there may be %d", ErrOverflow, len(ln.runs), l.Runs)
	case DropKey:
		over = len(ln.runs)
		ln.cut(over)
	case DropOldest:
		ln.cut(over)
	default:
		ln.trim(l.Runs)
	}
	m.stats.Overflowed += int64(over)
	return nil
}

// key returns a key of the same runs.
func (ln *lane[T]) key(m *Matcher[T]) *Key[T] {
	k := &Key[T]{lastTS: ln.lastTS, lastNum: ln.lastNum}
	m.insert(k, ln.all())
	return k
}

// lane makes shared runs of those of a key; false if they are none.
func (k *Key[T]) lane() (*lane[T], bool) {
	ln := newLane[T]()
	ln.lastTS, ln.lastNum = k.lastTS, k.lastNum
	for _, r := range k.sorted() {
		if n := len(ln.runs); n > 0 && (ln.runs[n-1].node < r.node || ln.runs[n-1].start() == r.start) {
			return nil, false
		}
		ln.runs = append(ln.runs, early[T]{r.path, r.start.ts, r.start.num, r.node})
	}
	return ln, len(ln.runs) > 0
}
