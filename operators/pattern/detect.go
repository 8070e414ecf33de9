package pattern

import (
	"cmp"
	"slices"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state"
)

// DetectSpec describes a pattern operator over records T by key K, which turns matches
// into R and timed-out runs into TO.
type DetectSpec[K comparable, T, R, TO any] struct {
	UID string
	// Set makes the patterns of one subtask.
	Set func() (*Set[T], error)
	// Key returns a record's key, Keys encodes it, Values encodes records.
	Key    func(T) K
	Keys   *codec.KeyCodec[K]
	Values *codec.Codec[T]
	// Select turns a match of the pattern of that name into records.
	Select func(k K, pattern string, m *Match[T], emit func(R))
	// Timeout does the same for runs that timed out; they are dropped if it is nil.
	Timeout func(k K, pattern string, t *Timeout[T], emit func(TO))
	// Words is what the conditions of patterns that come by Change are made of; nil
	// lets none come. Options are those of such patterns, Changes bounds them.
	Words   *Vocabulary[T]
	Options []Option
	Changes ChangeLimits
	// Less orders records of one key and time; nil keeps the order of arrival.
	Less func(a, b *T) bool
	// Processing makes the clock's time at which a record arrives its time. Nothing
	// waits for a watermark then, and no record is late; Less has no effect.
	Processing bool
	// Cache bounds the keys whose state is kept decoded. Default 65,536.
	Cache int
	// Park bounds the records that wait for the watermark outside the keyed state.
	// Default 262,144.
	Park int
}

// entry is the decoded state of a key.
type entry[K comparable, T any] struct {
	key    K
	hash   uint64
	state  SetKey[T]
	dirty  bool
	stored bool // the table has a value of the key
	behind bool // listed in Detector.behind
	// timer is the earliest timer that the key is known to have; never if none.
	timer int64
	// next is another key of the same hash.
	next *entry[K, T]
}

// arrival is a record that waits for the watermark.
type arrival[K comparable, T any] struct {
	ts   int64
	hash uint64
	key  K
	val  T
}

// number counts what a pattern emits for a key at one time.
type number struct {
	at int64
	n  uint64
}

// Detector is the pattern operator of one subtask.
//
// Keyed state: one blob per key with state (see Set.Append), timers at the ends of
// windows and at records that wait. Decoded keys are written back at barriers and
// when the cache is full. The operator's own snapshot is its watermark by hash range,
// and the patterns that were changed; see Snapshot.
type Detector[K comparable, T, R, TO any] struct {
	s    *operators.Subtask
	op   int32
	hand base.Meta // of what is in hand, for the attribution of errors
	spec DetectSpec[K, T, R, TO]
	set  *Set[T]
	out  func(*base.Meta, *R)
	outs func(*base.Meta, *TO)
	late func(*base.Meta, *T)

	table  *state.Table
	timers *state.Timers
	ints   bool
	onDue  func(*state.Timer) bool
	hash   uint64 // of the UID
	prog   reached
	lates  *base.Figure
	turns  uint64
	// published is the time of the clock when all figures were published last.
	published int64
	// initial are the patterns that Set made, changes what is not as it made it, by the
	// time of the change.
	initial map[string]bool
	changes []changed
	// queued are the changes that the next barrier makes.
	queued  []Change
	refused *base.Figure

	cache   map[uint64]*entry[K, T]
	cached  int
	behind  []*entry[K, T]
	pending []arrival[K, T]
	sorted  bool
	done    int // of pending
	sent    int64

	// numbers counts, by key and pattern hashed, what has been emitted at one time since
	// the last watermark; no emission of that time comes after it.
	numbers map[uint64]number
	// clock is the time of the clock when the turn began.
	clock int64
	// from is the origin of the record in hand, in processing time.
	from base.Origin

	// What is in hand.
	cur    *entry[K, T]
	byTime uint64 // of the pattern and of whether time completed the match
	at     int64
	meta   base.Meta
	r      R
	to     TO
	emit   func(R)
	emits  func(TO)
	sink   Sink[T]
	enc    []byte
	blob   []byte
}

