package model

import (
	"math"
	"slices"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model/batcher"
)

// lane is what waits for one arm and is under way to it: as the arm that answers, or
// as a shadow. The two have one client.
type lane[T, In, Out any] struct {
	shadow bool
	client Client[In, Out]
	batch  *batcher.Batcher
	// waiting holds the records that were not asked for yet, as the batcher does.
	waiting []*call[T, Out]
	flying  int // calls under way
	// unsent counts the shadows that have come and not left.
	unsent int
	figs   laneFigures
}

// laneFigures are the metrics of an arm. A shadow has no avoided and no degraded, and
// only a shadow has dropped.
type laneFigures struct{ calls, avoided, failed, degraded, flying, dropped *base.Figure }

func (n *infer[T, In, Out, O]) newLane(arm string) *lane[T, In, Out] {
	f := func(name string) *base.Figure { return n.s.Env.Stats.Figures.New(name, n.spec.UID, arm) }
	return &lane[T, In, Out]{batch: batcher.New(n.spec.Batch), figs: laneFigures{
		calls: f("model_calls_total"), avoided: f("model_calls_avoided_total"), failed: f("model_failed_total"),
		degraded: f("model_degraded_total"), flying: f("model_calls_in_flight"),
	}}
}

// wait lets a record wait for its turn; now is the monotonic time.
func (l *lane[T, In, Out]) wait(c *call[T, Out], now int64) {
	l.waiting = append(l.waiting, c)
	l.batch.Add(now)
}

// cut lets no batch have records from before and after this.
func (n *infer[T, In, Out, O]) cut() {
	for _, l := range n.arms {
		l.batch.Cut()
	}
	for _, l := range n.shadows.lanes {
		l.batch.Cut()
	}
}

// send asks for what waits, as far as the capacity and the batchers let it; for shadows
// last.
func (n *infer[T, In, Out, O]) send() {
	n.wake = base.MaxTime
	for _, l := range n.arms {
		n.sendLane(l, func() int { return n.spec.Capacity - n.flying })
	}
	for _, l := range n.shadows.lanes {
		n.sendLane(l, func() int { return len(l.waiting) })
	}
}

// sendLane asks for what waits for an arm, as many as room returns at most.
func (n *infer[T, In, Out, O]) sendLane(l *lane[T, In, Out], room func() int) {
	for room() > 0 && len(l.waiting) > 0 && n.s.Err() == nil {
		now := n.s.Env.Clock.Mono()
		k, wait := l.batch.Ready(now)
		if k == 0 {
			if wait < batcher.Forever && wait < math.MaxInt64 {
				n.wake = min(n.wake, base.AddTime(n.s.Env.Clock.Now(), int64(wait)))
			}
			break
		}
		k = min(k, room())
		l.batch.Take(k)
		n.start(l, slices.Clone(l.waiting[:k]), now)
		clear(l.waiting[:k])
		if l.waiting = l.waiting[k:]; len(l.waiting) == 0 {
			l.waiting = nil
		}
	}
	l.figs.flying.Set(int64(l.flying))
}
