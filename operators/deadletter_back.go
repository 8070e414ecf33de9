package operators

import (
	"errors"
	"fmt"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/window"
)

// takeBack reads the retry stream on behalf of a source, whose task has no inputs: it
// hands over again what the source could not decode. How far it has come is part of
// the source's snapshot, as the positions of its splits are. It leaves event time
// alone.
type takeBack[T any] struct {
	h      *sourceHead[T]
	splits []*backSplit
	buf    connectors.Records[Retry]
}

type backSplit struct {
	id     string
	reader connectors.Reader[Retry] // nil when closed
	state  SplitState
	done   bool
}

// retriesOfSource is what the positions in the retry stream go by in a checkpoint. No
// operator can have such a name.
func retriesOfSource(uid string) string { return uid + "#retries" }

// open opens the splits of the retry stream that fall to the subtask.
func (b *takeBack[T]) open(r Restore) error {
	env := &b.h.s.Env
	splits, err := b.h.spec.Retries.Splits(env.Ctx)
	if err != nil {
		return err
	}
	for i, sp := range splits {
		if i%env.Parallelism != env.Index {
			continue
		}
		name := retriesOfSource(b.h.spec.UID)
		st, ok := r.Find(name, sp.ID)
		if !ok {
			st = SplitState{Source: name, Split: sp.ID, Watermark: base.MinTime}
		}
		split := &backSplit{id: sp.ID, state: st, done: st.Done}
		b.splits = append(b.splits, split)
		if st.Done {
			continue
		}
		pos := connectors.Position{Started: st.Started, Offset: st.Offset, Identity: st.Identity}
		split.reader, err = b.h.spec.Retries.Open(env.Ctx, sp, pos, connectors.ReaderEnv{Wake: env.Wake, Clock: env.Clock, Limits: RetryLimits})
		if err != nil {
			return b.fatal(err)
		}
	}
	return nil
}

// RetryLimits bounds entries of the retry stream: a letter is larger than the record
// in it.
var RetryLimits = connectors.Limits{MaxRecord: 64 << 20, MaxDepth: connectors.DefaultLimits.MaxDepth, MaxElems: connectors.DefaultLimits.MaxElems}

func (b *takeBack[T]) fatal(err error) error {
	if errors.Is(err, connectors.ErrPositionLost) || errors.Is(err, connectors.ErrIdentity) {
		return base.Fatal(err)
	}
	return err
}

// poll reads a batch of each split; false means that the subtask failed.
func (b *takeBack[T]) poll(st *SourceStatus) bool {
	for _, sp := range b.splits {
		if sp.reader == nil || sp.done {
			continue
		}
		b.buf.Reset()
		p, err := sp.reader.Poll(&b.buf, MaxBatch)
		if err != nil {
			b.h.s.Fail(fmt.Errorf("source %s, retry stream, split %s: %w", b.h.spec.UID, sp.id, b.fatal(err)))
			return false
		}
		for i := range b.buf.Values {
			b.take(&b.buf.Values[i])
			if b.h.s.err != nil {
				return false
			}
		}
		b.h.s.Env.Stats.BadRecords.Add(int64(len(b.buf.Bad)))
		sp.done = p.End
		st.More = st.More || p.More
		if p.Due > 0 {
			st.Due = min(st.Due, p.Due)
		}
	}
	return true
}

// take carries out an entry, if it is for this source.
func (b *takeBack[T]) take(e *Retry) {
	if !e.sends(b.h.s.Env.JobName) || e.Letter.Operator != b.h.spec.UID {
		return
	}
	for range e.times() {
		b.h.takeAgain(&e.Letter)
	}
}

// drained says that nothing waits in the retry stream. While it is not known, the
// subtask looks again.
func (b *takeBack[T]) drained(st *SourceStatus) bool {
	for _, sp := range b.splits {
		if sp.reader != nil && !sp.done && (st.More || sp.reader.Lag() != 0) {
			st.Due = min(st.Due, base.AddTime(b.h.s.Env.Clock.Now(), runOnEvery))
			return false
		}
	}
	return true
}

// states returns the positions to be kept in a checkpoint.
func (b *takeBack[T]) states() []SplitState {
	out := make([]SplitState, 0, len(b.splits))
	for _, sp := range b.splits {
		b.note(sp)
		out = append(out, sp.state)
	}
	return out
}

