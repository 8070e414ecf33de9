package rollout_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirflow/weir/operators/model/rollout"
)

// TestPSI holds the index against one computed by hand: shares (0.1+, 0.9-) with half a
// score added to each bin.
func TestPSI(t *testing.T) {
	// (10.5/101, 90.5/101) and (50.5/101, 50.5/101).
	a, b, c := 10.5/101.0, 90.5/101.0, 0.5
	want := (a-c)*math.Log(a/c) + (b-c)*math.Log(b/c)
	got, chance, _, ok := rollout.PSI([]int64{10, 90}, []int64{50, 50})
	if !ok || math.Abs(got-want) > 1e-12 || math.Abs(chance-0.02) > 1e-12 {
		t.Errorf("%v, want %v; chance %v", got, want, chance)
	}
	if got, _, _, _ := rollout.PSI([]int64{5, 7, 0}, []int64{5, 7, 0}); got != 0 {
		t.Errorf("%v of a histogram and itself", got)
	}
	if back, _, _, _ := rollout.PSI([]int64{50, 50}, []int64{10, 90}); math.Abs(back-want) > 1e-12 {
		t.Errorf("%v the other way round", back)
	}
	if _, _, _, ok := rollout.PSI([]int64{0, 0}, []int64{1, 1}); ok {
		t.Error("an index of nothing")
	}
	if got, _, _, ok := rollout.PSI([]int64{100, 0}, []int64{0, 100}); !ok || math.IsInf(got, 0) || got < 5 {
		t.Errorf("%v of histograms that have nothing in common", got)
	}
}

// TestPSIOfChance draws samples of the same scores, and of others: the mean index is what
// chance makes of it, and its spread is the deviation.
func TestPSIOfChance(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	bins := rollout.EqualBins(10, 0, 1)
	draw := func(n int, bend float64) []int64 {
		h := make([]int64, bins.Count())
		for range n {
			h[bins.Of(math.Pow(rnd.Float64(), bend))]++
		}
		return h
	}
	for _, bend := range []float64{1, 1.5} {
		truth, _, _, _ := rollout.PSI(draw(500_000, 1), draw(500_000, bend))
		var sum, squares, deviations float64
		const runs = 300
		var chance float64
		for range runs {
			psi, c, d, _ := rollout.PSI(draw(800, 1), draw(2000, bend))
			x := psi - c - truth
			chance = c
			sum, squares, deviations = sum+x, squares+x*x, deviations+d
		}
		bias, sd := sum/runs, math.Sqrt(squares/runs)
		t.Logf("bend %v: index %.4f, chance %.4f, bias %.5f, deviation %.5f, estimated %.5f", bend, truth, chance, bias, sd, deviations/runs)
		if math.Abs(bias) > 0.15*chance+0.002 || deviations/runs < 0.8*sd || deviations/runs > 2*sd {
			t.Errorf("bend %v: bias %v, deviation %v, estimated %v", bend, bias, sd, deviations/runs)
		}
	}
}

// TestSumsAreExact compares with sums of big numbers, in any order and by parts.
func TestSumsAreExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		values := rapid.SliceOfN(rapid.OneOf(rapid.Int64Range(-1<<40, 1<<40), rapid.Int64Range(-9, 9)), 1, 50).Draw(rt, "values")
		var parts [3]rollout.Acc
		sum, squares := new(big.Int), new(big.Int)
		for _, v := range values {
			parts[rapid.IntRange(0, 2).Draw(rt, "part")].Add(&rollout.Fact{What: rollout.Measured, Grains: v})
			x := big.NewInt(v)
			sum.Add(sum, x)
			squares.Add(squares, new(big.Int).Mul(x, x))
		}
		parts[2].Merge(&parts[0])
		parts[1].Merge(&parts[2])
		c := parts[1].Counts
		want, _ := new(big.Float).SetMantExp(new(big.Float).SetInt(sum), -20).Float64()
		wantSquares, _ := new(big.Float).SetMantExp(new(big.Float).SetInt(squares), -40).Float64()
		if got := c.Metric.Float(); math.Abs(got-want) > math.Abs(want)*1e-15 {
			rt.Fatalf("sum %v, want %v", got, want)
		}
		if got := c.Squares.Float(); math.Abs(got-wantSquares) > wantSquares*1e-15 {
			rt.Fatalf("squares %v, want %v", got, wantSquares)
		}
		if c.Outcomes != int64(len(values)) {
			rt.Fatalf("%d outcomes", c.Outcomes)
		}
	})
}

