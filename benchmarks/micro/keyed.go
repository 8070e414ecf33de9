package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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

// keyedJob is generator → keyBy → count, with user code that costs spin
// nanoseconds per record.
type keyedJob struct {
	records, keys uint64
	interval      time.Duration // 0: no checkpoints
	spin          int
	spec          window.Spec
}

// run returns nanoseconds per record, the preload of all keys left out.
func (k keyedJob) run() (float64, error) {
	if k.spec == (window.Spec{}) {
		k.spec = window.Tumbling(1 << 50)
	}
	var began, ended atomic.Int64
	total := k.keys + k.records
	spec := weir.NewJob("keyed", func(j *weir.Job) {
		src := generator.New(func(i uint64) ev {
			if i < k.keys {
				return ev{Key: i}
			}
			return ev{Key: keyOf(i, k.keys)}
		}, generator.Count(total))
		in := weir.From(j, "events", src, weir.ProcessingTime[ev]())
		by := weir.KeyBy(in, "by-key", func(e ev) uint64 { return e.Key })
		if k.spin > 0 {
			by.Stream = weir.Filter(by.Stream, "work", func(e ev) bool { return spin(k.spin) != e.Key+1 })
		}
		seen := uint64(0)
		probe := weir.Filter(by.Stream, "probe", func(ev) bool {
			seen++
			switch seen {
			case k.keys + 1:
				began.Store(time.Now().UnixNano())
			case total:
				ended.Store(time.Now().UnixNano())
			}
			return false
		})
		weir.To(probe, "nowhere", memory.NewSink[ev]().Sink())
		counts := weir.Aggregate(by, "count", k.spec, weir.Count[ev]())
		weir.To(weir.Filter(counts, "none", func(weir.Windowed[uint64, int64]) bool { return false }), "out",
			memory.NewSink[weir.Windowed[uint64, int64]]().Sink())
	})
	plan, err := weir.Compile(spec)
	if err != nil {
		return 0, err
	}
	dir := tempDir("keyed")
	defer os.RemoveAll(dir)
	store, err := blob.NewDir(vfs.Default, filepath.Join(dir, "checkpoints"), "bench")
	if err != nil {
		return 0, err
	}
	opts := engine.Options{Blob: store, StateDir: filepath.Join(dir, "state"), Memory: 4 << 30, Interval: k.interval, Manual: k.interval == 0}
	job, err := engine.Start(context.Background(), plan, opts)
	if err != nil {
		return 0, err
	}
	for ended.Load() == 0 {
		select {
		case <-job.Done():
			return 0, fmt.Errorf("the job ended: %w", job.Wait())
		case <-time.After(5 * time.Millisecond):
		}
	}
	d := ended.Load() - began.Load()
	job.Kill()
	return float64(d) / float64(k.records), nil
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
	one := keyedJob{records: 20 * m, keys: m, interval: time.Second}
	return []bench{{
		name: "keyed: count over 1 million keys, checkpoint each second", unit: "ns/record",
		arms: []arm{{"weir", one.run}, {"loop over a Go map", mapLoop(10*m, m)}, {"loop over the same table", tableLoop(20*m, m)}},
		bars: []bar{
			{text: "throughput ≥ 1.2 × the Go map", value: func(v []float64) float64 { return v[1] / v[0] }, min: 1.2},
			{text: "throughput ≥ 0.4 × the same table", value: func(v []float64) float64 { return v[2] / v[0] }, min: 0.4},
		},
	}}
}
