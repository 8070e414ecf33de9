package model

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/model/journal"
)

// flight is one batch of calls under way.
type flight[T, In, Out any] struct {
	lane           *lane[T, In, Out]
	of             []*call[T, Out]
	calls          []Call[In]
	hashes         []uint64
	started, ended int64
	// failed says that the time it took says nothing of what the model needs.
	failed bool
}

// identity names the input of a call: where the record comes from, and what it holds,
// which tells apart the records that a stream and a copy of it have from one origin. A
// dead letter that comes back has another identity with every attempt: a server that
// answers a key once would answer it with the failure.
func identity(m *base.Meta, encoded []byte) (id journal.ID) {
	binary.BigEndian.PutUint64(id[0:], m.Origin.Split)
	binary.BigEndian.PutUint64(id[8:], m.Origin.Pos)
	binary.BigEndian.PutUint64(id[16:], m.Origin.Emit)
	h := base.HashKey(encoded)
	if a := operators.Attempt(m); a > 0 {
		h = base.Mix(h, uint64(a))
	}
	binary.BigEndian.PutUint64(id[24:], h)
	return id
}

// key is the idempotency key: job, operator, origin, hash of the record, and the arm,
// for two models may stand behind one endpoint.
func (n *infer[T, In, Out, O]) key(c *call[T, Out]) string {
	k := n.s.Env.JobUID + "/" + n.name(c)
	if c.arm != "" {
		k += "/" + c.arm
	}
	return k
}

func (n *infer[T, In, Out, O]) name(c *call[T, Out]) string {
	if c.name == "" {
		u := func(i int) uint64 { return binary.BigEndian.Uint64(c.id[i:]) }
		o := base.Origin{Split: u(0), Pos: u(8), Emit: u(16)}
		c.name = fmt.Sprintf("%s/%v-%016x", n.spec.UID, o, u(24))
	}
	return c.name
}

// start makes a batch of calls.
func (n *infer[T, In, Out, O]) start(l *lane[T, In, Out], of []*call[T, Out], now int64) {
	f := &flight[T, In, Out]{lane: l, of: of, started: now, calls: make([]Call[In], len(of)), hashes: make([]uint64, len(of))}
	for i, c := range of {
		n.s.InHand(n.op, &c.meta)
		c.phase = flies
		c.attempt++
		f.calls[i] = Call[In]{Key: n.key(c), Attempt: c.attempt, In: n.spec.Request(&c.val)}
		if c.maybe {
			f.calls[i].Attempt = max(c.attempt, 2)
		}
		f.hashes[i] = c.meta.Hash
	}
	l.flying += len(of)
	if !l.shadow {
		n.flying += len(of)
	}
	n.busy.Add(int64(len(of)))
	l.figs.calls.Add(int64(len(of)))
	n.wg.Go(func() { n.fly(f) })
}

// errDeadline ends calls whose time is up.
var errDeadline = errors.New("the deadline of the call has passed")

// fly carries a batch of calls out, on a goroutine of its own.
func (n *infer[T, In, Out, O]) fly(f *flight[T, In, Out]) {
	ctx, cancel := context.WithCancelCause(n.ctx)
	timer := n.s.Env.Clock.AfterFunc(n.spec.Deadline, func() { cancel(errDeadline) })
	results, err := n.invoke(ctx, f.lane.client, f.calls)
	timer.Stop()
	late := errors.Is(context.Cause(ctx), errDeadline)
	cancel(nil)
	if n.ctx.Err() != nil { // the subtask ends; the records are in flight still
		return
	}
	results = n.complete(f, results, err, late)
	f.ended = n.s.Env.Clock.Mono()
	for i := range results {
		results[i].Asked = Asked{Latency: time.Duration(f.ended - f.of[i].took)}
	}
	if f.lane.shadow {
		n.shadowed(f, results)
		return
	}
	recs, err := n.records(f, results)
	if err != nil {
		n.s.Env.Logger.Error("a result of a model cannot be encoded", "operator", n.spec.UID, "error", err)
	}
	n.arrive(f, results, recs)
}

// invoke calls the client, whose panics are failures.
func (n *infer[T, In, Out, O]) invoke(ctx context.Context, client Client[In, Out], calls []Call[In]) (results []Result[Out], err error) {
	defer func() {
		if r := recover(); r != nil {
			n.s.Env.Logger.Error("the client of a model panicked", "operator", n.spec.UID, "panic", r, "stack", string(debug.Stack()))
			results, err = nil, &Failure{Kind: Permanent, What: fmt.Sprintf("the client panicked: %v", r)}
		}
	}()
	return client.Invoke(ctx, calls)
}

// complete makes a result for every call of what the client returned.
func (n *infer[T, In, Out, O]) complete(f *flight[T, In, Out], results []Result[Out], err error, late bool) []Result[Out] {
	if err == nil && len(results) != len(f.calls) {
		err = &Failure{Kind: Invalid, What: fmt.Sprintf("the client returned %d results for %d calls", len(results), len(f.calls))}
	}
	if err != nil {
		if late {
			err = &Failure{Kind: Unknown, What: fmt.Sprintf("no answer within %v", n.spec.Deadline), Cause: err}
		}
		f.failed = true
		results = make([]Result[Out], len(f.calls))
		for i := range results {
			results[i].Err = err
		}
	}
	for i := range results {
		if results[i].Err != nil {
			results[i] = Result[Out]{Err: asFailure(results[i].Err)}
		}
	}
	return results
}

// asFailure returns err as a Failure.
func asFailure(err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	return &Failure{Kind: Unknown, What: "the client failed", Cause: err}
}

// records encodes results for the journal. One that cannot be encoded becomes a
// failure.
func (n *infer[T, In, Out, O]) records(f *flight[T, In, Out], results []Result[Out]) (recs []journal.Record, err error) {
	recs = make([]journal.Record, len(results))
	for i := range results {
		data, eerr := n.encodeResult(nil, &results[i])
		if eerr != nil {
			err = eerr
			results[i] = Result[Out]{Err: &Failure{Kind: Invalid, What: "the result cannot be encoded", Cause: eerr}}
			if data, eerr = n.encodeResult(nil, &results[i]); eerr != nil {
				continue
			}
		}
		recs[i] = journal.Record{ID: f.of[i].journalID(), Hash: f.hashes[i], Data: data}
	}
	return recs, err
}

// arrive brings the results to the subtask, by way of the journal if there is one. From
// here on a barrier takes them into its snapshot; those that come after it belong to the
// epoch after it.
func (n *infer[T, In, Out, O]) arrive(f *flight[T, In, Out], results []Result[Out], recs []journal.Record) {
	n.mu.Lock()
	for i, c := range f.of {
		c.res, c.arrived = results[i], true
		recs[i].Epoch = n.label
	}
	if n.log == nil {
		n.answered = append(n.answered, f)
		n.mu.Unlock()
		n.s.Env.Wake()
		return
	}
	// Under the lock, so that the journal gets the results of an epoch before it hears
	// that the epoch is durable.
	n.log.Append(recs, func() {
		n.mu.Lock()
		n.answered = append(n.answered, f)
		n.mu.Unlock()
		n.s.Env.Wake()
	})
	n.mu.Unlock()
}

// String names a kind of failure.
func (k Kind) String() string {
	switch k {
	case Permanent:
		return "permanent"
	case Unavailable:
		return "unavailable"
	case Limited:
		return "limited"
	case Unknown:
		return "unknown"
	case Invalid:
		return "invalid"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}
