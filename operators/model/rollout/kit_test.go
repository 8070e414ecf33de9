package rollout_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/rollout"
)

// arm is how a simulated arm behaves.
type arm struct {
	shift              float64 // added to the score
	fails, degraded    float64 // shares
	noise              float64 // of the score around the truth
	failsFrom          int     // window from which it fails always; 0: never
	shadowDisagreement float64
}

// world is a closed loop without a job: keys come, are routed by the routing in effect,
// are answered, joined, counted and reported, and the plan decides. A decision takes
// effect lag windows later.
type world struct {
	plan      rollout.Plan
	cfg       rollout.Config
	arms      map[string]arm
	perWindow int
	lag       int
	seed      uint64

	routing   model.Routing
	pending   map[int]model.Routing
	state     rollout.State
	decisions []rollout.Decision
	routings  []model.Routing
	open      map[int][]waits // what waits for its outcome, by window
	asked     map[string]int
}

type waits struct {
	j       rollout.Joined
	outcome float64
}

const second = int64(time.Second)

// run runs windows of a minute.
func (w *world) run(t testing.TB, windows int) {
	t.Helper()
	if err := w.plan.Validate(); err != nil {
		t.Fatal(err)
	}
	w.cfg = w.cfg.WithDefaults()
	if err := w.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if w.routing.Arms == nil {
		w.routing = model.Everything(w.plan.Baseline)
	}
	w.pending, w.open, w.asked = map[int]model.Routing{}, map[int][]waits{}, map[string]int{}
	rnd := rand.New(rand.NewPCG(w.seed, 7))
	n := 0
	over := 0 // windows since the end
	for i := range windows {
		if over > 5 {
			break
		}
		if w.state.Phase > rollout.Running {
			over++
		}
		if r, ok := w.pending[i]; ok {
			w.routing = r
		}
		parts := map[rollout.Series]*rollout.Acc{}
		count := func(f rollout.Fact) {
			if parts[f.Series] == nil {
				parts[f.Series] = &rollout.Acc{}
			}
			parts[f.Series].Add(&f)
		}
		start := int64(i) * 60 * second
		for range w.perWindow {
			n++
			w.one(rnd, n, i, start, count)
		}
		for _, o := range w.open[i] {
			s := rollout.OfOutcome(o.j.Answer.ID, o.outcome)
			at := start + 1
			o.j.Take(&w.cfg, &s, at)
			o.j.Due(&w.cfg, at+int64(w.cfg.Grace), count)
		}
		delete(w.open, i)
		var tally rollout.Tally
		for s, a := range parts {
			tally.Add(s, a, w.cfg.Bins.Count())
		}
		report := tally.Report(&w.cfg, w.plan.Model, start, start+60*second)
		w.decide(t, i, &report)
	}
}

func (w *world) decide(t testing.TB, i int, r *rollout.Report) {
	t.Helper()
	d, ok := w.plan.Advance(&w.state, r)
	if !ok {
		t.Fatalf("report %d was not taken", i)
	}
	w.decisions = append(w.decisions, d)
	if d.Routing.Version == 0 {
		return
	}
	if err := d.Routing.Validate([]string{w.plan.Baseline, w.plan.Candidate}); err != nil {
		t.Fatal(err)
	}
	if last := len(w.routings) - 1; last >= 0 && d.Routing.Version <= w.routings[last].Version || d.Routing.Version <= w.routing.Version {
		t.Fatalf("routing %d comes after %d", d.Routing.Version, w.routing.Version)
	}
	w.routings = append(w.routings, d.Routing)
	w.pending[i+1+w.lag] = d.Routing
}

// one has a record routed, answered and joined.
func (w *world) one(rnd *rand.Rand, n, window int, start int64, count func(rollout.Fact)) {
	key := base.HashUint64(rnd.Uint64() % 50_000)
	share, _ := w.routing.Pick(model.Bucket(w.plan.Model, key))
	truth := 0.0
	p := rnd.Float64()
	if rnd.Float64() < p {
		truth = 1
	}
	w.asked[share.Arm]++
	id := fmt.Sprintf("%s/%d", w.plan.Model, n)
	var o waits
	answer := w.seen(rnd, share.Arm, p, window)
	answer.ID, o.outcome = id, truth
	o.j.Take(&w.cfg, &answer, start)
	for _, s := range w.routing.Shadows {
		if s == share.Arm {
			continue
		}
		a := w.seen(rnd, s, p, window)
		if a.Kind == rollout.Failure {
			a.Failed = true
		}
		a.ID, a.Kind = id, rollout.Shadow
		if rnd.Float64() < w.arms[s].shadowDisagreement {
			a.Score = 1 - a.Score
		}
		o.j.Take(&w.cfg, &a, start)
	}
	if over := o.j.Due(&w.cfg, start+int64(w.cfg.Grace), count); !over {
		w.open[window+2] = append(w.open[window+2], o)
	}
}

func (w *world) seen(rnd *rand.Rand, name string, p float64, window int) rollout.Seen {
	a := w.arms[name]
	s := rollout.Seen{Kind: rollout.Answer, Model: w.plan.Model, Arm: name, Routing: w.routing.Version}
	s.Score = min(max(p+a.shift+a.noise*rnd.NormFloat64(), 0), 1)
	switch u := rnd.Float64(); {
	case u < a.fails || a.failsFrom > 0 && window >= a.failsFrom:
		s.Kind = rollout.Failure
	case u < a.fails+a.degraded:
		s.Degraded = true
	}
	return s
}

// acted returns the decisions that did something.
func (w *world) acted() (out []rollout.Decision) {
	for _, d := range w.decisions {
		if d.Action != rollout.Hold {
			out = append(out, d)
		}
	}
	return out
}

func usual() rollout.Plan {
	return rollout.Plan{
		Name: "r1", Model: "fraud", Baseline: "stable", Candidate: "canary", Steps: rollout.Steps(150, 3*time.Minute, 1, 5, 25, 100),
		Limits: rollout.Limits{MaxErrorRate: 0.02, MaxDegraded: 0.05, MaxPSI: 0.1},
	}
}
