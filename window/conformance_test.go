package window_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/weirtest"
	"github.com/weirflow/weir/window"
)

// casesFlag names another file of cases; see testdata/README.md for the form.
var casesFlag = flag.String("cases", "", "absolute path of a file of conformance cases; the copy in testdata if not given")

const ms = int64(time.Millisecond)

// testCase is a case of any kind.
type testCase struct {
	ID, Kind string

	SizeMs       int64   `json:"size_ms"`
	SlideMs      int64   `json:"slide_ms"`
	AlignMs      int64   `json:"align_ms"`
	EventMs      int64   `json:"event_ms"`
	WindowStarts []int64 `json:"window_starts_ms"`

	GapMs    int64   `json:"gap_ms"`
	EventsMs []int64 `json:"events_ms"`
	Sessions [][2]int64

	Window struct {
		Type       string
		SizeMs     int64 `json:"size_ms"`
		SlideMs    int64 `json:"slide_ms"`
		AlignMs    int64 `json:"align_ms"`
		GapMs      int64 `json:"gap_ms"`
		LatenessMs int64 `json:"allowed_lateness_ms"`
	}
	WatermarkDelayMs *int64 `json:"watermark_delay_ms"`
	Events           []json.RawMessage
	Expected         []map[string]any
	Late             []any

	DelayMs int64 `json:"delay_ms"`
	Steps   []json.RawMessage
	Rule    string
	Alerts  []int64
}

// decode reads JSON with exact numbers.
func decode(t testing.TB, b []byte, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
}

