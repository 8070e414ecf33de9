package main

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/window"
)

// windowed counts records of 10,000 keys in windows, fed as the engine does:
// 1,000,000 records per second of event time, a watermark every 2 ms of it.
type windowed struct {
	spec    window.Spec
	records int
	// longest, if set, takes the longest turn of firing, in nanoseconds of CPU.
	longest *int64
}

const windowedKeys = 10_000

func (w windowed) run() (float64, error) {
	// A turn is measured in CPU time of the thread, which must then be this one.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dir := tempDir("windowed")
	defer os.RemoveAll(dir)
	store, err := state.OpenStore(state.Options{FS: vfs.Default, Dir: dir, Memory: 1 << 30, Clock: clock.Real()})
	if err != nil {
		return 0, err
	}
	defer store.Close()
	b, err := store.NewBackend(state.BackendOptions{Task: "windowed", Range: base.FullRange})
	if err != nil {
		return 0, err
	}
	defer b.Close()
	s, err := w.subtask(b)
	if err != nil {
		return 0, err
	}
	mk, err := operators.NewBatch[ev]()
	if err != nil {
		return 0, err
	}
	f := &feeder{s: s, batch: mk().(*operators.TypedBatch[ev]), longest: w.longest}
	if err := f.feed(w.records / 4); err != nil {
		return 0, err
	}
	start := time.Now()
	err = f.feed(w.records)
	return float64(time.Since(start).Nanoseconds()) / float64(w.records), err
}

func (w windowed) subtask(b *state.Backend) (*operators.Subtask, error) {
	keys, err := codec.KeyFor[uint64]()
	if err != nil {
		return nil, err
	}
	acc, err := codec.For[int64]()
	if err != nil {
		return nil, err
	}
	s := operators.NewSubtask(operators.Env{
		Ctx: context.Background(), JobName: "bench", Task: "windowed", Parallelism: 1, Range: base.FullRange,
		Clock: clock.Real(), Backend: b, Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{},
	})
	operators.Head(s, operators.Window(s, operators.WindowSpec[uint64, ev, int64, int64]{
		UID: "count", Window: w.spec, Key: func(e ev) uint64 { return e.Key }, Keys: keys, Acc: acc,
		Add: func(a *int64, _ ev) { *a++ },
		Ops: window.Ops[int64]{
			Merge:    func(d, s *int64) { *d += *s },
			Subtract: func(d, s *int64) { *d -= *s },
		},
		Result: func(a *int64) int64 { return *a },
	}, operators.Consumer[operators.Windowed[uint64, int64]]{
		One: func(_ *base.Meta, r *operators.Windowed[uint64, int64]) { sinkSum += uint64(r.Value) },
	}, operators.Fan[ev](s, nil)))
	if err := b.Restore(context.Background(), nil); err != nil {
		return nil, err
	}
	return s, s.Open(operators.Restore{})
}

// feeder makes records and drives the subtask.
type feeder struct {
	s       *operators.Subtask
	batch   *operators.TypedBatch[ev]
	x       uint64
	now     int64
	marked  int64
	longest *int64
}

func (f *feeder) feed(records int) error {
	for n := 0; n < records; n += operators.MaxBatch {
		f.batch.Reset()
		for range operators.MaxBatch {
			f.x = f.x*6364136223846793005 + 1442695040888963407
			k := (f.x >> 33) % windowedKeys
			f.batch.Metas = append(f.batch.Metas, base.Meta{Time: f.now, Hash: base.HashUint64(k)})
			f.batch.Vals = append(f.batch.Vals, ev{k, f.now})
			f.now += 1000
		}
		if err := f.s.Process(0, f.batch); err != nil {
			return err
		}
		if f.now-f.marked >= 2_000_000 {
			f.marked = f.now
			if err := f.fire(); err != nil {
				return err
			}
		}
	}
	return nil
}

// fire sends a watermark, which takes the first turn, and takes those that are left.
func (f *feeder) fire() error {
	start := threadNanos()
	turn := func() {
		end := threadNanos()
		if f.longest != nil {
			*f.longest = max(*f.longest, end-start)
		}
		start = end
	}
	err := f.s.Watermark(f.now)
	turn()
	for more := true; more && err == nil; turn() {
		more, err = f.s.Turn()
	}
	return err
}

func slidingBench() bench {
	const records = 8 << 20
	var longest int64
	return bench{
		name: "windows: count over 10,000 keys, sliding 60 s every 0.5 s", unit: "ns/record",
		arms: []arm{
			{"sliding", windowed{window.Sliding(time.Minute, 500*time.Millisecond), records, &longest}.run},
			{"tumbling 60 s", windowed{window.Tumbling(time.Minute), records, nil}.run},
			{"longest turn of firing, ms of CPU time", func() (float64, error) {
				ms := float64(longest) / 1e6
				longest = 0
				return ms, nil
			}},
		},
		bars: []bar{
			{text: "throughput sliding / tumbling", value: func(v []float64) float64 { return v[1] / v[0] }, min: 0.85},
			{text: "longest turn ≤ 1 ms", value: func(v []float64) float64 { return v[2] }, max: 1},
		},
	}
}
