package guard

import (
	"context"
	"errors"
	"time"

	"github.com/weirflow/weir/operators/model"
)

// permit lets a request with so many calls be sent: its place in the breaker, a slot
// in flight and a reservation of the budgets.
type permit struct {
	calls  int
	turn   uint64
	ticket ticket
	each   []need // reserved for each call
}

// admit waits until a request may be sent, with as many of the calls as the budgets
// allow in one. It is refused when the wait would be too long. Without calls and
// without a refusal ctx is done.
func (c *Client[In, Out]) admit(ctx context.Context, due []*job[In, Out], end int64) (permit, *model.Failure) {
	start := c.clock.Mono()
	breakerEnd := min(end, start+int64(max(0, c.policy.Breaker.MaxWait)))
	budgetEnd := min(end, start+int64(max(0, c.policy.Budgets.MaxWait)))
	for {
		if refused := c.waitOpen(ctx, c.breaker.wait(), breakerEnd, len(due)); refused != nil {
			return permit{}, refused
		}
		if refused := c.waitPaused(ctx, budgetEnd, len(due)); refused != nil {
			return permit{}, refused
		}
		if ctx.Err() != nil || c.flight.acquire(ctx) != nil {
			return permit{}, nil
		}
		each := c.needs(due)
		n, t, err := c.budgets.acquire(ctx, each, budgetEnd)
		if err != nil {
			c.flight.release()
			if ctx.Err() != nil {
				return permit{}, nil
			}
			return permit{}, c.spent(err, len(due))
		}
		turn, again := c.breaker.acquire()
		if again == 0 && c.pausedFor() <= 0 {
			return permit{calls: n, turn: turn, ticket: t, each: each[:n]}, nil
		}
		// It opened, or the model was found to be limited, while this one waited.
		if again == 0 {
			c.breaker.forget(turn)
		}
		c.budgets.cancel(t)
		c.flight.release()
		if refused := c.waitOpen(ctx, again, breakerEnd, len(due)); refused != nil {
			return permit{}, refused
		}
	}
}

// needs are what the calls are expected to need.
func (c *Client[In, Out]) needs(jobs []*job[In, Out]) []need {
	each := make([]need, len(jobs))
	usual := c.meter.usual()
	for i, j := range jobs {
		each[i] = usual
		if c.estimate != nil {
			each[i] = c.meter.usage(c.estimate(j.call.In))
		}
	}
	return each
}

// spent refuses n calls for a budget.
func (c *Client[In, Out]) spent(err error, n int) *model.Failure {
	c.counts.budgetRefused.Add(int64(n))
	if errors.Is(err, errLarge) {
		return &model.Failure{Kind: model.Limited, What: err.Error(), RetryAfter: forever}
	}
	return &model.Failure{Kind: model.Limited, What: err.Error()}
}

// waitOpen waits for a breaker that is open for so long, unless that is after limit.
func (c *Client[In, Out]) waitOpen(ctx context.Context, wait time.Duration, limit int64, n int) *model.Failure {
	if wait <= 0 {
		return nil
	}
	if c.clock.Mono()+int64(wait) > limit {
		c.counts.refusedOpen.Add(int64(n))
		return &model.Failure{Kind: model.Unavailable, What: "the circuit breaker is open", RetryAfter: wait}
	}
	// An error of ctx shows in the caller.
	_ = c.clock.Sleep(ctx, wait)
	return nil
}

// waitPaused waits until the model is said to take calls again.
func (c *Client[In, Out]) waitPaused(ctx context.Context, limit int64, n int) *model.Failure {
	for ctx.Err() == nil {
		wait := c.pausedFor()
		if wait <= 0 {
			break
		}
		if c.clock.Mono()+int64(wait) > limit {
			c.counts.budgetRefused.Add(int64(n))
			return &model.Failure{Kind: model.Limited, What: "the model takes no calls for now", RetryAfter: wait}
		}
		_ = c.clock.Sleep(ctx, wait)
	}
	return nil
}

func (c *Client[In, Out]) pausedFor() time.Duration {
	return time.Duration(c.paused.Load() - c.clock.Mono())
}

// pause keeps calls back for d, but not for longer than an Invoke may last: a model
// may be wrong about that.
func (c *Client[In, Out]) pause(d time.Duration) {
	until := c.clock.Mono() + int64(min(d, c.policy.Deadline))
	for {
		old := c.paused.Load()
		if old >= until || c.paused.CompareAndSwap(old, until) {
			return
		}
	}
}
