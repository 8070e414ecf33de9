package pattern

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// scattered makes n runs in a few nodes, in order, with starts that many have.
func scattered(rng *rand.Rand, n int) []run[int] {
	runs := make([]run[int], n)
	for i := range runs {
		start := eventID{ts: int64(rng.IntN(5)), num: uint32(rng.IntN(2))}
		runs[i] = run[int]{path: &link[int]{ev: &record[int]{}}, start: start, ord: rng.Uint64(), width: 1, node: uint16(rng.IntN(3))}
	}
	sortRuns(runs)
	return runs
}

func sortRuns(runs []run[int]) {
	slices.SortFunc(runs, func(a, b run[int]) int {
		if a.before(&b) {
			return -1
		}
		return 1
	})
}

// TestRunsInOrder puts many runs among many and takes the first or the last out, and
// holds that against sorting.
func TestRunsInOrder(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	prog, err := Compile(Begin[int]("a").FollowedBy("b").FollowedBy("c"))
	if err != nil {
		t.Fatal(err)
	}
	m := NewMatcher(prog)
	for round := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, round))
		k, want := &Key[int]{}, []run[int]{}
		for range 1 + rng.IntN(4) {
			runs := scattered(rng, rng.IntN(60))
			if rng.IntN(5) == 0 {
				slices.Reverse(runs) // as no caller has them
			}
			m.insert(k, runs)
			want = append(want, runs...)
			sortRuns(want)
		}
		if n := rng.IntN(len(want) + 1); rng.IntN(2) == 0 {
			k.newest(n)
			want = want[:len(want)-n]
		} else {
			k.oldestRuns(n)
			want = want[n:]
		}
		for _, n := range k.active {
			runs := k.buckets[n].runs
			if len(runs) == 0 || !slices.IsSortedFunc(runs, func(a, b run[int]) int {
				if b.before(&a) {
					return 1
				}
				return -1
			}) {
				t.Fatalf("round %d: node %d has %d runs, out of order or none", round, n, len(runs))
			}
		}
		if got := k.sorted(); !slices.Equal(got, want) || k.live != len(want) {
			t.Fatalf("round %d: %d runs, %d live, want %d", round, len(got), k.live, len(want))
		}
	}
}