// Detect returns the consumer of a pattern operator, and the operator. It must be
// bound in a task with keyed state, as a reader of the exchange by key. Matches go to
// out, timed-out runs to timeouts, late records to late. What is emitted has the time
// of the record that completed it, or of the end of the window.
func Detect[K comparable, T, R, TO any](s *operators.Subtask, spec DetectSpec[K, T, R, TO], out operators.Consumer[R], timeouts operators.Consumer[TO], late operators.Consumer[T]) (operators.Consumer[T], *Detector[K, T, R, TO]) {
	n := &Detector[K, T, R, TO]{
		s: s, op: s.Register(spec.UID), spec: spec, out: out.One, outs: timeouts.One, late: late.One, hash: base.HashString(spec.UID),
		cache: map[uint64]*entry[K, T]{}, numbers: map[uint64]number{}, sorted: true, sent: base.MinTime,
		ints: spec.Keys.Kind() == codec.KeyUint64, prog: reached{w: base.MinTime, schema: base.HashString(spec.Keys.Schema().String())},
	}
	n.spec.Cache, n.spec.Park = cmp.Or(spec.Cache, 1<<16), cmp.Or(spec.Park, 1<<18)
	n.onDue, n.sink = n.timer, n.found
	n.emit = func(r R) {
		n.stamp()
		n.r = r
		n.out(&n.meta, &n.r)
	}
	n.emits = func(t TO) {
		n.stamp()
		n.to = t
		n.outs(&n.meta, &n.to)
	}
	if err := n.declare(); err != nil {
		s.Fail(&base.Error{Code: "WEIR-0709", What: "the pattern operator cannot be set up", Where: "operator " + spec.UID, Cause: err, Next: "correct the pattern"})
		return operators.Consumer[T]{One: func(*base.Meta, *T) {}}, n
	}
	s.Add(n)
	if spec.Processing {
		return operators.Consumer[T]{One: n.now}, n
	}
	return operators.Consumer[T]{One: n.one}, n
}

// StateName and StateSchema name the keyed state of the operator, for the plan.
const (
	StateName   = "runs"
	StateSchema = "pattern runs 1"
)

func (n *Detector[K, T, R, TO]) declare() error {
	var err error
	if n.set, err = n.spec.Set(); err != nil {
		return err
	}
	n.set.out.Want = n.spec.Timeout != nil
	n.initial = map[string]bool{}
	for _, id := range n.set.Names() {
		n.initial[id] = true
	}
	n.lates = n.s.Env.Stats.Figures.New("pattern_late_records_total", n.spec.UID, "")
	n.publish(true)
	kind := state.KeyBytes
	if n.ints {
		kind = state.KeyUint64
	}
	b := n.s.Env.Backend
	b.SetKeyKind(kind)
	g, err := b.Group(state.Decl{Operator: n.spec.UID, Name: StateName, Key: state.KeyBytes, Schema: StateSchema + " of " + n.spec.Values.Schema().String()})
	if err != nil {
		return err
	}
	n.table = g.Namespace(0)
	n.timers, err = b.Timers(n.spec.UID, kind)
	return err
}

// UID implements operators.Node.
func (n *Detector[K, T, R, TO]) UID() string { return n.spec.UID }

// one takes a record in event time.
func (n *Detector[K, T, R, TO]) one(m *base.Meta, v *T) {
	n.s.InHand(n.op, m)
	if m.Time < n.prog.of(m.Hash) {
		n.s.Env.Stats.LateRecords.Add(1)
		n.lates.Add(1)
		n.late(m, v)
		return
	}
	if k := len(n.pending); k > n.done && n.pending[k-1].ts >= m.Time {
		n.sorted = n.sorted && n.pending[k-1].ts == m.Time && n.spec.Less == nil
	}
	n.pending = append(n.pending, arrival[K, T]{m.Time, m.Hash, n.spec.Key(*v), *v})
	if len(n.pending)-n.done > n.spec.Park {
		n.park()
	}
}

