package model_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/local"
	"github.com/weirflow/weir/operators/model/tree"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/weirtest"
)

// times multiplies by itself, and has its name for a version.
type times struct {
	by   int
	name string
}

func (m times) Invoke(_ context.Context, calls []model.Call[int]) ([]model.Result[int], error) {
	out := make([]model.Result[int], len(calls))
	for i, c := range calls {
		out[i].Out, out[i].Version = m.by*c.In, m.name
	}
	return out, nil
}

func timesArms() weir.Arms[int, int] {
	arm := func(by int) func(model.Env) (model.Client[int, int], error) {
		return func(e model.Env) (model.Client[int, int], error) { return times{by, e.Arm}, nil }
	}
	return weir.Arms[int, int]{"stable": arm(2), "canary": arm(3)}
}

type predicted struct {
	User string
	N    int
	P    model.Prediction[int, int]
}

// routedJob predicts by two arms, with a canary of half of the keys to begin with.
func routedJob(opts ...weir.InferOption) weir.JobSpec {
	return weir.NewJob("routed", func(j *weir.Job) {
		clicks := weir.From(j, "clicks", memory.NewSource[click](), weir.Ascending[click](nil))
		control := weir.From(j, "routings", memory.NewSource[model.Routing](), weir.ProcessingTime[model.Routing]())
		byUser := weir.KeyBy(clicks, "by-user", func(c click) string { return c.User })
		shadows := weir.NewTag[model.Shadow[int]]("shadows")
		all := append([]weir.InferOption{
			weir.DropFailures(), weir.RoutingBy(control), weir.ShadowTo(shadows), weir.LogFeatures(model.FeatureValues | model.FeatureHash),
		}, opts...)
		scores := weir.Predict(byUser, "score", timesArms(), canary(1, 5000, "canary"), func(c click) int { return c.N },
			func(c click, p model.Prediction[int, int]) predicted { return predicted{c.User, c.N, p} }, all...)
		again := weir.KeyBy(scores, "again", func(p predicted) string { return p.User })
		weir.To(weir.Map(again.Stream, "same", func(p predicted) predicted { return p }), "scores", memory.NewSink[predicted]().Sink())
		said := weir.SideOutput(scores, shadows)
		byID := weir.KeyBy(said, "by-id", func(s model.Shadow[int]) string { return s.ID })
		weir.To(byID.Stream, "said", memory.NewSink[model.Shadow[int]]().Sink())
	})
}

func routedOptions() []weirtest.Option {
	return []weirtest.Option{
		weirtest.Source[click]("clicks"), weirtest.Source[model.Routing]("routings"), weirtest.Sink[predicted]("scores"),
		weirtest.Sink[model.Shadow[int]]("said"), weirtest.InKeyOrder("scores"),
	}
}

// pure says what is wrong with a prediction by one of routings, which are by version.
func pure(p predicted, routings ...model.Routing) string {
	keys, _ := codec.KeyFor[string]()
	i := slices.IndexFunc(routings, func(r model.Routing) bool { return r.Version == p.P.Routing })
	if i < 0 {
		return "no such routing"
	}
	share, _ := routings[i].Pick(model.Bucket("score", keys.Hash(p.User)))
	by := map[string]int{"stable": 2, "canary": 3}[share.Arm]
	switch {
	case p.P.Arm != share.Arm || p.P.ModelVersion != share.Arm || p.P.Out != by*p.N || p.P.Propensity != float64(share.Weight)/model.FullWeight:
		return fmt.Sprintf("the routing says %+v", share)
	case p.P.V != model.EnvelopeVersion || p.P.Model != "score" || p.P.Features == nil || *p.P.Features != p.N || p.P.FeatureHash == 0 ||
		!strings.HasPrefix(p.P.ID, "score/") || p.P.At != int64(p.N)*1e6 || p.P.Degraded:
		return "the envelope is not right"
	}
	return ""
}

func clicks(from, to int) (steps []weirtest.Step) {
	for n := from; n < to; n++ {
		steps = append(steps, weirtest.Into("clicks", weirtest.AtMillis(int64(n), click{User: fmt.Sprintf("u%d", n%17), N: n})))
		if n%9 == 0 {
			steps = append(steps, weirtest.Into("clicks", weirtest.WatermarkMillis(int64(n-3))))
		}
	}
	return steps
}

