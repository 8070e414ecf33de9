package state

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirflow/weir/internal/base"
)

// TestKeysInHashOrderStayNearHome inserts keys in the order of their hashes, as a
// walk into another table does, and in runs that are in order, as a restore does:
// an object has one segment after the other, in the order of their first change.
// Entries may then not lie far from their home slots, or every insert would probe
// through the ones before it.
func TestKeysInHashOrderStayNearHome(t *testing.T) {
	n := 600_000
	if testing.Short() {
		n = 20_000
	}
	for _, run := range []int{n, 100_000, 20_000, 5000, 300} {
		t.Run(fmt.Sprint("runs of ", run), func(t *testing.T) { insertRuns(t, n, run) })
	}
}

func insertRuns(t *testing.T, n, run int) {
	keys := make([]uint64, n)
	for i := range keys {
		keys[i] = uint64(i)
	}
	slices.SortFunc(keys, func(a, b uint64) int { return cmp.Compare(base.HashUint64(a), base.HashUint64(b)) })
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	runs := slices.Collect(slices.Chunk(keys, run))
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
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
	for i, k := range slices.Concat(runs...) {
		h := base.HashUint64(k)
		table.UpsertU64(h, k)
		s, at, _, ok := table.findU64(h, k)
		if !ok {
			t.Fatalf("key %d is not found after it was inserted", k)
		}
		if sum += at - s.homeOf(table.position(h)); i > 10_000 && sum/i > maxProbe {
			t.Fatalf("after %d inserts one lies %d slots from its home in the mean, want at most %d", i, sum/i, maxProbe)
		}
	}
	if table.Len() != len(keys) {
		t.Errorf("%d entries, want %d", table.Len(), len(keys))
	}
}
