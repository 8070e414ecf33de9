package model

import (
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model/batcher"
)

// DefaultShadows is the default of Spec.ShadowCapacity.
const DefaultShadows = 64

// shadows are the copies of records that are under way to shadow arms. They are in no
// snapshot and in no journal: what a shadow says about a record is handed on at most
// once, and not at all if the subtask ends while the call is under way.
type shadows[T, In, Out any] struct {
	wanted bool
	out    func(*base.Meta, *Shadow[Out])
	lanes  []*lane[T, In, Out] // by arm; none unless wanted
	live   int                 // that have come and not left
	ready  []*call[T, Out]
	// before is the last watermark before the end of input, which is held back until
	// all have left.
	before base.Timestamp
	s      Shadow[Out]
}

func (n *infer[T, In, Out, O]) newShadowLane(arm string) *lane[T, In, Out] {
	f := func(name string) *base.Figure { return n.s.Env.Stats.Figures.New(name, n.spec.UID, arm) }
	b := n.spec.Batch
	b.InFlight = n.spec.ShadowCapacity
	return &lane[T, In, Out]{shadow: true, batch: batcher.New(b), figs: laneFigures{
		calls: f("model_shadow_calls_total"), failed: f("model_shadow_failed_total"), dropped: f("model_shadow_dropped_total"),
		flying: f("model_shadow_calls_in_flight"),
	}}
}

// shade gives copies of a record to the shadow arms, but to the arm that answers. They
// give way to records: none is taken when three quarters of the capacity are used, nor
// when the shadow arm has as many as it may.
func (n *infer[T, In, Out, O]) shade(c *call[T, Out]) {
	for _, i := range n.route.shadows {
		if i == c.lane {
			continue
		}
		l := n.shadows.lanes[i]
		if l.unsent >= n.spec.ShadowCapacity || 4*n.live > 3*n.spec.Capacity {
			l.figs.dropped.Add(1)
			continue
		}
		n.shadows.live++
		l.unsent++
		s := &call[T, Out]{id: c.id, meta: c.meta, val: c.val, choice: choice{arm: n.spec.Arms[i].Name, lane: i, routing: c.routing}, took: c.took}
		s.primary = c.arm
		l.wait(s, c.took)
	}
}

// shadowed brings the results of shadows to the subtask.
func (n *infer[T, In, Out, O]) shadowed(f *flight[T, In, Out], results []Result[Out]) {
	n.mu.Lock()
	for i, c := range f.of {
		c.res = results[i]
	}
	n.answered = append(n.answered, f)
	n.mu.Unlock()
	n.s.Env.Wake()
}

// emitShadows hands on what shadows have said, until the deadline, and reports whether
// there is more. The time of a record is the watermark's if that has passed it.
func (n *infer[T, In, Out, O]) emitShadows(deadline int64) (more bool) {
	for i, c := range n.shadows.ready {
		if n.s.Err() != nil {
			return false
		}
		if i%checkEvery == checkEvery-1 && n.s.Env.Clock.Mono() >= deadline {
			n.shadows.ready = append(n.shadows.ready[:0], n.shadows.ready[i:]...)
			return true
		}
		n.s.InHand(n.op, &c.meta)
		m := c.meta
		m.Time = max(m.Time, n.Passed())
		m.Origin.Emit = base.Mix(m.Origin.Emit, base.HashString("shadow "+c.arm))
		n.shadows.s = n.shadowOf(c)
		n.shadows.out(&m, &n.shadows.s)
		n.shadows.live--
		n.shadows.lanes[c.lane].unsent--
	}
	clear(n.shadows.ready)
	n.shadows.ready = n.shadows.ready[:0]
	return false
}

func (n *infer[T, In, Out, O]) shadowOf(c *call[T, Out]) Shadow[Out] {
	s := Shadow[Out]{
		ID: n.name(c), Model: n.spec.UID, ModelVersion: c.res.Version, Arm: c.arm, Primary: c.primary, Routing: c.routing, Out: c.res.Out,
		Degraded: c.res.Degraded, By: c.res.By, Cached: c.res.Cached, LatencyMicros: c.res.Latency.Microseconds(), At: c.meta.Time,
	}
	if c.res.Err != nil {
		n.shadows.lanes[c.lane].figs.failed.Add(1)
		f := asFailure(c.res.Err)
		s.Kind, s.Status, s.What = f.Kind.String(), f.Status, f.Error()
	}
	return s
}
