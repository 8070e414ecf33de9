package weir_test

import (
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/rollout"
	"github.com/weirflow/weir/weirtest"
)

// TestAStepExpiresWithoutReports: MaxTime is over although nothing is answered any more.
// The end of the input is no such time.
func TestAStepExpiresWithoutReports(t *testing.T) {
	spec := weir.NewJob("silent", func(j *weir.Job) {
		reports := weir.From(j, "reports", memory.NewSource[rollout.Report](), weir.Ascending(func(r rollout.Report) time.Time { return time.Unix(0, r.End) }))
		told := weir.NewTag[rollout.Decision]("told")
		routings := weir.Rollout(reports, "take-over", rollout.Plan{
			Name: "one", Model: "m", Baseline: "a", Candidate: "b", Steps: []rollout.Step{{Weight: 100, MaxTime: time.Hour}},
			Limits: rollout.Limits{MaxErrorRate: 0.05},
		}, weir.DecisionsTo(told))
		weir.To(routings, "routings", memory.NewSink[model.Routing]().Sink())
		weir.To(weir.SideOutput(routings, told), "decisions", memory.NewSink[rollout.Decision]().Sink())
	})
	start := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		reached time.Duration
		want    int
	}{{0, 1}, {59 * time.Minute, 1}, {61 * time.Minute, 2}} {
		run := weirtest.New(t, spec, weirtest.Source[rollout.Report]("reports"), weirtest.Sink[model.Routing]("routings"), weirtest.Sink[rollout.Decision]("decisions"))
		weirtest.Feed(run, "reports", weirtest.Value(rollout.Report{Model: "m", Start: start.Add(-time.Minute).UnixNano(), End: start.UnixNano()}),
			weirtest.Checkpoint(), weirtest.Crash(), weirtest.Restore(2), weirtest.Watermark(start.Add(c.reached)), weirtest.EndOfInput())
		got, decisions := weirtest.Collect[model.Routing](run, "routings"), weirtest.Collect[rollout.Decision](run, "decisions")
		if len(got) != c.want || len(decisions) != c.want {
			t.Fatalf("after %v: %+v, %+v", c.reached, got, decisions)
		}
		if last := decisions[len(decisions)-1]; c.want == 2 && (last.Action != rollout.RollBack || got[1].Version != 2 || got[1].Arms[0].Weight != 0 || last.At != start.Add(time.Hour).UnixNano()) {
			t.Errorf("%+v, %+v", last, got[1])
		}
	}
}
