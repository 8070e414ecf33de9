package batcher

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestClosesByAgeAndGoal(t *testing.T) {
	b := New(Config{Goal: 20 * time.Millisecond, MaxDelay: 10 * time.Millisecond})
	b.Add(0)
	if n, wait := b.Ready(0); n != 0 || wait != 10*time.Millisecond {
		t.Fatalf("%d %v", n, wait)
	}
	if n, _ := b.Ready(10*ms - 1); n != 0 {
		t.Fatal("closed too early")
	}
	if n, _ := b.Ready(10 * ms); n != 1 {
		t.Fatal("the oldest has waited for MaxDelay")
	}
	b.Take(1)
	if n, wait := b.Ready(10 * ms); n != 0 || wait != Forever {
		t.Fatalf("%d %v with the only slot taken", n, wait)
	}
	// One call took 8 ms. Two are taken to need 16 ms, which is more than half of the
	// goal: a call goes alone.
	b.Done(18*ms, 1, 10*ms)
	b.Add(20 * ms)
	if n, wait := b.Ready(20 * ms); n != 1 || wait != 0 {
		t.Fatalf("%d %v", n, wait)
	}
}

func TestCut(t *testing.T) {
	b := New(Config{MaxBatch: 100, MaxDelay: time.Hour, InFlight: 10})
	b.Cut() // nothing to cut
	for i := range 3 {
		b.Add(int64(i))
	}
	b.Cut()
	b.Cut()
	b.Add(4)
	if n, _ := b.Ready(4); n != 3 {
		t.Fatalf("%d calls before the cut are ready, want 3", n)
	}
	b.Take(1)
	if n, _ := b.Ready(4); n != 2 {
		t.Fatalf("%d, want the 2 left before the cut", n)
	}
	b.Take(2)
	if n, _ := b.Ready(4); n != 0 {
		t.Fatalf("%d calls after the cut are ready", n)
	}
	if b.InFlight() != 2 {
		t.Fatalf("%d batches in flight", b.InFlight())
	}
}

func TestFailedFreesTheSlotAndTeachesNothing(t *testing.T) {
	b := New(Config{MaxDelay: -1})
	b.Add(0)
	b.Take(1)
	b.Failed()
	b.Add(1)
	if n, _ := b.Ready(1); n != 1 || b.Predict(1) != 0 {
		t.Fatalf("%d ready, %v predicted", n, b.Predict(1))
	}
}

// Whatever happens: a batch has at most MaxBatch calls and spans no cut, no call
// waits longer than MaxDelay while a slot is free, slots are not exceeded, and what
// goes in comes out once.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{
			Goal:     time.Duration(rapid.Int64Range(1, 200).Draw(t, "goal")) * time.Millisecond,
			MaxBatch: rapid.IntRange(1, 40).Draw(t, "max"),
			MaxDelay: time.Duration(rapid.Int64Range(1, 50).Draw(t, "delay")) * time.Millisecond,
			InFlight: rapid.IntRange(1, 4).Draw(t, "slots"),
		}
		b := New(cfg)
		now, next, taken := int64(0), 0, 0
		var times []int64
		var group []int // the number of cuts before each call
		cuts := 0
		type batch struct {
			n       int
			started int64
		}
		var flying []batch
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1:
				for range rapid.IntRange(1, 5).Draw(t, "adds") {
					b.Add(now)
					times, group = append(times, now), append(group, cuts)
					next++
				}
			case 2:
				now += rapid.Int64Range(0, 20*ms).Draw(t, "time")
			case 3:
				if len(flying) > 0 {
					f := flying[0]
					flying = flying[1:]
					if rapid.Bool().Draw(t, "failed") {
						b.Failed()
					} else {
						b.Done(now, f.n, f.started)
					}
				}
			case 4:
				b.Cut()
				if next > taken {
					cuts++
				}
			}
			for {
				n, wait := b.Ready(now)
				if n == 0 {
					free := len(flying) < cfg.InFlight
					if wait <= 0 {
						t.Fatalf("nothing is ready and the wait is %v", wait)
					}
					if free && next > taken && time.Duration(now-times[taken])+wait > cfg.MaxDelay {
						t.Fatalf("a call that has waited %v is to wait %v more", time.Duration(now-times[taken]), wait)
					}
					break
				}
				if n > cfg.MaxBatch || n > next-taken || len(flying) >= cfg.InFlight {
					t.Fatalf("a batch of %d: %d wait, %d fly", n, next-taken, len(flying))
				}
				if group[taken] != group[taken+n-1] {
					t.Fatal("a batch spans a cut")
				}
				b.Take(n)
				taken += n
				flying = append(flying, batch{n, now})
			}
			if b.Len() != next-taken || b.InFlight() != len(flying) || b.Limit() < 1 || b.Limit() > cfg.MaxBatch {
				t.Fatalf("len %d of %d, %d of %d in flight, limit %d", b.Len(), next-taken, b.InFlight(), len(flying), b.Limit())
			}
			if b.cost.a < 0 || b.cost.b < 0 || b.cost.a != b.cost.a || b.cost.b != b.cost.b {
				t.Fatalf("cost %v + %v*n", b.cost.a, b.cost.b)
			}
		}
	})
}

func TestCostIsLearned(t *testing.T) {
	var c cost
	near := func(n int, want, within time.Duration) {
		t.Helper()
		if d := time.Duration(c.mean(n)) - want; d.Abs() > within {
			t.Fatalf("%d calls are predicted at %v, want %v", n, time.Duration(c.mean(n)), want)
		}
	}
	for i := range 60 {
		n := 1 + i*7%40
		c.learn(n, float64(5*ms+200*us*int64(n)))
	}
	near(100, 25*time.Millisecond, time.Millisecond/4)
	// One stall is no cost of the model.
	c.learn(20, float64(10*s))
	near(20, 9*time.Millisecond, 3*time.Millisecond)
	// A lasting change is: the past is forgotten.
	for i := range 100 {
		n := 1 + i*7%40
		c.learn(n, float64(10*ms+int64(n)*ms))
	}
	near(50, 60*time.Millisecond, 2*time.Millisecond)
}

func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ring
		var want []int64
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			if rapid.IntRange(0, 2).Draw(t, "what") > 0 {
				r.push(int64(i))
				want = append(want, int64(i))
			} else {
				n := rapid.IntRange(0, len(want)).Draw(t, "n") / 3
				r.drop(n)
				want = want[n:]
			}
			if r.n != len(want) || r.n > 0 && r.first() != want[0] {
				t.Fatalf("%d times, want %v", r.n, want)
			}
		}
	})
}

func TestLimitByCost(t *testing.T) {
	b := New(Config{Goal: 50 * time.Millisecond, MaxBatch: 1000})
	for i := range 60 {
		n := 1 + i*7%40
		b.cost.learn(n, float64(5*ms+200*us*int64(n)))
	}
	b.limit = 1000
	if l := b.Limit(); l < 90 || l > 101 {
		t.Fatalf("limit %d; 100 calls take half of the goal", l)
	}
}

func BenchmarkAddReadyTake(b *testing.B) {
	x := New(Config{MaxBatch: 64, InFlight: 4})
	now := int64(0)
	for b.Loop() {
		now += 1000
		x.Add(now)
		if n, _ := x.Ready(now); n > 0 {
			x.Take(n)
			x.Done(now, n, now-ms)
		}
	}
}
