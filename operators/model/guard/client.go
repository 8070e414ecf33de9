package guard

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/operators/model"
)

// Client is a guarded client. It is safe for concurrent use.
type Client[In, Out any] struct {
	inner  model.Client[In, Out]
	policy Policy
	options[In, Out]

	breaker   *breaker
	flight    *flight
	budgets   *budgets
	meter     meter
	retries   *share
	hedges    *share
	latencies latencies
	cache     *cache[Out]
	counts    counters
	// paused is the monotonic time until which the model takes no calls.
	paused atomic.Int64
	// fresh is the monotonic time until which any call may have been made before.
	fresh int64

	rngMu sync.Mutex
	rng   *rand.Rand
}

var _ model.Client[int, int] = (*Client[int, int])(nil)

// Wrap guards a client by a policy. The error, for a policy that makes no sense, is a
// *base.Error with the code CodePolicy.
func Wrap[In, Out any](inner model.Client[In, Out], p Policy, opts ...Option[In, Out]) (*Client[In, Out], error) {
	c := &Client[In, Out]{inner: inner}
	for _, o := range opts {
		o(&c.options)
	}
	if c.clock == nil {
		c.clock = clock.Real()
	}
	clients := 0
	for _, l := range c.chain {
		if l.client != nil {
			clients++
		}
		if l.stale && c.cacheKey == nil {
			return nil, policyError(p.Name, []error{fmt.Errorf("the fallback %q needs the option Cache", l.name)})
		}
	}
	p = p.withDefaults(len(c.chain), clients)
	if err := p.check(clients); err != nil {
		return nil, err
	}
	c.policy = p
	c.breaker = newBreaker(p.Breaker, c.clock, func() { c.counts.opened.Add(1) })
	c.flight = newFlight(p.InFlight)
	c.budgets = newBudgets(p.Budgets, c.clock)
	c.meter.prices = p.Prices
	c.paused.Store(c.clock.Mono())
	c.fresh = c.clock.Mono() + int64(p.ReconcileFor)
	c.retries = newShare(p.Retry.Ratio, p.Retry.Min, p.Retry.Window, c.clock.Mono())
	c.hedges = newShare(p.Hedge.Ratio, 0, time.Minute, c.clock.Mono())
	if c.cacheKey != nil {
		c.cache = newCache(p.Cache, c.cacheSize)
	}
	if p.Seed == 0 {
		p.Seed = rand.Uint64()
	}
	c.rng = rand.New(rand.NewPCG(p.Seed, 0))
	return c, nil
}

// job is one call on its way through the stages.
type job[In, Out any] struct {
	call model.Call[In]
	key  string // of the cache

	done bool // res answers it
	over bool // the model is not asked any more
	res  model.Result[Out]

	sent    int // attempts
	due     int64
	history []model.Kind
	last    *model.Failure
	round   model.Kind // what the last round says: Unknown if any attempt of it does
	stop    string     // why over
}

// fail notes the failure of one attempt.
func (j *job[In, Out]) fail(f *model.Failure, first bool) {
	j.history = append(j.history, f.Kind)
	j.last = f
	if first || f.Kind == model.Unknown {
		j.round = f.Kind
	}
}

// giveUp ends the asking. f is the failure if there was no attempt.
func (j *job[In, Out]) giveUp(stop string, f *model.Failure) {
	j.over, j.stop = true, stop
	if j.last == nil {
		j.last = f
	}
}

// Invoke implements model.Client. Every failed call has a *model.Failure as its Err.
// The error is nil unless ctx is done and nothing was answered.
func (c *Client[In, Out]) Invoke(ctx context.Context, in []model.Call[In]) ([]model.Result[Out], error) {
	if len(in) == 0 {
		return nil, ctx.Err()
	}
	c.counts.calls.Add(int64(len(in)))
	kept := time.Duration(0)
	for _, l := range c.chain {
		if l.client != nil {
			kept += c.policy.FallbackTimeout
		}
	}
	total, cancel := withTimeout(ctx, c.clock, c.policy.Deadline)
	defer cancel()
	asking, stop := withTimeout(total, c.clock, c.policy.Deadline-kept)
	defer stop()
	start := c.clock.Mono()
	end := start + int64(c.policy.Deadline-kept)

	jobs := make([]job[In, Out], len(in))
	open := make([]*job[In, Out], len(in))
	for i := range in {
		jobs[i].call = in[i]
		jobs[i].call.Attempt = max(in[i].Attempt, 1)
		jobs[i].due = start
		open[i] = &jobs[i]
	}
	open = c.fromCache(open)
	open = c.ask(asking, open, end)
	c.fallBack(total, open)
	return c.results(ctx, jobs)
}

// fromCache answers what it can and returns the rest.
func (c *Client[In, Out]) fromCache(jobs []*job[In, Out]) []*job[In, Out] {
	if c.cache == nil {
		return jobs
	}
	now := c.clock.Mono()
	for _, j := range jobs {
		if j.key = c.cacheKey(j.call.In); j.key == "" {
			continue
		}
		if res, ok := c.cache.get(j.key, now, false); ok {
			res.By = c.policy.Name
			j.res, j.done = res, true
			c.counts.cacheHits.Add(1)
		}
	}
	return unanswered(jobs)
}

