package weir

import (
	"fmt"
	"time"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/rollout"
	"github.com/weirflow/weir/state"
)

// RolloutOption is an option of Rollout.
type RolloutOption interface{ rollout(*rolloutOptions) }

type rolloutOptions struct{ decisions *Tag[rollout.Decision] }

type rolloutOption func(*rolloutOptions)

func (f rolloutOption) rollout(o *rolloutOptions) { f(o) }

// DecisionsTo sends what Rollout makes of each report, and why, to a side output, also
// where nothing changes.
func DecisionsTo(tag Tag[rollout.Decision]) RolloutOption {
	return rolloutOption(func(o *rolloutOptions) { o.decisions = &tag })
}

// Rollout lets a candidate take over from a baseline step by step, as far as the reports
// of Compare are good, and rolls it back when they are bad; see package rollout for how
// that is decided. What comes out are routings, for a log that RoutingBy of the
// operator reads:
//
//	routings := weir.Rollout(reports, "take-over", rollout.Plan{
//		Name: "fraud-8", Model: "fraud", Baseline: "stable", Candidate: "canary",
//		Steps:  rollout.Steps(1000, 10*time.Minute, 1, 5, 25, 100),
//		Limits: rollout.Limits{MaxErrorRate: 0.01, MaxDegraded: 0.05, MaxPSI: 0.25},
//	})
//	weir.To(routings, "routings", jetstream.Publish("ROUTINGS", func(model.Routing) string { return "routing.fraud" }, jetstream.Lanes(1)))
//
// A routing is published exactly once, in effect some checkpoints later, and seen when
// predictions say that they were made by it: the evidence of a step is what was seen
// under its routing, and nothing else. A rollout is in checkpoints, and ends once: see
// rollout.Plan.
func Rollout(reports Stream[rollout.Report], name string, plan rollout.Plan, opts ...RolloutOption) Stream[model.Routing] {
	j := reports.j
	var o rolloutOptions
	for _, opt := range opts {
		opt.rollout(&o)
	}
	if err := plan.Validate(); err != nil {
		j.fail(caller(1), "WEIR-0130", fmt.Sprintf("rollout %s: %v", name, err), "correct its rollout.Plan")
		return newStream[model.Routing](j, reports.chain, reports.uid, true)
	}
	process := []ProcessOption{}
	if o.decisions != nil {
		process = append(process, WritesTo(*o.decisions))
	}
	byModel := KeyBy(reports, name+"-by-model", func(r rollout.Report) string { return r.Model }, Parallelism(1))
	return Process(byModel, name, func() KeyedProcess[string, rollout.Report, model.Routing] {
		return &rolloutProcess{plan: &plan, decisions: o.decisions}
	}, process...)
}

// rolloutProcess carries out a plan.
type rolloutProcess struct {
	plan      *rollout.Plan
	decisions *Tag[rollout.Decision]
	at        *state.Value[rollout.State]
}

// Declare implements KeyedProcess.
func (p *rolloutProcess) Declare(d *Declarer) { p.at = ValueState[rollout.State](d, "rollout") }

// OnRecord implements KeyedProcess.
func (p *rolloutProcess) OnRecord(ctx *Context[string, model.Routing], r rollout.Report) error {
	if r.Model != p.plan.Model {
		return nil
	}
	s, _ := p.at.Get()
	before := s.Due
	d, ok := p.plan.Advance(&s, &r)
	if !ok {
		return nil
	}
	if s.Due = p.plan.Due(&s, ctx.Timestamp().UnixNano()); s.Due != before {
		if before != 0 {
			ctx.DeleteEventTimer(time.Unix(0, before))
		}
		if s.Due != 0 {
			ctx.RegisterEventTimer(time.Unix(0, s.Due))
		}
	}
	p.at.Set(s)
	p.emit(ctx, d)
	return nil
}

// OnTimer implements KeyedProcess: a step has had its time. The end of the input is not
// the time of anything.
func (p *rolloutProcess) OnTimer(ctx *Context[string, model.Routing], t Timer) error {
	s, _ := p.at.Get()
	if t.Time.UnixNano() != s.Due || ctx.Watermark().Equal(EndOfTime) {
		return nil
	}
	s.Due = 0
	if d, ok := p.plan.Expire(&s); ok {
		p.at.Set(s)
		p.emit(ctx, d)
	}
	return nil
}

func (p *rolloutProcess) emit(ctx *Context[string, model.Routing], d rollout.Decision) {
	if d.Routing.Version > 0 {
		ctx.Emit(d.Routing)
	}
	if p.decisions != nil {
		EmitTo(ctx, *p.decisions, d)
	}
}
