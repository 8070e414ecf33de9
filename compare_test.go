package weir_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/rollout"
	"github.com/weirflow/weir/weirtest"
)

var compareConfig = rollout.Config{Baseline: "old", Window: 10 * time.Second, Grace: 2 * time.Second, Horizon: time.Minute, Tolerance: 0.1}

func comparing(plan *rollout.Plan) weir.JobSpec {
	return weir.NewJob("comparing", func(j *weir.Job) {
		none := func() *generator.Source[rollout.Seen] {
			return generator.New(func(uint64) rollout.Seen { return rollout.Seen{} }, generator.Count(1))
		}
		answers := weir.From(j, "answers", none(), weir.Ascending[rollout.Seen](nil))
		outcomes := weir.From(j, "outcomes", none(), weir.Ascending[rollout.Seen](nil))
		reports := weir.Compare(weir.Union("seen", answers, outcomes), "compare", compareConfig)
		weir.To(reports, "reports", memory.NewSink[rollout.Report]().Sink())
		if plan != nil {
			decisions := weir.NewTag[rollout.Decision]("decisions")
			routings := weir.Rollout(reports, "take-over", *plan, weir.DecisionsTo(decisions))
			weir.To(routings, "routings", memory.NewSink[model.Routing]().Sink())
			weir.To(weir.SideOutput(routings, decisions), "decisions", memory.NewSink[rollout.Decision]().Sink())
		}
	})
}

// story is a stream of what is seen of two arms, with shadows and outcomes. From second
// bad on, the new arm fails in half of its calls.
type story struct {
	steps []weirtest.Step
	seen  []rollout.Seen
	at    []int64 // milliseconds
}

func (s *story) add(source string, at int64, v rollout.Seen) {
	s.steps = append(s.steps, weirtest.Into(source, weirtest.AtMillis(at, v)))
	s.seen, s.at = append(s.seen, v), append(s.at, at)
}

func tell(seed uint64, seconds, bad int64, routing uint64) *story {
	rnd := rand.New(rand.NewPCG(seed, 1))
	s := &story{}
	type label struct {
		at int64
		v  rollout.Seen
	}
	var labels []label
	for at := int64(0); at < seconds*1000; at += 20 + rnd.Int64N(30) {
		id := fmt.Sprintf("m/%d", at)
		a := rollout.Seen{Kind: rollout.Answer, ID: id, Model: "m", Arm: "old", Routing: routing, Score: rnd.Float64(), Degraded: rnd.IntN(20) == 0}
		if rnd.IntN(3) == 0 {
			a.Arm = "new"
			if bad > 0 && at > bad*1000 && rnd.IntN(2) == 0 {
				a.Kind = rollout.Failure
			}
		}
		s.add("answers", at, a)
		if a.Arm == "old" && rnd.IntN(2) == 0 {
			b := a
			b.Kind, b.Arm, b.Failed, b.Degraded = rollout.Shadow, "new", rnd.IntN(10) == 0, false
			b.Score = min(1, a.Score+rnd.Float64()*0.15)
			s.add("answers", at, b)
		}
		if rnd.IntN(2) == 0 {
			labels = append(labels, label{at + rnd.Int64N(30_000), rollout.OfOutcome(id, float64(rnd.IntN(2)))})
		}
		if rnd.IntN(50) == 0 {
			s.add("answers", at, a) // twice: the second does not count
		}
	}
	slices.SortStableFunc(labels, func(a, b label) int { return int(a.at - b.at) })
	for _, l := range labels {
		s.add("outcomes", l.at, l.v)
	}
	return s
}

// count counts anew, without joins, windows and parts of the operator.
func (s *story) count(c rollout.Config) map[string]map[string]int64 {
	out := map[string]map[string]int64{}
	note := func(at int64, arm string, shadow bool, what string, n int64) {
		k := fmt.Sprintf("%d/%s/%v", at/c.Window.Milliseconds(), arm, shadow)
		if out[k] == nil {
			out[k] = map[string]int64{}
		}
		out[k][what] += n
	}
	grace := c.Grace.Milliseconds()
	answers, shadows := map[string]rollout.Seen{}, map[string]rollout.Seen{}
	answeredAt := map[string]int64{}
	for i, v := range s.seen {
		at := s.at[i] + grace
		_, again := answers[v.ID]
		switch {
		case v.Kind == rollout.Outcome:
			a := answers[v.ID]
			at = max(at, answeredAt[v.ID]+grace)
			if a.Kind == rollout.Answer && !a.Degraded {
				note(at, a.Arm, false, "outcomes", 1)
			}
			if sh, ok := shadows[v.ID]; ok && !sh.Failed {
				note(at, sh.Arm, true, "outcomes", 1)
			}
		case v.Kind == rollout.Shadow:
			shadows[v.ID] = v
			if a := answers[v.ID]; v.Failed {
				note(at, v.Arm, true, "failed", 1)
			} else {
				note(at, v.Arm, true, "answers", 1)
				if !a.Degraded && v.Score-a.Score <= c.Tolerance {
					note(at, v.Arm, true, "agreed", 1)
				}
			}
		case again:
		default:
			answers[v.ID], answeredAt[v.ID] = v, s.at[i]
			what := "answers"
			if v.Kind == rollout.Failure {
				what = "failed"
			} else if v.Degraded {
				what = "degraded"
			}
			note(at, v.Arm, false, what, 1)
		}
	}
	return out
}

