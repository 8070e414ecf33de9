package model_test

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
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// atOnce answers without looking.
type atOnce struct{}

func (atOnce) Invoke(_ context.Context, calls []model.Call[uint64]) ([]model.Result[float64], error) {
	return make([]model.Result[float64], len(calls)), nil
}

// BenchmarkInfer is what the operator costs for a record, with a model that costs
// nothing.
func BenchmarkInfer(b *testing.B) {
	for _, batch := range []int{1, 64} {
		for _, journaled := range []bool{false, true} {
			b.Run(fmt.Sprintf("batch=%d/journal=%v", batch, journaled), func(b *testing.B) { benchInfer(b, batch, journaled) })
		}
	}
}

func benchInfer(b *testing.B, size int, journaled bool) {
	store, err := state.OpenStore(state.Options{FS: vfs.NewMem(), Dir: "state", Memory: 16 << 20, Blob: blob.Memory(), Job: "job", Clock: clock.Real(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	back, err := store.NewBackend(state.BackendOptions{Task: "t/0", Range: base.FullRange})
	if err != nil {
		b.Fatal(err)
	}
	woken := make(chan struct{}, 1)
	dir := ""
	if journaled {
		dir = b.TempDir()
	}
	s := operators.NewSubtask(operators.Env{
		Ctx: b.Context(), Task: "t", Parallelism: 1, Range: base.FullRange, Clock: clock.Real(), Backend: back, Journal: dir,
		Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{},
		Wake: func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		},
	})
	in, _ := codec.For[item]()
	out, _ := codec.For[float64]()
	n := 0
	consumer, _ := model.Infer(s, model.Spec[item, uint64, float64, float64]{
		UID: "ask", In: in, Out: out, Order: model.Unordered, Capacity: 4096,
		Batch:   model.Batching{MaxBatch: size, MaxDelay: -1, InFlight: 8},
		Request: func(i *item) uint64 { return uint64(i.N) },
		Client:  func(model.Env) (model.Client[uint64, float64], error) { return atOnce{}, nil },
		Make:    func(_ *item, r *model.Result[float64], o *float64) bool { *o = r.Out; return true },
	}, model.Outputs[item, float64, float64]{Results: func(*operators.Subtask) operators.Consumer[float64] {
		return operators.Consumer[float64]{One: func(*base.Meta, *float64) { n++ }}
	}})
	operators.Head(s, consumer)
	if err := back.Restore(context.Background(), nil); err != nil {
		b.Fatal(err)
	}
	if err := s.Open(operators.Restore{}); err != nil {
		b.Fatal(err)
	}
	mk, _ := operators.NewBatch[item]()
	batch := mk().(*operators.TypedBatch[item])
	for i := range operators.MaxBatch {
		batch.Metas, batch.Vals = append(batch.Metas, base.Meta{Hash: base.HashUint64(uint64(i))}), append(batch.Vals, item{ID: "record", N: i})
	}
	b.ReportAllocs()
	fed := 0
	for b.Loop() {
		if fed++; fed%operators.MaxBatch != 0 {
			continue
		}
		for i := range batch.Metas {
			batch.Metas[i].Origin.Pos++
		}
		if err := s.Process(0, batch); err != nil {
			b.Fatal(err)
		}
		for full := true; full; full = s.Full() {
			if _, err := s.Turn(); err != nil {
				b.Fatal(err)
			}
			if s.Full() {
				<-woken
			}
		}
	}
	b.StopTimer()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	_ = back.Close()
	_ = store.Close()
}