// now takes a record in processing time.
func (n *Detector[K, T, R, TO]) now(m *base.Meta, v *T) {
	n.s.InHand(n.op, m)
	e := n.open(m.Hash, n.spec.Key(*v))
	at := n.s.Env.Clock.Now()
	n.meta.Time, n.from = m.Time, m.Origin
	clear(n.numbers)
	n.s.Fail(n.set.Process(&e.state, at, at, v, n.sink))
	n.close(e)
}

// checkEvery is how much is done between two looks at the clock.
const checkEvery = 64

// Advance implements operators.Watermarker: it takes the records before w, in the
// order of their times, and ends the windows that end up to w.
func (n *Detector[K, T, R, TO]) Advance(w base.Timestamp, deadline int64) (done bool) {
	if n.spec.Processing {
		n.prog.reach(w)
		n.sent = w
		n.publish(true)
		return true
	}
	n.prog.reach(w)
	n.clock = n.s.Env.Clock.Now()
	n.sort()
	for n.done < len(n.pending) && (n.pending[n.done].ts < w || w == base.MaxTime) {
		n.arrive(&n.pending[n.done], w)
		n.done++
		if n.s.Err() != nil || n.done%checkEvery == 0 && n.s.Env.Clock.Mono() >= deadline {
			return false
		}
	}
	left := copy(n.pending, n.pending[n.done:])
	clear(n.pending[left:])
	n.pending, n.done = n.pending[:left], 0
	n.catchUp(w)
	for !n.timers.Due(state.EventTimer, w, checkEvery, n.onDue) && n.s.Err() == nil {
		if n.s.Env.Clock.Mono() >= deadline {
			return false
		}
	}
	n.sent = w
	clear(n.numbers)
	n.turns++
	if now := n.s.Env.Clock.Mono(); w == base.MaxTime || n.turns%publishTurns == 0 || now-n.published >= publishEvery {
		n.published = now
		n.publish(true)
	} else {
		n.publish(false)
	}
	return true
}

// Between two looks at the figures of patterns that share runs, and of those of many
// patterns, as many watermarks go by, or as much time in nanoseconds.
const (
	publishTurns = 256
	publishEvery = int64(200e6)
)

// fewTouched is how many patterns have their figures published at every watermark.
const fewTouched = 16

func (n *Detector[K, T, R, TO]) publish(all bool) {
	if !all && len(n.set.touched) > fewTouched {
		return
	}
	n.set.publish(&n.s.Env.Stats.Figures, n.spec.UID, all)
}

// sort puts the records that wait into order.
func (n *Detector[K, T, R, TO]) sort() {
	if n.sorted {
		return
	}
	less := n.spec.Less
	slices.SortStableFunc(n.pending[n.done:], func(a, b arrival[K, T]) int {
		switch {
		case a.ts != b.ts:
			return cmp.Compare(a.ts, b.ts)
		case less == nil || a.key != b.key:
			return 0
		case less(&a.val, &b.val):
			return -1
		case less(&b.val, &a.val):
			return 1
		}
		return 0
	})
	n.sorted = true
}

// arrive takes a record whose turn has come. A key that has records in its state takes
// them in one order with it, later.
func (n *Detector[K, T, R, TO]) arrive(a *arrival[K, T], w int64) {
	e := n.open(a.hash, a.key)
	if len(e.state.queue) > 0 {
		e.state.queue = enqueue(e.state.queue, a.ts, &a.val)
		if !e.behind {
			e.behind = true
			n.behind = append(n.behind, e)
		}
		e.dirty = true
		return
	}
	n.hold(a.hash, a.ts)
	n.s.Fail(n.set.Process(&e.state, a.ts, n.clock, &a.val, n.sink))
	n.close(e)
}

// hold says that the operator works on a record of that key and time, whose origin is
// not known any more, for the attribution of errors and panics.
func (n *Detector[K, T, R, TO]) hold(hash uint64, ts int64) {
	n.hand = base.Meta{Time: ts, Hash: hash}
	n.s.InHand(n.op, &n.hand)
}

