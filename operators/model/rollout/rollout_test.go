package rollout_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/rollout"
)

func TestAGoodCandidateIsPromotedStepByStep(t *testing.T) {
	w := &world{plan: usual(), perWindow: 4000, lag: 2, seed: 1, arms: map[string]arm{"stable": {noise: 0.02}, "canary": {noise: 0.02}}}
	w.run(t, 60)
	var actions []string
	for _, d := range w.acted() {
		actions = append(actions, string(d.Action))
		t.Logf("%v %s step %d: %s", time.Duration(d.At), d.Action, d.Step, d.Reason)
	}
	if got := strings.Join(actions, " "); got != "start promote promote promote finish" {
		t.Fatalf("got %s", got)
	}
	for i, want := range []uint32{100, 500, 2500, 10_000} {
		if got := w.routings[i].Arms[0]; got.Arm != "canary" || got.Weight != want || w.routings[i].Version != uint64(i+1) {
			t.Errorf("routing %d is %+v", i, w.routings[i])
		}
	}
	if w.state.Phase != rollout.Promoted || len(w.routings) != 4 {
		t.Errorf("%v with %d routings", w.state.Phase, len(w.routings))
	}
	first := w.acted()
	if d := time.Duration(first[1].At - first[0].At); d < 3*time.Minute {
		t.Errorf("the first step was %v", d)
	}
}

func TestABadCandidateIsRolledBackOnce(t *testing.T) {
	outcomes := func(p *rollout.Plan) {
		p.Limits = rollout.Limits{Outcomes: true, MaxWorse: 0.005}
		for i := range p.Steps {
			p.Steps[i].MinOutcomes = 100
		}
	}
	shadow := func(p *rollout.Plan) {
		p.Steps = append([]rollout.Step{{Shadow: true, MinSamples: 500}}, p.Steps...)
		p.Limits = rollout.Limits{MinAgreement: 0.95, MaxErrorRate: 0.02}
	}
	for name, c := range map[string]struct {
		canary arm
		plan   func(*rollout.Plan)
		reason string
	}{
		"shifted scores":   {canary: arm{shift: 0.3, noise: 0.02}, reason: "PSI"},
		"a few errors":     {canary: arm{fails: 0.15, noise: 0.02}, reason: "calls failed"},
		"nothing works":    {canary: arm{fails: 1}, reason: "calls failed"},
		"degraded":         {canary: arm{degraded: 0.3, noise: 0.02}, reason: "degraded"},
		"fails later":      {canary: arm{noise: 0.02, failsFrom: 14}, reason: "calls failed"},
		"worse outcomes":   {canary: arm{noise: 0.4}, plan: outcomes, reason: "outcomes are worse"},
		"odd as a shadow":  {canary: arm{noise: 0.01, shadowDisagreement: 0.3}, plan: shadow, reason: "as a shadow agree"},
		"fails as shadow":  {canary: arm{fails: 0.5}, plan: shadow, reason: "calls failed"},
		"answers no more":  {canary: arm{noise: 0.02}, plan: func(p *rollout.Plan) { p.Steps[0].MinSamples, p.Steps[0].MaxTime = 1e9, 5*time.Minute }, reason: "the step had 5m0s"},
		"a limit in reach": {canary: arm{fails: 0.03, noise: 0.02}, plan: func(p *rollout.Plan) { p.Steps[0].MaxTime = 30 * time.Minute }, reason: "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			p := usual()
			if c.plan != nil {
				c.plan(&p)
			}
			w := &world{plan: p, cfg: rollout.Config{Horizon: time.Hour, Tolerance: 0.1}, perWindow: 4000, lag: 2, seed: 3, arms: map[string]arm{"stable": {noise: 0.02}, "canary": c.canary}}
			w.run(t, 50)
			acts := w.acted()
			last := acts[len(acts)-1]
			t.Logf("%v step %d: %s", time.Duration(last.At), last.Step, last.Reason)
			if last.Action != rollout.RollBack || !strings.Contains(last.Reason, c.reason) {
				t.Fatalf("the last act is %s: %s", last.Action, last.Reason)
			}
			r := w.routings[len(w.routings)-1]
			if r.Arms[0].Weight != 0 || r.Arms[1].Weight != model.FullWeight || r.Shadows != nil || w.routing.Version != r.Version {
				t.Errorf("the routing is %+v", w.routing)
			}
			backs := 0
			for _, d := range acts {
				if d.Action == rollout.RollBack {
					backs++
				}
			}
			if backs != 1 || w.state.Phase != rollout.RolledBack {
				t.Errorf("it was rolled back %d times; %v", backs, w.state.Phase)
			}
		})
	}
}

// TestChanceRollsBackSeldom has candidates that are the same as the baseline, with errors
// exactly at the limit, in small samples, which many looks are taken at.
func TestChanceRollsBackSeldom(t *testing.T) {
	backs := 0
	const runs = 80
	for seed := range uint64(runs) {
		p := usual()
		p.Steps = rollout.Steps(1<<40, 0, 50)
		p.Alpha = 0.05
		p.Limits = rollout.Limits{MaxErrorRate: 0.05, MaxPSI: 0.02}
		w := &world{plan: p, perWindow: 100, seed: seed, arms: map[string]arm{"stable": {noise: 0.1}, "canary": {noise: 0.1, fails: 0.05}}}
		w.run(t, 60)
		if w.state.Phase == rollout.RolledBack {
			backs++
		}
	}
	// 4 are to be expected at most.
	if t.Logf("%d of %d", backs, runs); backs > 10 {
		t.Errorf("%d of %d candidates that are at the limit were rolled back", backs, runs)
	}
}

