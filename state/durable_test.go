package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state/blob"
)

// countBytes is what a delta needs for one entry of 16 bytes under an integer key.
const countBytes = 8 + 16

// TestStoredBytes: with 1 % of the keys changed per epoch, no more than twice the
// changed bytes are stored, bases included, and the chain stays bounded.
func TestStoredBytes(t *testing.T) {
	_, rng := seeds(t)
	const keys, epochs = 60_000, 600
	bs := blob.Memory()
	h := newBareHarness(t, openTestStore(t, bs, 0), base.FullRange)
	g, err := h.b.Group(Decl{Operator: "o", Name: "n", Key: KeyUint64, ValueSize: 16})
	if err != nil {
		t.Fatal(err)
	}
	tab := g.Namespace(0)
	for k := range uint64(keys) {
		tab.UpsertU64(base.HashUint64(k), k)
	}
	want := map[uint64]uint64{}
	for e := base.Epoch(1); e <= epochs; e++ {
		if e > 1 {
			for range keys / 100 {
				k := rng.Uint64N(keys)
				p, _ := tab.UpsertU64(base.HashUint64(k), k)
				*(*uint64)(p)++
				want[k]++
			}
		}
		h.b.Freeze(e)
		h.b.CopyAll()
	}
	last, err := h.waitSnap(epochs - 1)
	if err != nil {
		t.Fatal(err)
	}
	var stored, bases, changed, window int64
	longest := 0
	for i, s := range h.snaps[1:] {
		longest = max(longest, len(s.Chain))
		if i%50 == 0 { // the first epoch, which writes the whole state, is left out
			stored, bases, changed, window = 0, 0, 0, window+1
		}
		stored += s.Bytes
		bases += s.BaseBytes
		changed += (s.Entries - s.BaseEntries) * countBytes
		if i%50 == 49 {
			ratio := float64(stored) / float64(changed)
			if i < 150 || i > 550 {
				t.Logf("epochs %d to %d: %.2f bytes stored for each changed one, %.2f of them for bases", i-47, i+2, ratio, float64(bases)/float64(changed))
			}
			if ratio > 2 {
				t.Errorf("epochs %d to %d: %.2f bytes are stored for each changed one", i-47, i+2, ratio)
			}
		}
	}
	chain := int64(0)
	seen := map[protocol.SHA]bool{}
	for _, o := range last.Chain {
		if !seen[o.SHA] {
			chain += int64(o.Size)
			seen[o.SHA] = true
		}
	}
	state := int64(keys * countBytes)
	t.Logf("the chain has %d objects with %.1f times the bytes of the state; at most %d references", len(seen), float64(chain)/float64(state), longest)
	if longest > 520 || chain > 4*state {
		t.Errorf("the chain grows: %d references, %d bytes for a state of %d", longest, chain, state)
	}
	checkChain(t, last, base.FullRange)
	h2 := newBareHarness(t, openTestStore(t, bs, 0), base.FullRange)
	g2, _ := h2.b.Group(Decl{Operator: "o", Name: "n", Key: KeyUint64, ValueSize: 16})
	if err := h2.b.Restore(context.Background(), []Chain{{Range: base.FullRange, Objects: last.Chain}}); err != nil {
		t.Fatal(err)
	}
	tab = g2.Namespace(0)
	for k := range uint64(keys) {
		if p := tab.GetU64(base.HashUint64(k), k); p == nil || *(*uint64)(p) != want[k] {
			t.Fatalf("key %d is wrong", k)
		}
	}
}

// TestWholeStateEachEpoch: a state that changes completely costs no bases.
func TestWholeStateEachEpoch(t *testing.T) {
	h := newBareHarness(t, openTestStore(t, blob.Memory(), 0), base.FullRange)
	g, _ := h.b.Group(Decl{Operator: "o", Name: "n", Key: KeyUint64, ValueSize: 16})
	for e := base.Epoch(1); e <= 60; e++ {
		for k := range uint64(20_000) {
			g.Namespace(0).UpsertU64(base.HashUint64(k), k)
		}
		h.b.Freeze(e)
		h.b.CopyAll()
	}
	s, err := h.waitSnap(59)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range h.snaps {
		if s.BaseEntries != 0 {
			t.Fatalf("epoch %d wrote %d unchanged entries", s.Epoch, s.BaseEntries)
		}
	}
	seen := map[protocol.SHA]bool{}
	for _, o := range s.Chain {
		seen[o.SHA] = true
	}
	if len(seen) > 20 {
		t.Errorf("the chain has %d objects", len(seen))
	}
}

