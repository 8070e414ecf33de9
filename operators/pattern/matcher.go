package pattern

import (
	"errors"
	"math"
)

// Matcher steps the keys of one program. It belongs to one goroutine.
type Matcher[T any] struct {
	p     *Program[T]
	eval  *evaluator[T]
	stats Stats

	*work[T] // of the evaluator
	id       eventID
	// cached holds the decisions of nodes where they are the same for all runs.
	cached []decision
	// noEntry says that runs do not begin here: they come from those that are shared.
	noEntry bool
	acted   bool // the event in hand has changed the key, or found something
}

// work is what matchers work with while they have an event in hand. Those of a set
// share it, so that it stays close to the processor.
type work[T any] struct {
	rec   *record[T] // of the event in hand, made when a run accepts it
	stack []uint16
	// arena holds the open edges of the decisions about the event in hand.
	arena []open
	moved []mover[T]
	born  []run[T]
	thin  []eventID // starts whose runs need new intervals
	done  []run[T]
	ends  []int // of the parts of moved, one for each node, that are in order
	aside []run[T]
	// last is the event in hand as matches that are complete with it have it, spare
	// holds links for these: both are only used until the matches are emitted.
	last  record[T]
	spare []*link[T]
	used  int // of spare
}

// Stats counts what a Matcher has done, for metrics.
type Stats struct {
	Events, Matches, Timeouts int64
	// Started counts runs that a first event began, Overflowed those that a limit
	// ended, Pruned those that a skip strategy did.
	Started, Overflowed, Pruned int64
	// DroppedEvents counts buffered events that a limit dropped.
	DroppedEvents int64
	// MaxRuns is the largest number of runs of one key.
	MaxRuns int64
	// Evals counts evaluations of conditions.
	Evals int64
}

// Errors of Process and Advance.
var (
	// ErrSkipTargetMissing: a skip strategy with ThrowOnMiss met a match without the
	// stage.
	ErrSkipTargetMissing = errors.New("the match has no event of the stage that the skip strategy names")
	// ErrSkipToMatchStart: skipping would lead to the match's own first event.
	ErrSkipToMatchStart = errors.New("the skip strategy leads to the first event of the match")
	// ErrNoWords: a pattern in data form is given to an operator without a vocabulary.
	ErrNoWords = errors.New("the operator has no vocabulary to read patterns by")
	// ErrOverflow: a key exceeds a limit whose policy is to fail.
	ErrOverflow = errors.New("a key exceeds a limit of the pattern")
)

// open is an edge that an event opens for a run.
type open struct {
	act   action
	to    uint16
	stage uint16
	// ahead says that the target leads to the end by PROCEED: the match is complete
	// though the run stays open.
	ahead bool
}

// decision is what an event does to a run in some node.
type decision struct {
	lo, hi int32 // in arena
	event  uint64
	stop   bool
	// stays says that one of the edges, the one at index self, leaves the run as it is.
	stays bool
	self  int32
}

// mover is a run that an event changes.
type mover[T any] struct {
	run run[T]
	dec decision
}

// NewMatcher returns a Matcher for a program.
func NewMatcher[T any](p *Program[T]) *Matcher[T] {
	return newMatcher(p, newEvaluator(p.table))
}

func newMatcher[T any](p *Program[T], e *evaluator[T]) *Matcher[T] {
	return &Matcher[T]{p: p, eval: e, work: &e.work, cached: make([]decision, len(p.nodes))}
}

// Stats returns what the Matcher has counted.
func (m *Matcher[T]) Stats() Stats {
	s := m.stats
	s.Evals = m.eval.evals
	return s
}

// Process advances time to ts and takes an event of that time. Times should not
// decrease; see Buffer for events that come in another order. processing is the
// clock's time, for conditions that ask for it. Results are added to out.
func (m *Matcher[T]) Process(k *Key[T], ts, processing int64, v *T, out *Output[T]) error {
	if err := m.Advance(k, ts, out); err != nil {
		return err
	}
	m.eval.begin(v, Moment{Event: ts, Processing: processing})
	return m.take(k, ts, out)
}

// take steps the runs for the event that the evaluator holds.
func (m *Matcher[T]) take(k *Key[T], ts int64, out *Output[T]) error {
	m.stats.Events++
	m.rec = nil
	m.id = k.number(ts)
	m.born, m.done, m.thin, m.used = m.born[:0], m.done[:0], m.thin[:0], 0
	if m.p.exact() {
		m.acted = true
		m.stepHeap(k)
	} else {
		m.step(k)
	}
	if !m.acted {
		return nil
	}
	if err := m.bound(k); err != nil {
		return err
	}
	return m.emit(k, ts, false, out)
}

// exact says that the order of runs is that of the reference.
func (p *Program[T]) exact() bool { return p.opts.flink && !p.opts.buckets }

