package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
	"github.com/weirflow/weir/window"
)

// ev is the record of the keyed benchmarks.
type ev struct {
	Key uint64
	At  int64
}

// keyOf spreads record i over n keys.
func keyOf(i, n uint64) uint64 { return base.HashUint64(i) % n }

// mapLoop counts and sums per key in a Go map.
func mapLoop(records, keys uint64) func() (float64, error) {
	type acc struct{ n, sum uint64 }
	return func() (float64, error) {
		m := make(map[uint64]*acc, keys)
		for k := range keys {
			m[k] = &acc{}
		}
		start := time.Now()
		for i := range records {
			a := m[keyOf(i, keys)]
			if a == nil {
				a = &acc{}
				m[keyOf(i, keys)] = a
			}
			a.n++
			a.sum += i
		}
		return float64(time.Since(start).Nanoseconds()) / float64(records), nil
	}
}

// tableLoop counts per key in the engine's state table, in batches of 256.
func tableLoop(records, keys uint64) func() (float64, error) {
	return func() (float64, error) {
		store, err := state.OpenStore(state.Options{FS: vfs.Default, Dir: tempDir("table"), Memory: 4 << 30, Clock: clock.Real()})
		if err != nil {
			return 0, err
		}
		defer store.Close()
		b, err := store.NewBackend(state.BackendOptions{Task: "loop", Range: base.FullRange})
		if err != nil {
			return 0, err
		}
		defer b.Close()
		g, err := b.Group(state.Decl{Operator: "loop", Name: "count", Key: state.KeyUint64, ValueSize: 8, Schema: "int64"})
		if err != nil {
			return 0, err
		}
		t := g.Namespace(0)
		const batch = 256
		var hs, ks [batch]uint64
		var ps [batch]unsafe.Pointer
		for k := range keys {
			t.UpsertU64(base.HashUint64(k), k)
		}
		start := time.Now()
		for i := uint64(0); i < records; i += batch {
			for j := range uint64(batch) {
				ks[j] = keyOf(i+j, keys)
				hs[j] = base.HashUint64(ks[j])
			}
			t.UpsertBatchU64(hs[:], ks[:], ps[:])
			for j := range batch {
				*(*int64)(ps[j])++
			}
		}
		return float64(time.Since(start).Nanoseconds()) / float64(records), b.Err()
	}
}

func tempDir(name string) string {
	dir, err := os.MkdirTemp("", "weir-bench-"+name)
	if err != nil {
		panic(err)
	}
	dirs = append(dirs, dir)
	return dir
}

var dirs []string

// keyedJob is generator → keyBy → count, with user code that costs spin rounds per
// record.
type keyedJob struct {
	records, keys uint64
	interval      time.Duration // 0: no checkpoints
	spin          int
	// verify restores the last checkpoint, runs to the end and compares the sum of
	// all counts.
	verify bool
	// pause, if set, takes the longest stretch of the task's own CPU time that
	// went by over 64 records, in nanoseconds.
	pause *int64
}

// watch looks at the records of a run from inside the keyed task.
type watch struct {
	job          keyedJob
	seen         uint64
	last         int64
	began, ended atomic.Int64
	sum          atomic.Int64
}

func (w *watch) record() {
	w.seen++
	switch w.seen {
	case w.job.keys + 1:
		w.began.Store(time.Now().UnixNano())
	case w.job.keys + w.job.records:
		w.ended.Store(time.Now().UnixNano())
	}
	if w.job.pause == nil || w.seen&63 != 0 {
		return
	}
	if w.last == 0 {
		runtime.LockOSThread()
	}
	now := threadNanos()
	if w.began.Load() != 0 && w.last != 0 {
		*w.job.pause = max(*w.job.pause, now-w.last)
	}
	w.last = now
}

func (w *watch) spec() weir.JobSpec {
	k, total := w.job, w.job.keys+w.job.records
	return weir.NewJob("keyed", func(j *weir.Job) {
		src := generator.New(func(i uint64) ev {
			if i < k.keys {
				return ev{Key: i}
			}
			return ev{Key: keyOf(i, k.keys)}
		}, generator.Count(total))
		in := weir.From(j, "events", src, weir.ProcessingTime[ev]())
		by := weir.KeyBy(in, "by-key", func(e ev) uint64 { return e.Key })
		by.Stream = weir.Filter(by.Stream, "work", func(e ev) bool {
			w.record()
			return k.spin == 0 || spin(k.spin) != e.Key+1
		})
		counts := weir.Aggregate(by, "count", window.Tumbling(1<<50), weir.Count[ev]())
		weir.To(weir.Filter(counts, "none", func(r weir.Windowed[uint64, int64]) bool {
			w.sum.Add(r.Value)
			return false
		}), "out", memory.NewSink[weir.Windowed[uint64, int64]]().Sink())
	})
}

