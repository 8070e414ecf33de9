package feature_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/feature"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// rig is a subtask with a feature operator, by hand.
type rig struct {
	tb      testing.TB
	s       *operators.Subtask
	backend *state.Backend
	keys    *codec.KeyCodec[uint64]
	reader  feature.Reader[uint64]
	rows    []string
	snaps   chan state.Snapshot
	n       int
	sum     float64
}

func newRig(tb testing.TB, p *feature.Program[txn], store *state.Store, from []state.Chain, keep bool) *rig {
	tb.Helper()
	r := &rig{tb: tb, snaps: make(chan state.Snapshot, 1)}
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	var err error
	r.backend, err = store.NewBackend(state.BackendOptions{Task: "by-card/0", Range: base.FullRange, OnSnapshot: func(s state.Snapshot, err error) {
		if err != nil {
			tb.Error(err)
		}
		r.snaps <- s
	}})
	must(err)
	r.keys, err = codec.KeyFor[uint64]()
	must(err)
	r.s = operators.NewSubtask(operators.Env{
		Ctx: context.Background(), JobName: "test", Task: "by-card", Parallelism: 1, Range: base.FullRange, Clock: clock.NewVirtual(0),
		Backend: r.backend, Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{}, Wake: func() {},
	})
	spec := feature.Spec[uint64, txn, txn, feature.Row]{
		UID: "card-features", Key: func(t *txn) uint64 { return t.Card }, Keys: r.keys,
		Record: func(t *txn) *txn { return t }, Program: p,
		Make: func(_ *txn, v *feature.Vector, out *feature.Row) {
			if keep {
				*out = v.Row()
				return
			}
			f, _ := v.View().Float("n_1m")
			r.sum += f
		},
	}
	out := operators.Consumer[feature.Row]{One: func(_ *base.Meta, row *feature.Row) {
		r.n++
		if keep {
			r.rows = append(r.rows, fmt.Sprintf("%x", *row))
		}
	}}
	c, reader := feature.Node(r.s, spec, out)
	r.reader = reader
	operators.Head(r.s, c)
	must(r.s.Err())
	must(r.backend.Restore(context.Background(), from))
	must(r.s.Open(operators.Restore{}))
	return r
}

func newStore(tb testing.TB, memory int64) *state.Store {
	tb.Helper()
	store, err := state.OpenStore(state.Options{FS: vfs.NewMem(), Dir: "state", Memory: memory, Blob: blob.Memory(), Job: "0123456789abcdef0123456789abcdef", Clock: clock.NewVirtual(0), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = store.Close() })
	return store
}

// batchOf makes a batch of events.
func (r *rig) batchOf(events []txn) *operators.TypedBatch[txn] {
	mk, err := operators.NewBatch[txn]()
	if err != nil {
		r.tb.Fatal(err)
	}
	b := mk().(*operators.TypedBatch[txn])
	for _, e := range events {
		b.Vals = append(b.Vals, e)
		b.Metas = append(b.Metas, base.Meta{Time: e.At, Hash: r.keys.Hash(e.Card)})
	}
	return b
}

// feed processes events in batches of random size.
func (r *rig) feed(rng *rand.Rand, events []txn) {
	r.tb.Helper()
	for len(events) > 0 {
		n := min(len(events), 1+rng.IntN(operators.MaxBatch))
		if err := r.s.Process(0, r.batchOf(events[:n])); err != nil {
			r.tb.Fatal(err)
		}
		events = events[n:]
	}
}

// byHand computes the rows of events with a core and a map of states.
func byHand(tb testing.TB, p *feature.Program[txn], events []txn) []string {
	tb.Helper()
	core, states := p.NewCore(), map[uint64][]byte{}
	var rows []string
	for i := range events {
		next, moved, err := core.Step(states[events[i].Card], events[i].At, &events[i])
		if err != nil {
			tb.Fatal(err)
		}
		if moved {
			states[events[i].Card] = slices.Clone(next)
		}
		rows = append(rows, fmt.Sprintf("%x", core.Vector().Row()))
	}
	return rows
}