func unanswered[In, Out any](jobs []*job[In, Out]) []*job[In, Out] {
	left := jobs[:0]
	for _, j := range jobs {
		if !j.done {
			left = append(left, j)
		}
	}
	return left
}

// ask asks the model until each call is answered or over, and returns those that are
// not answered. ctx ends at the monotonic time end.
func (c *Client[In, Out]) ask(ctx context.Context, jobs []*job[In, Out], end int64) []*job[In, Out] {
	var again []*job[In, Out]
	fresh := c.clock.Mono() < c.fresh
	for _, j := range jobs {
		if fresh || j.call.Attempt > 1 {
			again = append(again, j)
		}
	}
	c.reconcile(ctx, again)
	jobs = unanswered(jobs)
	for {
		now, next := c.clock.Mono(), int64(math.MaxInt64)
		var due []*job[In, Out]
		for _, j := range jobs {
			switch {
			case j.done || j.over:
			case j.due <= now:
				due = append(due, j)
			default:
				next = min(next, j.due)
			}
		}
		if len(due) == 0 && next == math.MaxInt64 {
			return unanswered(jobs)
		}
		if ctx.Err() == nil && len(due) == 0 {
			// An error shows at the next turn.
			_ = c.clock.Sleep(ctx, time.Duration(next-now))
			continue
		}
		if ctx.Err() != nil {
			for _, j := range jobs {
				if !j.done && !j.over {
					j.giveUp("time is up", &model.Failure{Kind: model.Unavailable, What: "time is up", Cause: context.Cause(ctx)})
				}
			}
			continue
		}
		c.round(ctx, due, end)
	}
}

// round sends due calls once, as many as go into one request, and decides how each of
// them goes on.
func (c *Client[In, Out]) round(ctx context.Context, due []*job[In, Out], end int64) {
	p, refused := c.admit(ctx, due, end)
	switch {
	case refused != nil:
		for _, j := range due {
			j.giveUp(refused.What, refused)
		}
	case p.calls > 0: // or else ctx is done
		c.attempt(ctx, due[:p.calls], p)
		c.judge(ctx, due[:p.calls], end)
	}
}

// judge decides on retries.
func (c *Client[In, Out]) judge(ctx context.Context, jobs []*job[In, Out], end int64) {
	var unknown []*job[In, Out]
	for _, j := range jobs {
		if !j.done && j.round == model.Unknown {
			unknown = append(unknown, j)
		}
	}
	c.reconcile(ctx, unknown)
	now := c.clock.Mono()
	c.rngMu.Lock()
	jitter := c.rng.Float64() // one for all, or else they would be apart from now on
	c.rngMu.Unlock()
	for _, j := range jobs {
		if j.done || j.over {
			continue
		}
		due := now + int64(c.backoff(j.sent, jitter)) + int64(min(j.last.RetryAfter, forever))
		switch {
		case !c.retryable(j.round):
			j.giveUp("it is not to be repeated", nil)
		case j.sent >= c.policy.Retry.MaxAttempts:
			j.giveUp("no attempts are left", nil)
		case due >= end:
			j.giveUp("no time is left for another", nil)
		case !c.retries.take(now, 1):
			c.counts.retriesRefused.Add(1)
			j.giveUp("the retry budget is spent", nil)
		default:
			c.counts.retries.Add(1)
			j.due = due
		}
	}
}

// forever is a wait that no deadline allows and that does not overflow.
const forever = 100 * 365 * 24 * time.Hour

func (c *Client[In, Out]) retryable(k model.Kind) bool {
	return k == model.Unavailable || k == model.Limited || k == model.Unknown && !c.policy.Retry.NotUnknown
}

// backoff is the wait after that many attempts, for a jitter in [0, 1).
func (c *Client[In, Out]) backoff(sent int, jitter float64) time.Duration {
	most := c.policy.Retry.Base
	for range sent - 1 {
		if most *= 2; most >= c.policy.Retry.Max || most <= 0 {
			most = c.policy.Retry.Max
			break
		}
	}
	return time.Duration(jitter * float64(min(most, c.policy.Retry.Max)))
}

// results puts the answers together.
func (c *Client[In, Out]) results(ctx context.Context, jobs []job[In, Out]) ([]model.Result[Out], error) {
	out := make([]model.Result[Out], len(jobs))
	answered := false
	for i := range jobs {
		j := &jobs[i]
		if j.done {
			out[i], answered = j.res, true
			continue
		}
		c.counts.failed.Add(1)
		out[i].Err = conclude(c.policy.Name, j.sent, j.history, j.last, j.stop)
	}
	if err := ctx.Err(); err != nil && !answered {
		all := &model.Failure{Kind: model.Unavailable, What: prefix(c.policy.Name) + "there was no time for an answer", Cause: err}
		for i := range jobs {
			if f := failureOf(out[i].Err); f.Kind == model.Unknown {
				all.Kind = model.Unknown
			}
		}
		return nil, all
	}
	return out, nil
}

// withTimeout ends a context after d on a clock. The cause is
// context.DeadlineExceeded then.
func withTimeout(ctx context.Context, c clock.Clock, d time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if d <= 0 {
		cancel(context.DeadlineExceeded)
		return ctx, func() {}
	}
	t := c.AfterFunc(d, func() { cancel(context.DeadlineExceeded) })
	return ctx, func() {
		t.Stop()
		cancel(context.Canceled)
	}
}
