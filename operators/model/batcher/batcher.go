// Package batcher decides when to close a batch of model calls, and how large it
// may be: a pure core that is told the time and starts no goroutine.
//
// It collects until a batch has as many calls as it may have, or until the oldest
// call has waited for min(MaxDelay, Goal - predicted cost of one call more). While
// every slot for batches is taken calls pile up, and the next batch is the larger.
// Three things bound a batch:
//
//   - MaxBatch, the hard limit;
//   - what the learned cost a + b*n lets pass in half of the goal. The other half is
//     for the wait: a call that arrives just after a batch has left waits for that
//     one first;
//   - a limit that grows by one with each full batch inside of that half and shrinks
//     to nine tenths when a batch has taken longer.
//
// If one call alone takes longer than half of the goal, then no batch size helps: the
// limits stay where they are instead of making the backlog worse.
//
// A batch also closes before its time when no call has arrived for a quarter of the
// learned fixed cost a: a model left idle for longer than that loses more than a
// larger batch gains.
//
// The goal covers the time from Add to Done at loads that the model can sustain.
// Beyond them the queue, which the caller bounds, decides the latency; batches stay
// at the size that the goal allows.
package batcher

import (
	"math"
	"time"
)

// Defaults of Config.
const (
	DefaultGoal     = 100 * time.Millisecond
	DefaultMaxBatch = 256
)

// Forever is the wait when only another Add, Cut, Done or Failed can close a batch.
const Forever = time.Duration(math.MaxInt64)

// Config bounds batches. The zero value has all defaults.
type Config struct {
	// Goal is the latency from Add to Done that 99 % of the calls should keep. 0 or
	// less: DefaultGoal.
	Goal time.Duration
	// MaxBatch is the most calls in one batch. 0 or less: DefaultMaxBatch.
	MaxBatch int
	// MaxDelay is the longest that the oldest call waits for company while a slot is
	// free. 0: a tenth of the goal. Less: no time.
	MaxDelay time.Duration
	// InFlight is the number of batches on their way at once. 0 or less: 1.
	InFlight int
}

func (c Config) withDefaults() Config {
	if c.Goal <= 0 {
		c.Goal = DefaultGoal
	}
	if c.MaxBatch <= 0 {
		c.MaxBatch = DefaultMaxBatch
	}
	if c.MaxDelay == 0 {
		c.MaxDelay = c.Goal / 10
	}
	c.MaxDelay = max(c.MaxDelay, 0)
	c.InFlight = max(c.InFlight, 1)
	return c
}

// Batcher holds the queue of the calls' times, first in, first out; the calls
// themselves are the caller's. It is not safe for concurrent use. Times are
// nanoseconds of one monotonic clock.
type Batcher struct {
	cfg      Config
	queue    ring
	taken    uint64   // calls taken from the queue so far
	cuts     []uint64 // positions, counted like taken, that no batch spans
	last     int64    // time of the last Add
	inFlight int
	cost     cost
	limit    float64 // the limit that grows and shrinks
	steady   bool    // limit was too high once: it grows by one from then on
}

// New returns an empty batcher.
func New(c Config) *Batcher {
	return &Batcher{cfg: c.withDefaults(), limit: 4}
}

// Add notes that a call came in at now.
func (b *Batcher) Add(now int64) {
	b.queue.push(now)
	b.last = now
}

// Len returns the number of calls that wait.
func (b *Batcher) Len() int { return b.queue.n }

// InFlight returns the number of batches taken that have neither Done nor Failed.
func (b *Batcher) InFlight() int { return b.inFlight }

// Cut ends the batch that is being collected: no batch holds calls from before and
// after the cut, and those before wait for no more company. Cut at barriers and at
// the end of the input.
func (b *Batcher) Cut() {
	end := b.taken + uint64(b.queue.n)
	if b.queue.n > 0 && (len(b.cuts) == 0 || b.cuts[len(b.cuts)-1] != end) {
		b.cuts = append(b.cuts, end)
	}
}

// Ready says how many of the oldest calls to send now, as one batch. If that is 0,
// ask again after wait, or when something has happened. It changes nothing: Take
// does.
func (b *Batcher) Ready(now int64) (n int, wait time.Duration) {
	if b.queue.n == 0 || b.inFlight >= b.cfg.InFlight {
		return 0, Forever
	}
	limit := b.Limit()
	n = min(b.queue.n, limit)
	if len(b.cuts) > 0 {
		if left := b.cuts[0] - b.taken; left <= uint64(limit) {
			return int(left), 0
		}
	}
	if n >= limit {
		return n, 0
	}
	if wait = b.closing(n) - time.Duration(now-b.queue.first()); wait <= 0 {
		return n, 0
	}
	if b.cost.known() {
		quiet := time.Duration(b.cost.a/4) - time.Duration(now-b.last)
		if wait = min(wait, quiet); wait <= 0 {
			return n, 0
		}
	}
	return 0, wait
}

// closing returns how old the oldest call of a batch of n may become.
func (b *Batcher) closing(n int) time.Duration {
	return min(b.cfg.MaxDelay, b.cfg.Goal-b.cost.upper(n+1))
}

// Take removes the n oldest calls, which are one batch on its way from now on. n is
// at most Len; it is what Ready said, or the caller's own choice.
func (b *Batcher) Take(n int) {
	n = min(n, b.queue.n)
	if n <= 0 {
		return
	}
	b.queue.drop(n)
	b.taken += uint64(n)
	b.inFlight++
	for len(b.cuts) > 0 && b.cuts[0] <= b.taken {
		b.cuts = b.cuts[1:]
	}
}

// Done tells that a batch of n calls, sent at started, was answered at now. Its time
// trains the cost and moves the limit.
func (b *Batcher) Done(now int64, n int, started int64) {
	b.inFlight = max(b.inFlight-1, 0)
	took := time.Duration(max(now-started, 0))
	full := n >= b.Limit()
	b.cost.learn(n, float64(took))
	switch {
	case took > b.target():
		if b.reachable() {
			b.limit, b.steady = max(1, min(b.limit, float64(n))*0.9), true
		}
	case full && b.steady:
		b.limit++
	case full:
		b.limit *= 2
	}
	b.limit = min(b.limit, float64(b.cfg.MaxBatch))
}

// Failed tells that a batch ended in a way that says nothing of the model's cost.
func (b *Batcher) Failed() { b.inFlight = max(b.inFlight-1, 0) }

// target is the time that a batch may take.
func (b *Batcher) target() time.Duration { return b.cfg.Goal / 2 }

// reachable says whether a batch of one would keep the target.
func (b *Batcher) reachable() bool { return b.cost.mean(1) <= float64(b.target()) }

// Limit returns the most calls that a batch may have now, at least 1.
func (b *Batcher) Limit() int {
	n := b.limit
	if b.cost.known() && b.reachable() {
		n = min(n, b.cost.most(float64(b.target())))
	}
	return max(1, min(int(n), b.cfg.MaxBatch))
}

// Predict returns what a batch of n calls is expected to take; 0 before the first
// Done.
func (b *Batcher) Predict(n int) time.Duration { return time.Duration(b.cost.mean(n)) }
