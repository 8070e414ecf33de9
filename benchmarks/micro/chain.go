package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/operators"
)

// rec is a record of 64 bytes.
type rec struct {
	A, B, C, D, E, F, G, H uint64
}

//go:noinline
func keep(r rec) bool { return r.A != 13 }

//go:noinline
func add(r rec) rec { r.B += r.A; return r }

//go:noinline
func mul(r rec) rec { r.C = r.B * 3; return r }

const chainRecords = 4 << 20

func newBatch() *operators.TypedBatch[rec] {
	mk, err := operators.NewBatch[rec]()
	if err != nil {
		panic(err)
	}
	b := mk().(*operators.TypedBatch[rec])
	for i := range operators.MaxBatch {
		b.Metas = append(b.Metas, base.Meta{Time: int64(i), Hash: base.HashUint64(uint64(i))})
		b.Vals = append(b.Vals, rec{A: uint64(i), B: uint64(i) * 7})
	}
	return b
}

func subtask(ports ...[]operators.Port) *operators.Subtask {
	return operators.NewSubtask(operators.Env{
		Ctx: context.Background(), JobName: "bench", Task: "bench", Parallelism: 1, Range: base.FullRange,
		Clock: clock.Real(), Ports: ports, Wake: func() {}, Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{},
	})
}

// sinkSum keeps results alive.
var sinkSum uint64

// chainHand is the loop a person would write for filter → map → map, calling the
// same functions.
func chainHand() (float64, error) {
	b := newBatch()
	var sum uint64
	start := time.Now()
	for n := 0; n < chainRecords; n += len(b.Vals) {
		for i := range b.Vals {
			r := b.Vals[i]
			if !keep(r) {
				continue
			}
			r = mul(add(r))
			sum += r.C + uint64(b.Metas[i].Time)
		}
	}
	d := time.Since(start)
	sinkSum += sum
	return float64(d.Nanoseconds()) / chainRecords, nil
}

func fusedChain() (*operators.Subtask, *uint64) {
	s := subtask()
	sum := new(uint64)
	out := operators.Consumer[rec]{One: func(m *base.Meta, r *rec) { *sum += r.C + uint64(m.Time) }}
	operators.Head(s, operators.Filter(s, "keep", keep, operators.Map(s, "add", add, operators.Map(s, "mul", mul, out))))
	return s, sum
}

func chainFused() (float64, error) {
	b := newBatch()
	s, sum := fusedChain()
	start := time.Now()
	for n := 0; n < chainRecords; n += len(b.Vals) {
		if err := s.Process(0, b); err != nil {
			return 0, err
		}
	}
	d := time.Since(start)
	sinkSum += *sum
	return float64(d.Nanoseconds()) / chainRecords, nil
}

// chainAllocs counts allocations per record of the fused chain.
func chainAllocs() (float64, error) {
	b := newBatch()
	s, _ := fusedChain()
	n := testing.AllocsPerRun(100, func() { _ = s.Process(0, b) })
	return n / float64(len(b.Vals)), nil
}

func chainBench() bench {
	return bench{
		name: "chain: fused filter→map→map, 64-byte record", unit: "ns/record",
		arms: []arm{{"weir", chainFused}, {"hand-written loop, same functions", chainHand}, {"allocations per record", chainAllocs}},
		bars: []bar{
			{text: "per operator above the loop ≤ 10 ns", value: func(m []float64) float64 { return (m[0] - m[1]) / 3 }, max: 10},
			{text: "allocations per record = 0", value: func(m []float64) float64 { return m[2] }, max: 1e-9},
		},
	}
}
