package operators

import (
	"errors"
	"fmt"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/window"
)

// SourceSpec describes a source operator.
type SourceSpec[T any] struct {
	UID    string
	Source connectors.Source[T]
	// Strategy makes watermarks. ProcessingTime instead takes the time of
	// arrival for the event time.
	Strategy       window.Strategy
	ProcessingTime bool
	// Time returns a record's event time; nil takes the source's timestamp.
	Time func(T) time.Time
	// OnBad says what happens to records that cannot be decoded and, unless it is to
	// fail, to those for which Time panics; OnFuture to those further ahead of the wall
	// clock than the strategy allows.
	OnBad, OnFuture ErrorPolicy
	// Letters is needed where one of the policies is to send dead letters.
	Letters Letters[T]
	Limits  connectors.Limits
	// EveryRecord sends a watermark after every record that moved it, instead of
	// once per run of records; slower, but independent of how records arrive.
	EveryRecord bool
	// Retries, when set, is the job's retry stream, from which the source takes back
	// the records that it could not decode.
	Retries connectors.Source[Retry]
	// Follow makes the source end when all others of the job have and it has handed
	// over what there is.
	Follow bool
}

// watermarkEvery bounds how often a busy source sends a watermark, in nanoseconds.
const watermarkEvery = 2_000_000

// runOnEvery is how often the watermark of a quiet split that runs on with the wall
// clock is moved, in nanoseconds.
const runOnEvery = 50_000_000

// SourceStatus says what a source subtask knows after a poll.
type SourceStatus struct {
	// More: records are ready; poll again.
	More bool
	// Due is the wall time at which to poll again unless woken; MaxTime: never.
	Due base.Timestamp
	// Ended: all splits are at their end.
	Ended bool
}

// source is a sourceHead of any type.
type source interface {
	open(Restore) error
	poll() SourceStatus
	states() []SplitState
	close() error
}

// Poll reads from the sources of the subtask; it must have one.
func (s *Subtask) Poll() (st SourceStatus, err error) {
	defer s.guard(&err)
	st = s.src.poll()
	s.cur = nil
	return st, s.Err()
}

// HasSource reports whether the subtask reads a source.
func (s *Subtask) HasSource() bool { return s.src != nil }

// sourceHead reads the splits that fall to one subtask.
type sourceHead[T any] struct {
	s    *Subtask
	spec SourceSpec[T]
	op   int32
	out  func(*base.Meta, *T)
	// bad and future apply the two policies; back reads what is to be tried again.
	bad, future *Refuser[T]
	back        *takeBack[T]
	// ended: all splits are at their end, and the other subtasks know.
	ended bool
	// tryTime is spec.Time where a policy takes its panics; nil elsewhere.
	tryTime func(T) (base.Timestamp, error)

	splits []*sourceSplit[T]
	next   int // the split to poll first
	comb   *window.Combiner
	idle   bool
	buf    connectors.Records[T]
	// pending is the combined watermark not sent yet; sentAt when the last was.
	pending base.Timestamp
	sentAt  int64
}

type sourceSplit[T any] struct {
	id       string
	origin   uint64
	reader   connectors.Reader[T]
	tracker  window.Tracker
	mark     base.Timestamp // the highest watermark that the source gave itself
	done     bool
	idle     bool
	lastSeen int64 // monotonic time of the last record
	state    SplitState
}

// SourceHead makes the subtask read a source and hand its records to out.
func SourceHead[T any](s *Subtask, spec SourceSpec[T], out Consumer[T]) {
	h := &sourceHead[T]{s: s, spec: spec, out: out.One, pending: base.MinTime}
	h.op = s.operator(spec.UID)
	h.bad, h.future = sourceRefusers(s, h.op, &spec)
	h.guardTime()
	if spec.Retries != nil {
		h.back = &takeBack[T]{h: h}
	}
	if spec.Follow {
		s.Env.Sources.wait(s.Env.Wake)
	} else {
		s.Env.Sources.join()
	}
	s.src = h
}