// step moves the runs that the event concerns. A bucket whose runs all drop the
// event and stay is not looked at further.
func (m *Matcher[T]) step(k *Key[T]) {
	m.moved, m.ends = m.moved[:0], m.ends[:0]
	changed := false
	for _, n := range k.active {
		from := len(m.moved)
		changed = m.stepBucket(k, n) || changed
		if len(m.moved) > from {
			m.ends = append(m.ends, len(m.moved))
		}
	}
	if changed {
		k.settle()
	}
	m.applyMoved()
	clear(m.moved)
	if !m.noEntry {
		entry := run[T]{node: m.p.start}
		m.apply(&entry, m.decide(m.p.start, nil), true)
	}
	m.acted = changed || len(m.born) > 0 || len(m.done) > 0
	m.settle(k)
}

// branch lets runs that have waited elsewhere, as in a node of this program, take the
// event in hand, which ends their wait. settleIn puts what is born into a key that holds
// nothing else.
func (m *Matcher[T]) branch(runs []run[T], d decision, ts int64) {
	m.stats.Events++
	m.rec, m.id = nil, eventID{ts: ts}
	m.born, m.done, m.thin, m.used = m.born[:0], m.done[:0], m.thin[:0], 0
	for i := range runs {
		m.apply(&runs[i], d, false)
	}
}

func (m *Matcher[T]) settleIn(k *Key[T], ts int64) error {
	k.lastTS = ts
	m.settle(k)
	return m.bound(k)
}

// settle puts the runs that are born into a key.
func (m *Matcher[T]) settle(k *Key[T]) {
	m.insert(k, m.born)
	clear(m.born)
	m.born = m.born[:0]
	for _, start := range m.thin {
		k.relabel(start)
	}
	m.thin = m.thin[:0]
}

// stay gives a run that stays where it is, while others grow from it, its part of
// the interval.
func (m *Matcher[T]) stay(r *run[T], d decision) {
	if d.stays {
		r.width /= uint64(d.hi - d.lo)
		r.ord += uint64(d.self) * r.width
		m.thinned(r)
	}
}

// minWidth is more than the parts that one event can divide an interval into.
const minWidth = maxNodes << 5

// thinned notes that an interval has become too small to be divided once more.
func (m *Matcher[T]) thinned(r *run[T]) {
	if r.width < minWidth && (len(m.thin) == 0 || m.thin[len(m.thin)-1] != r.start) {
		m.thin = append(m.thin, r.start)
	}
}

// stepBucket puts the runs of a node that move, or spawn others, on the list moved.
func (m *Matcher[T]) stepBucket(k *Key[T], n uint16) (changed bool) {
	b := &k.buckets[n]
	if m.p.nodes[n].plain {
		d := m.decide(n, nil)
		if d.stays && d.hi-d.lo == 1 {
			return false
		}
		if d.hi > d.lo {
			for i := range b.runs {
				m.moved = append(m.moved, mover[T]{b.runs[i], d})
				m.stay(&b.runs[i], d)
			}
		}
		if !d.stays {
			k.live -= len(b.runs)
			clear(b.runs)
			b.runs = b.runs[:0]
		}
		return true
	}
	kept := b.runs[:0]
	for i := range b.runs {
		d := m.decide(n, &b.runs[i])
		if d.hi > d.lo && !(d.stays && d.hi-d.lo == 1) {
			m.moved = append(m.moved, mover[T]{b.runs[i], d})
			m.stay(&b.runs[i], d)
			changed = true
		}
		if d.stays {
			kept = append(kept, b.runs[i])
		}
	}
	changed = changed || len(kept) < len(b.runs)
	k.live -= len(b.runs) - len(kept)
	clear(b.runs[len(kept):])
	b.runs = kept
	return changed
}

// decide finds the edges that the event opens for a run in node n; r is nil where
// that is the same for all runs, and for the entry run.
func (m *Matcher[T]) decide(n uint16, r *run[T]) decision {
	plain := m.p.nodes[n].plain
	if plain && m.cached[n].event == m.eval.event {
		return m.cached[n]
	}
	d := decision{lo: int32(len(m.arena)), event: m.eval.event}
	var path *link[T]
	if r != nil {
		path = r.path
	}
	m.stack = append(m.stack[:0], n)
	for len(m.stack) > 0 {
		at := m.stack[len(m.stack)-1]
		m.stack = m.stack[:len(m.stack)-1]
		node := &m.p.nodes[at]
		for i := range node.edges {
			e := &node.edges[i]
			if e.gap > 0 && path != nil && m.id.ts-path.ev.ts >= e.gap || !m.eval.eval(e.cond, m.p, path) {
				continue
			}
			switch {
			case e.act == actProceed && m.p.nodes[e.to].kind == stopNode:
				d.stop = true
			case e.act == actProceed:
				m.stack = append(m.stack, e.to)
			default:
				if e.act == actIgnore && e.to == n {
					d.stays, d.self = true, int32(len(m.arena))-d.lo
				}
				m.arena = append(m.arena, open{act: e.act, to: e.to, stage: node.stage, ahead: false})
			}
		}
	}
	d.hi = int32(len(m.arena))
	m.lookAhead(d, path)
	if d.stop {
		d.stays = false
	}
	if plain {
		m.cached[n] = d
	}
	return d
}