// catchUp takes the records before w that the states of keys hold.
func (n *Detector[K, T, R, TO]) catchUp(w int64) {
	for _, e := range n.behind {
		e.behind = false
		n.cur = e
		n.drain(e, w)
		n.close(e)
	}
	clear(n.behind)
	n.behind = n.behind[:0]
}

func (n *Detector[K, T, R, TO]) drain(e *entry[K, T], w int64) {
	upTo := w
	if w < base.MaxTime {
		upTo--
	}
	k := dueOf(e.state.queue, upTo, n.spec.Less)
	for i := range k {
		q := &e.state.queue[i]
		n.hold(e.hash, q.ts)
		n.s.Fail(n.set.Process(&e.state, q.ts, n.clock, &q.val, n.sink))
		if n.s.Err() != nil {
			return
		}
	}
	if k > 0 {
		e.state.queue = slices.Delete(e.state.queue, 0, k)
		e.dirty = true
	}
}

// timer takes a timer that has fired.
func (n *Detector[K, T, R, TO]) timer(t *state.Timer) bool {
	k, err := n.decodeKey(t.Key)
	if err != nil {
		n.s.Fail(n.stateError(err))
		return false
	}
	e := n.open(t.Hash, k)
	if e.timer <= t.At {
		e.timer = never
	}
	n.s.Env.Stats.TimersFired.Add(1)
	if t.Kind == state.ProcessingTimer {
		n.meta.Time = n.processingTime(t.At)
		n.hold(e.hash, t.At)
		n.s.Fail(n.set.Advance(&e.state, t.At, n.sink))
	} else {
		w := n.prog.w
		n.drain(e, w)
		n.hold(e.hash, t.At)
		n.s.Fail(n.set.Advance(&e.state, w, n.sink))
	}
	n.close(e)
	return n.s.Err() == nil
}

// processingTime is the event time of what a window of processing time emits.
func (n *Detector[K, T, R, TO]) processingTime(at int64) int64 {
	if n.sent > base.MinTime && n.sent < base.MaxTime {
		return n.sent
	}
	return at
}

// ProcessingTime implements operators.ProcessingTimer.
func (n *Detector[K, T, R, TO]) ProcessingTime(now base.Timestamp) base.Timestamp {
	for !n.timers.Due(state.ProcessingTimer, now, checkEvery, n.onDue) && n.s.Err() == nil {
	}
	n.publish(true)
	if t, ok := n.timers.Next(state.ProcessingTimer); ok {
		return t
	}
	return base.MaxTime
}

// found hands on what a pattern has found for the key in hand.
func (n *Detector[K, T, R, TO]) found(id string, out *Output[T]) {
	k := n.cur.key
	for i := range out.Matches {
		m := &out.Matches[i]
		n.begin(m.At, m.ByTime)
		n.hold(n.cur.hash, m.At)
		n.spec.Select(k, id, m, n.emit)
	}
	for i := range out.Timeouts {
		t := &out.Timeouts[i]
		n.begin(t.Ended, true)
		n.hold(n.cur.hash, t.Ended)
		n.spec.Timeout(k, id, t, n.emits)
	}
}

// begin sets the metadata of what is emitted next. Its origin is the same in every
// replay: the operator, the time, the key, the pattern, and a running number.
func (n *Detector[K, T, R, TO]) begin(at int64, byTime bool) {
	n.at, n.byTime = at, base.Mix(n.set.from.hash, 0)
	if byTime {
		n.byTime = base.Mix(n.set.from.hash, 1)
	}
	n.meta.Hash = n.cur.hash
	n.meta.Origin = base.Origin{Split: n.hash, Pos: uint64(at)}
	switch {
	case !n.spec.Processing:
		n.meta.Time = max(at, n.sent)
	case !byTime:
		n.meta.Origin.Pos = base.Mix(base.Mix(n.from.Split, n.from.Pos), n.from.Emit)
	}
}

func (n *Detector[K, T, R, TO]) stamp() {
	id := base.Mix(n.cur.hash, n.byTime)
	c := n.numbers[id]
	if c.at != n.at {
		c = number{at: n.at}
	}
	c.n++
	n.numbers[id] = c
	n.meta.Origin.Emit = base.Mix(id, c.n)
}