// TestLostObjects lets some objects fail. The snapshots concerned fail, and what
// comes after is complete again.
func TestLostObjects(t *testing.T) {
	_, rng := seeds(t)
	bs := blob.Memory()
	var failing atomic.Bool
	bs.Before = func(verb, _ string) error {
		if verb == "put" && failing.Load() {
			return errors.New("no space left")
		}
		return nil
	}
	memory := int64(rng.IntN(2)) * (3 << 20) // with and without spilling
	t.Logf("%d bytes of memory", memory)
	h := newHarness(t, openTestStore(t, bs, memory), base.FullRange, rng)
	complete := 0
	for e := base.Epoch(1); e <= 20; e++ {
		failing.Store(e%5 == 3)
		for range 3000 {
			h.step(3000, 3)
		}
		want := h.m.clone()
		h.b.Freeze(e)
		for range rng.IntN(500) {
			h.step(3000, 3)
		}
		h.b.CopyAll()
		snap, err := h.waitSnap(int(e) - 1)
		if e%5 == 3 {
			if base.CodeOf(err) != CodeWrite {
				t.Fatalf("epoch %d: %v", e, err)
			}
			continue
		}
		if err != nil {
			if base.CodeOf(err) != CodeIncomplete {
				t.Fatal(err)
			}
			continue
		}
		complete++
		checkChain(t, snap, base.FullRange)
		restoreAt(t, bs, rng, []Chain{{Range: base.FullRange, Objects: snap.Chain}}, want, 0)
	}
	if complete < 10 {
		t.Errorf("only %d snapshots are complete", complete)
	}
}

// smallChain makes a chain of a few objects, one of them stored.
func smallChain(t *testing.T, rng *rand.Rand, bs blob.Store) ([]protocol.ObjectRef, *harness) {
	t.Helper()
	h := newHarness(t, openTestStore(t, bs, 0), base.FullRange, rng)
	for e := base.Epoch(1); e <= 4; e++ {
		steps := 40 // small enough for an inline object
		if e == 1 {
			steps = 3000
		}
		for range steps {
			h.step(2000, 2)
		}
		h.b.Freeze(e)
		h.b.CopyAll()
	}
	s, err := h.waitSnap(3)
	if err != nil {
		t.Fatal(err)
	}
	return s.Chain, h
}