// TestConformance runs every case of the file as a subtest named by its id: each
// against the arithmetic of the package where it speaks of that alone, and as a
// job under the matrix.
func TestConformance(t *testing.T) {
	path := *casesFlag
	switch {
	case path == "":
		path = filepath.Join("testdata", "cases.jsonl")
	case !filepath.IsAbs(path):
		t.Fatalf("-cases %s: give an absolute path", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, len(b)+1)
	for sc.Scan() {
		line := bytes.TrimSpace(sc.Bytes())
		if len(line) == 0 {
			continue
		}
		var c testCase
		var head struct{ ID, Kind string }
		decode(t, line, &head)
		if head.Kind != "session-join" {
			decode(t, line, &c)
		}
		ran++
		t.Run(head.ID, func(t *testing.T) { runCase(t, head.Kind, c) })
	}
	if ran == 0 {
		t.Fatalf("%s holds no case", path)
	}
	t.Logf("%d cases of %s", ran, path)
}

func runCase(t *testing.T, kind string, c testCase) {
	switch kind {
	case "assign":
		runAssign(t, c)
	case "window":
		runWindow(t, c)
	case "session-merge":
		runSessionMerge(t, c)
	case "watermark":
		runWatermark(t, c)
	case "keyed-timer":
		runKeyedTimer(t, c)
	case "two-stage-window":
		runTwoStage(t, c)
	case "session-join":
		t.Skip("not covered: joins of sessions are not built yet")
	default:
		t.Fatalf("the kind %q is not known", kind)
	}
}

// event is the record of the jobs: a value as its JSON text.
type event struct {
	Key   string
	Time  int64
	Value string
}

func at(e event) time.Time { return time.Unix(0, e.Time).UTC() }

// fed returns the steps that feed events one by one.
func fed(events []event) []weirtest.Step {
	var steps []weirtest.Step
	for _, e := range events {
		steps = append(steps, weirtest.Value(e))
	}
	return steps
}

// never is an out-of-orderness bound with which only the end of input closes
// windows.
const never = time.Duration(window.MaxSpan)

// noSink stands for the sink that the test binds.
func noSink[T any]() connectors.Sink[T] { return connectors.Sink[T]{} }

type (
	listed  = weir.Windowed[string, []string]
	figured = weir.Windowed[string, float64]
)

// figures are the aggregates of numbers that a case may ask for.
var figures = []string{"max", "min", "sum", "mean"}

func figure(name string, in weir.KeyedStream[string, event], spec window.Spec) weir.Stream[figured] {
	f := func(e event) float64 {
		var v float64
		_ = json.Unmarshal([]byte(e.Value), &v)
		return v
	}
	switch name {
	case "max":
		return weir.Aggregate(in, name, spec, weir.Max(f))
	case "min":
		return weir.Aggregate(in, name, spec, weir.Min(f))
	case "sum":
		return weir.Aggregate(in, name, spec, weir.Sum(f))
	}
	return weir.Aggregate(in, name, spec, weir.Mean(f))
}

// windowJob reads source "in" and writes the values of each window to "values",
// late records to "late", and figures to sinks of their names.
func windowJob(spec window.Spec, delay time.Duration, figs []string) weir.JobSpec {
	return weir.NewJob("conformance", func(j *weir.Job) {
		in := weir.From[event](j, "in", nil, weir.BoundedOutOfOrderness(delay, at), weir.WatermarkEveryRecord())
		late := weir.NewTag[event]("late")
		keyed := weir.KeyBy(in, "by-key", func(e event) string { return e.Key })
		out := weir.Aggregate(keyed, "windows", spec, weir.Collect(func(e event) string { return e.Value }), weir.LateTo(late))
		weir.To(out, "values", noSink[listed]())
		weir.To(weir.SideOutput(out, late), "late", noSink[event]())
		for _, name := range figs {
			weir.To(figure(name, keyed, spec), "to-"+name, noSink[figured]())
		}
	})
}

// output is what a windowJob has written.
type output struct {
	values  []listed
	late    []event
	figures map[string][]figured
}

// runMatrix runs a windowJob under the matrix.
func runMatrix(t *testing.T, spec window.Spec, delay time.Duration, figs []string, events []event, golden func(testing.TB, output)) {
	t.Helper()
	opts := []weirtest.Option{weirtest.Source[event]("in"), weirtest.Sink[listed]("values"), weirtest.Sink[event]("late")}
	for _, name := range figs {
		opts = append(opts, weirtest.Sink[figured]("to-"+name))
	}
	weirtest.Matrix(t, windowJob(spec, delay, figs), fed(events), func(tb testing.TB, r *weirtest.Run) {
		tb.Helper()
		o := output{values: weirtest.Collect[listed](r, "values"), late: weirtest.Collect[event](r, "late"), figures: map[string][]figured{}}
		for _, name := range figs {
			o.figures[name] = weirtest.Collect[figured](r, "to-"+name)
		}
		golden(tb, o)
	}, opts...)
}

func runAssign(t *testing.T, c testCase) {
	spec := window.Sliding(dur(c.SizeMs), dur(c.SlideMs), window.Offset(dur(c.AlignMs)))
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, w := range spec.AppendWindows(nil, c.EventMs*ms) {
		if w.End-w.Start != c.SizeMs*ms {
			t.Errorf("window %v has the wrong size", w)
		}
		got = append(got, w.Start/ms)
	}
	if !slices.Equal(got, c.WindowStarts) {
		t.Errorf("starts %v, want %v", got, c.WindowStarts)
	}
	runMatrix(t, spec, never, nil, []event{{Time: c.EventMs * ms}}, func(tb testing.TB, o output) {
		got := []int64{}
		for _, w := range o.values {
			got = append(got, w.Start.UnixMilli())
		}
		slices.Sort(got)
		want := append([]int64{}, c.WindowStarts...)
		slices.Sort(want)
		if !slices.Equal(got, want) || len(o.late) > 0 {
			tb.Errorf("the job has windows from %v and late records %v, want windows from %v", got, o.late, want)
		}
	})
}

func dur(millis int64) time.Duration { return time.Duration(millis * ms) }

func runSessionMerge(t *testing.T, c testCase) {
	spec := window.Session(dur(c.GapMs))
	rules := spec.SessionRules()
	var set window.SessionSet
	var events []event
	for _, e := range c.EventsMs {
		set = set.Apply(set.Place(rules, e*ms, base.MinTime))
		events = append(events, event{Time: e * ms})
	}
	var got [][2]int64
	for _, iv := range set {
		got = append(got, [2]int64{iv.First / ms, iv.Last / ms})
	}
	if !slices.Equal(got, c.Sessions) {
		t.Errorf("sessions %v, want %v", got, c.Sessions)
	}
	runMatrix(t, spec, never, nil, events, func(tb testing.TB, o output) {
		var got [][2]int64
		records := 0
		for _, w := range o.values {
			got = append(got, [2]int64{w.Start.UnixMilli(), w.End.UnixMilli() - c.GapMs})
			records += len(w.Value)
		}
		slices.SortFunc(got, func(a, b [2]int64) int { return int(a[0] - b[0]) })
		if !slices.Equal(got, c.Sessions) || records != len(events) {
			tb.Errorf("the job has sessions %v of %d records, want %v of %d", got, records, c.Sessions, len(events))
		}
	})
}

// text renders a JSON value canonically; a key that is a string stands for itself.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case json.Number:
		return v.String()
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func sameBag(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func compareBags(tb testing.TB, what string, got, want []string) {
	tb.Helper()
	if !sameBag(got, want) {
		tb.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}
