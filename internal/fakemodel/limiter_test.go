package fakemodel

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirflow/weir/internal/clock"
)

// TestThroughputOfAModel: a model that works on one call at a time, 1 ms per item,
// does 1,000 items per second however they come.
func TestThroughputOfAModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clk := clock.Real()
		l := newLimiter(&Limit{Concurrency: 2}, clk)
		begin, now := clk.Mono(), int64(0)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				turn, err := l.begin(t.Context(), clk, clk.Mono())
				if err != nil {
					t.Error(err)
					return
				}
				defer turn.end()
				if err := turn.until(t.Context(), time.Duration(10+i%2)*time.Millisecond); err != nil {
					t.Error(err)
				}
			}()
		}
		wg.Wait()
		now = clk.Mono()
		if got := time.Duration(now - begin); got < 520*time.Millisecond || got > 530*time.Millisecond {
			t.Errorf("100 calls of 10.5 ms, two at a time, took %v", got)
		}
		// A pause is not made up for.
		time.Sleep(time.Second)
		turn, err := l.begin(t.Context(), clk, clk.Mono())
		if err != nil {
			t.Fatal(err)
		}
		begin = clk.Mono()
		if err := turn.until(t.Context(), 10*time.Millisecond); err != nil || clk.Mono()-begin != 10e6 {
			t.Errorf("a call after a pause took %v, %v", time.Duration(clk.Mono()-begin), err)
		}
		turn.end()
		turn.end()
		if len(l.slots) != 2 {
			t.Errorf("%d slots are free", len(l.slots))
		}
	})
}

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clk := clock.Real()
		l := newLimiter(&Limit{Concurrency: 1, Queue: 1}, clk)
		first, err := l.begin(t.Context(), clk, clk.Mono())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		waits := make(chan error)
		go func() {
			_, err := l.begin(ctx, clk, clk.Mono())
			waits <- err
		}()
		synctest.Wait()
		if _, err := l.begin(t.Context(), clk, clk.Mono()); !errors.Is(err, errQueueFull) {
			t.Errorf("a third call gets %v", err)
		}
		cancel()
		if err := <-waits; !errors.Is(err, context.Canceled) {
			t.Errorf("a call that gave up gets %v", err)
		}
		first.end()
		if _, err := l.begin(t.Context(), clk, clk.Mono()); err != nil {
			t.Errorf("the slot is not free: %v", err)
		}
	})
}

func TestRates(t *testing.T) {
	clk := clock.NewVirtual(0)
	l := newLimiter(&Limit{Requests: 2, Tokens: 10, Burst: 2}, clk)
	for i, c := range []struct {
		after  time.Duration
		tokens int
		wait   time.Duration
	}{
		{0, 5, 0},
		{0, 16, 100 * time.Millisecond}, // 15 tokens are left
		{0, 15, 0},
		{0, 0, 0},
		{0, 0, 0}, // the fourth request; the refused one did not count
		{0, 0, 500 * time.Millisecond},
		{500 * time.Millisecond, 5, 0},
		{time.Hour, 100, 0}, // more than the bucket holds goes when it is full
		{0, 0, 8 * time.Second},
	} {
		clk.Advance(c.after)
		if got := l.admit(c.tokens); got != c.wait {
			t.Errorf("call %d: wait %v, want %v", i, got, c.wait)
		}
	}
}