func TestAnOtherRoutingEndsTheRollout(t *testing.T) {
	w := &world{plan: usual(), perWindow: 5000, seed: 1, arms: map[string]arm{"stable": {}, "canary": {}}}
	w.run(t, 3)
	w.routing = model.Everything("stable")
	w.routing.Version = 99
	before := len(w.routings)
	state := w.state
	r := rollout.Report{Model: "fraud", Start: state.Last, End: state.Last + second, Arms: []rollout.ArmReport{{Arm: "stable", Routing: 99, Counts: rollout.Counts{Answers: 5}, Hist: make([]int64, 10)}}}
	d, ok := w.plan.Advance(&state, &r)
	if !ok || d.Action != rollout.GiveUp || d.Routing.Version != 0 || state.Phase != rollout.Superseded || before != 1 {
		t.Errorf("%+v, %v", d, state.Phase)
	}
	// A plan with another name begins anew, above that version.
	next := w.plan
	next.Name = "r2"
	r.Start, r.End = r.End, r.End+second
	if d, ok = next.Advance(&state, &r); !ok || d.Action != rollout.Start || d.Routing.Version != 100 || len(state.Evidence) != 1 {
		t.Errorf("%+v", d)
	}
	// The same report again, or that of another model, changes nothing.
	if _, ok = next.Advance(&state, &r); ok {
		t.Error("the same window was taken twice")
	}
	r.Model, r.End = "other", r.End+second
	if _, ok = next.Advance(&state, &r); ok {
		t.Error("a report of another model was taken")
	}
}

// TestRolloutsDoNotFlap runs candidates of all kinds: the weight only grows, but for one
// rollback, versions only grow, nothing comes after the end, and a replay is the same.
func TestRolloutsDoNotFlap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		share := rapid.SampledFrom([]float64{0, 0, 0.01, 0.02, 0.05, 0.3, 1})
		candidate := arm{
			shift: rapid.SampledFrom([]float64{0, 0, 0.02, 0.1, 0.4}).Draw(rt, "shift"), fails: share.Draw(rt, "fails"),
			degraded: share.Draw(rt, "degraded"), noise: rapid.SampledFrom([]float64{0, 0.05, 0.3}).Draw(rt, "noise"),
			failsFrom: rapid.IntRange(0, 30).Draw(rt, "failsFrom"), shadowDisagreement: share.Draw(rt, "disagrees"),
		}
		p := usual()
		for i := range p.Steps {
			p.Steps[i].MinSamples = int64(rapid.IntRange(1, 300).Draw(rt, "samples"))
			p.Steps[i].Shadow = rapid.Bool().Draw(rt, "shadow")
		}
		p.Limits.MinAgreement = rapid.SampledFrom([]float64{0, 0.5, 0.9}).Draw(rt, "agreement")
		w := &world{plan: p, perWindow: 120, lag: rapid.IntRange(0, 4).Draw(rt, "lag"), seed: rapid.Uint64().Draw(rt, "seed"), arms: map[string]arm{"stable": {noise: 0.02}, "canary": candidate}}
		again := *w
		w.run(t, 30)
		again.run(t, 30)
		if len(w.decisions) != len(again.decisions) {
			rt.Fatalf("%d and %d decisions", len(w.decisions), len(again.decisions))
		}
		weight, ended := uint32(0), false
		for i, d := range w.decisions {
			if d.Action != again.decisions[i].Action || d.Reason != again.decisions[i].Reason || d.Routing.Version != again.decisions[i].Routing.Version {
				rt.Fatalf("a replay decides otherwise: %+v and %+v", d, again.decisions[i])
			}
			if ended && d.Action != rollout.Hold {
				rt.Fatalf("%s after the end", d.Action)
			}
			switch d.Action {
			case rollout.Start, rollout.Promote:
				if got := d.Routing.Arms[0].Weight; got < weight {
					rt.Fatalf("the weight falls from %d to %d", weight, got)
				} else {
					weight = got
				}
			case rollout.RollBack, rollout.Finish, rollout.GiveUp:
				ended = true
			}
		}
	})
}

func TestPlansWithMistakesAreRefused(t *testing.T) {
	for name, change := range map[string]func(*rollout.Plan){
		"no name": func(p *rollout.Plan) { p.Name = "" }, "no model": func(p *rollout.Plan) { p.Model = "" },
		"one arm": func(p *rollout.Plan) { p.Candidate = p.Baseline }, "no steps": func(p *rollout.Plan) { p.Steps = nil },
		"too much": func(p *rollout.Plan) { p.Steps[3].Weight = 10_001 }, "downwards": func(p *rollout.Plan) { p.Steps[0].Weight = 600 },
		"nothing to see": func(p *rollout.Plan) { p.Steps[0].Weight = 0 }, "negative": func(p *rollout.Plan) { p.Steps[0].MinSamples = -1 },
		"no time":   func(p *rollout.Plan) { p.Steps[0].MaxTime = p.Steps[0].MinTime },
		"share":     func(p *rollout.Plan) { p.Limits.MaxErrorRate = 1.5 },
		"psi":       func(p *rollout.Plan) { p.Limits.MaxPSI = -1 },
		"alpha":     func(p *rollout.Plan) { p.Alpha = 0.7 },
		"too steep": func(p *rollout.Plan) { p.Steps = make([]rollout.Step, 40) },
	} {
		p := usual()
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		if change(&p); p.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
