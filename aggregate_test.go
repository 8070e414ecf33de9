package weir_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/weirtest"
	"github.com/weirflow/weir/window"
)

type sale struct {
	Shop  string
	At    int64 // seconds
	Price int32
}

func saleAt(s sale) time.Time { return time.Unix(s.At, 0) }

func shop(s sale) string { return s.Shop }

func price(s sale) int32 { return s.Price }

// sale0 is a sale of shop "a".
func sale0(at int64, price int32) weirtest.Step { return weirtest.Value(sale{"a", at, price}) }

// runAggregate runs one aggregate over the steps and renders its results.
func runAggregate[Acc, Out any](t *testing.T, spec window.Spec, agg weir.AggregateFunction[sale, Acc, Out], steps ...weirtest.Step) (results []string, late []sale) {
	t.Helper()
	tag := weir.NewTag[sale]("late")
	spec0 := weir.NewJob("sales", func(j *weir.Job) {
		in := weir.From[sale](j, "in", nil, weir.Ascending(saleAt), weir.WatermarkEveryRecord())
		out := weir.Aggregate(weir.KeyBy(in, "by-shop", shop), "agg", spec, agg, weir.LateTo(tag))
		weir.To(out, "out", connectors.Sink[weir.Windowed[string, Out]]{})
		weir.To(weir.SideOutput(out, tag), "late", connectors.Sink[sale]{})
	})
	run := weirtest.New(t, spec0, weirtest.Source[sale]("in"), weirtest.Sink[weir.Windowed[string, Out]]("out"), weirtest.Sink[sale]("late"))
	run.Do(steps...)
	run.Do(weirtest.EndOfInput())
	for _, r := range weirtest.CollectRecords[weir.Windowed[string, Out]](run, "out") {
		w := r.Value
		results = append(results, fmt.Sprintf("%s %d-%d %v", w.Key, w.Start.Unix(), w.End.Unix(), w.Value))
		if at := w.End.Add(-1); spec.Kind() != window.KindSession && !r.Time.Equal(at) {
			t.Errorf("the event time of %v is %v, want %v", w, r.Time, at)
		}
	}
	return results, weirtest.Collect[sale](run, "late")
}