// TestNodeGivesTheSameThroughCheckpoints compares the operator with a core by hand:
// batches of any size, a checkpoint that is copied while records go on, a restore,
// and states that expire at any watermark.
func TestNodeGivesTheSameThroughCheckpoints(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	g := eightScalars(fiveHorizons[:3]...)
	p, err := feature.Set(append([]*feature.Feature[txn]{
		feature.LastK("shops", txnShop, 3).Over(time.Hour), feature.Distinct("kinds", txnShop).Over(time.Minute, time.Hour).Limit(20),
		feature.Sum("by", txnAmount).By(txnShop).Over(time.Hour), feature.DecaySum("recent", txnAmount, time.Minute),
	}, g.Features()...)...).Compile()
	if err != nil {
		t.Fatal(err)
	}
	events := load(6000, 40, 90*time.Second)
	events = append(events, load(500, 3, time.Second)...)
	shift := events[5999].At - events[6000].At + int64(2*time.Hour)
	for i := range events[6000:] {
		events[6000+i].At += shift
	}
	want := byHand(t, p, events)
	store := newStore(t, 64<<20)
	a := newRig(t, p, store, nil, true)
	a.feed(rng, events[:2500])
	a.backend.Freeze(1)
	a.feed(rng, events[2500:3000]) // changes states that are frozen
	a.backend.CopyAll()
	chain := []state.Chain{{Task: "by-card/0", Range: base.FullRange, Objects: (<-a.snaps).Chain}}
	b := newRig(t, p, store, chain, true)
	for at := 2500; at < len(events); {
		n := min(len(events)-at, 1+rng.IntN(300))
		b.feed(rng, events[at:at+n])
		at += n
		if err := b.s.Watermark(events[at-1].At); err != nil {
			t.Fatal(err)
		}
	}
	for i, w := range want {
		switch {
		case i < 3000 && a.rows[i] != w:
			t.Fatalf("row %d is\n%s, want\n%s", i, a.rows[i], w)
		case i >= 2500 && b.rows[i-2500] != w:
			t.Fatalf("row %d after the restore is\n%s, want\n%s", i, b.rows[i-2500], w)
		}
	}
	if left := b.keysLeft(p); left != 3 {
		t.Errorf("%d states for the three keys that were active in the last hours", left)
	}
	if err := b.s.Watermark(events[len(events)-1].At + int64(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if left := b.keysLeft(p); left != 0 {
		t.Errorf("%d states are left when the longest horizon has passed", left)
	}
}

func (r *rig) keysLeft(p *feature.Program[txn]) int {
	g, err := r.backend.Group(state.Decl{Operator: "card-features", Name: feature.StateName, Key: state.KeyBytes, Schema: p.StateSchema()})
	if err != nil {
		r.tb.Fatal(err)
	}
	return g.Namespace(0).Len()
}

func TestReaderIsAsOfATime(t *testing.T) {
	p, err := feature.Set(feature.Count[txn]("n").Over(time.Minute)).Compile()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, p, newStore(t, 16<<20), nil, true)
	r.feed(rand.New(rand.NewPCG(1, 1)), []txn{{Card: 7, At: 1e9}, {Card: 7, At: 2e9}})
	for at, want := range map[int64]float64{0: 1, 2e9: 1, 2e9 + 1: 2, 61e9: 2, 62.4e9: 2, 62.5e9: 0, 1e12: 0} {
		v, err := r.reader.Read(7, at)
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := v.View().Float("n_1m"); n != want {
			t.Errorf("count as of %d is %v, want %v", at, n, want)
		}
	}
	if v, err := r.reader.Read(8, 5); err != nil || v.View().Value(0) != 0.0 {
		t.Errorf("an unknown key: %v, %v", v.View().Value(0), err)
	}
}

func TestOtherFeaturesAreRefused(t *testing.T) {
	one, err := feature.Set(feature.Count[txn]("n").Over(time.Minute)).Compile()
	if err != nil {
		t.Fatal(err)
	}
	two, err := feature.Set(feature.Count[txn]("n").Over(time.Hour)).Compile()
	if err != nil {
		t.Fatal(err)
	}
	a := newRig(t, one, newStore(t, 16<<20), nil, true)
	snap, err := a.s.Snapshot(protocol.Barrier{Try: protocol.Try{Epoch: 1, Attempt: 1}})
	if err != nil {
		t.Fatal(err)
	}
	b := newRig(t, two, newStore(t, 16<<20), nil, true)
	err = b.s.Open(operators.Restore{Ops: map[string][][]byte{"card-features": {snap.Ops["card-features"]}}})
	if base.CodeOf(err) != "WEIR-0709" || !errors.Is(err, base.ErrFatal) {
		t.Errorf("error: %v", err)
	}
	core := one.NewCore()
	state, _, err := core.Step(nil, 5, &txn{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := two.NewCore().Step(state, 6, &txn{}); base.CodeOf(err) != "WEIR-0709" {
		t.Errorf("error: %v", err)
	}
}

func BenchmarkNode(b *testing.B) {
	for _, keys := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			p, err := eightScalars(fiveHorizons...).Compile()
			if err != nil {
				b.Fatal(err)
			}
			r := newRig(b, p, newStore(b, 4<<30), nil, false)
			warm := keys * 45
			events := load(warm+1<<18, keys, 10*time.Minute)
			rng := rand.New(rand.NewPCG(1, 1))
			r.feed(rng, events[:warm])
			shift := events[len(events)-1].At - events[warm].At + 1
			var batches []*operators.TypedBatch[txn]
			for at := warm; at+operators.MaxBatch <= len(events); at += operators.MaxBatch {
				batches = append(batches, r.batchOf(events[at:at+operators.MaxBatch]))
			}
			b.ReportAllocs()
			cpu := cpuTime()
			b.ResetTimer()
			for i := 0; i < b.N; i += operators.MaxBatch {
				batch := batches[i/operators.MaxBatch%len(batches)]
				if err := r.s.Process(0, batch); err != nil {
					b.Fatal(err)
				}
				for j := range batch.Metas {
					batch.Metas[j].Time += shift
				}
			}
			b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
		})
	}
}
