package operators

import (
	"fmt"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state"
)

// guard makes calls of the function subject to a policy that is not to fail: what a
// call emits is held until it has not failed.
func (n *process[K, T, Out]) guard() {
	box := &outbox[Out]{out: n.ctx.out}
	n.ctx.out = box.put
	n.held = append(n.held, box)
	for _, s := range n.ctx.sides {
		n.held = append(n.held, s.hold())
	}
	n.refuser = NewRefuser(n.s, n.uid, n.op, n.spec.OnError, n.spec.Letters)
	n.refuser.retriesOf(n.retry)
}

// guarded calls the function for the record in hand under such a policy.
func (n *process[K, T, Out]) guarded(m *base.Meta, v *T) {
	if err := n.settle(protectCall(func() error { return n.fn.OnRecord(&n.ctx, *v) })); err != nil {
		n.refuser.Refuse(m, v, err)
	}
	n.refuser.attempt = 0 // timers that fire now have an attempt of their own
}

// settle hands on what a call has emitted, unless it failed, and returns its error.
func (n *process[K, T, Out]) settle(err error) error {
	for _, h := range n.held {
		if err != nil || n.s.err != nil {
			h.drop()
			continue
		}
		h.flush()
	}
	n.s.at = n.op
	if n.s.err != nil {
		return nil // the subtask fails for another reason
	}
	return err
}

// guardedTimer calls the function for a timer of the key in hand.
func (n *process[K, T, Out]) guardedTimer(t Timer, at base.Timestamp) {
	m := n.ctx.meta
	if err := n.settle(protectCall(func() error { return n.fn.OnTimer(&n.ctx, t) })); err != nil {
		kind := EventTimerLetter
		if t.Kind == state.ProcessingTimer {
			kind = ProcessingTimerLetter
		}
		n.refuser.refuseTimer(&m, kind, at, n.spec.Keys.Append(nil, n.ctx.key), timerError(at, err))
	}
}

// retry takes a dead letter back: a record or a timer.
func (n *process[K, T, Out]) retry(m *base.Meta, d *DeadLetter) error {
	if d.Kind == RecordLetter {
		v, err := n.refuser.decode(d)
		if err != nil {
			return err
		}
		if h := n.spec.Keys.Hash(n.spec.Key(v)); h != m.Hash {
			return retryError(fmt.Sprintf("the key of the record has the hash %016x now, and had %016x", h, m.Hash))
		}
		n.one(m, &v)
		return nil
	}
	if d.ContentType != KeyContent {
		return retryError("the operator takes records and timers, and this is a " + d.Kind)
	}
	k, err := n.spec.Keys.Decode(d.Raw)
	if err != nil {
		return err
	}
	kind := state.EventTimer
	if d.Kind == ProcessingTimerLetter {
		kind = state.ProcessingTimer
	}
	if !n.caughtUp() {
		return nil
	}
	at := nanosOf(d.EventTime)
	// As when it fires: what it emits has not the time of the letter, which may be that
	// of the wall clock, or have passed downstream.
	t := state.Timer{At: at, Kind: kind, Hash: m.Hash}
	n.timerTimes(&t)
	m.Time = n.timerTime(&t)
	n.s.at, n.s.cur = n.op, m
	n.enter(m.Hash, k)
	n.ctx.begin(k, *m)
	n.guardedTimer(Timer{Time: timeOf(at), Kind: kind}, at)
	n.s.Env.Backend.SetTime(n.prog.w, n.now)
	n.refuser.attempt = 0
	n.firePast()
	return nil
}