func wantResults(t *testing.T, got []string, want ...string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReadyMadeAggregates(t *testing.T) {
	steps := []weirtest.Step{sale0(1, 30), sale0(2, -4), sale0(7, 5), sale0(12, 11)}
	ten := window.Tumbling(10 * time.Second)
	sliding := window.Sliding(10*time.Second, 5*time.Second)
	float := func(s sale) float64 { return float64(s.Price) }

	got, _ := runAggregate(t, ten, weir.Count[sale](), steps...)
	wantResults(t, got, "a 0-10 3", "a 10-20 1")
	got, _ = runAggregate(t, ten, weir.Sum(price), steps...)
	wantResults(t, got, "a 0-10 31", "a 10-20 11")
	got, _ = runAggregate(t, ten, weir.Min(price), steps...)
	wantResults(t, got, "a 0-10 -4", "a 10-20 11")
	got, _ = runAggregate(t, ten, weir.Max(price), steps...)
	wantResults(t, got, "a 0-10 30", "a 10-20 11")
	got, _ = runAggregate(t, ten, weir.Max(func(s sale) string { return fmt.Sprint(s.Price) }), steps...)
	wantResults(t, got, "a 0-10 5", "a 10-20 11")
	got, _ = runAggregate(t, ten, weir.Collect(price), steps...)
	wantResults(t, got, "a 0-10 [30 -4 5]", "a 10-20 [11]")
	got, _ = runAggregate(t, sliding, weir.Sum(price), steps...)
	wantResults(t, got, "a -5-5 26", "a 0-10 31", "a 5-15 16", "a 10-20 11")
	got, _ = runAggregate(t, sliding, weir.Sum(float), steps...)
	wantResults(t, got, "a -5-5 26", "a 0-10 31", "a 5-15 16", "a 10-20 11")
	got, _ = runAggregate(t, sliding, weir.Mean(price), steps...)
	wantResults(t, got, "a -5-5 13", "a 0-10 10.333333333333334", "a 5-15 8", "a 10-20 11")
	got, _ = runAggregate(t, window.Session(4*time.Second), weir.Max(float), steps...)
	wantResults(t, got, "a 1-6 30", "a 7-11 5", "a 12-16 11")
}

func TestOnlyExactSumsAreSubtracted(t *testing.T) {
	if _, ok := weir.Sum(price).(weir.Subtracter[int32]); !ok {
		t.Error("a sum of integers can be subtracted")
	}
	type euro float32
	if _, ok := weir.Sum(func(sale) euro { return 0 }).(weir.Subtracter[euro]); ok {
		t.Error("a sum of floating-point numbers cannot be subtracted exactly")
	}
}

func TestLateRecords(t *testing.T) {
	spec := window.Tumbling(10*time.Second, window.AllowedLateness(5*time.Second))
	got, late := runAggregate(t, spec, weir.Count[sale](), sale0(3, 0), sale0(12, 0), sale0(4, 0), sale0(15, 0), sale0(5, 9))
	wantResults(t, got, "a 0-10 1", "a 0-10 2", "a 10-20 2")
	if len(late) != 1 || late[0].Price != 9 {
		t.Errorf("late: %v", late)
	}
}

// TestAggregateMistakes expects every mistake to be reported, with its place.
func TestAggregateMistakes(t *testing.T) {
	tag, other := weir.NewTag[sale]("late"), weir.NewTag[int]("late")
	type sealed struct{ C chan int }
	for _, c := range []struct {
		code, want string
		build      func(*weir.Job, weir.KeyedStream[string, sale])
	}{
		{"WEIR-0122", "size is 0s", func(_ *weir.Job, in weir.KeyedStream[string, sale]) {
			weir.Aggregate(in, "agg", window.Tumbling(0), weir.Count[sale]())
		}},
		{"WEIR-0123", "aggregate agg has no function", func(_ *weir.Job, in weir.KeyedStream[string, sale]) {
			weir.Aggregate[string, sale, int, int](in, "agg", window.Tumbling(1), nil)
		}},
		{"WEIR-0124", "cannot be kept", func(_ *weir.Job, in weir.KeyedStream[string, sale]) {
			weir.Aggregate(in, "agg", window.Tumbling(1), weir.Collect(func(sale) sealed { return sealed{} }))
		}},
		{"WEIR-0120", `operator agg has no side output "late"`, func(_ *weir.Job, in weir.KeyedStream[string, sale]) {
			weir.SideOutput(weir.Aggregate(in, "agg", window.Tumbling(1), weir.Count[sale]()), tag)
		}},
		{"WEIR-0120", `operator f has no side output "late"`, func(_ *weir.Job, in weir.KeyedStream[string, sale]) {
			out := weir.Aggregate(in, "agg", window.Tumbling(1), weir.Count[sale](), weir.LateTo(tag))
			weir.SideOutput(weir.Filter(out, "f", func(weir.Windowed[string, int64]) bool { return true }), tag)
		}},
		{"WEIR-0121", "does not hold records of type int", func(_ *weir.Job, in weir.KeyedStream[string, sale]) {
			weir.SideOutput(weir.Aggregate(in, "agg", window.Tumbling(1), weir.Count[sale](), weir.LateTo(tag)), other)
		}},
		{"WEIR-0121", "the name \"Late\"", func(_ *weir.Job, in weir.KeyedStream[string, sale]) {
			weir.Aggregate(in, "agg", window.Tumbling(1), weir.Count[sale](), weir.LateTo(weir.NewTag[sale]("Late")))
		}},
	} {
		bind := &weir.Bindings{}
		_, err := weir.Compile(weir.NewJob("sales", func(j *weir.Job) {
			in := weir.From[sale](j, "in", nil, weir.Ascending(saleAt))
			c.build(j, weir.KeyBy(in, "by-shop", shop))
		}), weir.WithBindings(bind))
		if err == nil || !strings.Contains(err.Error(), c.code) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "aggregate_test.go:") {
			t.Errorf("%s: error %v, want %q", c.code, err, c.want)
		}
	}
}