func control(r model.Routing) weirtest.Step { return weirtest.Into("routings", weirtest.Value(r)) }

// TestRoutedMatrix: restarts, crashes and parallelism do not change an envelope, nor
// what shadows say.
func TestRoutedMatrix(t *testing.T) {
	const n = 150
	weirtest.Matrix(t, routedJob(), clicks(0, n), func(tb testing.TB, r *weirtest.Run) {
		ids, onCanary := map[string]predicted{}, 0
		for _, p := range weirtest.Collect[predicted](r, "scores") {
			if what := pure(p, canary(1, 5000)); what != "" {
				tb.Errorf("%+v: %s", p, what)
			}
			if ids[p.P.ID] = p; p.P.Arm == "canary" {
				onCanary++
			}
		}
		if len(ids) != n || onCanary == 0 || onCanary == n {
			tb.Errorf("%d predictions, %d by the canary", len(ids), onCanary)
		}
		said := weirtest.Collect[model.Shadow[int]](r, "said")
		for _, s := range said {
			if p := ids[s.ID]; p.P.Arm != "stable" || s.Primary != "stable" || s.Arm != "canary" || s.Out != 3*p.N || s.ModelVersion != "canary" || s.At != p.P.At {
				tb.Errorf("%+v of %+v", s, p)
			}
		}
		if len(said) != n-onCanary {
			tb.Errorf("%d shadows of %d", len(said), n-onCanary)
		}
	}, routedOptions()...)
}

// follows checks the predictions of a key one after another.
type follows struct {
	weir.NoTimers[string, string]
	routings []model.Routing
	last     *state.Value[uint64]
}

func (f *follows) Declare(d *weir.Declarer) { f.last = weir.ValueState[uint64](d, "last") }

func (f *follows) OnRecord(c *weir.Context[string, string], p predicted) error {
	what := pure(p, f.routings...)
	if last, _ := f.last.Get(); p.P.Routing < last {
		what += fmt.Sprintf("routing %d after %d", p.P.Routing, last)
	}
	if what == "" {
		what = "ok"
	}
	f.last.Set(p.P.Routing)
	c.Emit(fmt.Sprint(p.N, " ", what))
	return nil
}

// TestRoutedMatrixWithControl: wherever the barriers are, and so the changes, every
// prediction is by the arm of the routing that it names, and its key goes on from one
// routing to the next.
func TestRoutedMatrixWithControl(t *testing.T) {
	routings := []model.Routing{canary(1, 5000), canary(2, 500), canary(3, model.FullWeight), canary(5, 0)}
	steps := slices.Concat(clicks(0, 40), []weirtest.Step{control(routings[1])}, clicks(40, 80), []weirtest.Step{control(routings[2])},
		clicks(80, 110), []weirtest.Step{control(canary(2, 9000)), control(canary(6, 20_000)), control(routings[3])}, clicks(110, 150))
	job := weir.NewJob("routed", func(j *weir.Job) {
		in := weir.From(j, "clicks", memory.NewSource[click](), weir.Ascending[click](nil))
		control := weir.From(j, "routings", memory.NewSource[model.Routing](), weir.ProcessingTime[model.Routing]())
		byUser := weir.KeyBy(in, "by-user", func(c click) string { return c.User })
		scores := weir.Predict(byUser, "score", timesArms(), canary(1, 5000), func(c click) int { return c.N },
			func(c click, p model.Prediction[int, int]) predicted { return predicted{c.User, c.N, p} },
			weir.DropFailures(), weir.RoutingBy(control), weir.LogFeatures(model.FeatureValues|model.FeatureHash))
		again := weir.KeyBy(scores, "again", func(p predicted) string { return p.User })
		checked := weir.Process(again, "check", func() weir.KeyedProcess[string, predicted, string] { return &follows{routings: routings} })
		weir.To(checked, "wrong", memory.NewSink[string]().Sink())
	})
	weirtest.Matrix(t, job, steps, func(tb testing.TB, r *weirtest.Run) {
		lines := weirtest.Collect[string](r, "wrong")
		if len(lines) != 150 {
			tb.Errorf("%d results", len(lines))
		}
		for _, l := range lines {
			if !strings.HasSuffix(l, " ok") {
				tb.Error(l)
			}
		}
	}, weirtest.Source[click]("clicks"), weirtest.Source[model.Routing]("routings"), weirtest.Sink[string]("wrong"))
}

