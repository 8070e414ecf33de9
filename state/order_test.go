package state

import (
	"cmp"
	"slices"
	"testing"

	"github.com/weirflow/weir/internal/base"
)

// TestKeysInHashOrderStayNearHome inserts keys in the order of their hashes, as a
// restore and a walk into another table do. No entry may then lie far from its home
// slot, or every insert would probe through the ones before it.
func TestKeysInHashOrderStayNearHome(t *testing.T) {
	keys := make([]uint64, 300_000)
	for i := range keys {
		keys[i] = uint64(i)
	}
	slices.SortFunc(keys, func(a, b uint64) int { return cmp.Compare(base.HashUint64(a), base.HashUint64(b)) })
	b, err := openTestStore(t, nil, 1<<30).NewBackend(BackendOptions{Task: "order#0", Range: base.FullRange})
	if err != nil {
		t.Fatal(err)
	}
	g, err := b.Group(Decl{Operator: "order", Name: "n", Key: KeyUint64, ValueSize: 8, Schema: "uint64"})
	if err != nil {
		t.Fatal(err)
	}
	table := g.Namespace(0)
	sum := 0
	for _, k := range keys {
		h := base.HashUint64(k)
		table.UpsertU64(h, k)
		s, i, _, ok := table.findU64(h, k)
		if !ok {
			t.Fatalf("key %d is not found after it was inserted", k)
		}
		sum += i - s.homeOf(table.position(h))
	}
	if mean := sum / len(keys); mean > maxProbe {
		t.Errorf("an insert lies %d slots from its home in the mean, want at most %d", mean, maxProbe)
	}
	if table.Len() != len(keys) {
		t.Errorf("%d entries, want %d", table.Len(), len(keys))
	}
}
