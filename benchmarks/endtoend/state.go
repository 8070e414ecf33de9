package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// stateChild is the environment variable that makes this program the measured job.
const stateChild = "WEIR_BENCH_STATE_CHILD"

// stateSize is the size of the large state of the measurement.
type stateSize struct {
	Keys   uint64
	Passes uint64
	Memory int64
	Dir    string
}

// stateReport is what the child prints.
type stateReport struct {
	Updates, Wrong int64
	Seconds        float64
	HighWater      int64 // VmHWM in bytes
	Epochs         int64
}

// update changes one key; the last pass checks instead.
type update struct {
	Key  uint64
	Pass uint64
}

// account is a value of 100 bytes.
type account struct {
	Sum uint64
	Pad [92]byte
}

// part is what pass p adds to a key.
func part(key, p uint64) uint64 { return key*0x9e3779b97f4a7c15 + p*p }

// stateLargerThanMemory updates every key several times in random order under a
// memory budget that does not hold them, checks every sum, and reports the high-water
// mark of the process.
func stateLargerThanMemory(ctx context.Context, o options) error {
	size := stateSize{Keys: uint64(o.keys), Passes: 3, Memory: o.memory, Dir: o.dir}
	spec, err := json.Marshal(size)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), stateChild+"="+string(spec))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	var r stateReport
	if err := json.Unmarshal(out, &r); err != nil {
		return err
	}
	ratio := float64(r.HighWater) / float64(size.Memory)
	fmt.Printf("  %d keys of 100 bytes, %d updates in random order in %.0f s (%.0f/s), %d epochs, %d sums wrong\n",
		size.Keys, r.Updates, r.Seconds, float64(r.Updates)/r.Seconds, r.Epochs, r.Wrong)
	judge("sums wrong = 0", float64(r.Wrong), r.Wrong == 0)
	judge(fmt.Sprintf("VmHWM / budget of %d MiB ≤ 1.5", size.Memory>>20), ratio, ratio <= 1.5)
	return nil
}

// ledger adds up per key, and in the pass after the last compares.
type ledger struct {
	weir.NoTimers[uint64, update]
	passes uint64
	wrong  *atomic.Int64
	acc    *state.Value[account]
}

// Declare implements weir.KeyedProcess.
func (l *ledger) Declare(d *weir.Declarer) { l.acc = weir.ValueState[account](d, "account") }

// OnRecord implements weir.KeyedProcess.
func (l *ledger) OnRecord(c *weir.Context[uint64, update], u update) error {
	a, _ := l.acc.Get()
	if u.Pass < l.passes {
		a.Sum += part(u.Key, u.Pass)
		l.acc.Set(a)
		return nil
	}
	var want uint64
	for p := range l.passes {
		want += part(u.Key, p)
	}
	if a.Sum != want {
		l.wrong.Add(1)
	}
	return nil
}

// strides are primes, so that a multiple of each visits every key once.
var strides = [...]uint64{7_368_787, 15_485_863, 32_452_843, 49_979_687}

// stateChildMain is the measured process.
func stateChildMain(spec string) error {
	var size stateSize
	if err := json.Unmarshal([]byte(spec), &size); err != nil {
		return err
	}
	var wrong atomic.Int64
	total := size.Keys * (size.Passes + 1)
	job := weir.NewJob("ledger", func(j *weir.Job) {
		src := generator.New(func(i uint64) update {
			// A different stride in each pass: all keys, in an order that has
			// nothing to do with their place in the table.
			p := i / size.Keys
			return update{Key: (i%size.Keys*strides[p] + p*12_345) % size.Keys, Pass: p}
		}, generator.Count(total))
		in := weir.From(j, "updates", src, weir.ProcessingTime[update]())
		by := weir.KeyBy(in, "by-key", func(u update) uint64 { return u.Key })
		out := weir.Process(by, "ledger", func() weir.KeyedProcess[uint64, update, update] {
			return &ledger{passes: size.Passes, wrong: &wrong}
		})
		weir.To(out, "none", memory.NewSink[update]().Sink())
	})
	plan, err := weir.Compile(job)
	if err != nil {
		return err
	}
	store, err := blob.NewDir(vfs.Default, filepath.Join(size.Dir, "checkpoints"), "bench")
	if err != nil {
		return err
	}
	start := time.Now()
	run, err := engine.Start(context.Background(), plan, engine.Options{
		Blob: store, StateDir: filepath.Join(size.Dir, "state"), Memory: size.Memory, Interval: 10 * time.Second,
	})
	if err != nil {
		return err
	}
	if err := run.Wait(); err != nil {
		return err
	}
	hwm, err := procStatus("VmHWM")
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(stateReport{
		Updates: int64(total), Wrong: wrong.Load(), Seconds: time.Since(start).Seconds(), HighWater: hwm,
		Epochs: run.Checkpoints().Committed,
	})
}

// procStatus reads a figure in bytes of this process from the kernel.
func procStatus(name string) (int64, error) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), name+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("the kernel does not say " + name)
}

// gcShare measures the share of CPU that garbage collection takes while a job
// counts over resident string keys.
func gcShare(_ context.Context, o options) error {
	const keys = 5_000_000
	read := func() (gc, total float64) {
		s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"}}
		metrics.Read(s)
		return s[0].Value.Float64(), s[1].Value.Float64() - s[2].Value.Float64()
	}
	type visit struct{ User string }
	names := make([]string, 1<<16)
	for i := range names {
		names[i] = "user-" + strconv.Itoa(i)
	}
	var gc0, cpu0, gc1, cpu1 float64
	total := uint64(keys * 4)
	job := weir.NewJob("strings", func(j *weir.Job) {
		src := generator.New(func(i uint64) visit {
			if i == keys {
				runtime.GC()
				gc0, cpu0 = read()
			}
			if i == total-1 {
				gc1, cpu1 = read()
			}
			k := i
			if i >= keys {
				k = i * 0x9e3779b97f4a7c15 % keys
			}
			return visit{User: names[k&0xffff] + "/" + strconv.FormatUint(k>>16, 10)}
		}, generator.Count(total))
		in := weir.From(j, "visits", src, weir.ProcessingTime[visit]())
		by := weir.KeyBy(in, "by-user", func(v visit) string { return v.User })
		out := weir.Process(by, "count", func() weir.KeyedProcess[string, visit, visit] { return &counter[visit]{} })
		weir.To(out, "none", memory.NewSink[visit]().Sink())
	})
	if err := runJob(context.Background(), job, o.dir, engine.Options{Memory: 4 << 30, Logger: o.logger}); err != nil {
		return err
	}
	share := 100 * (gc1 - gc0) / (cpu1 - cpu0)
	fmt.Printf("  %d resident string keys, %d further records: GC took %.2f of %.1f CPU seconds\n", keys, total-keys, gc1-gc0, cpu1-cpu0)
	judge("GC CPU, %, ≤ 5", share, share <= 5)
	return nil
}

// counter counts the records of a key.
type counter[T any] struct {
	weir.NoTimers[string, T]
	n *state.Value[uint64]
}

// Declare implements weir.KeyedProcess.
func (c *counter[T]) Declare(d *weir.Declarer) { c.n = weir.ValueState[uint64](d, "n") }

// OnRecord implements weir.KeyedProcess.
func (c *counter[T]) OnRecord(_ *weir.Context[string, T], _ T) error {
	n, _ := c.n.Get()
	c.n.Set(n + 1)
	return nil
}
