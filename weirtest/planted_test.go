package weirtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/state"
)

// reading is a record of the jobs with planted bugs.
type reading struct {
	Key string
	N   int
	At  time.Time
}

// counts is a job that numbers the records of each key, by way of count.
func counts(count func(weir.KeyedStream[string, reading]) weir.Stream[string]) weir.JobSpec {
	return weir.NewJob("counts", func(j *weir.Job) {
		in := weir.From(j, "in", memory.NewSource[reading](), weir.Ascending(func(r reading) time.Time { return r.At }))
		byKey := weir.KeyBy(in, "by-key", func(r reading) string { return r.Key })
		weir.To(count(byKey), "out", memory.NewSink[string]().Sink())
	})
}

func readings(n int) []Step {
	var steps []Step
	for i := range n {
		steps = append(steps, Value(reading{Key: fmt.Sprint("k", i%5), N: i, At: time.UnixMilli(int64(i) * 1000)}))
	}
	return steps
}

// legFailure collects what one leg of a matrix complains about.
type legFailure struct {
	testing.TB
	msg string
}

func (f *legFailure) Helper() {}
func (f *legFailure) Errorf(format string, args ...any) {
	f.msg += fmt.Sprintf(format, args...) + "\n"
}

func (f *legFailure) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	panic(f)
}

// complaints runs a matrix and returns what its legs complain about, by leg.
func complaints(t *testing.T, spec weir.JobSpec, steps []Step, opts ...Option) map[string]string {
	t.Helper()
	out := map[string]string{}
	opts = append(opts, Source[reading]("in"), Sink[string]("out"))
	runMatrix(func(name string, leg func(testing.TB)) {
		f := &legFailure{TB: t}
		defer func() {
			if r := recover(); r != nil && r != any(f) {
				panic(r)
			}
			if f.msg != "" {
				out[name] = f.msg
			}
		}()
		leg(f)
	}, spec, steps, nil, opts)
	return out
}

// counter numbers the records of a key in declared state.
type counter struct {
	weir.NoTimers[string, string]
	n *state.Value[int]
}

func (f *counter) Declare(d *weir.Declarer) { f.n = weir.ValueState[int](d, "n") }

func (f *counter) OnRecord(c *weir.Context[string, string], _ reading) error {
	n, _ := f.n.Get()
	f.n.Set(n + 1)
	c.Emit(fmt.Sprintf("%s %d", c.Key(), n+1))
	return nil
}

func TestCorrectJobPasses(t *testing.T) {
	spec := counts(func(in weir.KeyedStream[string, reading]) weir.Stream[string] {
		return weir.Process(in, "count", func() weir.KeyedProcess[string, reading, string] { return &counter{} })
	})
	if got := complaints(t, spec, readings(50), InKeyOrder("out")); len(got) != 0 {
		t.Errorf("complaints: %v", got)
	}
}

// forgetful counts in a field, which no checkpoint knows of.
type forgetful struct {
	weir.NoTimers[string, string]
	weir.NoState
	n map[string]int
}

func (f *forgetful) OnRecord(c *weir.Context[string, string], _ reading) error {
	f.n[c.Key()]++
	c.Emit(fmt.Sprintf("%s %d", c.Key(), f.n[c.Key()]))
	return nil
}

func TestStateThatIsNotSnapshottedIsCaught(t *testing.T) {
	spec := counts(func(in weir.KeyedStream[string, reading]) weir.Stream[string] {
		return weir.Process(in, "count", func() weir.KeyedProcess[string, reading, string] {
			return &forgetful{n: map[string]int{}}
		})
	})
	got := complaints(t, spec, readings(50))
	if !strings.Contains(got["crash"], "sink out") {
		t.Errorf("the crash leg says %q", got["crash"])
	}
	if got["straight"] != "" || got["checkpoints"] != "" {
		t.Errorf("legs without a crash complain: %v", got)
	}
}

// unkeyed counts all records of the subtask, so its results depend on how many
// subtasks there are.
type unkeyed struct {
	weir.NoTimers[string, string]
	weir.NoState
	n int
}

func (f *unkeyed) OnRecord(c *weir.Context[string, string], _ reading) error {
	f.n++
	c.Emit(fmt.Sprint(f.n))
	return nil
}

func TestResultsThatDependOnParallelismAreCaught(t *testing.T) {
	spec := counts(func(in weir.KeyedStream[string, reading]) weir.Stream[string] {
		return weir.Process(in, "count", func() weir.KeyedProcess[string, reading, string] { return &unkeyed{} })
	})
	if got := complaints(t, spec, readings(50)); got["checkpoints"] == "" {
		t.Errorf("complaints: %v", got)
	}
}