// open lists the splits and opens those of this subtask: every Parallelism-th in
// the order of their IDs.
func (h *sourceHead[T]) open(r Restore) error {
	env := &h.s.Env
	splits, err := h.spec.Source.Splits(env.Ctx)
	if err != nil {
		return fmt.Errorf("source %s: list splits: %w", h.spec.UID, err)
	}
	if err := h.checkKnown(r, splits); err != nil {
		return err
	}
	for i, sp := range splits {
		if i%env.Parallelism != env.Index {
			continue
		}
		if err := h.openSplit(r, sp); err != nil {
			return fmt.Errorf("source %s: open split %s: %w", h.spec.UID, sp.ID, err)
		}
	}
	if h.back != nil {
		if err := h.back.open(r); err != nil {
			return fmt.Errorf("source %s: open the retry stream: %w", h.spec.UID, err)
		}
	}
	crash.At(crash.RecAfterSeek)
	h.comb = window.NewCombiner(len(h.splits))
	for i, sp := range h.splits {
		if w := sp.tracker.Watermark(); w > base.MinTime {
			h.note(h.comb.Update(i, w))
		}
		if sp.done {
			h.note(h.comb.Update(i, base.MaxTime))
		}
	}
	return nil
}

// checkKnown refuses to go on without a split that was read before: its records
// would be lost.
func (h *sourceHead[T]) checkKnown(r Restore, splits []connectors.Split) error {
	known := map[string]bool{}
	for _, sp := range splits {
		known[sp.ID] = true
	}
	for _, st := range r.Splits {
		if st.Source == h.spec.UID && !st.Done && !known[st.Split] {
			return base.Fatal(&base.Error{
				Code: "WEIR-0401", What: fmt.Sprintf("split %s was read up to position %d and is gone", st.Split, st.Offset),
				Where: "source " + h.spec.UID,
				Next:  "bring the split back, or give the source a new name to start afresh",
			})
		}
	}
	return nil
}

func (h *sourceHead[T]) openSplit(r Restore, sp connectors.Split) error {
	env := &h.s.Env
	st, ok := r.Find(h.spec.UID, sp.ID)
	if !ok {
		st = SplitState{Source: h.spec.UID, Split: sp.ID, Watermark: base.MinTime}
	}
	split := &sourceSplit[T]{
		id: sp.ID, origin: base.HashString(h.spec.UID + "/" + sp.ID), done: st.Done, state: st,
		tracker:  h.spec.Strategy.Restore(window.TrackerState{Watermark: st.Watermark}, env.Clock.Now()),
		lastSeen: env.Clock.Mono(), mark: st.Watermark,
	}
	h.splits = append(h.splits, split)
	env.Splits.add(split.origin, h.spec.UID, sp.ID)
	if split.done {
		return nil
	}
	pos := connectors.Position{Started: st.Started, Offset: st.Offset, Identity: st.Identity}
	rd, err := h.spec.Source.Open(env.Ctx, sp, pos, connectors.ReaderEnv{Wake: env.Wake, Clock: env.Clock, Limits: h.spec.Limits})
	if err != nil {
		if errors.Is(err, connectors.ErrPositionLost) || errors.Is(err, connectors.ErrIdentity) {
			return base.Fatal(err)
		}
		return err
	}
	split.reader = rd
	return nil
}

