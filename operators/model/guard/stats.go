package guard

import (
	"math"
	"sync/atomic"
)

// Stats are the counters of a guard since it was made, and its present state.
type Stats struct {
	// Calls came in. Each is answered by the model, from the cache, by the reconciler
	// or degraded, or failed.
	Calls int64
	// Requests were sent to the model, Attempts are the calls in them.
	Requests, Attempts int64
	// Retries are calls sent again after a failure; RetriesRefused those that the
	// retry budget did not allow.
	Retries, RetriesRefused int64
	// Hedges are calls sent a second time without waiting for the first; HedgesWon
	// those where the second answered first.
	Hedges, HedgesWon int64
	// CacheHits were answered from the cache in time, Reconciled by the reconciler.
	CacheHits, Reconciled int64
	// CallsAvoided are both together: answers without a call.
	CallsAvoided int64
	// Degraded were answered by a fallback, Failed not at all.
	Degraded, Failed int64
	// BudgetRefused are calls that a spent budget kept from the model.
	BudgetRefused int64
	// BreakerRefused are calls that the open breaker kept from the model; BreakerOpened
	// counts how often it opened. Breaker is closed, open or half-open.
	BreakerRefused, BreakerOpened int64
	Breaker                       string
	// InputTokens and OutputTokens are those that answers told. Cost includes what was
	// reserved for calls of unknown outcome.
	InputTokens, OutputTokens int64
	Cost                      float64
	// InFlight requests of Limit are on their way, Waiting ones wait for a slot.
	InFlight, Limit, Waiting int
	CacheEntries             int
	CacheBytes               int64
}

// counters are the counters of Stats.
type counters struct {
	calls, requests, attempts, retries, retriesRefused   atomic.Int64
	hedges, hedgesWon, cacheHits, reconciled             atomic.Int64
	degraded, failed, budgetRefused, refusedOpen, opened atomic.Int64
	inputTokens, outputTokens                            atomic.Int64
	cost                                                 atomic.Uint64 // bits of a float64
}

func (c *counters) addCost(v float64) {
	for {
		old := c.cost.Load()
		if c.cost.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// Stats returns the counters now. It may be called at any time.
func (c *Client[In, Out]) Stats() Stats {
	n := &c.counts
	s := Stats{
		Calls: n.calls.Load(), Requests: n.requests.Load(), Attempts: n.attempts.Load(),
		Retries: n.retries.Load(), RetriesRefused: n.retriesRefused.Load(),
		Hedges: n.hedges.Load(), HedgesWon: n.hedgesWon.Load(),
		CacheHits: n.cacheHits.Load(), Reconciled: n.reconciled.Load(),
		Degraded: n.degraded.Load(), Failed: n.failed.Load(),
		BudgetRefused: n.budgetRefused.Load(), BreakerRefused: n.refusedOpen.Load(), BreakerOpened: n.opened.Load(),
		Breaker:     c.breaker.now(),
		InputTokens: n.inputTokens.Load(), OutputTokens: n.outputTokens.Load(),
		Cost: math.Float64frombits(n.cost.Load()),
	}
	s.CallsAvoided = s.CacheHits + s.Reconciled
	s.InFlight, s.Limit, s.Waiting = c.flight.load()
	if c.cache != nil {
		s.CacheEntries, s.CacheBytes = c.cache.load()
	}
	return s
}
