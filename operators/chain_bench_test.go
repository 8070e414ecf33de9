package operators_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators"
)

// rec is a record of 64 bytes.
type rec struct {
	A, B, C, D, E, F, G, H uint64
}

// nowhere is a port whose receiver takes everything at once.
type nowhere struct{ b operators.Batch }

func (n *nowhere) New() operators.Batch { return n.b }
func (n *nowhere) Idle() bool           { return false }
func (n *nowhere) Send(b operators.Batch) (operators.Batch, error) {
	b.Reset()
	return b, nil
}
func (n *nowhere) Watermark(base.Timestamp) {}
func (n *nowhere) MarkIdle()                {}
func (n *nowhere) Barrier(protocol.Barrier) {}
func (n *nowhere) End()                     {}

func newSubtask(ports ...[]operators.Port) *operators.Subtask {
	return operators.NewSubtask(operators.Env{
		Ctx: context.Background(), JobName: "bench", Task: "bench", Parallelism: 1, Range: base.FullRange,
		Clock: clock.Real(), Ports: ports, Wake: func() {}, Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{},
	})
}

func fill(b *operators.TypedBatch[rec]) {
	for i := range operators.MaxBatch {
		b.Metas = append(b.Metas, base.Meta{Time: int64(i), Hash: base.HashUint64(uint64(i))})
		b.Vals = append(b.Vals, rec{A: uint64(i), B: uint64(i) * 7})
	}
}

func keep(r rec) bool { return r.A != 13 }
func add(r rec) rec   { r.B += r.A; return r }
func mul(r rec) rec   { r.C = r.B * 3; return r }

func BenchmarkChainHand(b *testing.B) {
	mk, _ := operators.NewBatch[rec]()
	batch := mk().(*operators.TypedBatch[rec])
	fill(batch)
	var sum uint64
	b.ReportAllocs()
	for i := 0; i < b.N; i += len(batch.Vals) {
		for k := range batch.Vals {
			r := batch.Vals[k]
			if !keep(r) {
				continue
			}
			r = mul(add(r))
			sum += r.C + uint64(batch.Metas[k].Time)
		}
	}
	_ = sum
}

func BenchmarkChainFused(b *testing.B) {
	mk, _ := operators.NewBatch[rec]()
	batch := mk().(*operators.TypedBatch[rec])
	fill(batch)
	s := newSubtask()
	var sum uint64
	sink := operators.Consumer[rec]{One: func(m *base.Meta, r *rec) { sum += r.C + uint64(m.Time) }}
	operators.Head(s, operators.Filter(s, "keep", keep, operators.Map(s, "add", add, operators.Map(s, "mul", mul, sink))))
	b.ReportAllocs()
	for i := 0; i < b.N; i += len(batch.Vals) {
		if err := s.Process(0, batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKeyByToTwo(b *testing.B) {
	mk, _ := operators.NewBatch[rec]()
	batch := mk().(*operators.TypedBatch[rec])
	fill(batch)
	s := newSubtask([]operators.Port{&nowhere{mk()}, &nowhere{mk()}})
	operators.Head(s, operators.KeyBy(s, "by", 0, func(r rec) uint64 { return r.A }, base.HashUint64))
	b.ReportAllocs()
	for i := 0; i < b.N; i += len(batch.Vals) {
		if err := s.Process(0, batch); err != nil {
			b.Fatal(err)
		}
	}
}
