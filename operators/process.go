package operators

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/state"
)

// KeyedProcess is a function with state and timers over a keyed stream: the
// general stateful operator. Every subtask has an instance of its own, used by
// one goroutine. What an instance keeps in fields other than state handles is
// shared by all keys of the subtask, is in no checkpoint, and is gone after a
// restart.
type KeyedProcess[K comparable, T, Out any] interface {
	// Declare declares all states, by ValueState, ListState and MapState, and
	// keeps the handles. It runs when the plan is built and again in every
	// subtask, and must declare the same every time.
	Declare(d *Declarer)
	// OnRecord takes one record. State and timers are those of its key. An error
	// falls under the operator's error policy; what the call has changed in the
	// state by then stays changed.
	OnRecord(c *ProcessContext[K, Out], v T) error
	// OnTimer takes one timer that has fired. State and timers are those of the
	// key that registered it. An error falls under the error policy.
	OnTimer(c *ProcessContext[K, Out], t Timer) error
}

// NoTimers can be embedded in a KeyedProcess that registers no timers.
type NoTimers[K comparable, Out any] struct{}

// OnTimer is never called.
func (NoTimers[K, Out]) OnTimer(*ProcessContext[K, Out], Timer) error { return nil }

// NoState can be embedded in a KeyedProcess that declares no state.
type NoState struct{}

// Declare declares nothing.
func (NoState) Declare(*Declarer) {}

// TimerKind tells timers in event time from timers in processing time.
type TimerKind = state.TimerKind

// Timer is a timer of a key that has fired.
type Timer struct {
	// Time is the time it was registered for, in UTC.
	Time time.Time
	// Kind says whether that was event time or processing time.
	Kind TimerKind
}

// ProcessSpec describes a process operator.
type ProcessSpec[K comparable, T, Out any] struct {
	UID string
	// Key returns a record's key, Keys encodes it.
	Key  func(T) K
	Keys *codec.KeyCodec[K]
	// New makes the function of one subtask.
	New func() KeyedProcess[K, T, Out]
	// OnError is the policy for errors of OnRecord and OnTimer, and, unless it is to
	// fail, for their panics. A call that fails under such a policy emits nothing.
	OnError ErrorPolicy
	// Letters is needed where the policy is to send dead letters.
	Letters Letters[T]
}

// process runs a KeyedProcess in one subtask.
type process[K comparable, T, Out any] struct {
	processCore
	spec ProcessSpec[K, T, Out]
	fn   KeyedProcess[K, T, Out]
	keys keyForm[K]
	ctx  ProcessContext[K, Out]
	// arena holds the encoding of the key in hand.
	arena []byte
	// ahead holds the keys of a batch whose state is loaded ahead.
	ahead keyBatch
	// refuser takes records and timers that fail, and held what a call emits until it
	// has not; nil with the policy to fail.
	refuser *Refuser[T]
	held    []sender
}

// processCore is the part of a process operator without its types.
type processCore struct {
	s      *Subtask
	stage  *advance // whose event time the operator has
	uid    string
	op     int32
	hash   uint64 // of the UID
	schema uint64 // hash of the key's schema
	decl   *Declarer
	timers *state.Timers
	onDue  func(*state.Timer) bool
	// key is the key of the call under way; ints says that it is an integer.
	key  stateKey
	ints bool
	// prog is how far event time has come: the same for all keys, but for a while
	// after a restore from subtasks that had come unequally far.
	prog progress

	// now is the processing time by which state expires; it is read as often as
	// timers are looked at.
	now base.Timestamp
	// firing is set while timers of a kind fire; firedAt is the time of the one
	// in hand.
	firing  bool
	kind    TimerKind
	firedAt base.Timestamp
	// past says that a record's call registered a timer for a time that has come.
	past bool
	// ending is set from the end of input on; again then counts, by hash, the
	// timers that timers register.
	ending bool
	again  []int32
}

