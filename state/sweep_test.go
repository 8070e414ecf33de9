package state

import (
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state/blob"
)

// TestSweepsOfSpilledState: most of the state is on disk, every epoch sweeps as
// much as it may, in the shortest turns, and entries are changed, evicted and
// loaded between any two of them. No value of after a barrier may get into its
// object, and none of before may be left out.
func TestSweepsOfSpilledState(t *testing.T) {
	_, rng := seeds(t)
	bs := blob.Memory()
	h := newHarness(t, openTestStore(t, bs, 800<<10), base.FullRange, rng)
	h.b.diskStep = 4
	d := &kinds[1].decl
	const keys = 12_000
	es := map[uint64]string{}
	h.m[d.Name][0] = es
	set := func(k uint64) {
		v := h.value(d)
		old, had := es[k]
		h.put(d, 0, k, hashOf(d, k), v, old, had)
		es[k] = v
	}
	for k := range uint64(keys) {
		set(k)
	}
	swept := 0
	for e := base.Epoch(1); e <= 40; e++ {
		want := h.m.clone()
		h.b.plan.credit = h.b.stateBytes
		h.b.Freeze(e)
		for turns := 0; h.b.frozen != nil && turns < 3000; turns++ {
			if h.b.sweeping {
				swept++
			}
			for range rng.IntN(4) {
				k := rng.Uint64N(keys)
				switch rng.IntN(10) {
				case 0:
					if got, had := del(h.group(d.Name).Namespace(0), d, k, hashOf(d, k)), es[k] != ""; got != had {
						t.Fatalf("delete says %v, want %v", got, had)
					}
					delete(es, k)
				case 1, 2, 3:
					h.check(d, 0, k, es)
				default:
					set(k)
				}
			}
			h.b.CopyTurn(time.Nanosecond)
		}
		h.b.CopyAll()
		snap, err := h.waitSnap(int(e) - 1)
		if err != nil {
			t.Fatal(err)
		}
		if e%2 == 0 {
			restoreAt(t, bs, rng, []Chain{{Range: base.FullRange, Objects: snap.Chain}}, want, 0)
		}
		if err := h.b.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if h.spilled() == 0 || swept == 0 {
		t.Fatalf("%d entries spilled, %d turns of sweeps", h.spilled(), swept)
	}
	t.Logf("%d of %d entries spilled, %d turns of sweeps", h.spilled(), len(es), swept)
}
