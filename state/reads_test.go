package state

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state/blob"
)

// TestReadsKeepTheBudget: reading state that does not fit in memory, one key at a
// time or batches ahead, makes room for what it loads although it changes nothing.
func TestReadsKeepTheBudget(t *testing.T) {
	const size, batch = 100, 256
	keys, passes, ways := uint64(120_000), uint64(2), []bool{true, false}
	if testing.Short() {
		keys, passes, ways = 60_000, 1, ways[:1]
	}
	for _, ahead := range ways {
		s, err := OpenStore(Options{FS: vfs.NewMem(), Dir: "state", Blob: blob.Memory(), Memory: 8 << 20, Job: "job"})
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.NewBackend(BackendOptions{Task: "t/0", Range: base.FullRange})
		if err != nil {
			t.Fatal(err)
		}
		g, err := b.Group(Decl{Operator: "op", Name: "v", Key: KeyUint64, ValueSize: size})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Restore(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		tab := g.Namespace(0)
		for k := range keys {
			p, _ := tab.UpsertU64(base.HashUint64(k), k)
			*(*uint64)(p) = k * 3
		}
		var hs, ks [batch]uint64
		peak := int64(0)
		for at := uint64(0); at < passes*keys; at += batch {
			for i := range uint64(batch) {
				ks[i] = (at + i) * 7919 % keys
				hs[i] = base.HashUint64(ks[i])
			}
			if ahead {
				tab.PrefetchU64(hs[:], ks[:])
			}
			for i, k := range ks {
				p := tab.GetU64(hs[i], k)
				if p == nil || *(*uint64)(p) != k*3 {
					t.Fatalf("key %d is gone or wrong", k)
				}
			}
			peak = max(peak, s.MemoryUsed())
		}
		if peak > s.limit*11/10 {
			t.Errorf("reading ahead: %v: %d bytes were used, %d are allowed", ahead, peak, s.limit)
		}
		if tab.stored == 0 {
			t.Error("the test did not test: nothing was spilled")
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
