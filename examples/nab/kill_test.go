package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/nab"
)

// With all series:
//
//	go test ./examples/nab -run Kill -v -args -data DIR
var (
	dataDir = flag.String("data", sample, "directory of the benchmark")
	kills   = flag.Int("kills", 3, "how often the job is killed")
	seed    = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the kills")
)

// TestMain is, in a child process, the program with a job that can be slow.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		if err := child(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child runs the job: data, directory, parallelism, rows for each millisecond.
func child(args []string) error {
	parallelism, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	pace, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	return weir.Run(context.Background(), job(slow{series{args[0]}, pace}, filepath.Join(args[1], "out")), options(args[1], parallelism))
}

func options(dir string, parallelism int) weir.Options {
	return weir.Options{DataDir: filepath.Join(dir, "weir"), Parallelism: parallelism, Interval: weir.MinInterval, Memory: weir.MinMemory}
}

// slow is a source that takes a millisecond for so many rows, so that there is
// something to kill.
type slow struct {
	series
	pace int
}

// Open implements connectors.Source.
func (s slow) Open(ctx context.Context, split connectors.Split, after connectors.Position, env connectors.ReaderEnv) (connectors.Reader[Reading], error) {
	r, err := s.series.Open(ctx, split, after, env)
	return slowRows{r, s.pace}, err
}

type slowRows struct {
	connectors.Reader[Reading]
	pace int
}

// Poll implements connectors.Reader.
func (r slowRows) Poll(dst *connectors.Records[Reading], most int) (connectors.Poll, error) {
	time.Sleep(time.Millisecond)
	return r.Reader.Poll(dst, min(most, r.pace))
}

// TestKill kills the job with SIGKILL at random points, starts it again at another
// parallelism, and compares all that it wrote with what a job writes that nobody
// disturbs.
func TestKill(t *testing.T) {
	r := rand.New(rand.NewPCG(*seed, 1))
	t.Logf("seed %d", *seed)
	calm := t.TempDir()
	if err := weir.Run(t.Context(), job(series{*dataDir}, filepath.Join(calm, "out")), options(calm, 1)); err != nil {
		t.Fatal(err)
	}
	want := read(t, filepath.Join(calm, "out"), "scores")
	whole, rows := written(t, calm), 0
	for _, all := range want {
		rows += len(all)
	}
	if len(want) < 3 || rows == 0 {
		t.Fatalf("%d series with %d rows", len(want), rows)
	}
	// A run takes about a second.
	pace := max(rows/1000, 1)
	dir := t.TempDir()
	for i := range *kills {
		// At random within the i-th part of the output.
		target := int64((float64(i) + r.Float64()) / float64(*kills+1) * float64(whole))
		killOnce(t, dir, 1+r.IntN(3), pace, target, time.Duration(r.IntN(20_000))*time.Microsecond)
		t.Logf("killed with %d of %d bytes visible", written(t, dir), whole)
	}
	if seen := written(t, dir); seen == 0 || seen >= whole {
		t.Errorf("the last kill was with %d of %d bytes visible", seen, whole)
	}
	cmd, errs := start(t, dir, 2, pace)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, errs)
	}
	for _, sink := range []string{"scores", "alerts"} {
		want := read(t, filepath.Join(calm, "out"), sink)
		same(t, sink, read(t, filepath.Join(dir, "out"), sink), want)
	}
	t.Logf("%d series, %d rows: the same scores and alerts after %d kills", len(want), rows, *kills)
	same(t, "scores without a job", want, expected(t, *dataDir))
	benchmark(t, read(t, filepath.Join(dir, "out"), "scores"))
}

// benchmark logs how the benchmark scores what the job found.
func benchmark(t *testing.T, got map[string][]Judged) {
	t.Helper()
	c, err := nab.Load(*dataDir)
	if err != nil {
		t.Fatal(err)
	}
	var raw [][]float64
	for _, name := range c.Names() {
		var scores []float64
		for _, v := range got[name] {
			scores = append(scores, v.Score)
		}
		raw = append(raw, scores)
	}
	all, err := c.EvaluateAll(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		t.Logf("%s: %.2f", s.Profile, s.Value)
	}
}

func start(t *testing.T, dir string, parallelism, pace int) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd, errs := exec.Command(exe, "child", *dataDir, dir, strconv.Itoa(parallelism), strconv.Itoa(pace)), &bytes.Buffer{}
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, errs
}

// killOnce runs the job until it has written so much, and kills it a moment later.
func killOnce(t *testing.T, dir string, parallelism, pace int, target int64, later time.Duration) {
	t.Helper()
	cmd, errs := start(t, dir, parallelism, pace)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	limit := time.After(2 * time.Minute)
	for written(t, dir) <= target {
		select {
		case err := <-ended:
			t.Fatalf("the job ended before it could be killed: %v %s", err, errs)
		case <-limit:
			_ = cmd.Process.Kill()
			<-ended
			t.Fatalf("it wrote %d bytes: %s", written(t, dir), errs)
		case <-time.After(time.Millisecond):
		}
	}
	time.Sleep(later)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; cmd.ProcessState.Exited() {
		t.Fatalf("the job ended before it could be killed: %v %s", err, errs)
	}
}

// written is how many bytes of scores are visible.
func written(t *testing.T, dir string) int64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "out", "scores", "part-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}
