package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/nab"
	"github.com/weirflow/weir/operators/anomaly"
	"github.com/weirflow/weir/weirtest"
)

var update = flag.Bool("update", false, "write the golden file")

const (
	sample = "testdata"
	golden = "testdata/alerts.golden.jsonl"
)

// expected is what detectors find that run over each series without a job.
func expected(tb testing.TB, dir string) map[string][]Judged {
	tb.Helper()
	c, err := nab.Load(dir)
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string][]Judged{}
	for i := range c.Series {
		s := &c.Series[i]
		d, err := anomaly.New(anomaly.Best())
		if err != nil {
			tb.Fatal(err)
		}
		for row, v := range s.Values {
			r := d.Observe(s.Times[row], v)
			out[s.Name] = append(out[s.Name], Judged{Series: s.Name, At: s.Times[row], Value: v, Score: r.Score, By: r.By, Alert: r.Alert})
		}
	}
	return out
}

// alertsOf returns the alerts among the scores.
func alertsOf(scores map[string][]Judged) map[string][]Judged {
	out := map[string][]Judged{}
	for name, all := range scores {
		for _, v := range all {
			if v.Alert {
				out[name] = append(out[name], v)
			}
		}
	}
	return out
}

// bySeries groups what a sink of a test run took.
func bySeries(all []Judged) map[string][]Judged {
	out := map[string][]Judged{}
	for _, v := range all {
		out[v.Series] = append(out[v.Series], v)
	}
	return out
}

// same fails unless both have the same readings, judged the same to the last bit,
// in the same order in each series.
func same(tb testing.TB, what string, got, want map[string][]Judged) {
	tb.Helper()
	for name := range got {
		if _, ok := want[name]; !ok {
			tb.Errorf("%s: %s should not be there", what, name)
		}
	}
	for _, name := range sortedNames(want) {
		g, w := got[name], want[name]
		if len(g) != len(w) {
			tb.Errorf("%s: %s has %d readings, want %d", what, name, len(g), len(w))
			continue
		}
		for i := range w {
			// No score is NaN, and none is a negative zero.
			if g[i].At.Equal(w[i].At) {
				g[i].At = w[i].At
			}
			if g[i] != w[i] {
				tb.Errorf("%s: %s row %d\n\t%+v, want\n\t%+v", what, name, i, g[i], w[i])
				break
			}
		}
	}
}

// steps feeds the series of the sample in turn, in runs, as a source does.
func steps(t *testing.T) []weirtest.Step {
	t.Helper()
	src := series{sample}
	splits, err := src.Splits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var readers []connectors.Reader[Reading]
	for _, s := range splits {
		r, err := src.Open(t.Context(), s, connectors.Position{}, connectors.ReaderEnv{})
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	var out []weirtest.Step
	for open := len(readers); open > 0; {
		open = 0
		for _, r := range readers {
			var batch connectors.Records[Reading]
			p, err := r.Poll(&batch, 40)
			if err != nil || len(batch.Bad) > 0 {
				t.Fatal(err, batch.Bad)
			}
			if !p.End {
				open++
			}
			var run []weirtest.Step
			for _, v := range batch.Values {
				run = append(run, weirtest.Value(v))
			}
			if len(run) > 0 {
				out = append(out, weirtest.Together(run...))
			}
		}
	}
	return out
}

// goldenAlerts reads the alerts in the golden file.
func goldenAlerts(t *testing.T) map[string][]Judged {
	t.Helper()
	out := map[string][]Judged{}
	if err := readFile(golden, out); err != nil {
		t.Fatal(err)
	}
	if len(out) < 3 {
		t.Fatalf("%s has alerts of %d series", golden, len(out))
	}
	return out
}

// TestMatrix runs the job with checkpoints, crashes, other parallelism and
// everything encoded.
func TestMatrix(t *testing.T) {
	want := expected(t, sample)
	if *update {
		writeGolden(t, alertsOf(want))
	}
	alerts := goldenAlerts(t)
	weirtest.Matrix(t, job(series{sample}, "unused"), steps(t), func(tb testing.TB, r *weirtest.Run) {
		tb.Helper()
		same(tb, "scores", bySeries(weirtest.Collect[Judged](r, "scores")), want)
		same(tb, "alerts", bySeries(weirtest.Collect[Judged](r, "alerts")), alerts)
	}, weirtest.Source[Reading]("readings"), weirtest.Sink[Judged]("scores"), weirtest.Sink[Judged]("alerts"),
		weirtest.InKeyOrder("scores", "alerts"))
}

func writeGolden(t *testing.T, alerts map[string][]Judged) {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for _, name := range sortedNames(alerts) {
		for _, v := range alerts[name] {
			if err := e.Encode(v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFromFilesToFiles(t *testing.T) {
	out := t.TempDir()
	o := weir.Options{DataDir: t.TempDir(), Parallelism: 2, Interval: 20 * time.Millisecond}
	if err := weir.Run(t.Context(), job(series{sample}, out), o); err != nil {
		t.Fatal(err)
	}
	same(t, "scores", read(t, out, "scores"), expected(t, sample))
	same(t, "alerts", read(t, out, "alerts"), goldenAlerts(t))
	var text strings.Builder
	if err := report(&text, out); err != nil || strings.Count(text.String(), "\n") < 10 || !strings.Contains(text.String(), "realTraffic/TravelTime_451.csv\n  2015-") {
		t.Errorf("%v: %s", err, &text)
	}
}

func read(t *testing.T, out, sink string) map[string][]Judged {
	t.Helper()
	got, err := readJudged(filepath.Join(out, sink))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestSourceGoesOn reads a series from every position.
func TestSourceGoesOn(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "data", "g")
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	const text = "timestamp,value\n2020-01-01 00:00:00,1\nno row\n2020-01-01 00:10:00.5,3\n2020-01-01 00:15:00,x\n"
	if err := os.WriteFile(filepath.Join(at, "a.csv"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	src := series{dir}
	splits, err := src.Splits(t.Context())
	if err != nil || len(splits) != 1 || splits[0].ID != "g/a.csv" {
		t.Fatal(splits, err)
	}
	day := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	want := map[uint64]Reading{1: {"g/a.csv", day, 1}, 3: {"g/a.csv", day.Add(10*time.Minute + 500*time.Millisecond), 3}}
	for from := range uint64(5) {
		r, err := src.Open(t.Context(), splits[0], connectors.Position{Started: from > 0, Offset: from}, connectors.ReaderEnv{})
		if err != nil {
			t.Fatal(err)
		}
		got, bad := map[uint64]Reading{}, 0
		for end := false; !end; {
			var dst connectors.Records[Reading]
			p, err := r.Poll(&dst, 1)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range dst.Values {
				got[dst.Pos[i]] = v
			}
			bad += len(dst.Bad)
			end = p.End
		}
		rest := map[uint64]Reading{}
		for pos, v := range want {
			if pos > from {
				rest[pos] = v
			}
		}
		if p := r.Position(); !reflect.DeepEqual(got, rest) || bad != min(2, int(5-from)/2) || p.Offset != 4 || !p.Done || r.Lag() != 0 {
			t.Errorf("after %d: %v, %d bad, %+v", from, got, bad, p)
		}
	}
	if _, err := src.Open(t.Context(), splits[0], connectors.Position{Started: true, Offset: 5}, connectors.ReaderEnv{}); err == nil {
		t.Error("a series that became shorter is read")
	}
	if _, err := (series{t.TempDir()}).Splits(t.Context()); err == nil {
		t.Error("a directory without series is read")
	}
}
