package weir_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/rollout"
)

// fare is a record of the test of the closed loop.
type fare struct{ Rider uint64 }

// rater is a model: its score is a hash of the input. It fails for a share of them.
type rater struct {
	version string
	shift   float64
	fails   uint64 // in a thousand
}

// Invoke implements model.Client.
func (m rater) Invoke(_ context.Context, calls []model.Call[uint64]) ([]model.Result[float64], error) {
	out := make([]model.Result[float64], len(calls))
	for i, c := range calls {
		h := base.HashUint64(c.In)
		if h%1000 < m.fails {
			out[i].Err = &model.Failure{Kind: model.Permanent, What: "it does not like this one"}
			continue
		}
		out[i].Out, out[i].Version = min(float64(h>>11)/(1<<53)*0.7+m.shift, 1), m.version
	}
	return out, nil
}

type predicted = model.Prediction[uint64, float64]

// looped is a job whose rollout reaches its model by way of a stream.
type looped struct {
	predictions *memory.Sink[predicted]
	decisions   *memory.Sink[rollout.Decision]
	canary      rater
}

func (l *looped) spec() weir.JobSpec {
	log := jetstream.Create(jetstream.StreamSpec{Name: "ROUTINGS", Subjects: []string{"routing.>"}, MarkerPrefix: "commit"})
	return weir.NewJob("looped", func(j *weir.Job) {
		src := generator.New(func(i uint64) fare { return fare{Rider: i * i % 9973} }, generator.Rate(4000),
			generator.At(func(i uint64) time.Time { return time.Unix(0, int64(i)*int64(25*time.Millisecond)) }))
		fares := weir.From(j, "fares", src, weir.Ascending[fare](nil))
		control := weir.From(j, "control", jetstream.Stream[model.Routing]("ROUTINGS", jetstream.Subject("routing.>"), log), weir.ProcessingTime[model.Routing]())
		arm := func(m rater) func(model.Env) (model.Client[uint64, float64], error) {
			return func(model.Env) (model.Client[uint64, float64], error) { return m, nil }
		}
		failed := weir.NewTag[model.Failed[fare]]("failed")
		predictions := weir.Predict(weir.KeyBy(fares, "by-rider", func(f fare) uint64 { return f.Rider }), "rate",
			weir.Arms[uint64, float64]{"stable": arm(rater{version: "1"}), "canary": arm(l.canary)}, model.Everything("stable"),
			func(f fare) uint64 { return f.Rider }, model.Bare[fare], weir.FailuresTo(failed), weir.RoutingBy(control))
		weir.To(predictions, "predictions", l.predictions.Sink())
		seen := weir.Union("seen",
			weir.Map(predictions, "answers", func(p predicted) rollout.Seen { return rollout.OfPrediction(p, p.Out) }),
			weir.Map(weir.SideOutput(predictions, failed), "failures", func(f model.Failed[fare]) rollout.Seen { return rollout.OfFailure("rate", f) }))
		reports := weir.Compare(seen, "compare", rollout.Config{Window: 10 * time.Second, Grace: time.Second, Baseline: "stable"})
		told := weir.NewTag[rollout.Decision]("told")
		routings := weir.Rollout(reports, "take-over", rollout.Plan{
			Name: "two", Model: "rate", Baseline: "stable", Candidate: "canary", Steps: rollout.Steps(120, 20*time.Second, 5, 25, 100),
			Limits: rollout.Limits{MaxErrorRate: 0.05, MaxPSI: 0.25},
		}, weir.DecisionsTo(told))
		weir.To(routings, "routings", jetstream.Publish("ROUTINGS", func(model.Routing) string { return "routing.rate" }, jetstream.Lanes(1), jetstream.MarkerPrefix("commit"), log))
		weir.To(weir.SideOutput(routings, told), "decisions", l.decisions.Sink())
	})
}

// TestRolloutClosesTheLoop runs a job whose model is replaced, or is not, by what its
// own predictions look like.
func TestRolloutClosesTheLoop(t *testing.T) {
	for name, c := range map[string]struct {
		canary rater
		acts   string
		reason string
		// last is the arm that answers in the end.
		last string
	}{
		"good":    {rater{version: "2"}, "start promote promote finish", "all limits are kept", "canary"},
		"shifted": {rater{version: "2", shift: 0.3}, "start roll-back", "PSI", "stable"},
		"failing": {rater{version: "2", fails: 300}, "start roll-back", "calls failed", "stable"},
	} {
		t.Run(name, func(t *testing.T) {
			l := &looped{predictions: memory.NewSink[predicted](), decisions: memory.NewSink[rollout.Decision](), canary: c.canary}
			acted := l.run(t, c.last)
			var acts []string
			for _, d := range acted {
				acts = append(acts, string(d.Action))
				t.Logf("%v %s step %d: %s", time.Duration(d.At), d.Action, d.Step, d.Reason)
			}
			if got := strings.Join(acts, " "); got != c.acts || !strings.Contains(acted[len(acted)-1].Reason, c.reason) {
				t.Errorf("got %s: %s", got, acted[len(acted)-1].Reason)
			}
			l.check(t, acted)
		})
	}
}

// run runs the job until the rollout has ended and nothing but its last routing is seen.
func (l *looped) run(t *testing.T, last string) (acted []rollout.Decision) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 90*time.Second)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- weir.Run(ctx, l.spec(), weir.Options{DataDir: t.TempDir(), Interval: 50 * time.Millisecond, Parallelism: 2})
	}()
	over := func() bool {
		acted = nil
		version := uint64(0)
		for _, d := range l.decisions.Visible() {
			if d.Action != rollout.Hold {
				acted = append(acted, d)
			}
			version = max(version, d.Routing.Version)
		}
		if len(acted) < 2 || acted[len(acted)-1].Action == rollout.Promote {
			return false
		}
		all := l.predictions.Visible()
		for _, p := range all[max(0, len(all)-200):] {
			if p.Routing != version || p.Arm != last {
				return false
			}
		}
		return true
	}
	for !over() {
		select {
		case err := <-ended:
			t.Fatalf("the job has ended: %v; decisions %+v", err, acted)
		case <-time.After(50 * time.Millisecond):
		}
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return acted
}

// check holds every prediction against the routing that it says it was made by.
func (l *looped) check(t *testing.T, acted []rollout.Decision) {
	t.Helper()
	riders, err := codec.KeyFor[uint64]()
	if err != nil {
		t.Fatal(err)
	}
	routings := map[uint64]model.Routing{0: model.Everything("stable")}
	for _, d := range acted {
		if d.Routing.Version > 0 {
			routings[d.Routing.Version] = d.Routing
		}
	}
	wrong := 0
	version := map[uint64]uint64{} // the highest of each rider
	counts := map[string]int{}
	for _, p := range l.predictions.Visible() {
		rider := *p.Features
		r := routings[p.Routing]
		share, ok := r.Pick(model.Bucket("rate", riders.Hash(rider)))
		want := "1"
		if p.Arm == "canary" {
			want = l.canary.version
		}
		if !ok || share.Arm != p.Arm || p.ModelVersion != want || p.Propensity != float64(share.Weight)/model.FullWeight || p.Routing < version[rider] {
			if wrong++; wrong < 5 {
				t.Errorf("%+v by %+v", p, r)
			}
		}
		version[rider] = p.Routing
		counts[p.Arm]++
	}
	if t.Logf("%v", counts); counts["canary"] == 0 || counts["stable"] == 0 {
		t.Errorf("predictions by arm: %v", counts)
	}
}
