// Command nab runs anomaly detectors over the Numenta Anomaly Benchmark: one job in
// which each series is a key. See README.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"github.com/weirflow/weir"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	data := flag.String("data", "examples/nab/testdata", "directory of the benchmark, which has data/GROUP/SERIES.csv or .csv.gz")
	dir := flag.String("dir", "", "directory for the output and the checkpoints (default a temporary one)")
	parallelism := flag.Int("parallelism", 1, "subtasks that judge readings")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "nab-"); err != nil {
			return err
		}
		defer os.RemoveAll(*dir)
	}
	out := filepath.Join(*dir, "out")
	if err := weir.Run(ctx, job(series{*data}, out), weir.Options{DataDir: filepath.Join(*dir, "weir"), Parallelism: *parallelism}); err != nil {
		return err
	}
	if ctx.Err() != nil {
		fmt.Println("stopped with a final checkpoint; with -dir the next run goes on from there")
		return nil
	}
	return report(os.Stdout, out)
}

// report prints the alerts.
func report(w io.Writer, out string) error {
	alerts, err := readJudged(filepath.Join(out, "alerts"))
	if err != nil {
		return err
	}
	for _, name := range sortedNames(alerts) {
		fmt.Fprintln(w, name)
		for _, a := range alerts[name] {
			fmt.Fprintf(w, "  %s  %12.6g  %.3f by %s\n", a.At.Format(time.DateTime), a.Value, a.Score, a.By)
		}
	}
	return nil
}

func sortedNames(bySeries map[string][]Judged) []string {
	names := make([]string, 0, len(bySeries))
	for n := range bySeries {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// readJudged reads what a sink wrote, by series, in the order of the series: a key
// stays in its lane, and the names of a lane's files are in order.
func readJudged(dir string) (map[string][]Judged, error) {
	files, err := filepath.Glob(filepath.Join(dir, "part-*.jsonl"))
	if err != nil {
		return nil, err
	}
	out := map[string][]Judged{}
	for _, name := range files {
		if err := readFile(name, out); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return out, nil
}

func readFile(name string, out map[string][]Judged) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := json.NewDecoder(bufio.NewReader(f)); ; {
		var v Judged
		switch err := lines.Decode(&v); err {
		case nil:
			out[v.Series] = append(out[v.Series], v)
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}
