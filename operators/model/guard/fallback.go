package guard

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/weirflow/weir/operators/model"
)

// fallBack goes down the chain for what the model did not answer. When ctx was
// cancelled it does nothing: a job that stops is no reason for degraded answers. When
// the time is up, it asks no more clients.
func (c *Client[In, Out]) fallBack(ctx context.Context, jobs []*job[In, Out]) {
	for _, l := range c.chain {
		var left []*job[In, Out]
		for _, j := range jobs {
			if !j.done && (j.last.Kind != model.Permanent || c.policy.FallbackPermanent) {
				left = append(left, j)
			}
		}
		if len(left) == 0 {
			return
		}
		if cause := context.Cause(ctx); cause != nil {
			if !errors.Is(cause, context.DeadlineExceeded) {
				return
			}
			if l.client != nil {
				continue
			}
		}
		c.followLink(ctx, l, left)
	}
}

func (c *Client[In, Out]) followLink(ctx context.Context, l link[In, Out], jobs []*job[In, Out]) {
	degrade := func(j *job[In, Out], res model.Result[Out]) {
		res.Degraded = true
		if res.By == "" {
			res.By = l.name
		}
		if res.Version == "" {
			res.Version = l.version
		}
		j.res, j.done = res, true
		c.counts.degraded.Add(1)
	}
	switch {
	case l.client != nil:
		a := c.askFallback(ctx, l.client, jobs)
		for i, j := range jobs {
			if res, f := a.of(i); f == nil {
				degrade(j, res)
			}
		}
	case l.stale:
		now := c.clock.Mono()
		for _, j := range jobs {
			if j.key == "" {
				continue
			}
			if res, ok := c.cache.get(j.key, now, true); ok {
				degrade(j, res)
			}
		}
	default:
		for _, j := range jobs {
			if out, ok := l.value(j.call.In); ok {
				degrade(j, model.Result[Out]{Out: out})
			}
		}
	}
}

// askFallback invokes another client once, within its time.
func (c *Client[In, Out]) askFallback(ctx context.Context, client model.Client[In, Out], jobs []*job[In, Out]) answer[Out] {
	in := make([]model.Call[In], len(jobs))
	for i, j := range jobs {
		in[i] = j.call
		in[i].Attempt = 1
	}
	ctx, cancel := withTimeout(ctx, c.clock, c.policy.FallbackTimeout)
	defer cancel()
	answers := make(chan answer[Out], 1)
	go func() { answers <- invoke(ctx, client, in) }()
	select {
	case a := <-answers:
		return a
	case <-ctx.Done():
	}
	patience := c.clock.NewTimer(c.grace())
	defer patience.Stop()
	select {
	case a := <-answers:
		return a
	case <-patience.C():
		return answer[Out]{err: &model.Failure{Kind: model.Unknown, What: "the fallback did not return when its time was up"}}
	}
}

// reconciling is the number of questions to the reconciler at once.
const reconciling = 8

// reconcile asks the reconciler whether calls of unknown outcome happened.
func (c *Client[In, Out]) reconcile(ctx context.Context, jobs []*job[In, Out]) {
	if c.reconciler == nil || ctx.Err() != nil {
		return
	}
	slots := make(chan struct{}, reconciling)
	var wg sync.WaitGroup
	for _, j := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c.reconcileOne(ctx, j)
		})
	}
	wg.Wait()
}

func (c *Client[In, Out]) reconcileOne(ctx context.Context, j *job[In, Out]) {
	ctx, cancel := withTimeout(ctx, c.clock, c.policy.AttemptTimeout)
	defer cancel()
	res, happened, err := c.askReconciler(ctx, j.call)
	switch {
	case err != nil:
		// It stays unknown.
	case !happened:
		j.round = model.Unavailable
		for i, k := range j.history {
			if k == model.Unknown {
				j.history[i] = model.Unavailable
			}
		}
		if j.last != nil && j.last.Kind == model.Unknown {
			last := *j.last
			last.Kind = model.Unavailable
			j.last = &last
		}
	case res.Err != nil:
		j.fail(failureOf(res.Err), true)
		j.giveUp("the call happened", nil)
	default:
		if res.By == "" {
			res.By = c.policy.Name
		}
		j.res, j.done = res, true
		c.counts.reconciled.Add(1)
	}
}

func (c *Client[In, Out]) askReconciler(ctx context.Context, call model.Call[In]) (res model.Result[Out], happened bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the reconciler panicked: %v", p)
		}
	}()
	return c.reconciler(ctx, call)
}
