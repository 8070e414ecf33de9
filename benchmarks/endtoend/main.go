// Command endtoend measures whole jobs: JetStream to JetStream exactly once
// against a bare loop, latencies in open loop, state larger than memory, stored
// bytes, and backpressure. Every figure has its baseline in the same run.
//
//	go run ./benchmarks/endtoend -run jetstream
//	go run ./benchmarks/endtoend -run latency
//	go run ./benchmarks/endtoend -run visible
//	go run ./benchmarks/endtoend -run modeloverload -scale 0.1
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sort"
	"strings"
	"time"
)

// measurement is one named measurement; it prints its own lines.
type measurement struct {
	name, what string
	run        func(ctx context.Context, o options) error
}

type options struct {
	reps    int
	dir     string
	records int
	keys    int
	memory  int64
	scale   float64
	logger  *slog.Logger
}

func measurements() []measurement {
	return []measurement{
		{"jetstream", "JetStream to JetStream, exactly once, against a bare loop", jetstreamThroughput},
		{"latency", "latency through the engine at 10,000 events/s, against a sleeper", engineLatency},
		{"visible", "exactly-once visible latency at 100 ms checkpoints and 1,000 events/s", visibleLatency},
		{"state", "state larger than memory", stateLargerThanMemory},
		{"stored", "stored bytes against changed bytes", storedBytes},
		{"gc", "garbage collection with resident string keys", gcShare},
		{"backpressure", "sink slowed x 10, then input x 10", backpressure},
		{"modelbatch", "a job with a model: batches against one call for each record", modelBatching},
		{"modeloverload", "10,000 events/s for 30 s against a model that takes 1,000/s", modelOverload},
		{"modelflood", "100,000 events/s for 30 s against a model that takes 1,000/s", modelFlood},
		{"modelhang", "checkpoints while 1,000 calls hang for a minute", modelHang},
	}
}

func main() {
	if spec := os.Getenv(stateChild); spec != "" {
		if err := stateChildMain(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if what := os.Getenv(modelChild); what != "" {
		if err := modelChildMain(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	names := make([]string, 0, 16)
	for _, m := range measurements() {
		names = append(names, m.name)
	}
	which := flag.String("run", "", "one of "+strings.Join(names, ", ")+"; all if empty")
	o := options{logger: slog.New(slog.DiscardHandler)}
	flag.IntVar(&o.reps, "reps", 5, "repetitions; medians are printed")
	flag.IntVar(&o.records, "records", 300_000, "records of the throughput measurement")
	flag.IntVar(&o.keys, "keys", 20_000_000, "keys of the state measurement")
	flag.Int64Var(&o.memory, "memory", 512<<20, "budget of the state measurement, in bytes")
	flag.Float64Var(&o.scale, "scale", 1, "part of the length of the measurements of backpressure and models")
	verbose := flag.Bool("v", false, "log what the engine does")
	flag.Parse()
	if *verbose {
		o.logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	fmt.Printf("%s %s/%s, %d cores, %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), time.Now().UTC().Format(time.RFC3339))
	for _, m := range measurements() {
		if *which != "" && *which != m.name {
			continue
		}
		fmt.Printf("\n%s: %s\n", m.name, m.what)
		if err := runOne(m, o); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", m.name, err)
			os.Exit(1)
		}
	}
}

func runOne(m measurement, o options) error {
	dir, err := os.MkdirTemp("", "weir-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.dir = dir
	return m.run(context.Background(), o)
}

// quantile returns the q-quantile of values, which it sorts.
func quantile(v []float64, q float64) float64 {
	sort.Float64s(v)
	return v[min(int(q*float64(len(v))), len(v)-1)]
}

func median(v []float64) float64 { return quantile(append([]float64(nil), v...), 0.5) }

// judge prints a figure beside its bar.
func judge(text string, v float64, ok bool) {
	mark := "meets"
	if !ok {
		mark = "MISSES"
	}
	fmt.Printf("  %-58s %10.3f   %s the bar\n", text, v, mark)
}