// TestReplayRoutesIdentically: what comes after a checkpoint goes to the arms it went to
// before the crash, at any parallelism, and what control records say counts from the
// next checkpoint on.
func TestReplayRoutesIdentically(t *testing.T) {
	steps := slices.Concat(
		clicks(0, 30), []weirtest.Step{control(canary(2, 2000, "canary"))}, clicks(30, 60), // still by 1
		[]weirtest.Step{weirtest.Checkpoint()}, clicks(60, 100), // by 2
		[]weirtest.Step{weirtest.Crash(), weirtest.Restore(3)}, clicks(100, 120), // by 2, 60 to 100 again
		[]weirtest.Step{control(canary(3, model.FullWeight)), weirtest.CrashInCommit(), weirtest.Restore(2)}, clicks(120, 140), // by 2 or 3
		[]weirtest.Step{weirtest.Checkpoint()}, clicks(140, 160), // by 3
		[]weirtest.Step{weirtest.Crash(), weirtest.Restore(1)}, clicks(160, 170),
		[]weirtest.Step{weirtest.EndOfInput()},
	)
	var first map[int]predicted
	for _, p := range []int{1, 2, 4} {
		r := weirtest.New(t, routedJob(), append(routedOptions(), weirtest.Parallelism(p))...)
		r.Do(steps...)
		got := map[int]predicted{}
		for _, p := range weirtest.Collect[predicted](r, "scores") {
			if what := pure(p, canary(1, 5000), canary(2, 2000), canary(3, model.FullWeight)); what != "" {
				t.Errorf("%+v: %s", p, what)
			}
			want := uint64(2)
			switch {
			case p.N < 60:
				want = 1
			case p.N >= 120:
				want = 3
			}
			if p.P.Routing != want {
				t.Errorf("record %d by routing %d, want %d", p.N, p.P.Routing, want)
			}
			p.P.Features = nil
			got[p.N] = p
		}
		if len(got) != 170 {
			t.Errorf("%d predictions", len(got))
		}
		if first == nil {
			first = got
		}
		if !maps.Equal(got, first) {
			t.Errorf("at parallelism %d other predictions than at 1", p)
		}
	}
}

func TestRoutedMistakesAreReported(t *testing.T) {
	_, err := weir.Compile(weir.NewJob("bad", func(j *weir.Job) {
		clicks := weir.From(j, "clicks", generator.New(func(uint64) click { return click{} }, generator.Count(1)), weir.Ascending[click](nil))
		control := weir.From(j, "routings", memory.NewSource[model.Routing](), weir.ProcessingTime[model.Routing]())
		byUser := weir.KeyBy(clicks, "by-user", func(c click) string { return c.User })
		n := func(c click) int { return c.N }
		res := func(c click, r model.Result[int]) score { return score{} }
		weir.InferRouted(byUser, "none", weir.Arms[int, int]{}, model.Routing{}, n, res, weir.DropFailures(), weir.ShadowsInFlight(0))
		weir.InferRouted(byUser, "odd", weir.Arms[int, int]{"A": nil}, canary(1, 0, "canary"), n, res, weir.DropFailures())
		weir.Infer(byUser, "one", func(model.Env) (model.Client[int, int], error) { return square{}, nil }, n, res, weir.DropFailures(), weir.RoutingBy(control))
		weir.Predict(byUser, "side", timesArms(), canary(1, 0), n, model.Bare, weir.DropFailures(), weir.ShadowTo(weir.NewTag[model.Shadow[string]]("s")))
		weir.Predict(byUser, "input", weir.Arms[chan int, int]{}, canary(1, 0), func(click) chan int { return nil }, model.Bare, weir.DropFailures())
	}))
	for _, want := range []string{
		"infer none: it has no arms", "infer none: 0 shadows in flight", "infer none: the initial routing: the weights", "infer odd: a function is missing",
		"infer odd: an arm: ", `infer odd: the initial routing: there is no arm "canary"`, "infer odd: the initial routing has shadows",
		"infer one: RoutingBy and ShadowTo are for several arms", "infer side: ShadowTo for predictions of another type than int",
		"infer input: inputs of type chan int", "rout_job_test.go",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the errors do not say %q:\n%v", want, err)
		}
	}
}

