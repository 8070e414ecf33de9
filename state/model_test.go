package state

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state/blob"
)

func TestTablesAgainstModel(t *testing.T) {
	for _, memory := range []int64{0, 5 << 20} {
		tablesAgainstModel(t, memory)
	}
}

func tablesAgainstModel(t *testing.T, memory int64) {
	_, rng := seeds(t)
	for _, keys := range []uint64{10, 3000, 60_000} {
		h := newHarness(t, openTestStore(t, nil, memory), base.SplitRange(rng.IntN(3), 3), rng)
		for range 300_000 {
			h.step(keys, 3)
		}
		if d := diff(h.dump(), h.m); d != "" {
			t.Fatalf("%d keys: %s", keys, d)
		}
		if err := h.b.Err(); err != nil {
			t.Fatal(err)
		}
		if got := h.spilled(); memory > 0 && keys > 10_000 && got == 0 {
			t.Fatal("nothing was spilled")
		}
		if err := h.b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// spilled counts entries that are on disk only.
func (h *harness) spilled() int {
	n := 0
	for _, g := range h.b.groups {
		for _, t := range g.tables {
			n += t.stored
		}
	}
	return n
}

// TestSnapshots freezes at random moments while updates go on, and restores every
// snapshot at another parallelism.
func TestSnapshots(t *testing.T) {
	_, rng := seeds(t)
	snapshotsAgainstModel(t, rng, 20, 0)
	snapshotsAgainstModel(t, rng, 2000, 0)
	if !testing.Short() {
		snapshotsAgainstModel(t, rng, 20_000, 0)
	}
	snapshotsAgainstModel(t, rng, 2000, 2200<<10)
	snapshotsAgainstModel(t, rng, 20_000, 4<<20)
}

func snapshotsAgainstModel(t *testing.T, rng *rand.Rand, keys uint64, memory int64) {
	t.Logf("%d keys, %d bytes of memory", keys, memory)
	{
		bs := blob.Memory()
		s := openTestStore(t, bs, memory)
		h := newHarness(t, s, base.FullRange, rng)
		var barriers []model
		var epochs []base.Epoch
		most, again := 0, base.Epoch(0)
		const rounds = 30
		checked := func(i int) bool { return i%7 == 0 || i > rounds-3 }
		for e := base.Epoch(1); e <= rounds; e++ {
			for range rng.IntN(5000) {
				h.step(keys, 4)
				if rng.IntN(20) == 0 {
					h.b.CopyTurn(time.Duration(rng.IntN(20)) * time.Microsecond)
				}
			}
			most = max(most, h.spilled())
			var want model
			if checked(int(e) - 1) {
				want = h.m.clone()
			}
			epoch := base.Epoch(len(epochs)) + 1 - again
			if e > 1 && rng.IntN(6) == 0 { // a second attempt at the epoch before
				again++
				epoch--
			}
			barriers, epochs = append(barriers, want), append(epochs, epoch)
			h.b.Freeze(epoch)
		}
		h.b.CopyAll()
		if err := h.b.Err(); err != nil {
			t.Fatal(err)
		}
		t.Logf("at most %d entries spilled", most)
		if memory > 0 && most == 0 {
			t.Fatal("nothing was spilled")
		}
		for i, want := range barriers {
			snap, err := h.waitSnap(i)
			if err != nil {
				t.Fatal(err)
			}
			if snap.Epoch != epochs[i] {
				t.Fatalf("snapshot %d is of epoch %d", i, snap.Epoch)
			}
			checkChain(t, snap, base.FullRange)
			if checked(i) {
				restoreAt(t, bs, rng, []Chain{{Task: "op#0", Range: base.FullRange, Objects: snap.Chain}}, want, memory)
			}
		}
	}
}

func checkChain(t *testing.T, snap Snapshot, r base.HashRange) {
	t.Helper()
	ts := protocol.TaskState{Keyed: true, Range: r, Objects: snap.Chain}
	if err := ts.CheckChain(snap.Epoch); err != nil {
		t.Fatalf("epoch %d: %v", snap.Epoch, err)
	}
}

// restoreAt restores chains at a random parallelism and compares.
func restoreAt(t *testing.T, bs blob.Store, rng *rand.Rand, chains []Chain, want model, memory int64) []*harness {
	t.Helper()
	n := 1 + rng.IntN(4)
	s := openTestStore(t, bs, memory)
	var out []*harness
	for i := range n {
		r := base.SplitRange(i, n)
		h := newHarness(t, s, r, rng)
		if err := h.b.Restore(context.Background(), chains); err != nil {
			t.Fatal(err)
		}
		h.m = want.within(r)
		for _, k := range kinds {
			if h.m[k.decl.Name] == nil {
				h.m[k.decl.Name] = map[int64]map[uint64]string{}
			}
		}
		if d := diff(h.dump(), h.m); d != "" {
			t.Fatalf("task %d of %d: %s", i, n, d)
		}
		out = append(out, h)
	}
	return out
}

// TestRescaleAgainAndAgain goes through several deployments, each from the last
// snapshots of the one before, with an epoch abandoned here and there.
func TestRescaleAgainAndAgain(t *testing.T) {
	_, rng := seeds(t)
	bs := blob.Memory()
	var chains []Chain
	want := model{}
	epoch := base.Epoch(0)
	for range 8 {
		hs := restoreAt(t, bs, rng, chains, want, int64(rng.IntN(2))*(3<<20))
		chains = nil
		rounds := 1 + rng.IntN(12)
		for range rounds {
			epoch++
			for _, h := range hs {
				for range rng.IntN(2000) {
					h.step(3000, 3)
				}
				h.b.Freeze(epoch)
			}
		}
		want = model{}
		for _, h := range hs {
			h.b.CopyAll()
			snap, err := h.waitSnap(rounds - 1)
			if err != nil {
				t.Fatal(err)
			}
			checkChain(t, snap, h.b.opts.Range)
			chains = append(chains, Chain{Range: h.b.opts.Range, Objects: snap.Chain})
			for g, nss := range h.m {
				if want[g] == nil {
					want[g] = map[int64]map[uint64]string{}
				}
				for ns, es := range nss {
					if want[g][ns] == nil {
						want[g][ns] = map[uint64]string{}
					}
					for k, v := range es {
						want[g][ns][k] = v
					}
				}
			}
		}
		rng.Shuffle(len(chains), func(i, j int) { chains[i], chains[j] = chains[j], chains[i] })
	}
}

// TestBatches updates through batches, whose addresses must all be valid together
// while the table grows, freezes and spills.
func TestBatches(t *testing.T) {
	_, rng := seeds(t)
	memories, rounds := []int64{0, 1 << 20}, 400
	if testing.Short() {
		memories, rounds = memories[1:], 160
	}
	for _, memory := range memories {
		for _, d := range []*Decl{&kinds[0].decl, &kinds[1].decl, &kinds[2].decl, &kinds[3].decl} {
			bs := blob.Memory()
			h := newHarness(t, openTestStore(t, bs, memory), base.FullRange, rng)
			tab := h.group(d.Name).Namespace(3)
			es := map[uint64]string{}
			h.m[d.Name][3] = es
			sums := map[uint64]uint64{}
			var want model
			for round := range rounds {
				n := 1 + rng.IntN(300)
				keys, hashes, bkeys := make([]uint64, n), make([]uint64, n), make([][]byte, n)
				for i := range keys {
					keys[i] = rng.Uint64N(uint64(20 + 16_000*round/rounds))
					hashes[i], bkeys[i] = hashOf(d, keys[i]), byteKey(keys[i])
				}
				out := make([]unsafe.Pointer, n)
				if d.Key == KeyUint64 {
					tab.UpsertBatchU64(hashes, keys, out)
				} else {
					tab.UpsertBatchBytes(hashes, bkeys, out)
				}
				for i, p := range out {
					*(*uint64)(p) += keys[i] + 1
					sums[keys[i]] += keys[i] + 1
					es[keys[i]] = string(unsafe.Slice((*byte)(p), d.ValueSize))
				}
				if round%20 == 10 {
					want = h.m.clone()
					h.b.Freeze(base.Epoch(round/20 + 1))
				}
				h.b.CopyTurn(30 * time.Microsecond)
			}
			if memory > 0 && d.ValueSize > 64 && h.spilled() == 0 {
				t.Fatal("nothing was spilled")
			}
			for k, sum := range sums {
				v, ok := get(tab, d, k, hashOf(d, k))
				if !ok || binary.LittleEndian.Uint64([]byte(v)) != sum {
					t.Fatalf("%s: key %d holds %x, want %d", d.Name, k, v, sum)
				}
			}
			h.b.CopyAll()
			snap, err := h.waitSnap(rounds/20 - 1)
			if err != nil {
				t.Fatal(err)
			}
			restoreAt(t, bs, rng, []Chain{{Range: base.FullRange, Objects: snap.Chain}}, want, memory)
		}
	}
}
