package guard

import (
	"context"
	"math"
	"sync"
)

// flight bounds the requests in flight by a limit that grows by about one with each
// round of successes and shrinks to 9/10 at a failure, once for the requests that
// were on their way then.
type flight struct {
	fixed bool
	max   float64

	mu      sync.Mutex
	limit   float64
	inUse   int
	shrunk  int64 // when the limit last shrank
	waiters []chan struct{}
}

func newFlight(p InFlight) *flight {
	f := &flight{fixed: p.Fixed, max: float64(p.Max), limit: float64(p.Initial), shrunk: math.MinInt64}
	if p.Fixed {
		f.limit = f.max
	}
	return f
}

// acquire takes a slot, first come, first served. It returns ctx's error if that ends
// first.
func (f *flight) acquire(ctx context.Context) error {
	f.mu.Lock()
	if len(f.waiters) == 0 && f.inUse < int(f.limit) {
		f.inUse++
		f.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	f.waiters = append(f.waiters, turn)
	f.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, w := range f.waiters {
		if w == turn {
			f.waiters = append(f.waiters[:i], f.waiters[i+1:]...)
			return ctx.Err()
		}
	}
	// The slot came at the same moment.
	f.inUse--
	f.grant()
	return ctx.Err()
}

// tryAcquire takes a slot if one is free and nobody waits.
func (f *flight) tryAcquire() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiters) > 0 || f.inUse >= int(f.limit) {
		return false
	}
	f.inUse++
	return true
}

func (f *flight) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inUse--
	f.grant()
}

func (f *flight) grant() {
	for len(f.waiters) > 0 && f.inUse < int(f.limit) {
		f.inUse++
		close(f.waiters[0])
		f.waiters = f.waiters[1:]
	}
}

// observe learns from a request that was sent at started and has ended now.
func (f *flight) observe(started, now int64, overloaded bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.fixed:
	case overloaded && started > f.shrunk:
		f.limit, f.shrunk = max(1, f.limit*0.9), now
	case !overloaded && 2*f.inUse >= int(f.limit):
		// A limit that is not used tells nothing of a higher one.
		f.limit = min(f.max, f.limit+1/f.limit)
		f.grant()
	}
}

func (f *flight) load() (inUse, limit, waiting int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.inUse, int(f.limit), len(f.waiters)
}