// poll reads at most one batch of each split.
func (h *sourceHead[T]) poll() SourceStatus {
	st := SourceStatus{Due: base.MaxTime}
	now, mono := h.s.Env.Clock.Now(), h.s.Env.Clock.Mono()
	open, lag := 0, int64(0)
	for range h.splits {
		i := h.next
		h.next = (h.next + 1) % len(h.splits)
		sp := h.splits[i]
		if sp.done {
			continue
		}
		if !h.pollSplit(i, sp, now, mono, &st) {
			return st
		}
		// A split may end in this very poll, and nothing wakes the task after
		// the last one.
		if sp.done {
			continue
		}
		open++
		if l := sp.reader.Lag(); l < 0 || lag < 0 {
			lag = -1
		} else {
			lag += l
		}
	}
	h.s.Env.Stats.Lag.Store(lag)
	if h.back != nil && !h.back.poll(&st) {
		return st
	}
	if h.atEnd(open, lag, &st) {
		h.emit(true)
		h.end()
		st.Ended = true
		return st
	}
	h.emit(!st.More)
	h.checkIdle()
	return st
}

// atEnd says that nothing is left to read: open splits are there, with so many records
// that wait.
func (h *sourceHead[T]) atEnd(open int, lag int64, st *SourceStatus) bool {
	if h.spec.Follow && open > 0 {
		if !h.s.Env.Sources.none() {
			return false
		}
		if lag < 0 { // not known yet: nothing may come that tells
			st.Due = min(st.Due, base.AddTime(h.s.Env.Clock.Now(), runOnEvery))
		}
		return lag == 0 && !st.More
	}
	return open == 0 && (h.back == nil || h.back.drained(st))
}

// end lets go of what is not read any more and tells the subtasks that wait for it.
func (h *sourceHead[T]) end() {
	if h.ended {
		return
	}
	h.ended = true
	if h.back != nil {
		h.s.Fail(h.back.close())
	}
	if !h.spec.Follow {
		h.s.Env.Sources.leave()
	}
}

// pollSplit reads a batch of one split; false means that the subtask failed.
func (h *sourceHead[T]) pollSplit(i int, sp *sourceSplit[T], now, mono int64, st *SourceStatus) bool {
	h.buf.Reset()
	p, err := sp.reader.Poll(&h.buf, MaxBatch)
	if err != nil {
		if errors.Is(err, connectors.ErrPositionLost) || errors.Is(err, connectors.ErrIdentity) {
			err = base.Fatal(err)
		}
		h.s.Fail(fmt.Errorf("source %s, split %s: %w", h.spec.UID, sp.id, err))
		return false
	}
	if !h.hand(i, sp, now) {
		return false
	}
	if len(h.buf.Values) > 0 {
		sp.lastSeen, sp.idle = mono, false
	}
	switch {
	case p.End:
		sp.done = true
		h.note(h.comb.Update(i, base.MaxTime))
	case p.More:
		st.More = true
	default:
		h.drained(i, sp, now, mono, p, st)
	}
	return true
}

// drained handles a split that has no record ready: its watermark may run on
// with the clock, and after a while it becomes idle.
func (h *sourceHead[T]) drained(i int, sp *sourceSplit[T], now, mono int64, p connectors.Poll, st *SourceStatus) {
	if p.Due > 0 {
		st.Due = min(st.Due, p.Due)
	}
	if w := sp.tracker.Advance(now); w > base.MinTime && !sp.idle {
		h.note(h.comb.Update(i, w))
		if h.spec.Strategy.RunsOn() {
			// It follows the clock, so it must be looked at now and then, and it
			// holds nobody up.
			st.Due = min(st.Due, base.AddTime(now, runOnEvery))
			return
		}
	}
	left := int64(h.spec.Strategy.IdleAfter()) - (mono - sp.lastSeen)
	switch {
	case sp.idle:
	case left <= 0:
		sp.idle = true
		h.note(h.comb.SetIdle(i, true))
	default:
		st.Due = min(st.Due, base.AddTime(now, left))
	}
}

