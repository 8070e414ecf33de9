package windowtest_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/window"
	"github.com/weirflow/weir/window/windowtest"
)

func ev(key string, t base.Timestamp, v string) windowtest.Step[string] {
	return windowtest.Step[string]{Event: &windowtest.Event[string]{Key: key, Time: t, Value: v}}
}

func wm(w base.Timestamp) windowtest.Step[string] { return windowtest.Step[string]{Watermark: w} }

// render writes one line per firing, late and gap record.
func render(r windowtest.Result[string]) []string {
	var out []string
	for _, f := range r.Firings {
		by := ""
		if f.ByRecord {
			by = " by record"
		}
		out = append(out, fmt.Sprintf("%s [%d,%d) %v at %d%s", f.Key, f.Window.Start, f.Window.End, f.Values, f.At, by))
	}
	for _, e := range r.Late {
		out = append(out, "late "+e.Value)
	}
	for _, e := range r.NoWindow {
		out = append(out, "none "+e.Value)
	}
	return out
}

func TestScripts(t *testing.T) {
	for _, c := range []struct {
		name  string
		spec  window.Spec
		steps []windowtest.Step[string]
		want  []string
	}{
		{"sliding with lateness", window.Sliding(10, 5, window.AllowedLateness(3)),
			[]windowtest.Step[string]{ev("k", 7, "a"), ev("j", 2, "b"), wm(9), wm(10), ev("k", 4, "c"), wm(13), ev("k", 3, "d"), ev("k", 6, "e")},
			[]string{"j [-5,5) [b] at 9", "j [0,10) [b] at 10", "k [0,10) [a] at 10", "k [0,10) [a c] at 10 by record", "late d"}},
		{"gaps", window.Sliding(3, 10),
			[]windowtest.Step[string]{ev("k", -8, "a"), ev("k", 2, "b"), ev("k", 3, "c"), wm(base.MaxTime), ev("k", 100, "d")},
			[]string{"k [-10,-7) [a] at 9223372036854775807", "k [0,3) [b] at 9223372036854775807", "late d", "none c"}},
		{"sessions", window.Session(10, window.AllowedLateness(5)),
			[]windowtest.Step[string]{ev("k", 0, "a"), wm(10), ev("k", 10, "b"), wm(20), wm(21), ev("k", 5, "c"), ev("k", 24, "d"), ev("k", 14, "e"), wm(40), ev("k", 24, "f")},
			[]string{"k [0,20) [a b] at 21", "k [0,20) [a b c] at 21 by record", "k [0,34) [a b c d e] at 40", "late f"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := render(windowtest.Run(c.spec, c.steps)); !slices.Equal(got, c.want) {
				t.Errorf("got\n%q, want\n%q", got, c.want)
			}
		})
	}
}

// TestGoldenWindowCases holds the model against the cases of another engine.
func TestGoldenWindowCases(t *testing.T) {
	f, err := os.Open("../testdata/cases.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ran := 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var c goldenCase
		if json.Unmarshal(sc.Bytes(), &c) != nil || c.Kind != "window" {
			continue
		}
		ran++
		t.Run(c.ID, func(t *testing.T) { goldenWindow(t, c) })
	}
	if ran != 3 {
		t.Fatalf("ran %d cases, want 3", ran)
	}
}

type goldenCase struct {
	ID, Kind string
	Window   struct {
		SizeMs  int64 `json:"size_ms"`
		SlideMs int64 `json:"slide_ms"`
		AlignMs int64 `json:"align_ms"`
	}
	DelayMs *int64 `json:"watermark_delay_ms"`
	Events  []struct {
		TS    int64
		Value any
	}
	Expected []struct {
		Start, End int64
		Values     []any
		Max        any
	}
	Late []any
}

const ms = int64(time.Millisecond)

func goldenWindow(t *testing.T, c goldenCase) {
	w := c.Window
	if w.SlideMs == 0 {
		w.SlideMs = w.SizeMs
	}
	spec := window.Sliding(time.Duration(w.SizeMs*ms), time.Duration(w.SlideMs*ms), window.Offset(time.Duration(w.AlignMs*ms)))
	var events []windowtest.Event[any]
	for _, e := range c.Events {
		events = append(events, windowtest.Event[any]{Time: e.TS * ms, Value: e.Value})
	}
	every, delay := len(events)+1, int64(0)
	if c.DelayMs != nil {
		every, delay = 1, *c.DelayMs*ms
	}
	got := windowtest.Run(spec, windowtest.Interleave(events, delay, every))
	var late []any
	for _, e := range got.Late {
		late = append(late, e.Value)
	}
	if fmt.Sprint(late) != fmt.Sprint(c.Late) {
		t.Errorf("late %v, want %v", late, c.Late)
	}
	if len(got.Firings) != len(c.Expected) {
		t.Fatalf("%d firings, want %d", len(got.Firings), len(c.Expected))
	}
	for i, want := range c.Expected {
		f := got.Firings[i]
		if f.Window != (window.Window{Start: want.Start * ms, End: want.End * ms}) {
			t.Errorf("window %v, want [%d, %d) ms", f.Window, want.Start, want.End)
		}
		if want.Max != nil {
			f.Values = []any{slices.MaxFunc(f.Values, func(a, b any) int { return int(a.(float64) - b.(float64)) })}
			want.Values = []any{want.Max}
		}
		if fmt.Sprint(f.Values) != fmt.Sprint(want.Values) {
			t.Errorf("window %v: %v, want %v", f.Window, f.Values, want.Values)
		}
	}
}

func TestFinalKeepsTheLastFiring(t *testing.T) {
	r := windowtest.Run(window.Tumbling(10, window.AllowedLateness(5)), []windowtest.Step[string]{
		ev("k", 1, "a"), wm(10), ev("k", 2, "b"), ev("k", 3, "c"), wm(base.MaxTime)})
	final := r.Final()
	if len(r.Firings) != 3 || len(final) != 1 || len(final[0].Values) != 3 {
		t.Errorf("%v", final)
	}
}
