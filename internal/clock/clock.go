// Package clock is the only place of Weir that asks the operating system for the
// time. Everything else takes a Clock, so that tests own time.
//
// Two times are kept apart. Wall time (Now) names instants for people and for
// processing-time semantics; it may jump in either direction. Monotonic time
// (Mono) measures durations; deadlines, leases and back-off use nothing else.
package clock

import (
	"context"
	"time"
)

// Clock tells the time and wakes goroutines. All methods are safe for concurrent
// use.
type Clock interface {
	// Now returns the wall-clock time in nanoseconds since 1970-01-01T00:00:00Z.
	Now() int64
	// Mono returns nanoseconds since an arbitrary fixed instant of this
	// process. It never goes backwards and ignores changes of the wall clock.
	Mono() int64
	// AfterFunc calls f once after d. A d of zero or less calls it as soon as
	// possible. The real clock calls f on its own goroutine, the virtual clock
	// on the goroutine that advances it: f must not block for long. C of the
	// returned timer is nil.
	AfterFunc(d time.Duration, f func()) Timer
	// NewTimer returns a timer whose channel receives one value after d.
	NewTimer(d time.Duration) Timer
	// Sleep waits for d or until ctx is done, and returns ctx's error then.
	Sleep(ctx context.Context, d time.Duration) error
}

// Timer is one pending wake-up.
type Timer interface {
	// C receives the time at which the timer fired; nil for AfterFunc timers.
	C() <-chan time.Time
	// Stop prevents the timer from firing and reports whether it was pending.
	// After Stop no stale value is received from C.
	Stop() bool
	// Reset makes the timer fire d from now, whether it fired already or not,
	// and reports whether it was pending.
	Reset(d time.Duration) bool
}

// processStart anchors Mono. It is set once and never changed.
var processStart = time.Now()

type realClock struct{}

// Real returns the clock of the operating system. All values of Real share one
// monotonic origin.
func Real() Clock { return realClock{} }

// Now implements Clock.
func (realClock) Now() int64 { return time.Now().UnixNano() }

// Mono implements Clock. Since on a time with a monotonic reading skips the
// wall-clock call, which makes it about half the price of Now.
func (realClock) Mono() int64 { return int64(time.Since(processStart)) }

// AfterFunc implements Clock.
func (realClock) AfterFunc(d time.Duration, f func()) Timer { return realTimer{time.AfterFunc(d, f)} }

// NewTimer implements Clock.
func (realClock) NewTimer(d time.Duration) Timer { return realTimer{time.NewTimer(d)} }

// Sleep implements Clock.
func (c realClock) Sleep(ctx context.Context, d time.Duration) error { return sleep(ctx, c, d) }

// sleep waits on a timer of c; a context that is done wins over a timer that fired.
func sleep(ctx context.Context, c Clock, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	t := c.NewTimer(d)
	select {
	case <-t.C():
		return nil
	case <-ctx.Done():
		t.Stop()
		return ctx.Err()
	}
}

type realTimer struct{ t *time.Timer }

func (r realTimer) C() <-chan time.Time        { return r.t.C }
func (r realTimer) Stop() bool                 { return r.t.Stop() }
func (r realTimer) Reset(d time.Duration) bool { return r.t.Reset(d) }
