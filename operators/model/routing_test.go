package model_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators/model"
)

// canary is a routing with that share of keys, in hundredths of a percent, on "canary".
func canary(version uint64, weight uint32, shadows ...string) model.Routing {
	return model.Routing{
		Version: version, Shadows: shadows,
		Arms: []model.Share{{Arm: "canary", Weight: weight}, {Arm: "stable", Weight: model.FullWeight - weight}},
	}
}

// TestCanarySplit counts keys of both kinds, on all subtasks and on each of four.
func TestCanarySplit(t *testing.T) {
	const n = 1_000_000
	words, _ := codec.KeyFor[string]()
	numbers, _ := codec.KeyFor[int]()
	for kind, hash := range map[string]func(int) uint64{
		"words":   func(i int) uint64 { return words.Hash(fmt.Sprintf("user-%d", i)) },
		"numbers": numbers.Hash,
	} {
		var buckets [4][]uint32
		for i := range n {
			h := hash(i)
			for s := range 4 {
				if base.SplitRange(s, 4).Contains(h) {
					buckets[s] = append(buckets[s], model.Bucket("fraud", h))
				}
			}
		}
		for _, weight := range []uint32{0, 500, 2500, 5000, 10_000} {
			r := canary(1, weight)
			all, want := 0, float64(weight)/model.FullWeight
			for s := range buckets {
				k := 0
				for _, b := range buckets[s] {
					if share, ok := r.Pick(b); !ok {
						t.Fatalf("bucket %d has no arm", b)
					} else if share.Arm == "canary" {
						k++
					}
				}
				all += k
				if got := float64(k) / float64(len(buckets[s])); math.Abs(got-want) > 0.02*want {
					t.Errorf("%s: %.4f of the keys of subtask %d, want %.4f", kind, got, s, want)
				}
			}
			if got := float64(all) / n; math.Abs(got-want) > 0.01*want {
				t.Errorf("%s: %.5f of all keys, want %.5f within 1 %% of it", kind, got, want)
			}
		}
	}
}

// TestOperatorsSplitByThemselves: who is on the canary of one is not more likely to be
// on that of another.
func TestOperatorsSplitByThemselves(t *testing.T) {
	both := 0
	for i := range 200_000 {
		h := base.HashUint64(uint64(i))
		if model.Bucket("fraud", h) < 2500 && model.Bucket("churn", h) < 2500 {
			both++
		}
	}
	if got := float64(both) / 200_000; math.Abs(got-0.0625) > 0.002 {
		t.Errorf("%.4f of the keys are on both canaries, want 0.0625", got)
	}
}

func TestBucketsDoNotChange(t *testing.T) {
	for h, want := range map[uint64]uint32{0: 5508, 1: 5446, math.MaxUint64: 6167} {
		if got := model.Bucket("fraud", h); got != want {
			t.Errorf("the bucket of %x is %d, and was %d: keys would change their arms", h, got, want)
		}
	}
}

// TestPick holds the routing function against its definition.
func TestPick(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b", "c", "d", "e"}[:rapid.IntRange(1, 5).Draw(t, "arms")]
		draw := func(label string) (r model.Routing) {
			left := uint32(model.FullWeight)
			for i, n := range names {
				w := left
				if i < len(names)-1 {
					w = uint32(rapid.IntRange(0, int(left)).Draw(t, label+" "+n))
				}
				left -= w
				r.Arms = append(r.Arms, model.Share{Arm: n, Weight: w})
			}
			return r
		}
		r, q := draw("r"), draw("q")
		if err := r.Validate(names); err != nil {
			t.Fatal(err)
		}
		held := map[string]uint32{}
		for b := range uint32(model.FullWeight) {
			s, ok := r.Pick(b)
			if !ok {
				t.Fatalf("no arm for bucket %d in %v", b, r)
			}
			held[s.Arm]++
			now, _ := q.Pick(b)
			if s.Arm != names[0] && now.Arm == names[0] && q.Arms[0].Weight <= r.Arms[0].Weight {
				t.Fatalf("bucket %d came to the first arm, which did not grow: %v, %v", b, r, q)
			}
			if s.Arm == names[0] && now.Arm != names[0] && q.Arms[0].Weight >= r.Arms[0].Weight {
				t.Fatalf("bucket %d left the first arm, which did not shrink: %v, %v", b, r, q)
			}
		}
		for _, a := range r.Arms {
			if held[a.Arm] != a.Weight {
				t.Fatalf("%d buckets for %v", held[a.Arm], a)
			}
		}
		if _, ok := r.Pick(model.FullWeight); ok {
			t.Fatal("a bucket beyond the last has an arm")
		}
	})
}

func TestValidate(t *testing.T) {
	arms := []string{"canary", "stable"}
	share := func(arm string, w uint32) model.Share { return model.Share{Arm: arm, Weight: w} }
	for want, r := range map[string]model.Routing{
		`no arm "beta"`:               {Arms: []model.Share{share("beta", model.FullWeight)}},
		`"stable" has two shares`:     {Arms: []model.Share{share("stable", 5000), share("stable", 5000)}},
		"sum up to 9999":              {Arms: []model.Share{share("stable", 9999)}},
		"sum up to 4294967296":        {Arms: []model.Share{share("stable", 1<<31), share("canary", 1<<31)}},
		"sum up to 0":                 {},
		`no arm "x" for a shadow`:     {Arms: []model.Share{share("stable", model.FullWeight)}, Shadows: []string{"x"}},
		`"canary" is a shadow twice`:  {Arms: []model.Share{share("stable", model.FullWeight)}, Shadows: []string{"canary", "canary"}},
		"<nil>":                       canary(1, 300, "canary", "stable"),
		"<nil> " /* a weight of 0 */ : {Arms: []model.Share{share("canary", 0), share("stable", model.FullWeight)}},
	} {
		if got := fmt.Sprint(r.Validate(arms)); !strings.Contains(got, strings.TrimSpace(want)) {
			t.Errorf("%+v: %s; want %s", r, got, want)
		}
	}
}
