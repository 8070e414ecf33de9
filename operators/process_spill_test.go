package operators_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// wide is a state of 104 bytes.
type wide struct {
	N   uint64
	Pad [12]uint64
}

// tally counts the records of a key, in two states, and emits the count.
type tally[K comparable] struct {
	operators.NoTimers[K, uint64]
	wide *state.Value[wide]
	text *state.Value[string]
}

// Declare implements operators.KeyedProcess.
func (f *tally[K]) Declare(d *operators.Declarer) {
	f.wide, f.text = operators.ValueState[wide](d, "wide"), operators.ValueState[string](d, "text")
}

// OnRecord implements operators.KeyedProcess.
func (f *tally[K]) OnRecord(c *operators.ProcessContext[K, uint64], _ K) error {
	n := uint64(0)
	f.wide.Update(func(w *wide) {
		w.N++
		w.Pad[11] = w.N * 7
		n = w.N
	})
	s, _ := f.text.Get()
	if len(s) != int(n-1) {
		n = 0 // seen by the test
	}
	f.text.Set(s + "x")
	c.Emit(n)
	return nil
}

// TestProcessOverSpilledState: with state far above the budget every record sees
// what the one before it with its key left, whatever a batch loads ahead.
func TestProcessOverSpilledState(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	t.Run("integer keys", func(t *testing.T) { spilledTally(t, seed, func(i uint64) uint64 { return i }) })
	t.Run("text keys", func(t *testing.T) {
		spilledTally(t, seed, func(i uint64) string { return "key-" + strconv.FormatUint(i, 10) })
	})
}

func spilledTally[K comparable](t *testing.T, seed uint64, key func(uint64) K) {
	const keys, records = 25_000, 80_000
	kc, err := codec.KeyFor[K]()
	if err != nil {
		t.Fatal(err)
	}
	clk := clock.NewVirtual(1)
	store, err := state.OpenStore(state.Options{FS: vfs.NewMem(), Dir: "state", Memory: 4 << 20, Blob: blob.Memory(), Clock: clk, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	backend, err := store.NewBackend(state.BackendOptions{Task: "tally/0", Range: base.FullRange})
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	s := operators.NewSubtask(operators.Env{
		Ctx: t.Context(), JobName: "test", Task: "tally", Parallelism: 1, Range: base.FullRange, Clock: clk,
		Backend: backend, Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{}, Wake: func() {},
	})
	var got []uint64
	fn := &tally[K]{}
	operators.Head(s, operators.Process(s, operators.ProcessSpec[K, K, uint64]{
		UID: "tally", Key: func(k K) K { return k }, Keys: kc, OnError: connectors.FailOnBad,
		New: func() operators.KeyedProcess[K, K, uint64] { return fn },
	}, operators.Consumer[uint64]{One: func(_ *base.Meta, n *uint64) { got = append(got, *n) }}))
	if err := backend.Restore(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Open(operators.Restore{}); err != nil {
		t.Fatal(err)
	}
	mk, err := operators.NewBatch[K]()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	counts := make([]uint64, keys)
	batch, spilled := mk().(*operators.TypedBatch[K]), 0
	for n := 0; n < records; {
		batch.Reset()
		var want []uint64
		for range 1 + rng.IntN(operators.MaxBatch) {
			i := rng.Uint64N(keys)
			counts[i]++
			n++
			want = append(want, counts[i])
			batch.Vals = append(batch.Vals, key(i))
			batch.Metas = append(batch.Metas, base.Meta{Hash: kc.Hash(key(i))})
		}
		if fn.wide.Spilled() && fn.text.Spilled() {
			spilled++
		}
		got = got[:0]
		if err := s.Process(0, batch); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if len(got) != len(want) || got[i] != want[i] {
				t.Fatalf("after %d records, record %d of a batch of %d counts %v, want %d", n, i, len(want), got, want[i])
			}
		}
	}
	if spilled == 0 {
		t.Fatal("the test did not test: nothing was spilled")
	}
	if err := backend.Err(); err != nil {
		t.Fatal(err)
	}
}