// lookAhead finds the TAKE edges that complete a match although the run stays open.
// Conditions see the path without the event.
func (m *Matcher[T]) lookAhead(d decision, path *link[T]) {
	for i := d.lo; i < d.hi; i++ {
		o := &m.arena[i]
		if o.act != actTake || m.p.nodes[o.to].kind == finalNode {
			continue
		}
		m.stack = append(m.stack[:0], o.to)
		for len(m.stack) > 0 && !o.ahead {
			node := &m.p.nodes[m.stack[len(m.stack)-1]]
			m.stack = m.stack[:len(m.stack)-1]
			for j := range node.edges {
				e := &node.edges[j]
				if e.act != actProceed || !m.eval.eval(e.cond, m.p, path) {
					continue
				}
				if m.p.nodes[e.to].kind == finalNode {
					o.ahead = true
					break
				}
				m.stack = append(m.stack, e.to)
			}
		}
	}
}

// apply carries a decision out: new runs go to born, completed ones to done.
func (m *Matcher[T]) apply(r *run[T], d decision, entry bool) {
	mark := len(m.born)
	width := uint64(math.MaxUint64)
	if !entry {
		width = r.width
	}
	width /= uint64(max(d.hi-d.lo, 1))
	for i := d.lo; i < d.hi; i++ {
		o := m.arena[i]
		next := run[T]{path: r.path, start: r.start, node: o.to, matched: r.matched, ord: r.ord + uint64(i-d.lo)*width, width: width}
		if o.act == actIgnore {
			if entry {
				continue
			}
			if o.to == r.node && d.stays && !m.p.exact() {
				continue // it has not been taken out
			}
		} else if final := m.p.nodes[o.to].kind == finalNode; !m.extend(&next, o.stage, entry, final) {
			continue
		}
		if m.p.nodes[o.to].kind == finalNode {
			m.done = append(m.done, next)
			continue
		}
		if o.ahead {
			next.matched = true
			m.done = append(m.done, next)
		}
		m.thinned(&next)
		m.born = append(m.born, next)
	}
	if d.stop {
		clear(m.born[mark:])
		m.born = m.born[:mark]
	}
}

// extend lets a run accept the event in hand into a stage; false if it is as long
// as a run may be. final says that it is complete then.
func (m *Matcher[T]) extend(r *run[T], stage uint16, entry, final bool) bool {
	var l *link[T]
	switch {
	case final && m.p.skip.Kind == NoSkip:
		l = m.passing()
	case entry && m.rec == nil:
		l = m.withRecord()
	default:
		if m.rec == nil {
			m.rec = &record[T]{ts: m.id.ts, num: m.id.num, val: *m.eval.val}
		}
		l = &link[T]{ev: m.rec}
	}
	l.prev, l.stage, l.depth = r.path, stage, 1
	if entry {
		r.start = m.id
		m.stats.Started++
	} else if l.depth = r.path.depth + 1; int(l.depth) > m.p.opts.limits.Length {
		m.stats.Overflowed++
		return false
	}
	if l.ev != &m.last {
		m.p.fold(l)
	}
	r.path, r.matched = l, false
	return true
}

// withRecord makes the record of the event in hand and a link to it in one piece: for
// links that keep nothing else alive for long.
func (m *Matcher[T]) withRecord() *link[T] {
	first := &struct {
		link link[T]
		rec  record[T]
	}{}
	m.rec = &first.rec
	m.rec.ts, m.rec.num, m.rec.val = m.id.ts, m.id.num, *m.eval.val
	first.link.ev = m.rec
	return &first.link
}

// passing returns a link to the event in hand that lasts until the matches are emitted.
func (m *Matcher[T]) passing() *link[T] {
	if m.used == len(m.spare) {
		m.spare = append(m.spare, &link[T]{})
	}
	if m.used == 0 {
		m.last = record[T]{ts: m.id.ts, num: m.id.num, val: *m.eval.val}
	}
	l := m.spare[m.used]
	m.used++
	l.ev = &m.last
	return l
}

// release lets go of what passing has returned.
func (m *Matcher[T]) release() {
	if m.used == 0 {
		return
	}
	for _, l := range m.spare[:m.used] {
		*l = link[T]{}
	}
	if len(m.spare) > maxSpare {
		m.spare = nil
	}
	m.used, m.last = 0, record[T]{}
}

// maxSpare bounds the links that are kept for matches to come.
const maxSpare = 1024

// fold gives a link the aggregates up to it.
func (p *Program[T]) fold(l *link[T]) {
	if l.prev != nil {
		l.aggs = l.prev.aggs
	}
	if p.aggs == nil || len(p.stages[l.stage].aggs) == 0 {
		return
	}
	aggs := make([]AggValue, len(p.aggs))
	copy(aggs, l.aggs)
	for _, slot := range p.stages[l.stage].aggs {
		aggs[slot] = p.aggs[slot].fold(aggs[slot], &l.ev.val)
	}
	l.aggs = aggs
}
