package guard

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/operators/model"
)

// The sum covers all of the period and at most a 63rd more.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		origin := rapid.Int64Range(-1e12, 1e12).Draw(t, "origin")
		period := rapid.Int64Range(100, 1e6).Draw(t, "period")
		w := newWindow(time.Duration(period), origin)
		type entry struct {
			at int64
			v  float64
		}
		var all []entry
		now := origin
		for range rapid.IntRange(1, 100).Draw(t, "n") {
			now += rapid.Int64Range(0, period/3).Draw(t, "step")
			v := float64(rapid.IntRange(1, 10).Draw(t, "v"))
			w.add(now, v)
			all = append(all, entry{now, v})
			least, most := 0.0, 0.0
			for _, e := range all {
				if e.at >= now-period {
					least += e.v
				}
				if e.at > now-windowBuckets*w.width {
					most += e.v
				}
			}
			if got := w.total(now); got < least || got > most {
				t.Fatalf("total %v, want %v to %v", got, least, most)
			}
			room := rapid.Float64Range(0, 50).Draw(t, "room")
			wait := int64(w.until(now, room))
			later, sooner := w, w
			if later.total(now+wait) > room {
				t.Fatalf("after the wait of %d the sum is %v, not %v", wait, later.total(now+wait), room)
			}
			if wait > 0 && sooner.total(now+wait-1) <= room {
				t.Fatalf("the wait of %d is too long", wait)
			}
		}
	})
}

// Whatever is asked, no second and no minute has more requests, calls and tokens than
// allowed, and the budgets are used up.
func TestBudgetsAreNeverExceeded(t *testing.T) {
	for seed := range uint64(4) {
		bubble(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			b := Budgets{
				Requests: Rate{PerSecond: 5 + float64(r.IntN(20))}, Calls: Rate{PerSecond: 20, PerMinute: 600},
				Tokens: Rate{PerMinute: 20 * 500, PerSecond: 700},
			}
			f := &fake{do: func(_ context.Context, n int, calls []call) ([]result, error) {
				time.Sleep(time.Duration(n%50) * time.Millisecond)
				if n%9 == 0 {
					return nil, &model.Failure{Kind: model.Unavailable, What: "503"}
				}
				out := reply(calls)
				for i := range out {
					out[i].Usage = model.Usage{InputTokens: int64(calls[i].In % 7), OutputTokens: 10}
				}
				return out, nil
			}}
			c := wrap(t, f, Policy{Seed: seed + 1, Budgets: b, Deadline: 10 * time.Minute, Hedge: Hedge{On: true}},
				Estimate[int, string](func(in int) model.Usage { return model.Usage{InputTokens: int64(in % 7), OutputTokens: 15} }))
			done := make(chan int)
			total, key := 0, 0
			start := time.Now()
			for range 150 {
				n := 1 + r.IntN(40) // some are larger than a second allows
				var in []int
				for range n {
					in = append(in, key)
					key++
				}
				total += n
				go func() {
					ok := 0
					for _, x := range invokeOK(t, c, in...) {
						if x.Err == nil {
							ok++
						}
					}
					done <- ok
				}()
				time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
			}
			ok := 0
			for range 150 {
				ok += <-done
			}
			took := time.Since(start)
			t.Logf("%d of %d calls answered in %v, %d requests", ok, total, took, f.requests())
			if ok < total*9/10 {
				t.Errorf("%d of %d answered", ok, total)
			}
			check := func(name string, period time.Duration, limit float64, of func(s sent) float64) {
				most, log := 0.0, f.asked()
				for i := range log {
					sum := 0.0
					for k := i; k >= 0 && log[i].at.Sub(log[k].at) < period; k-- {
						sum += of(log[k])
					}
					most = max(most, sum)
				}
				if most > limit {
					t.Errorf("%s: %v in %v, allowed are %v", name, most, period, limit)
				}
				if most < limit/3 {
					t.Errorf("%s: at most %v in %v of %v allowed: the test tests nothing", name, most, period, limit)
				}
			}
			calls := func(s sent) float64 { return float64(len(s.calls)) }
			check("requests", time.Second, b.Requests.PerSecond, func(sent) float64 { return 1 })
			check("calls", time.Second, b.Calls.PerSecond, calls)
			check("calls", time.Minute, b.Calls.PerMinute, calls)
			check("tokens", time.Minute, b.Tokens.PerMinute, func(s sent) (sum float64) {
				for _, c := range s.calls {
					sum += float64(c.In%7) + 10
				}
				return sum
			})
			// 600 calls a minute, of which the windows give away at most a 63rd, and the
			// size of requests some.
			if perMinute := float64(total) / took.Minutes(); perMinute < 400 {
				t.Errorf("%.0f calls a minute, allowed are 600", perMinute)
			}
		})
	}
}