// hand passes the records in the buffer on.
func (h *sourceHead[T]) hand(i int, sp *sourceSplit[T], now int64) bool {
	s := h.s
	var m base.Meta
	mark := h.marks(i, -1, 0)
	for r := range h.buf.Values {
		s.at = h.op
		v := &h.buf.Values[r]
		m = base.Meta{Ingest: now, Origin: base.Origin{Split: sp.origin, Pos: h.buf.Pos[r]}}
		if r < len(h.buf.Headers) {
			m.Headers = h.buf.Headers[r]
		}
		s.cur = &m
		if !h.timed(&m, v, h.buf.Times[r], now) {
			s.at = h.op
		} else if !sp.tracker.Observe(m.Time, now) {
			s.Env.Stats.FutureRecords.Add(1)
			h.refuseFuture(&m, v)
		} else {
			h.out(&m, v)
		}
		if s.err != nil {
			return false
		}
		if h.spec.EveryRecord {
			h.note(h.comb.Update(i, sp.tracker.Watermark()))
			h.emit(true)
		}
		mark = h.marks(i, r, mark)
	}
	s.Env.Stats.RecordsIn.Add(int64(len(h.buf.Values)))
	for _, b := range h.buf.Bad {
		m = base.Meta{Time: b.Time, Ingest: now, Origin: base.Origin{Split: sp.origin, Pos: b.Pos}, Headers: b.Headers}
		s.at = h.op
		h.refuseBad(&m, &b)
	}
	if len(h.buf.Values) > 0 {
		h.note(h.comb.Update(i, sp.tracker.Watermark()))
	}
	return s.err == nil
}

// marks sends the explicit watermarks that follow record r.
func (h *sourceHead[T]) marks(i, r, mark int) int {
	for mark < len(h.buf.Marks) && h.buf.Marks[mark].After <= r+1 {
		w := h.buf.Marks[mark].Watermark
		h.splits[i].mark = max(h.splits[i].mark, w)
		h.note(h.comb.Update(i, w))
		h.emit(true)
		mark++
	}
	return mark
}

func (h *sourceHead[T]) timeOf(v *T, t, now base.Timestamp) base.Timestamp {
	switch {
	case h.spec.ProcessingTime:
		return now
	case h.spec.Time != nil:
		return h.spec.Time(*v).UnixNano()
	}
	return t
}

// note remembers a combined watermark that moved.
func (h *sourceHead[T]) note(w base.Timestamp, moved bool) {
	if moved {
		h.pending = w
	}
}

// emit sends the pending watermark: always when force is set, else not more
// often than watermarkEvery.
func (h *sourceHead[T]) emit(force bool) {
	if h.pending <= h.s.adv.sent {
		return
	}
	mono := h.s.Env.Clock.Mono()
	if !force && mono-h.sentAt < watermarkEvery {
		return
	}
	h.sentAt = mono
	// The end of input is announced by End, after everything else.
	if w := h.pending; w != base.MaxTime {
		h.s.Fail(h.s.Watermark(w))
	}
}

func (h *sourceHead[T]) checkIdle() {
	idle := h.comb.Idle()
	if idle && !h.idle {
		h.s.Fail(h.s.MarkIdle())
	}
	h.idle = idle
}

// states returns the positions to be kept in a checkpoint.
func (h *sourceHead[T]) states() []SplitState {
	crash.At(crash.SrcBeforeOffset)
	out := make([]SplitState, 0, len(h.splits))
	for _, sp := range h.splits {
		if sp.reader != nil {
			p := sp.reader.Position()
			sp.state.Started, sp.state.Offset, sp.state.Identity = p.Started, p.Offset, p.Identity
			sp.state.Done = sp.done || p.Done
		}
		sp.state.Watermark = max(sp.tracker.Watermark(), sp.mark)
		out = append(out, sp.state)
	}
	if h.back != nil {
		out = append(out, h.back.states()...)
	}
	crash.At(crash.SrcAfterOffset)
	return out
}

func (h *sourceHead[T]) close() error {
	var first error
	for _, sp := range h.splits {
		if sp.reader != nil {
			if err := sp.reader.Close(); err != nil && first == nil {
				first = err
			}
		}
	}
	if h.back != nil {
		if err := h.back.close(); first == nil {
			first = err
		}
	}
	return first
}
