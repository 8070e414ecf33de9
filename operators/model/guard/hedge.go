package guard

import (
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/weirflow/weir/internal/clock"
)

const (
	// samplesKept is the number of latencies kept of each class.
	samplesKept = 128
	// classes of requests by their number of calls: 1, 2-3, 4-7, and so on.
	classes = 16
)

// latencies learns how long requests take, apart for each class of sizes.
type latencies struct {
	mu      sync.Mutex
	classes [classes]samples
}

type samples struct {
	n     int // samples seen
	last  [samplesKept]int64
	asked int // n when known was computed
	known int64
}

func class(calls int) int { return min(bits.Len(uint(max(calls, 1)))-1, classes-1) }

func (l *latencies) observe(calls int, took int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.classes[class(calls)]
	s.last[s.n%samplesKept] = took
	s.n++
}

// quantile returns a quantile of the latency of requests of that many calls, if at
// least want of them were seen.
func (l *latencies) quantile(calls int, q float64, want int) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.classes[class(calls)]
	if s.n < want {
		return 0, false
	}
	// Sorting is for every 16th sample.
	if s.asked == 0 || s.n-s.asked >= 16 {
		sorted := s.last
		have := sorted[:min(s.n, samplesKept)]
		slices.Sort(have)
		s.known, s.asked = have[min(int(q*float64(len(have))), len(have)-1)], s.n
	}
	return time.Duration(s.known), true
}

// hedgeTimer fires when a second request is to be sent; nil if none is.
func (c *Client[In, Out]) hedgeTimer(jobs []*job[In, Out]) clock.Timer {
	h := c.policy.Hedge
	if !h.On {
		return nil
	}
	after, ok := c.latencies.quantile(len(jobs), h.Quantile, h.Samples)
	if !ok || after >= c.policy.AttemptTimeout {
		return nil
	}
	// Latencies that are all the same do not count as late.
	return c.clock.NewTimer(after + 1)
}

// mayHedge takes what a second request needs, if all of it is there at once.
func (c *Client[In, Out]) mayHedge(jobs []*job[In, Out]) (permit, bool) {
	for _, j := range jobs {
		if j.sent >= c.policy.Retry.MaxAttempts {
			return permit{}, false
		}
	}
	if c.breaker.now() != closed || c.pausedFor() > 0 || !c.flight.tryAcquire() {
		return permit{}, false
	}
	each := c.needs(jobs)
	all := need{requests: 1}
	for _, n := range each {
		all.add(n)
	}
	t, wait := c.budgets.reserve(all)
	if wait == 0 {
		if turn, again := c.breaker.acquire(); again == 0 {
			if c.hedges.take(c.clock.Mono(), len(jobs)) {
				c.counts.hedges.Add(int64(len(jobs)))
				return permit{calls: len(jobs), turn: turn, ticket: t, each: each}, true
			}
			c.breaker.forget(turn)
		}
		c.budgets.cancel(t)
	}
	c.flight.release()
	return permit{}, false
}