// TestTheJoinDoesNotDependOnTheOrder hands what is seen over in any order before the
// timers fire.
func TestTheJoinDoesNotDependOnTheOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := rollout.Config{Horizon: time.Hour, Tolerance: 0.1}.WithDefaults()
		type event struct {
			at int64
			s  rollout.Seen
		}
		answer := rollout.Seen{Kind: rollout.Answer, ID: "m/1", Model: "m", Arm: "a", Routing: 3, Score: rapid.Float64Range(0, 1).Draw(rt, "score"), Degraded: rapid.Bool().Draw(rt, "degraded")}
		if rapid.Bool().Draw(rt, "failed") {
			answer.Kind = rollout.Failure
		}
		events := []event{
			{0, answer},
			{0, rollout.Seen{Kind: rollout.Shadow, ID: "m/1", Model: "m", Arm: "b", Routing: 3, Score: rapid.Float64Range(0, 1).Draw(rt, "shadow"), Failed: rapid.Bool().Draw(rt, "shadowFailed")}},
			{rapid.Int64Range(0, int64(time.Hour)).Draw(rt, "outcomeAt"), rollout.OfOutcome("m/1", 1)},
		}
		play := func(order []int) (facts []rollout.Fact) {
			var j rollout.Joined
			due := map[int64]bool{}
			for _, i := range order {
				at, ok := j.Take(&c, &events[i].s, events[i].at)
				if !ok {
					rt.Fatalf("event %d was refused", i)
				}
				for _, d := range at {
					due[d] = true
				}
			}
			over := false
			for len(due) > 0 && !over {
				next := int64(math.MaxInt64)
				for d := range due {
					next = min(next, d)
				}
				delete(due, next)
				over = j.Due(&c, next, func(f rollout.Fact) { facts = append(facts, f) })
			}
			if !over {
				rt.Fatal("it is not over when all timers have fired")
			}
			return facts
		}
		want := play([]int{0, 1, 2})
		if got := play(rapid.Permutation([]int{0, 1, 2}).Draw(rt, "order")); !reflect.DeepEqual(got, want) {
			rt.Fatalf("got %+v, want %+v", got, want)
		}
		measured := 0
		for _, f := range want {
			if f.What == rollout.Measured {
				measured++
			}
		}
		expect := 0
		if answer.Kind == rollout.Answer && !answer.Degraded {
			expect++
		}
		if !events[1].s.Failed {
			expect++
		}
		if measured != expect {
			rt.Fatalf("%d outcomes, want %d: %+v", measured, expect, want)
		}
	})
}

func TestMetrics(t *testing.T) {
	a, yes, no := &rollout.Seen{Score: 0.8}, &rollout.Seen{Score: 1}, &rollout.Seen{}
	if got := rollout.Brier(a, yes); math.Abs(got-0.04) > 1e-12 {
		t.Errorf("Brier %v", got)
	}
	if got := rollout.LogLoss(a, no); math.Abs(got+math.Log(0.2)) > 1e-9 {
		t.Errorf("LogLoss %v", got)
	}
	if got := rollout.LogLoss(&rollout.Seen{Score: 1}, no); math.IsInf(got, 0) || got < 10 {
		t.Errorf("LogLoss %v of a certain mistake", got)
	}
	correct := rollout.Correct(0.5)
	if correct(a, yes) != 1 || correct(a, no) != 0 || correct(&rollout.Seen{Label: "cat"}, &rollout.Seen{Label: "dog"}) != 0 {
		t.Error("Correct is wrong")
	}
}