// hidden is a record with a field that does not survive an exchange.
type hidden struct {
	Key  string
	N    int
	note string
}

func TestFieldsThatAreNotEncodedAreCaught(t *testing.T) {
	spec := weir.NewJob("hidden", func(j *weir.Job) {
		in := weir.From(j, "in", memory.NewSource[reading](), weir.Ascending(func(r reading) time.Time { return r.At }))
		noted := weir.Map(in, "note", func(r reading) hidden { return hidden{Key: r.Key, N: r.N, note: "seen"} })
		byKey := weir.KeyBy(noted, "by-key", func(h hidden) string { return h.Key })
		weir.To(weir.Map(byKey.Stream, "show", func(h hidden) string { return h.note }), "out", memory.NewSink[string]().Sink())
	})
	got := complaints(t, spec, readings(20))
	if got["encoded"] == "" || got["straight"] != "" {
		t.Errorf("complaints: %v", got)
	}
}

func TestOrderWithinAKeyIsComparedOnRequest(t *testing.T) {
	a := map[string][]string{"out": {"1", "2"}}
	b := map[string][]string{"out": {"2", "1"}}
	f := &legFailure{TB: t}
	compare(f, a, b)
	if !strings.Contains(f.msg, "order") {
		t.Errorf("message: %q", f.msg)
	}
}

func TestFailingJobIsReportedAndRestored(t *testing.T) {
	broken := true
	spec := counts(func(in weir.KeyedStream[string, reading]) weir.Stream[string] {
		checked := weir.TryMap(in.Stream, "check", func(r reading) (reading, error) {
			if broken && r.N == 3 {
				return r, errors.New("three is refused")
			}
			return r, nil
		})
		return weir.Map(checked, "show", func(r reading) string { return fmt.Sprint(r.N) })
	})
	run := New(t, spec, Source[reading]("in"), Sink[string]("out"))
	err := run.Try(readings(5)...)
	if err == nil || !strings.Contains(err.Error(), "three is refused") || !strings.Contains(err.Error(), "operator check") {
		t.Fatalf("error: %v", err)
	}
	broken = false
	run.Do(Restore(2))
	run.Do(readings(5)[4], EndOfInput())
	if got := Collect[string](run, "out"); len(got) != 5 {
		t.Errorf("output after the repair: %v", got)
	}
}

// history keeps all readings of a key, and their number.
type history struct {
	counter
	all *state.List[int]
}

func (f *history) Declare(d *weir.Declarer) {
	f.counter.Declare(d)
	f.all = weir.ListState[int](d, "all")
}

func (f *history) OnRecord(c *weir.Context[string, string], r reading) error {
	f.all.Append(r.N)
	return f.counter.OnRecord(c, r)
}

func TestStateIsReadWhileTheJobRuns(t *testing.T) {
	spec := counts(func(in weir.KeyedStream[string, reading]) weir.Stream[string] {
		return weir.Process(in, "history", func() weir.KeyedProcess[string, reading, string] { return &history{} })
	})
	run := New(t, spec, Source[reading]("in"), Sink[string]("out"), Parallelism(2))
	run.Do(readings(23)...)
	check := func() {
		t.Helper()
		for k := range 5 {
			key := fmt.Sprint("k", k)
			n, ok := ReadValue[int](run, "history", "n", key)
			all := ReadList[int](run, "history", "all", key)
			if want := (23 + 4 - k) / 5; !ok || n != want || len(all) != want || all[0] != k {
				t.Errorf("key %s: %d, %v; want %d", key, n, all, want)
			}
		}
		if _, ok := ReadValue[int](run, "history", "n", "nobody"); ok {
			t.Error("a key that never came has state")
		}
	}
	check()
	run.Do(Checkpoint(), Crash(), Restore(3))
	check()
	for _, wrong := range []func() error{
		func() error {
			_, _, err := weir.ReadValue[int](t.Context(), run.job, "histories", "n", "k0")
			return err
		},
		func() error {
			_, _, err := weir.ReadValue[int](t.Context(), run.job, "history", "all", "k0")
			return err
		},
	} {
		var e *weir.Error
		if err := wrong(); !errors.As(err, &e) || e.Code != "WEIR-0712" {
			t.Errorf("error: %v", err)
		}
	}
}