func (b *takeBack[T]) note(sp *backSplit) {
	if sp.reader != nil {
		p := sp.reader.Position()
		sp.state.Started, sp.state.Offset, sp.state.Identity = p.Started, p.Offset, p.Identity
		sp.state.Done = sp.done || p.Done
	}
}

func (b *takeBack[T]) close() (first error) {
	for _, sp := range b.splits {
		if sp.reader == nil {
			continue
		}
		b.note(sp)
		if err := sp.reader.Close(); err != nil && first == nil {
			first = err
		}
		sp.reader = nil
	}
	return first
}

// takeAgain hands over a record that the source refused: decoded anew where it could
// not be, and without a look at the clock where it was too far ahead.
func (h *sourceHead[T]) takeAgain(d *DeadLetter) {
	r := h.bad
	if r.out == nil {
		r = h.future
	}
	r.attempt = d.Attempt + 1
	defer func() { r.attempt = 0 }()
	now := h.s.Env.Clock.Now()
	m, err := d.meta(now)
	var v T
	if err == nil {
		v, err = h.decodeAgain(r, d)
	}
	h.s.at, h.s.cur = h.op, &m
	if err != nil {
		r.again(&m, d, err, codeUndecodable)
		return
	}
	if h.timed(&m, &v, m.Time, now) {
		h.out(&m, &v)
	}
}

// decodeAgain decodes the record in a letter by the source's format.
func (h *sourceHead[T]) decodeAgain(r *Refuser[T], d *DeadLetter) (v T, err error) {
	if d.Kind == RecordLetter {
		return r.decode(d)
	}
	again, ok := h.spec.Source.(connectors.Redecoder[T])
	switch {
	case d.Kind != SourceLetter:
		err = retryError("a source takes what it has read, and this is a " + d.Kind)
	case d.Truncated():
		err = retryError(fmt.Sprintf("only %d of the %d bytes of the record are there", len(d.Raw), d.Size))
	case !ok:
		err = retryError(fmt.Sprintf("a source of the kind %s cannot decode single records", h.spec.Source.Kind()))
	case len(d.Raw) > h.spec.Limits.MaxRecord:
		err = retryError(fmt.Sprintf("the record has %d bytes, and the source takes %d", len(d.Raw), h.spec.Limits.MaxRecord))
	default:
		err = again.Redecode(d.Raw, h.spec.Limits, &v)
	}
	return v, err
}

// RouteRetries returns the consumer that sends entries of the retry stream to the
// operators that they are about: routes holds what leads to an operator, nil where the
// operator takes them by itself, as sources do. Letters of operators that do not take
// any now become dead letters again.
func RouteRetries(s *Subtask, uid string, routes map[string]Consumer[Retry], keyed map[string]bool, l Letters[Retry]) Consumer[Retry] {
	op := s.operator(uid)
	refuser := NewRefuser(s, uid, op, connectors.DeadLetterBad, l)
	var turn uint64
	return Consumer[Retry]{One: func(m *base.Meta, e *Retry) {
		if !e.sends(s.Env.JobName) {
			return
		}
		s.at = op
		d := &e.Letter
		meta, err := d.meta(s.Env.Clock.Now())
		route, known := routes[d.Operator]
		if !known && err == nil {
			err = retryError(fmt.Sprintf("the job has no operator %q that takes dead letters back", d.Operator))
		}
		for range e.times() {
			if err != nil {
				refuser.attempt = d.Attempt + 1
				refuser.again(&meta, d, err, codeRetry)
				continue
			}
			if route.One == nil {
				continue
			}
			to := *m
			if to.Hash = meta.Hash; !keyed[d.Operator] {
				turn++ // anyone will do, so each in turn
				to.Hash = base.HashUint64(turn)
			}
			one := *e
			one.Times = 1
			route.One(&to, &one)
		}
	}}
}

// TakeRetries returns the consumer of a chain that takes dead letters back into the
// operators of the chain, which were built before.
func TakeRetries(s *Subtask) Consumer[Retry] {
	return Consumer[Retry]{One: func(_ *base.Meta, e *Retry) {
		if take := s.retried[e.Letter.Operator]; take != nil {
			take(&e.Letter)
		}
	}}
}

// RetrySource describes the source of a retry stream; follow makes it end with the
// other sources of the job.
func RetrySource(uid string, src connectors.Source[Retry], follow bool) SourceSpec[Retry] {
	return SourceSpec[Retry]{
		UID: uid, Source: src, Strategy: window.Strategy{}, ProcessingTime: true, OnBad: connectors.SkipBad, Limits: RetryLimits, Follow: follow,
	}
}