// TestCorruptObjectsAreRefused changes, cuts and removes objects in every region.
func TestCorruptObjectsAreRefused(t *testing.T) {
	_, rng := seeds(t)
	bs := blob.Memory()
	chain, _ := smallChain(t, rng, bs)
	stored, inline := 0, 0
	try := func(i int, ref protocol.ObjectRef, what string, want string) {
		t.Helper()
		list := append([]protocol.ObjectRef{}, chain...)
		list[i] = ref
		h := newHarness(t, openTestStore(t, bs, 0), base.FullRange, rng)
		err := h.b.Restore(context.Background(), []Chain{{Range: base.FullRange, Objects: list}})
		if base.CodeOf(err) != want || want == CodeCorrupt && !errors.Is(err, ErrCorrupt) || !strings.Contains(fmt.Sprint(err), ref.SHA.String()) {
			t.Fatalf("object %d, %s: %v", i, what, err)
		}
		if err := h.b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	for i, ref := range chain {
		name := protocol.ObjectKey("job", ref.SHA)
		data := ref.Inline
		if data == nil {
			stored++
			data, _ = bs.Get(ctx, name)
		} else {
			inline++
		}
		for n := range 42 {
			at := rng.IntN(len(data))
			if n < 14 {
				at = []int{0, 4, 9, len(data) - 1, len(data) - 5, len(data) - 9, len(data) - 20, len(data) / 2, 8, 16, 28, 32, 6, 7}[n]
			}
			bad := bytes.Clone(data)
			bad[at] ^= 1 << rng.IntN(8)
			r := ref
			if ref.Inline != nil {
				r.Inline = bad
			} else if err := bs.Put(ctx, name, bad); err != nil {
				t.Fatal(err)
			}
			try(i, r, fmt.Sprintf("byte %d of %d changed", at, len(data)), CodeCorrupt)
			// Even when the sum is right, the parts have sums of their own.
			r.SHA = protocol.SumSHA(bad)
			if ref.Inline != nil {
				h := newHarness(t, openTestStore(t, bs, 0), base.FullRange, rng)
				err := h.b.Restore(ctx, []Chain{{Range: base.FullRange, Objects: []protocol.ObjectRef{r}}})
				if c := base.CodeOf(err); c != CodeCorrupt && c != CodeVersion && c != CodeUnmatched && at > 7 {
					t.Fatalf("object %d, byte %d of %d changed under a right sum: %v", i, at, len(data), err)
				}
			}
		}
		if ref.Inline == nil {
			cut := data[:len(data)-1-rng.IntN(len(data)-1)]
			if err := bs.Put(ctx, name, cut); err != nil {
				t.Fatal(err)
			}
			try(i, ref, "cut", CodeCorrupt)
			if err := bs.Delete(ctx, name); err != nil {
				t.Fatal(err)
			}
			try(i, ref, "removed", CodeRead)
			if err := bs.Put(ctx, name, data); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := VerifyObject(ctx, bs, "job", &ref); err != nil || n == 0 {
			t.Fatalf("object %d: %d entries, %v", i, n, err)
		}
	}
	if stored == 0 || inline == 0 {
		t.Fatalf("the chain has %d stored and %d inline objects; both are wanted", stored, inline)
	}
}

func TestUnmatchedAndChangedStates(t *testing.T) {
	bs := blob.Memory()
	ctx := context.Background()
	type oldV struct{ A, B int64 }
	type newV struct{ B, C, A int64 }
	type badV struct{ A, B int32 }
	h := newBareHarness(t, openTestStore(t, bs, 0), base.FullRange)
	v, err := NewValue[oldV](h.b, "op", "v")
	if err != nil {
		t.Fatal(err)
	}
	key := []byte("k")
	h.b.SetKey(base.HashKey(key), key)
	v.Set(oldV{1, 2})
	h.b.Freeze(1)
	h.b.CopyAll()
	snap, err := h.waitSnap(0)
	if err != nil {
		t.Fatal(err)
	}
	chains := []Chain{{Range: base.FullRange, Objects: snap.Chain}}

	h = newBareHarness(t, openTestStore(t, bs, 0), base.FullRange)
	n, _ := NewValue[newV](h.b, "op", "v")
	if err := h.b.Restore(ctx, chains); err != nil {
		t.Fatal(err)
	}
	h.b.SetKey(base.HashKey(key), key)
	if got, ok := n.Get(); !ok || got != (newV{A: 1, B: 2}) {
		t.Fatalf("converted to %+v, %v", got, ok)
	}

	h = newBareHarness(t, openTestStore(t, bs, 0), base.FullRange)
	_, _ = NewValue[badV](h.b, "op", "v")
	if err := h.b.Restore(ctx, chains); base.CodeOf(err) != CodeSchema || !errors.Is(err, base.ErrFatal) {
		t.Fatalf("a changed type: %v", err)
	}

	h = newBareHarness(t, openTestStore(t, bs, 0), base.FullRange)
	if err := h.b.Restore(ctx, chains); base.CodeOf(err) != CodeUnmatched || !strings.Contains(err.Error(), "op/v") {
		t.Fatalf("an unmatched state: %v", err)
	}

	s := openTestStore(t, bs, 0)
	s.opts.DropState = []string{"op/v"}
	h = newBareHarness(t, s, base.FullRange)
	if err := h.b.Restore(ctx, chains); err != nil {
		t.Fatalf("a dropped state: %v", err)
	}
}

// TestFullDisk lets the spill store's writes fail after a while: the backend says
// so, nothing hangs, and the last snapshot is still good.
func TestFullDisk(t *testing.T) {
	_, rng := seeds(t)
	for range 3 {
		var left atomic.Int64
		left.Store(1 << 40)
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpCreate {
				if left.Add(-1) < 0 {
					return errors.New("no space left on device")
				}
			}
			return nil
		}))
		bs := blob.Memory()
		s, err := OpenStore(Options{FS: fs, Dir: "state", Blob: bs, Memory: 16 << 20, Job: "job"})
		if err != nil {
			t.Fatal(err)
		}
		s.limit = 5 << 20
		h := newHarness(t, s, base.FullRange, rng)
		for range 20_000 {
			h.step(5000, 2)
		}
		want := h.m.clone()
		h.b.Freeze(1)
		h.b.CopyAll()
		snap, err := h.waitSnap(0)
		if err != nil {
			t.Fatal(err)
		}
		left.Store(int64(rng.IntN(20)))
		tab, _ := h.b.Group(kinds[1].decl)
		for k := uint64(0); h.b.Err() == nil; k++ {
			if k > 3_000_000 {
				t.Fatal("the fault does not show")
			}
			tab.Namespace(9).UpsertU64(base.HashUint64(k), k)
		}
		if base.CodeOf(h.b.Err()) != CodeSpill {
			t.Fatal(h.b.Err())
		}
		if err := h.b.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		restoreAt(t, bs, rng, []Chain{{Range: base.FullRange, Objects: snap.Chain}}, want, 0)
	}
}
