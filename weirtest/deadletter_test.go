package weirtest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/weirtest"
)

// order is a record of these tests: what it does to an operator depends on Note.
type order struct {
	User string
	N    int
	Note string
}

// fussy keeps a sum per user and refuses what it is told to.
type fussy struct{ sum *state.Value[int] }

func (f *fussy) Declare(d *weir.Declarer) { f.sum = weir.ValueState[int](d, "sum") }

func (f *fussy) OnRecord(c *weir.Context[string, string], o order) error {
	if o.Note == "late-panic" {
		c.Emit("never seen")
		panic("process panics at " + o.User)
	}
	if o.Note == "refuse" {
		return fmt.Errorf("order %d is refused", o.N)
	}
	sum, _ := f.sum.Get()
	f.sum.Set(sum + o.N)
	c.Emit(fmt.Sprintf("%s %d", o.User, sum+o.N))
	if o.Note == "timer" {
		c.RegisterEventTimer(c.Timestamp())
	}
	return nil
}

func (f *fussy) OnTimer(c *weir.Context[string, string], _ weir.Timer) error {
	return errors.New("the timer of " + c.Key() + " fails")
}

func fussyJob(sink connectors.Sink[weir.DeadLetterRecord], src connectors.Source[order], out connectors.Sink[string]) weir.JobSpec {
	return weir.NewJob("fussy", func(j *weir.Job) {
		bad := weir.OnError(weir.DeadLetter)
		in := weir.From(j, "in", src, weir.BoundedOutOfOrderness[order](0, nil), bad)
		kept := weir.Filter(in, "keep", func(o order) bool {
			if o.Note == "filter-panic" {
				panic("filter panics")
			}
			return o.Note != "drop"
		}, bad)
		mapped := weir.Map(kept, "map", func(o order) order {
			if o.Note == "map-panic" {
				var m map[string]int
				m[o.User]++ //lint:ignore SA5000 the panic is what is tested
			}
			return o
		}, bad)
		tried := weir.TryMap(mapped, "try", func(o order) (order, error) {
			if o.Note == "try" {
				return o, errors.New("try refuses " + o.User)
			}
			return o, nil
		}, bad)
		flat := weir.FlatMap(tried, "flat", func(o order, emit func(order)) {
			emit(o)
			if o.Note == "flat-panic" {
				panic(fmt.Errorf("flat map panics"))
			}
		}, bad)
		by := weir.KeyBy(flat, "by-user", func(o order) string { return o.User })
		weir.To(weir.Process(by, "sums", func() weir.KeyedProcess[string, order, string] { return &fussy{} }, bad), "out", out)
		weir.DeadLetters(j, "dead", sink)
	})
}

func steps(notes ...string) []weirtest.Step {
	var out []weirtest.Step
	for i, n := range notes {
		user := string(rune('a' + i%3))
		if n == "malformed" {
			out = append(out, weirtest.Malformed([]byte("{no"), errors.New("that is not JSON")))
			continue
		}
		out = append(out, weirtest.WithHeaders(weirtest.AtMillis(int64(1000*i+1000), order{user, i, n}), map[string]string{"n": fmt.Sprint(i)}))
	}
	return append(out, weirtest.WatermarkMillis(1_000_000))
}

func TestDeadLettersOfEveryOperator(t *testing.T) {
	notes := []string{
		"", "", "", "filter-panic", "drop", "malformed", "map-panic", "try", "", "flat-panic", "late-panic", "refuse", "timer", "", "", "",
	}
	golden := func(tb testing.TB, r *weirtest.Run) {
		dead := weirtest.Collect[weir.DeadLetterRecord](r, "dead")
		got := map[string]string{}
		for _, d := range dead {
			got[d.Operator+" "+d.Kind] += d.Code + " " + d.Error + ";"
			if d.Attempt != 1 || d.Job != "fussy" || len(d.Plan) != 16 || len(d.ID) != 32 || d.Version != 1 || d.Truncated() {
				tb.Errorf("letter: %+v", d)
			}
			if d.Kind == "record" && d.Headers.Get("n") == "" || d.Kind != "event-timer" && !strings.Contains(d.Source, "source in, split 0") {
				tb.Errorf("headers %v, source %q", d.Headers, d.Source)
			}
			if panicked := d.Code == "WEIR-0701"; panicked != strings.Contains(d.Stack, "deadletter_test.go:") || strings.Contains(d.Stack, "/operators/") {
				tb.Errorf("%s: stack %q", d.Code, d.Stack)
			}
		}
		want := map[string]string{
			"in source":        "WEIR-0605 that is not JSON;",
			"keep record":      "WEIR-0701 panic: filter panics;",
			"map record":       "WEIR-0701 panic: assignment to entry in nil map;",
			"try record":       "WEIR-0702 try refuses b;",
			"flat record":      "WEIR-0701 panic: flat map panics;",
			"sums record":      "WEIR-0701 panic: process panics at b;WEIR-0702 order 11 is refused;",
			"sums event-timer": "WEIR-0702 timer at 1970-01-01T00:00:13Z: the timer of a fails;",
		}
		for k, w := range want {
			if g := got[k]; g != w && !(k == "sums record" && len(g) == len(w)) {
				tb.Errorf("%s: %q, want %q", k, g, w)
			}
		}
		out := weirtest.Collect[string](r, "out")
		slices.Sort(out)
		if want := []string{"a 0", "a 12", "a 27", "b 1", "b 14", "c 10", "c 2", "c 24"}; !slices.Equal(out, want) {
			tb.Errorf("output %q, want %q", out, want)
		}
		// outputs + filtered + dead letters = inputs; the letter of the timer is of none.
		if len(out)+1+len(dead)-1 != len(notes) {
			tb.Errorf("%d outputs and %d dead letters of %d inputs", len(out), len(dead), len(notes))
		}
	}
	weirtest.Matrix(t, fussyJob(memory.NewSink[weir.DeadLetterRecord]().Sink(), memory.NewSource[order](), memory.NewSink[string]().Sink()), steps(notes...), golden,
		weirtest.Source[order]("in"), weirtest.Sink[string]("out"), weirtest.Sink[weir.DeadLetterRecord]("dead"))
}

func TestDeadLettersOfABuild(t *testing.T) {
	build := func(dead int, policy weir.Policy) error {
		_, err := weir.Compile(weir.NewJob("job", func(j *weir.Job) {
			in := weir.From(j, "in", memory.NewSource[order](), weir.ProcessingTime[order]())
			same := weir.TryMap(in, "try", func(o order) (order, error) { return o, nil }, weir.OnError(policy))
			weir.To(same, "out", memory.NewSink[order]().Sink())
			for i := range dead {
				weir.DeadLetters(j, fmt.Sprint("dead-", i), memory.NewSink[weir.DeadLetterRecord]().Sink())
			}
		}))
		return err
	}
	if err := build(1, weir.DeadLetter); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		dead   int
		policy weir.Policy
		want   []string
	}{
		{0, weir.DeadLetter, []string{"WEIR-0140", "operator try", "deadletter_test.go:", "weir.DeadLetters(j,"}},
		{2, weir.DeadLetter, []string{"WEIR-0141", "deadletter_test.go:"}},
		{1, weir.Skip, []string{"WEIR-0142", "OnError(DeadLetter)"}},
	} {
		err := build(c.dead, c.policy)
		for _, w := range c.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%d places, policy %v: %v; it lacks %q", c.dead, c.policy, err, w)
			}
		}
	}
}