// Process returns the consumer of a process operator. It must be bound in a task
// with keyed state, as a reader of the exchange by key.
//
// Keyed state: what the function declares, and its timers. The operator's own
// snapshot is its watermark by hash range.
func Process[K comparable, T, Out any](s *Subtask, spec ProcessSpec[K, T, Out], out Consumer[Out], sides ...Side) Consumer[T] {
	n := &process[K, T, Out]{spec: spec, fn: spec.New(), keys: newKeyForm(spec.Keys)}
	n.processCore = processCore{
		s: s, stage: s.stage, uid: spec.UID, op: s.operator(spec.UID), hash: base.HashString(spec.UID), prog: progress{w: base.MinTime},
		ints: n.keys.ints, schema: base.HashString(spec.Keys.Schema().String()),
	}
	n.ctx = ProcessContext[K, Out]{core: &n.processCore, out: out.One, sides: sides}
	if spec.OnError != connectors.FailOnBad {
		n.guard()
	}
	n.onDue = n.timer
	s.Env.Backend.SetKeyKind(n.keys.kind())
	n.decl = openDeclarer(spec.UID, s.Env.Backend)
	n.fn.Declare(n.decl)
	err := n.decl.err
	if err == nil {
		n.timers, err = s.Env.Backend.Timers(spec.UID, n.keys.kind())
	}
	if err != nil {
		s.Fail(declareError(spec.UID, err))
		return Consumer[T]{One: func(*base.Meta, *T) {}}
	}
	s.Add(n)
	if len(n.decl.values) == 0 {
		return Consumer[T]{One: n.one}
	}
	return Consumer[T]{One: n.one, Batch: n.batch}
}

// UID implements Node.
func (n *processCore) UID() string { return n.uid }

// Snapshot implements Snapshotter: the schema of the keys, and how far event time
// had come.
func (n *processCore) Snapshot() []byte {
	return n.prog.snapshot(binary.LittleEndian.AppendUint64(nil, n.schema), n.s.Env.Range)
}

// Restore implements Snapshotter. It refuses state of keys of another type, which
// nothing would ever find again.
func (n *processCore) Restore(parts [][]byte) error {
	progs := make([][]byte, len(parts))
	for i, p := range parts {
		if len(p) < 8 || binary.LittleEndian.Uint64(p) != n.schema {
			return base.Fatal(&base.Error{
				Code: "WEIR-0708", What: "the checkpoint holds state of keys of another type", Where: "operator " + n.uid,
				Next: "give the stream its old key back, or the operator a new name to start afresh",
			})
		}
		progs[i] = p[8:]
	}
	return n.prog.restore(n.s.Env.Range, progs)
}

// Open implements Opener.
func (n *processCore) Open() error {
	n.now = n.s.Env.Clock.Now()
	n.s.Env.Backend.SetTime(n.prog.w, n.now)
	return nil
}

// one takes a record. A watermark that still fires timers, in short turns, is
// completed first: a record that came after it finds its key's timers fired.
func (n *process[K, T, Out]) one(m *base.Meta, v *T) {
	if !n.caughtUp() {
		return
	}
	n.s.at, n.s.cur = n.op, m
	k := n.spec.Key(*v)
	n.enter(m.Hash, k)
	n.s.Env.Backend.SetRecordTime(m.Time)
	n.ctx.begin(k, *m)
	if n.refuser != nil {
		n.guarded(m, v)
	} else if err := n.fn.OnRecord(&n.ctx, *v); err != nil {
		n.s.bad(m, err)
	}
	n.firePast()
}

// caughtUp completes a watermark that still fires timers; false: the subtask fails.
func (n *processCore) caughtUp() bool {
	if n.stage.running {
		n.s.Fail(n.s.finish(n.stage))
	}
	return n.s.err == nil
}

// batch takes a run of records. Where state has been spilled, what the run needs is
// loaded first, many keys at a time.
func (n *process[K, T, Out]) batch(metas []base.Meta, vals []T) {
	for _, v := range n.decl.values {
		if v.Spilled() {
			n.prefetch(metas, vals)
			break
		}
	}
	for i := range vals {
		if n.one(&metas[i], &vals[i]); n.s.err != nil {
			return
		}
	}
}

func (n *process[K, T, Out]) prefetch(metas []base.Meta, vals []T) {
	a := &n.ahead
	if a.out == nil {
		*a = newKeyBatch()
	}
	a.reset()
	n.s.at = n.op
	for i := range vals {
		n.s.cur = &metas[i]
		a.hashes = append(a.hashes, metas[i].Hash)
		if k := n.spec.Key(vals[i]); n.keys.ints {
			a.us = append(a.us, n.keys.codec.Uint64(k))
		} else {
			a.bs = append(a.bs, n.keys.bytes(&a.arena, k))
		}
	}
	for _, v := range n.decl.values {
		if v.Spilled() {
			v.Prefetch(a.hashes, a.us, a.bs)
		}
	}
}

// firePast fires the timers that a call registered for times that event time had
// reached.
func (n *process[K, T, Out]) firePast() {
	for n.past && n.s.err == nil {
		n.past = false
		n.fire(state.EventTimer, n.prog.w, noDeadline)
	}
}

// enter makes k the key of the call that follows.
func (n *process[K, T, Out]) enter(hash uint64, k K) {
	n.arena = n.arena[:0]
	n.keys.set(&n.key, hash, k, &n.arena)
	n.setKey()
}

