package weir_test

import (
	"strings"
	"testing"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/state"
)

// visits declares states by a function, so that a test can declare wrong ones.
type visits struct {
	weir.NoTimers[string, string]
	declare func(*weir.Declarer)
}

func (f *visits) Declare(d *weir.Declarer)                            { f.declare(d) }
func (f *visits) OnRecord(*weir.Context[string, string], Click) error { return nil }

func process(newFn func() weir.KeyedProcess[string, Click, string], opts ...weir.ProcessOption) weir.JobSpec {
	return weir.NewJob("visits", func(j *weir.Job) {
		in := weir.From(j, "clicks", source(), weir.Ascending(when))
		byUser := weir.KeyBy(in, "by-user", func(c Click) string { return c.User })
		weir.To(weir.Process(byUser, "visits", newFn, opts...), "out", memory.NewSink[string]().Sink())
	})
}

func declares(f func(*weir.Declarer)) func() weir.KeyedProcess[string, Click, string] {
	return func() weir.KeyedProcess[string, Click, string] { return &visits{declare: f} }
}

func TestProcessStatesAreInThePlan(t *testing.T) {
	plan, err := weir.Compile(process(declares(func(d *weir.Declarer) {
		weir.ValueState[int64](d, "count", state.TTL(60e9))
		weir.ListState[string](d, "pages")
		weir.MapState[string, Click](d, "last")
	})))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range plan.Operators {
		for _, s := range o.States {
			got = append(got, o.UID+"/"+s.Name+" "+strings.Fields(s.Schema)[0])
		}
	}
	if want := "visits/count value,visits/pages list,visits/last map"; strings.Join(got, ",") != want {
		t.Errorf("states %q, want %q", got, want)
	}
}

func TestProcessMistakesAreBuildErrors(t *testing.T) {
	tag := weir.NewTag[int]("side")
	nothing := declares(func(*weir.Declarer) {})
	for name, c := range map[string]struct {
		job  weir.JobSpec
		code string
		says string
	}{
		"no function":  {process(nil), "WEIR-0125", "no function"},
		"nil function": {process(func() weir.KeyedProcess[string, Click, string] { return nil }), "WEIR-0125", "nil"},
		"a panic":      {process(declares(func(*weir.Declarer) { panic("oops") })), "WEIR-0125", "oops"},
		"state twice": {process(declares(func(d *weir.Declarer) {
			weir.ValueState[int](d, "n")
			weir.ListState[int](d, "n")
		})), "WEIR-0125", "twice"},
		"state name": {process(declares(func(d *weir.Declarer) { weir.ValueState[int](d, "N!") })), "WEIR-0125", "N!"},
		"state type": {process(declares(func(d *weir.Declarer) { weir.ValueState[func()](d, "n") })), "WEIR-0125", "func"},
		"map key":    {process(declares(func(d *weir.Declarer) { weir.MapState[float64, int](d, "n") })), "WEIR-0125", "float64"},
		"side twice": {process(nothing, weir.WritesTo(tag), weir.WritesTo(tag)), "WEIR-0121", "two side outputs"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := weir.Compile(c.job)
			if err == nil || !strings.Contains(err.Error(), c.code) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "process_test.go:") {
				t.Errorf("error: %v", err)
			}
		})
	}
}