// run returns nanoseconds per record, the preload of all keys left out.
func (k keyedJob) run() (float64, error) {
	dir := tempDir("keyed")
	defer os.RemoveAll(dir)
	store, err := blob.NewDir(vfs.Default, filepath.Join(dir, "checkpoints"), "bench")
	if err != nil {
		return 0, err
	}
	w := &watch{job: k}
	job, err := k.start(w, store, dir)
	if err != nil {
		return 0, err
	}
	for w.ended.Load() == 0 {
		select {
		case <-job.Done():
			return 0, fmt.Errorf("the job ended: %w", job.Wait())
		case <-time.After(5 * time.Millisecond):
		}
	}
	job.Kill()
	if k.verify {
		if err := k.again(store, dir); err != nil {
			return 0, err
		}
	}
	return float64(w.ended.Load()-w.began.Load()) / float64(k.records), nil
}

func (k keyedJob) start(w *watch, store blob.Store, dir string) (*engine.Job, error) {
	plan, err := weir.Compile(w.spec())
	if err != nil {
		return nil, err
	}
	return engine.Start(context.Background(), plan, engine.Options{
		Blob: store, StateDir: filepath.Join(dir, "state"), Memory: 4 << 30, Interval: k.interval, Manual: k.interval == 0,
	})
}

// again restores what the killed run left and runs to the end of the input.
func (k keyedJob) again(store blob.Store, dir string) error {
	k.spin, k.pause = 0, nil
	w := &watch{job: k}
	job, err := k.start(w, store, dir)
	if err != nil {
		return err
	}
	if err := job.Wait(); err != nil {
		return err
	}
	if got, want := w.sum.Load(), int64(k.keys+k.records); got != want || w.seen >= uint64(want) {
		return fmt.Errorf("restored from a checkpoint, the counts add up to %d after %d records; want %d after fewer", got, w.seen, want)
	}
	return nil
}

//go:noinline
func spin(n int) uint64 {
	x := uint64(88172645463325252)
	for range n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

func keyedBenches() []bench {
	const m = 1_000_000
	one := keyedJob{records: 20 * m, keys: m, interval: time.Second, verify: true}
	return []bench{{
		name: "keyed: count over 1 million keys, checkpoint each second", unit: "ns/record",
		arms: []arm{{"weir", one.run}, {"loop over a Go map", mapLoop(10*m, m)}, {"loop over the same table", tableLoop(20*m, m)}},
		bars: []bar{
			{text: "throughput ≥ 1.2 × the Go map", value: func(v []float64) float64 { return v[1] / v[0] }, min: 1.2},
			{text: "throughput ≥ 0.4 × the same table", value: func(v []float64) float64 { return v[2] / v[0] }, min: 0.4},
		},
	}}
}

// largeBenches compare a job over 10 million keys with and without checkpoints.
// Every run with checkpoints is restored from its last one and must add up.
func largeBenches() []bench {
	const keys = 10_000_000
	spins := calibrate(time.Microsecond)
	large := func(name string, records uint64, spin int, atLeast float64) bench {
		var pause int64
		with := keyedJob{records: records, keys: keys, spin: spin, interval: time.Second, verify: true, pause: &pause}
		without := keyedJob{records: records, keys: keys, spin: spin}
		return bench{
			name: "large: count over 10 million keys, " + name, unit: "ns/record",
			arms: []arm{
				{"checkpoint each second", with.run},
				{"no checkpoints", without.run},
				{"longest pause, ms of the task's CPU time", func() (float64, error) {
					ms := float64(pause) / 1e6
					pause = 0
					return ms, nil
				}},
			},
			bars: []bar{
				{text: "throughput with / without", value: func(v []float64) float64 { return v[1] / v[0] }, min: atLeast},
				{text: "longest pause ≤ 5 ms", value: func(v []float64) float64 { return v[2] }, max: 5},
			},
		}
	}
	return []bench{
		large("user code of 1 µs", 5_000_000, spins, 0.9),
		large("flat out", 30_000_000, 0, 0.75),
	}
}

// calibrate returns the rounds of spin that take about d.
func calibrate(d time.Duration) int {
	const rounds = 50_000_000
	start := time.Now()
	atomic.AddUint64(&sinkSum, spin(rounds))
	return int(float64(d) * rounds / float64(time.Since(start)))
}