// TestSwapsOfArmsUnderLoad: while records come as fast as they can, models of the arm
// without keys are swapped, and then all keys moved to it, again and again. No call
// fails, and every answer is that of the model whose version it has.
func TestSwapsOfArmsUnderLoad(t *testing.T) {
	const swaps = 12
	files := fstest.MapFS{}
	file := func(i int) local.File {
		name := fmt.Sprint(i)
		b, err := json.Marshal(tree.Linear{Features: []string{"n"}, Coefficients: [][]float64{{float64(i)}}, Intercept: []float64{0.5}})
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: b}
		return local.File{Path: name, Version: name, Expect: tree.Expect{SelfTest: []tree.TestRow{{Row: tree.Numbers{2}, Prediction: tree.Numbers{float64(2*i) + 0.5}}}}}
	}
	versions := make([]local.File, swaps+2)
	for i := range versions {
		versions[i] = file(i)
	}
	blueGreen := make([]*local.Client[float64, float64], 2)
	for i := range blueGreen {
		c, err := local.Open(versions[i], local.Codec[float64, float64]{
			Features: []string{"n"}, Row: func(in *float64, row []float64) { row[0] = *in },
			Prediction: func(s []float64) (float64, error) { return s[0], nil },
		}, local.Options{FS: files})
		if err != nil {
			t.Fatal(err)
		}
		blueGreen[i] = c
	}
	wrong := versions[0]
	wrong.Expect.SelfTest = versions[1].Expect.SelfTest
	next := func(i uint64) model.Routing {
		idle := 1 - i%2
		if err := blueGreen[idle].Swap(wrong); err == nil {
			t.Error("a model that does not pass its self-test was taken")
		}
		if err := blueGreen[idle].Swap(versions[i+2]); err != nil {
			t.Error(err)
		}
		return model.Routing{Version: i + 1, Arms: []model.Share{{Arm: []string{"blue", "green"}[idle], Weight: model.FullWeight}}}
	}
	type out struct {
		N       int
		Out     float64
		Version string
		Arm     string
		Routing uint64
	}
	const n = 20_000
	sink, failures := memory.NewSink[out](), memory.NewSink[model.Failed[click]]()
	failed := weir.NewTag[model.Failed[click]]("failed")
	job := weir.NewJob("swaps", func(j *weir.Job) {
		src := generator.New(func(i uint64) click { return click{User: fmt.Sprint(i % 1000), N: int(i)} }, generator.Count(n), generator.Rate(n))
		byUser := weir.KeyBy(weir.From(j, "clicks", src, weir.ProcessingTime[click]()), "by-user", func(c click) string { return c.User })
		routings := weir.From(j, "routings", generator.New(next, generator.Count(swaps), generator.Rate(14)), weir.ProcessingTime[model.Routing]())
		scored := weir.InferRouted(byUser, "score", weir.Arms[float64, float64]{"blue": blueGreen[0].Shared, "green": blueGreen[1].Shared}, model.Everything("blue"),
			func(c click) float64 { return float64(c.N) },
			func(c click, r model.Result[float64]) out { return out{c.N, r.Out, r.Version, r.Arm, r.Routing} },
			weir.FailuresTo(failed), weir.RoutingBy(routings), weir.Batches(model.Batching{MaxBatch: 16, MaxDelay: time.Millisecond}))
		weir.To(scored, "out", sink.Sink())
		weir.To(weir.SideOutput(scored, failed), "failures", failures.Sink())
	})
	if err := weir.Run(t.Context(), job, weir.Options{DataDir: t.TempDir(), Interval: 50 * time.Millisecond, Parallelism: 2}); err != nil {
		t.Fatal(err)
	}
	armOf := func(version int) int { // the first two are those that the arms began with
		if version < 2 {
			return version
		}
		return (version + 1) % 2
	}
	used := map[string]int{}
	for _, o := range sink.Visible() {
		var v int
		if _, err := fmt.Sscan(o.Version, &v); err != nil || o.Out != float64(v*o.N)+0.5 || o.Arm != []string{"blue", "green"}[armOf(v)] || o.Arm != []string{"blue", "green"}[o.Routing%2] {
			t.Fatalf("%+v", o)
		}
		used[o.Version]++
	}
	if len(sink.Visible()) != n || len(failures.Visible()) != 0 || len(used) < swaps/2 {
		t.Errorf("%d results and %d failures for %d records, by %d versions", len(sink.Visible()), len(failures.Visible()), n, len(used))
	}
}
