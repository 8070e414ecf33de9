package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/file"
	"github.com/weirflow/weir/weirtest"
)

const logFile = "testdata/apache_logs.gz"

// check compares an output with the reference and with the output of bursts.py.
func check(tb testing.TB, o *output) {
	tb.Helper()
	b, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		tb.Fatal(err)
	}
	var want Answers
	if err := json.Unmarshal(b, &want); err != nil {
		tb.Fatal(err)
	}
	if got := o.answers(); !reflect.DeepEqual(got, want) {
		tb.Errorf("answers\n\t%+v, want\n\t%+v", got, want)
	}
	var bursts []Burst
	if err := readLines("testdata/bursts.golden.jsonl", &bursts); err != nil {
		tb.Fatal(err)
	}
	if len(bursts) == 0 || !reflect.DeepEqual(o.bursts, bursts) {
		tb.Errorf("bursts\n\t%+v, want\n\t%+v", o.bursts, bursts)
	}
}

func TestOverTheLog(t *testing.T) {
	out := t.TempDir()
	if err := weir.Run(t.Context(), job(file.Lines(logFile), out), weir.Options{DataDir: t.TempDir(), Parallelism: 2, Interval: 20 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	o, err := readOutput(out)
	if err != nil {
		t.Fatal(err)
	}
	check(t, o)
}

// TestMatrix runs the job with checkpoints, crashes, other parallelism and
// everything encoded.
func TestMatrix(t *testing.T) {
	steps := steps(t)
	weirtest.Matrix(t, job(file.Lines(logFile), "unused"), steps, func(tb testing.TB, r *weirtest.Run) {
		tb.Helper()
		o := &output{
			hours: weirtest.Collect[Hour](r, "hours"), sessions: weirtest.Collect[Session](r, "sessions"), bursts: weirtest.Collect[Burst](r, "bursts"),
			statuses: weirtest.Collect[Day](r, "statuses"), paths: weirtest.Collect[Day](r, "paths"),
		}
		sortBursts(o.bursts)
		check(tb, o)
	}, weirtest.Source[string]("log"), weirtest.Sink[Hour]("hours"), weirtest.Sink[Session]("sessions"), weirtest.Sink[Burst]("bursts"),
		weirtest.Sink[Day]("statuses"), weirtest.Sink[Day]("paths"))
}

// steps feeds the log in runs of lines, as a source that is behind does.
func steps(t *testing.T) []weirtest.Step {
	t.Helper()
	f, err := os.Open(logFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out, run []weirtest.Step
	s := bufio.NewScanner(z)
	for s.Scan() {
		if run = append(run, weirtest.Value(s.Text())); len(run) == 25 {
			out, run = append(out, weirtest.Together(run...)), nil
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return append(out, weirtest.Together(run...))
}

func TestSampleIsTheLog(t *testing.T) {
	b, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sample, b) {
		t.Error("the embedded log is another")
	}
	src, err := open("")
	if err != nil {
		t.Fatal(err)
	}
	if splits, err := src.Splits(t.Context()); err != nil || len(splits) != 1 {
		t.Errorf("splits %v, %v", splits, err)
	}
}

func TestSessionEdge(t *testing.T) {
	line := func(stamp string) weirtest.Step {
		return weirtest.Value(`1.2.3.4 - - [17/May/2015:` + stamp + ` +0000] "GET / HTTP/1.1" 200 1`)
	}
	run := weirtest.New(t, job(file.Lines(logFile), "unused"), weirtest.Source[string]("log"), weirtest.Sink[Hour]("hours"), weirtest.Sink[Session]("sessions"),
		weirtest.Sink[Burst]("bursts"), weirtest.Sink[Day]("statuses"), weirtest.Sink[Day]("paths"))
	run.Do(line("10:00:00"), line("10:30:00"), weirtest.Value("no line of a log"), line("11:00:01"), weirtest.EndOfInput())
	var got []int64
	for _, s := range weirtest.Collect[Session](run, "sessions") {
		got = append(got, s.Requests)
	}
	if !reflect.DeepEqual(got, []int64{2, 1}) {
		t.Errorf("sessions of %v requests; exactly half an hour joins, a second more does not", got)
	}
}

func TestParse(t *testing.T) {
	for line, want := range map[string]Entry{
		`1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /a?b=c HTTP/1.1" 404 - "-" "x"`: {"1.2.3.4", "/a?b=c", 404},
		`::1 - bob [17/May/2015:10:05:03 +0000] "-" 408 0`:                             {"::1", "-", 408},
		`1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 235 "-" "torn`:  {"1.2.3.4", "/", 200},
	} {
		if got, err := parse(line); err != nil || got != want {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
		if got := lineTime(line); !got.Equal(time.Date(2015, 5, 17, 10, 5, 3, 0, time.UTC)) {
			t.Errorf("%s: time %v", line, got)
		}
	}
	for _, line := range []string{"", "1.2.3.4", `1.2.3.4 - - [x] "GET / HTTP/1.1" abc`, `1.2.3.4 - - [x] "GET / HTTP/1.1" 2`, `1.2.3.4 - - [x] "GET`} {
		if got, err := parse(line); err == nil {
			t.Errorf("%q: %+v", line, got)
		}
		if got := lineTime(line); got.Unix() != 0 {
			t.Errorf("%q: time %v", line, got)
		}
	}
}

func TestDamagedOutput(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "part-1.jsonl"), []byte("{\"from\":1}\nno JSON\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var h []Hour
	if err := readParts(dir, &h); err == nil {
		t.Error("a damaged part file was read")
	}
}