func TestCostOfADay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &fake{do: answers} // 10 tokens in, 5 out
		c := wrap(t, f, Policy{
			Prices:  Prices{PerMillionInput: 100_000, PerMillionOutput: 200_000, PerCall: 1}, // 1 + 1 + 1
			Budgets: Budgets{Cost: Rate{PerDay: 30}},
		}, Default[int, string]("none", "v0", func(int) (string, bool) { return "?", true }))
		good, at := 0, time.Now()
		for k := range 100 {
			res := invokeOK(t, c, k)
			if !res[0].Degraded {
				good++
			} else if res[0].Out != "?" || res[0].By != "none" || res[0].Version != "v0" {
				t.Fatalf("%+v", res[0])
			}
		}
		st := c.Stats()
		// Calls are reserved at the mean of those before; the first knows only PerCall.
		if good != 10 || st.Cost != 30 || st.BudgetRefused != 90 {
			t.Errorf("%d answers, %+v", good, st)
		}
		if d := time.Since(at); d > 90*time.Second+time.Millisecond {
			t.Errorf("%v: they wait for a second at most, or not at all when that does not help", d)
		}
		time.Sleep(25 * time.Hour)
		if invokeOK(t, c, 200)[0].Degraded {
			t.Error("a new day, and still no money")
		}
	})
}

// Calls reserve 100 tokens and use 15 of them: the rest is given back.
func TestReservedTokensAreSettled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := wrap(t, &fake{do: answers}, Policy{Budgets: Budgets{Tokens: Rate{PerMinute: 1000}, MaxWait: -1}},
			Estimate[int, string](func(int) model.Usage { return model.Usage{InputTokens: 40, OutputTokens: 60} }))
		good := 0
		for k := range 100 {
			if invokeOK(t, c, k)[0].Err == nil {
				good++
			}
		}
		if good != 61 { // 60 * 15 + 100 are 1000
			t.Errorf("%d calls", good)
		}
	})
}

func TestTooLargeForTheBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &fake{do: answers}
		c := wrap(t, f, Policy{Budgets: Budgets{Tokens: Rate{PerMinute: 100}}},
			Estimate[int, string](func(in int) model.Usage { return model.Usage{InputTokens: int64(in)} }))
		start := time.Now()
		fail := wantFailure(t, invokeOK(t, c, 101)[0], model.Limited)
		if time.Since(start) != 0 || f.requests() != 0 {
			t.Errorf("%v after %v", fail, time.Since(start))
		}
		if res := invokeOK(t, c, 99); res[0].Err != nil {
			t.Error(res[0].Err)
		}
	})
}

// A large request that waits is not overtaken for ever by small ones.
func TestBudgetsAreFair(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBudgets(Budgets{Calls: Rate{PerSecond: 10}}, clock.Real())
		each := func(n int) []need {
			out := make([]need, n)
			for i := range out {
				out[i][calls] = 1
			}
			return out
		}
		limit := clock.Real().Mono() + int64(time.Hour)
		for range 100 {
			go func() {
				for range 20 {
					if _, _, err := b.acquire(t.Context(), each(1), limit); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		time.Sleep(time.Millisecond)
		start := time.Now()
		if n, _, err := b.acquire(t.Context(), each(10), limit); n != 10 || err != nil {
			t.Error(n, err)
		}
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("ten calls waited for %v behind 100 that came before", d)
		}
		time.Sleep(time.Hour)
	})
}

func TestSettledIsGivenBack(t *testing.T) {
	v := clock.NewVirtual(0)
	b := newBudgets(Budgets{Tokens: Rate{PerMinute: 100}}, v)
	t1, wait := b.reserve(need{tokens: 100})
	if wait != 0 {
		t.Fatal(wait)
	}
	if _, wait := b.reserve(need{tokens: 1}); wait <= 0 {
		t.Fatal("the budget is spent")
	}
	b.settle(t1, need{tokens: 40})
	t2, wait := b.reserve(need{tokens: 60})
	if wait != 0 {
		t.Fatal(wait)
	}
	b.cancel(t2)
	if _, wait := b.reserve(need{tokens: 60}); wait != 0 {
		t.Fatal(wait)
	}
}