func reported(reports []rollout.Report) map[string]map[string]int64 {
	out := map[string]map[string]int64{}
	for _, r := range reports {
		for i := range r.Arms {
			a := &r.Arms[i]
			m := map[string]int64{}
			for what, n := range map[string]int64{"answers": a.Counts.Answers, "failed": a.Counts.Failed, "degraded": a.Counts.Degraded, "agreed": a.Counts.Agreed, "outcomes": a.Counts.Outcomes} {
				if n > 0 {
					m[what] = n
				}
			}
			out[fmt.Sprintf("%d/%s/%v", time.Duration(r.Start)/compareConfig.Window, a.Arm, a.Shadow)] = m
		}
	}
	return out
}

func TestCompare(t *testing.T) {
	s := tell(4, 70, 0, 3)
	want := s.count(compareConfig)
	weirtest.Matrix(t, comparing(nil), s.steps, func(tb testing.TB, r *weirtest.Run) {
		reports := weirtest.Collect[rollout.Report](r, "reports")
		got := reported(reports)
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if !reflect.DeepEqual(got[k], want[k]) {
				tb.Errorf("%s: %v, want %v", k, got[k], want[k])
			}
		}
		if len(got) != len(want) || len(got) < 20 {
			tb.Errorf("%d series, want %d", len(got), len(want))
		}
		for _, rep := range reports {
			for _, a := range rep.Arms {
				if a.Routing != 3 || rep.Model != "m" || a.Arm == "old" && a.PSI > 1e-9 {
					tb.Errorf("%+v", a)
				}
				var n int64
				for _, h := range a.Hist {
					n += h
				}
				if n != a.Counts.Answers || len(a.Hist) != 10 {
					tb.Errorf("the histogram has %d of %d answers", n, a.Counts.Answers)
				}
			}
		}
	}, weirtest.Source[rollout.Seen]("answers"), weirtest.Source[rollout.Seen]("outcomes"), weirtest.Sink[rollout.Report]("reports"))
}

func TestRolloutInAJob(t *testing.T) {
	// What is seen was made by routing 1, the first that the rollout makes.
	s := tell(5, 100, 60, 1)
	s.steps = append([]weirtest.Step{
		weirtest.Into("answers", weirtest.AtMillis(0, rollout.Seen{Kind: rollout.Answer, ID: "m/first", Model: "m", Arm: "old"})),
		weirtest.Into("outcomes", weirtest.WatermarkMillis(0)),
	}, s.steps...)
	for i := range s.at {
		s.at[i] += 20_000
	}
	for i, v := range s.seen {
		source := "answers"
		if v.Kind == rollout.Outcome {
			source = "outcomes"
		}
		s.steps[i+2] = weirtest.Into(source, weirtest.AtMillis(s.at[i], v))
	}
	plan := rollout.Plan{
		Name: "new-1", Model: "m", Baseline: "old", Candidate: "new", Steps: rollout.Steps(1_000_000, 0, 30),
		Limits: rollout.Limits{MaxErrorRate: 0.02, MaxPSI: 0.25},
	}
	weirtest.Matrix(t, comparing(&plan), s.steps, func(tb testing.TB, r *weirtest.Run) {
		var acts []string
		for _, d := range weirtest.Collect[rollout.Decision](r, "decisions") {
			if d.Action != rollout.Hold {
				acts = append(acts, string(d.Action))
			}
			if d.Action == rollout.RollBack && (!strings.Contains(d.Reason, "calls failed") || d.At < int64(80*time.Second)) {
				tb.Errorf("%+v", d)
			}
		}
		routings := weirtest.Collect[model.Routing](r, "routings")
		if strings.Join(acts, " ") != "start roll-back" || len(routings) != 2 {
			tb.Fatalf("%q, %+v", acts, routings)
		}
		if r := routings[0]; r.Version != 1 || r.Arms[0] != (model.Share{Arm: "new", Weight: 3000}) {
			tb.Errorf("%+v", r)
		}
		if r := routings[1]; r.Version != 2 || r.Arms[0].Weight != 0 || r.Arms[1] != (model.Share{Arm: "old", Weight: model.FullWeight}) {
			tb.Errorf("%+v", r)
		}
	}, weirtest.Source[rollout.Seen]("answers"), weirtest.Source[rollout.Seen]("outcomes"), weirtest.Sink[rollout.Report]("reports"),
		weirtest.Sink[model.Routing]("routings"), weirtest.Sink[rollout.Decision]("decisions"), weirtest.InKeyOrder("decisions", "routings"))
}

func TestMistakesInComparisonsAreReported(t *testing.T) {
	_, err := weir.Compile(weir.NewJob("bad", func(j *weir.Job) {
		seen := weir.From(j, "seen", generator.New(func(uint64) rollout.Seen { return rollout.Seen{} }, generator.Count(1)), weir.Ascending[rollout.Seen](nil))
		reports := weir.Compare(seen, "wide", rollout.Config{Window: -1})
		weir.Compare(seen, "fine", rollout.Config{Bins: rollout.Bins{0.5, 0.1}})
		weir.Rollout(reports, "planless", rollout.Plan{})
	}))
	for _, want := range []string{"WEIR-0130", "compare wide: the window is -1ns", "compare fine: the edges of the bins do not ascend", "rollout planless", "it has 0 steps", "compare_test.go"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the errors do not say %q:\n%v", want, err)
		}
	}
}