// setKey makes n.key current in the backend.
func (n *processCore) setKey() {
	if n.ints {
		n.s.Env.Backend.SetKeyU64(n.key.hash, n.key.u)
		return
	}
	n.s.Env.Backend.SetKey(n.key.hash, n.key.b)
}

// Advance implements Watermarker: it fires the event timers up to w, in the
// order of their times.
func (n *process[K, T, Out]) Advance(w base.Timestamp, deadline int64) (done bool) {
	if w == base.MaxTime && !n.ending {
		n.end()
	}
	n.prog.reach(w)
	return n.fire(state.EventTimer, w, deadline)
}

// ProcessingTime implements ProcessingTimer.
func (n *process[K, T, Out]) ProcessingTime(now base.Timestamp) base.Timestamp {
	deadline := n.s.Env.Clock.Mono() + TurnNanos
	if now == base.MaxTime {
		deadline = noDeadline
	}
	n.now = n.s.Env.Clock.Now()
	n.fire(state.ProcessingTimer, now, deadline)
	n.firePast()
	if t, ok := n.timers.Next(state.ProcessingTimer); ok {
		return t
	}
	return base.MaxTime
}

// end prepares for the end of input: processing time does not go on, so all of
// its timers fire at once, before the event timers and while the records that
// they emit are still on time.
func (n *process[K, T, Out]) end() {
	n.ending, n.again = true, make([]int32, endSlots)
	n.fire(state.ProcessingTimer, base.MaxTime, noDeadline)
}

// Timers may register timers at the end of input too, as a chain of them does,
// but not for ever: keys share endSlots counters of what they register by then,
// and none may exceed maxAgain.
const (
	endSlots = 4096
	maxAgain = 100_000
)

// checkEvery is how much work on timers is done between two looks at the clock.
const checkEvery = 32

// fire fires the timers of one kind up to a time; it stops at the deadline and
// returns false then.
func (n *process[K, T, Out]) fire(kind TimerKind, upTo base.Timestamp, deadline int64) (done bool) {
	n.firing, n.kind = true, kind
	defer func() {
		n.firing = false
		n.s.Env.Backend.SetTime(n.prog.w, n.now)
	}()
	for !n.timers.Due(kind, upTo, checkEvery, n.onDue) && n.s.err == nil {
		if n.s.Env.Clock.Mono() >= deadline {
			return false
		}
	}
	return true
}

// timer calls the function for one timer.
func (n *process[K, T, Out]) timer(t *state.Timer) bool {
	n.s.at, n.firedAt = n.op, t.At
	n.timerTimes(t)
	n.keys.walked(&n.key, t.Hash, t.Key)
	k, err := n.keys.key(&n.key)
	if err != nil {
		n.s.Fail(stateError(n.uid, err))
		return false
	}
	n.enter(t.Hash, k)
	n.ctx.begin(k, base.Meta{
		Time: n.timerTime(t), Hash: t.Hash, Ingest: n.s.Env.Clock.Now(),
		Origin: base.Origin{Split: n.hash, Pos: uint64(t.At), Emit: base.Mix(t.Hash, uint64(t.Kind))},
	})
	n.s.cur = &n.ctx.meta
	n.s.Env.Stats.TimersFired.Add(1)
	fired := Timer{Time: timeOf(t.At), Kind: t.Kind}
	if n.refuser != nil {
		n.guardedTimer(fired, t.At)
	} else if err := n.fn.OnTimer(&n.ctx, fired); err != nil {
		n.s.bad(&n.ctx.meta, timerError(t.At, err))
	}
	return n.s.err == nil
}

func timerError(at base.Timestamp, err error) error {
	return fmt.Errorf("timer at %s: %w", base.FormatTime(at), err)
}

// timerTimes sets the times by which state expires to that of a timer, not to the
// time that made it fire: what the timer finds does not depend on how far event
// time leapt, or how long the job was down.
func (n *processCore) timerTimes(t *state.Timer) {
	b := n.s.Env.Backend
	if t.Kind == state.EventTimer {
		b.SetTime(min(t.At, n.prog.w), n.now)
		b.SetRecordTime(t.At)
		return
	}
	b.SetTime(n.prog.w, min(t.At, n.now))
	b.SetRecordTime(n.prog.w)
}

// timerTime returns the event time of what a timer emits: its own time, or, for
// one in processing time, that of the watermark; never less than what was
// promised downstream.
func (n *processCore) timerTime(t *state.Timer) base.Timestamp {
	w := n.stage.sent
	switch {
	case t.Kind == state.EventTimer && t.At < base.MaxTime:
		return max(t.At, w)
	case w > base.MinTime && w < base.MaxTime:
		return w
	case t.Kind == state.EventTimer:
		return n.s.Env.Clock.Now()
	}
	return t.At
}
