package clock

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestVirtualFiresInTimeOrder(t *testing.T) {
	v := NewVirtual(1000)
	var got []string
	note := func(name string) func() {
		return func() { got = append(got, fmt.Sprintf("%s@%d", name, v.Now())) }
	}
	v.AfterFunc(30, note("c"))
	v.AfterFunc(10, func() {
		note("a")()
		v.AfterFunc(5, note("nested"))
		v.AfterFunc(500, note("far"))
	})
	v.AfterFunc(30, note("d"))
	stopped := v.AfterFunc(20, note("never"))
	if !stopped.Stop() || stopped.Stop() {
		t.Fatal("Stop must report true once")
	}
	v.Advance(30)
	want := []string{"a@1010", "nested@1015", "c@1030", "d@1030"}
	if !slices.Equal(got, want) {
		t.Fatalf("fired %v, want %v", got, want)
	}
	if v.Now() != 1030 || v.Mono() != 30 || v.Pending() != 1 {
		t.Fatalf("now %d mono %d pending %d", v.Now(), v.Mono(), v.Pending())
	}
	if d, ok := v.Next(); !ok || d != 480 {
		t.Fatalf("next %d %v, want 480", d, ok)
	}
}

func TestVirtualNeverCallsInsideAfterFunc(t *testing.T) {
	v := NewVirtual(0)
	fired := false
	v.AfterFunc(-5, func() { fired = true })
	if fired {
		t.Fatal("fired inside AfterFunc")
	}
	v.Advance(0)
	if !fired || v.Mono() != 0 {
		t.Fatalf("fired %v, mono %d", fired, v.Mono())
	}
}

func TestVirtualTimerResetLeavesNoStaleValue(t *testing.T) {
	v := NewVirtual(0)
	tm := v.NewTimer(10)
	v.Advance(10)
	if tm.Reset(10) {
		t.Fatal("a fired timer was reported pending")
	}
	select {
	case <-tm.C():
		t.Fatal("stale value after Reset")
	default:
	}
	v.Advance(10)
	if at := <-tm.C(); at.UnixNano() != 20 {
		t.Fatalf("fired at %d", at.UnixNano())
	}
}

func TestVirtualSleep(t *testing.T) {
	v := NewVirtual(0)
	done := make(chan error, 1)
	go func() { done <- v.Sleep(context.Background(), time.Hour) }()
	v.BlockUntil(1)
	v.Advance(time.Hour)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- v.Sleep(ctx, time.Hour) }()
	v.BlockUntil(1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if v.Pending() != 0 {
		t.Fatal("a cancelled sleeper leaves its timer behind")
	}
}

func TestJumpWallLeavesMonotonicTimeAlone(t *testing.T) {
	v := NewVirtual(int64(10 * time.Hour))
	fired := false
	v.AfterFunc(time.Second, func() { fired = true })
	v.JumpWall(-time.Hour)
	if v.Now() != int64(9*time.Hour) || v.Mono() != 0 {
		t.Fatalf("now %d mono %d", v.Now(), v.Mono())
	}
	v.Advance(time.Second)
	if !fired {
		t.Fatal("timer waits for the wall clock")
	}
	v.AdvanceTo(int64(10 * time.Hour))
	if v.Mono() != int64(time.Hour) {
		t.Fatalf("mono %d", v.Mono())
	}
}

func TestVirtualConcurrentUse(t *testing.T) {
	v := NewVirtual(0)
	var mu sync.Mutex
	last, fired := int64(-1), 0
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				tm := v.AfterFunc(time.Duration(i%7), func() {
					mu.Lock()
					defer mu.Unlock()
					if now := v.Mono(); now < last {
						t.Errorf("callback at %d after one at %d", now, last)
					} else {
						last = now
					}
					fired++
				})
				if i%5 == 0 && tm.Stop() {
					mu.Lock()
					fired++
					mu.Unlock()
				}
				if g%2 == 0 {
					v.Advance(3)
				}
			}
		})
	}
	wg.Wait()
	v.Advance(10)
	if fired != 800 || v.Pending() != 0 {
		t.Fatalf("fired or stopped %d of 800, %d pending", fired, v.Pending())
	}
}

func TestVirtualCallbacksRunOneAtATime(t *testing.T) {
	v := NewVirtual(0)
	var running, fired atomic.Int32
	for i := range 200 {
		v.AfterFunc(time.Duration(i), func() {
			if running.Add(1) != 1 {
				t.Error("two callbacks run at once")
			}
			for range 20 {
				runtime.Gosched()
			}
			running.Add(-1)
			fired.Add(1)
		})
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				v.Advance(1)
			}
		})
	}
	wg.Wait()
	if fired.Load() != 200 || v.Mono() != 200 {
		t.Fatalf("%d callbacks at %d", fired.Load(), v.Mono())
	}
}

func TestRealClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Real()
		now, mono := c.Now(), c.Mono()
		if err := c.Sleep(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		if c.Now()-now != int64(time.Minute) || c.Mono()-mono != int64(time.Minute) {
			t.Fatalf("slept %d wall, %d monotonic", c.Now()-now, c.Mono()-mono)
		}
		called := make(chan struct{})
		c.AfterFunc(time.Second, func() { close(called) })
		<-called
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if tm := c.NewTimer(time.Hour); !tm.Stop() || tm.Reset(time.Second) {
			t.Fatal("Stop or Reset misreports")
		} else {
			<-tm.C()
		}
	})
}

func BenchmarkRealNow(b *testing.B) {
	c := Real()
	for b.Loop() {
		_ = c.Now()
	}
}

func BenchmarkRealMono(b *testing.B) {
	c := Real()
	for b.Loop() {
		_ = c.Mono()
	}
}
