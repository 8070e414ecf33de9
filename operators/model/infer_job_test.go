package model_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/weirtest"
)

type click struct {
	User string
	N    int
}

type score struct {
	User  string
	N     int
	Score int
}

// square answers with squares, after some scheduling, and fails for multiples of 7.
type square struct{}

func (square) Invoke(_ context.Context, calls []model.Call[int]) ([]model.Result[int], error) {
	out := make([]model.Result[int], len(calls))
	var wg sync.WaitGroup
	for i, c := range calls {
		wg.Go(func() {
			if out[i].Out = c.In * c.In; c.In%7 == 0 {
				out[i] = model.Result[int]{Err: &model.Failure{Kind: model.Invalid, What: "sevens make no sense"}}
			}
		})
	}
	wg.Wait()
	return out, nil
}

func scoring(opts ...weir.InferOption) weir.JobSpec {
	return weir.NewJob("scoring", func(j *weir.Job) {
		clicks := weir.From(j, "clicks", generator.New(func(uint64) click { return click{} }, generator.Count(1)), weir.Ascending[click](nil))
		byUser := weir.KeyBy(clicks, "by-user", func(c click) string { return c.User })
		failed := weir.NewTag[model.Failed[click]]("failed")
		scores := weir.Infer(byUser, "score", func(model.Env) (model.Client[int, int], error) { return square{}, nil },
			func(c click) int { return c.N },
			func(c click, r model.Result[int]) score { return score{c.User, c.N, r.Out} },
			append(opts, weir.FailuresTo(failed))...)
		again := weir.KeyBy(scores, "again", func(s score) string { return s.User })
		weir.To(weir.Map(again.Stream, "same", func(s score) score { return s }), "scores", memory.NewSink[score]().Sink())
		weir.To(weir.SideOutput(scores, failed), "failures", memory.NewSink[model.Failed[click]]().Sink())
	})
}

func TestInferInAJob(t *testing.T) {
	for name, opts := range map[string][]weir.InferOption{
		"per key":   {weir.CallsInFlight(3)},
		"ordered":   {weir.ResultOrder(model.Ordered)},
		"unordered": {weir.ResultOrder(model.Unordered), weir.Batches(model.Batching{MaxBatch: 8, InFlight: 2, MaxDelay: -1})},
	} {
		t.Run(name, func(t *testing.T) {
			var steps []weirtest.Step
			for n := range 60 {
				steps = append(steps, weirtest.AtMillis(int64(n), click{User: fmt.Sprintf("u%d", n%5), N: n}))
				if n%9 == 0 {
					steps = append(steps, weirtest.WatermarkMillis(int64(n-3)))
				}
			}
			all := []weirtest.Option{weirtest.Source[click]("clicks"), weirtest.Sink[score]("scores"), weirtest.Sink[model.Failed[click]]("failures")}
			if name != "unordered" {
				all = append(all, weirtest.InKeyOrder("scores"))
			}
			weirtest.Matrix(t, scoring(opts...), steps, func(tb testing.TB, r *weirtest.Run) {
				scores := weirtest.Collect[score](r, "scores")
				failures := weirtest.Collect[model.Failed[click]](r, "failures")
				if len(scores) != 51 || len(failures) != 9 {
					tb.Fatalf("%d scores and %d failures, want 51 and 9", len(scores), len(failures))
				}
				for _, s := range scores {
					if s.Score != s.N*s.N {
						tb.Errorf("%+v", s)
					}
				}
				for _, f := range failures {
					if f.Record.N%7 != 0 || f.Kind != "invalid" || f.Attempts != 1 || !strings.HasPrefix(f.Key, "score/") {
						tb.Errorf("%+v", f)
					}
				}
			}, all...)
		})
	}
}

func TestInferMistakesAreReported(t *testing.T) {
	_, err := weir.Compile(weir.NewJob("bad", func(j *weir.Job) {
		clicks := weir.From(j, "clicks", generator.New(func(uint64) click { return click{} }, generator.Count(1)), weir.Ascending[click](nil))
		byUser := weir.KeyBy(clicks, "by-user", func(c click) string { return c.User })
		weir.Infer(byUser, "none", nil, func(c click) int { return 0 }, func(c click, r model.Result[int]) score { return score{} }, weir.CallsInFlight(0))
		weir.Infer(byUser, "odd", nil, func(c click) int { return 0 }, func(c click, r model.Result[chan int]) score { return score{} },
			weir.FailuresTo(weir.NewTag[model.Failed[score]]("f")))
	}))
	for _, want := range []string{
		"infer none: a function is missing", "infer none: 0 calls in flight", "infer none: it must be said what happens",
		"infer odd: FailuresTo for records of another type than model_test.click", "infer odd: predictions of type chan int", "infer_job_test.go",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the errors do not say %q:\n%v", want, err)
		}
	}
}

// TestInferDoesNotHoldCheckpointsUp lets every call hang, with another task between the
// source and the operator.
func TestInferDoesNotHoldCheckpointsUp(t *testing.T) {
	oracle := newOracle()
	out, plain, ticks := memory.NewSink[outcome](), memory.NewSink[int](memory.WithLanes(2)), memory.NewSink[int]()
	const n = 50_000
	job := weir.NewJob("hanging", func(j *weir.Job) {
		src := generator.New(func(i uint64) item { return item{ID: fmt.Sprint(i), N: int(i)} }, generator.Count(n), generator.Shards(2))
		items := weir.From(j, "items", src, weir.ProcessingTime[item](), weir.Parallelism(2))
		first := weir.KeyBy(items, "first", func(i item) int { return i.N % 10 })
		weir.To(weir.Map(first.Stream, "number", func(i item) int { return i.N }), "plain", plain.Sink())
		by := weir.KeyBy(first.Stream, "second", func(i item) int { return i.N % 100 })
		asked := weir.Infer(by, "ask", func(model.Env) (model.Client[string, answer], error) { return oracle, nil },
			func(i item) string { return i.ID },
			func(i item, r model.Result[answer]) outcome { return outcome{ID: i.ID, Text: r.Out.Text} },
			weir.DropFailures(), weir.CallsInFlight(500), weir.CallDeadline(time.Hour))
		weir.To(asked, "out", out.Sink())
		tick := generator.New(func(i uint64) int { return int(i) }, generator.Rate(1000), generator.Count(4000))
		weir.To(weir.From(j, "ticks", tick, weir.ProcessingTime[int]()), "ticked", ticks.Sink())
	})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- weir.Run(ctx, job, weir.Options{DataDir: t.TempDir(), Interval: 20 * time.Millisecond, Parallelism: 2})
	}()
	waitFor(t, "all calls", func() bool { return len(oracle.asked()) == 1000 })
	// From here on nothing that has to do with the calls moves, and the rest does.
	taken := -1
	for now := 0; now != taken; now = len(plain.Visible()) { // what was under way comes to rest
		taken = now
		before := len(ticks.Visible())
		waitFor(t, "commits of another sink", func() bool { return len(ticks.Visible()) > before+150 })
	}
	if taken < 1000 || taken == n {
		t.Errorf("%d records of %d were taken; want a part of them", taken, n)
	}
	if got := len(out.Visible()); got != 0 || len(oracle.asked()) != 1000 {
		t.Fatalf("%d results without an answer, %d calls", got, len(oracle.asked()))
	}
	close(oracle.all)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, o := range out.Visible() {
		seen[o.ID]++
	}
	if len(seen) != n || len(out.Visible()) != n || len(oracle.asked()) != n {
		t.Errorf("%d results for %d records of %d, and %d calls", len(out.Visible()), len(seen), n, len(oracle.asked()))
	}
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
