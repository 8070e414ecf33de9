package operators_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// counter counts the records of a key and, if it has a timer, fires one for each.
type counter struct {
	n     *state.Value[int64]
	timer bool
}

type counterContext = operators.ProcessContext[uint64, int64]

func (f *counter) Declare(d *operators.Declarer) { f.n = operators.ValueState[int64](d, "n") }

func (f *counter) OnRecord(c *counterContext, _ uint64) error {
	n, _ := f.n.Get()
	f.n.Set(n + 1)
	if f.timer {
		c.RegisterEventTimer(c.Timestamp())
	}
	c.Emit(n + 1)
	return nil
}

func (f *counter) OnTimer(c *counterContext, _ operators.Timer) error { return nil }

// counterBench returns a subtask that runs a counter, and a batch of one record
// for each of MaxBatch keys.
func counterBench(tb testing.TB, timer bool) (*operators.Subtask, *operators.TypedBatch[uint64]) {
	tb.Helper()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	clk, log := clock.NewVirtual(0), slog.New(slog.DiscardHandler)
	store, err := state.OpenStore(state.Options{FS: vfs.NewMem(), Dir: "state", Memory: 64 << 20, Blob: blob.Memory(), Clock: clk, Logger: log})
	must(err)
	tb.Cleanup(func() { _ = store.Close() })
	backend, err := store.NewBackend(state.BackendOptions{Task: "by-key/0", Range: base.FullRange})
	must(err)
	keys, err := codec.KeyFor[uint64]()
	must(err)
	s := operators.NewSubtask(operators.Env{
		Ctx: tb.Context(), Task: "by-key", Parallelism: 1, Range: base.FullRange, Clock: clk,
		Backend: backend, Logger: log, Stats: &base.TaskStats{}, Wake: func() {},
	})
	spec := operators.ProcessSpec[uint64, uint64, int64]{
		UID: "count", Key: func(v uint64) uint64 { return v }, Keys: keys,
		New: func() operators.KeyedProcess[uint64, uint64, int64] { return &counter{timer: timer} },
	}
	operators.Head(s, operators.Process(s, spec, operators.Consumer[int64]{One: func(*base.Meta, *int64) {}}))
	must(s.Err())
	must(backend.Restore(context.Background(), nil))
	must(s.Open(operators.Restore{}))
	mk, err := operators.NewBatch[uint64]()
	must(err)
	b := mk().(*operators.TypedBatch[uint64])
	for i := range uint64(operators.MaxBatch) {
		b.Vals = append(b.Vals, i*7919)
		b.Metas = append(b.Metas, base.Meta{Time: 1, Hash: keys.Hash(i * 7919)})
	}
	must(s.Process(0, b))
	return s, b
}

func TestProcessDoesNotAllocate(t *testing.T) {
	s, b := counterBench(t, false)
	if n := testing.AllocsPerRun(20, func() {
		if err := s.Process(0, b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a batch of %d records", n, operators.MaxBatch)
	}
}

func BenchmarkProcess(b *testing.B) {
	for _, timer := range []bool{false, true} {
		b.Run(fmt.Sprintf("timer=%v", timer), func(b *testing.B) {
			s, batch := counterBench(b, timer)
			now := base.Timestamp(1)
			b.ReportAllocs()
			for b.Loop() {
				now += 1_000_000
				for i := range batch.Metas {
					batch.Metas[i].Time = now
				}
				if err := s.Process(0, batch); err != nil {
					b.Fatal(err)
				}
				if err := s.Watermark(now); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(operators.MaxBatch), "ns/record")
		})
	}
}
