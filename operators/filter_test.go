package operators

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirflow/weir/internal/base"
)

// TestFilterKeepsRunsTogether: a filter hands on the same records whether what comes
// behind it takes them one by one or in runs, and makes no more runs than it was given.
func TestFilterKeepsRunsTogether(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	type got struct {
		hash uint64
		val  int
	}
	for range 300 {
		part := rng.IntN(4)
		n := rng.IntN(40)
		metas, vals := make([]base.Meta, n), make([]int, n)
		var want []got
		for i := range vals {
			metas[i].Hash, vals[i] = rng.Uint64(), rng.IntN(3)
			if vals[i] < part {
				want = append(want, got{metas[i].Hash, vals[i]})
			}
		}
		for _, runs := range []bool{false, true} {
			s := NewSubtask(Env{})
			var have []got
			calls := 0
			out := Consumer[int]{One: func(m *base.Meta, v *int) { have = append(have, got{m.Hash, *v}) }}
			if runs {
				out.Batch = func(metas []base.Meta, vals []int) {
					calls++
					for i := range vals {
						have = append(have, got{metas[i].Hash, vals[i]})
					}
				}
			}
			f := Filter(s, "f", func(v int) bool { return v < part }, out)
			for range 2 { // the second run finds what the first left behind
				have = have[:0]
				f.run(s, metas, vals)
				if !slices.Equal(have, want) {
					t.Fatalf("runs %v: %v, want %v", runs, have, want)
				}
			}
			if most := 2; calls > most || runs && len(want) == 0 && calls > 0 && n > 0 {
				t.Fatalf("%d runs were made of %d", calls, most)
			}
		}
	}
}

// TestFilterNamesTheRecordInHand: a panic is that of the record that the function had.
func TestFilterNamesTheRecordInHand(t *testing.T) {
	s := NewSubtask(Env{})
	f := Filter(s, "f", func(v int) bool {
		if v == 3 {
			panic("no")
		}
		return v != 1
	}, Consumer[int]{One: func(*base.Meta, *int) {}, Batch: func([]base.Meta, []int) {}})
	metas := make([]base.Meta, 5)
	func() {
		defer func() { _ = recover() }()
		f.run(s, metas, []int{0, 1, 2, 3, 4})
	}()
	if s.cur != &metas[3] || s.ops[s.at] != "f" {
		t.Error("another record is blamed")
	}
}
