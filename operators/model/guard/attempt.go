package guard

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/operators/model"
)

// errLost cancels a request whose twin has answered.
var errLost = errors.New("another request has answered")

// answer is how a request ended. With err it has no results.
type answer[Out any] struct {
	request int
	results []model.Result[Out]
	err     *model.Failure
}

// of returns the result of the i-th call.
func (a *answer[Out]) of(i int) (model.Result[Out], *model.Failure) {
	if a.err != nil {
		return model.Result[Out]{}, a.err
	}
	if err := a.results[i].Err; err != nil {
		return a.results[i], failureOf(err)
	}
	return a.results[i], nil
}

// request is one invocation of the client.
type request[In, Out any] struct {
	c       *Client[In, Out]
	index   int // 0, or 1 for a hedge
	calls   []model.Call[In]
	permit  permit
	started int64
	ctx     context.Context
	cancel  context.CancelCauseFunc
	told    atomic.Bool // breaker, limit and latencies know how it ended
	ended   bool        // for attempt
	stop    [2]clock.Timer
}

// grace is how long a cancelled client may take to say how far it got.
func (c *Client[In, Out]) grace() time.Duration { return c.policy.AttemptTimeout/10 + time.Millisecond }

// attempt sends the jobs once, and a second time if that takes long, and notes the
// outcome in them.
func (c *Client[In, Out]) attempt(ctx context.Context, jobs []*job[In, Out], p permit) {
	// Room for all that two requests may say, so that nobody waits for attempt.
	answers := make(chan answer[Out], 6)
	sent := []*request[In, Out]{c.launch(ctx, jobs, p, 0, answers)}
	var late, patience <-chan time.Time
	if t := c.hedgeTimer(jobs); t != nil {
		defer t.Stop()
		late = t.C()
	}
	done := ctx.Done()
	for heard := false; ; {
		select {
		case a := <-answers:
			r := sent[a.request]
			if r.ended {
				continue
			}
			r.ended = true
			c.note(jobs, a, !heard)
			heard = true
		case <-late:
			if p, ok := c.mayHedge(jobs); ok {
				sent = append(sent, c.launch(ctx, jobs, p, 1, answers))
			}
		case <-done:
			done = nil
			t := c.clock.NewTimer(c.grace())
			defer t.Stop()
			patience = t.C()
		case <-patience:
			for _, r := range sent {
				if !r.ended {
					answers <- r.abandoned()
				}
			}
		}
		if settled(jobs, sent, heard) {
			for _, r := range sent {
				if !r.ended {
					r.cancel(errLost)
				}
			}
			return
		}
	}
}

// settled says whether no request can make the outcome better.
func settled[In, Out any](jobs []*job[In, Out], sent []*request[In, Out], heard bool) bool {
	flying := false
	for _, r := range sent {
		flying = flying || !r.ended
	}
	if !flying {
		return true
	}
	for _, j := range jobs {
		if !j.done && (!heard || j.round != model.Permanent) {
			return false
		}
	}
	return true
}

// note takes an answer over into the jobs. first says that it is the first of its
// round.
func (c *Client[In, Out]) note(jobs []*job[In, Out], a answer[Out], first bool) {
	now := c.clock.Mono()
	for i, j := range jobs {
		if j.done {
			continue
		}
		res, f := a.of(i)
		if f != nil {
			j.fail(f, first)
			continue
		}
		if res.By == "" {
			res.By = c.policy.Name
		}
		j.res, j.done = res, true
		if a.request > 0 {
			c.counts.hedgesWon.Add(1)
		}
		if c.cache != nil && j.key != "" && !res.Degraded {
			c.cache.put(j.key, res, now)
		}
	}
}

// launch sends a request.
func (c *Client[In, Out]) launch(ctx context.Context, jobs []*job[In, Out], p permit, index int, answers chan<- answer[Out]) *request[In, Out] {
	r := &request[In, Out]{c: c, index: index, permit: p, started: c.clock.Mono(), calls: make([]model.Call[In], len(jobs))}
	fresh := 0
	for i, j := range jobs {
		r.calls[i] = j.call
		r.calls[i].Attempt += j.sent
		if j.sent == 0 {
			fresh++
		}
		j.sent++
	}
	if fresh > 0 {
		c.retries.called(r.started, fresh)
		c.hedges.called(r.started, fresh)
	}
	c.counts.requests.Add(1)
	c.counts.attempts.Add(int64(len(jobs)))
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	timeout := c.policy.AttemptTimeout
	r.stop[0] = c.clock.AfterFunc(timeout, func() { r.cancel(context.DeadlineExceeded) })
	r.stop[1] = c.clock.AfterFunc(timeout+c.grace(), func() { answers <- r.abandoned() })
	go r.run(answers)
	return r
}

// run invokes the client and accounts for what it used.
func (r *request[In, Out]) run(answers chan<- answer[Out]) {
	a := invoke(r.ctx, r.c.inner, r.calls)
	a.request = r.index
	r.tell(a)
	r.settle(a)
	r.stop[0].Stop()
	r.stop[1].Stop()
	answers <- a
	r.cancel(context.Canceled)
	r.c.flight.release()
}

// invoke calls a client and holds it to its contract.
func invoke[In, Out any](ctx context.Context, client model.Client[In, Out], in []model.Call[In]) (a answer[Out]) {
	defer func() {
		if p := recover(); p != nil {
			a = answer[Out]{err: &model.Failure{Kind: model.Permanent, What: fmt.Sprintf("the client panicked: %v", p)}}
		}
	}()
	results, err := client.Invoke(ctx, in)
	switch {
	case err != nil:
		return answer[Out]{err: failureOf(err)}
	case len(results) != len(in):
		what := fmt.Sprintf("%d results for %d calls", len(results), len(in))
		return answer[Out]{err: &model.Failure{Kind: model.Invalid, What: what}}
	}
	return answer[Out]{results: results}
}

// abandoned is the answer of a client that does not return.
func (r *request[In, Out]) abandoned() answer[Out] {
	a := answer[Out]{request: r.index, err: &model.Failure{
		Kind: model.Unknown, What: "the client did not return when its time was up", Cause: context.Cause(r.ctx),
	}}
	r.tell(a)
	return a
}

// tell has the breaker, the limit in flight and the latencies learn from the end of
// the request, once.
func (r *request[In, Out]) tell(a answer[Out]) {
	if !r.told.CompareAndSwap(false, true) {
		return
	}
	c, now := r.c, r.c.clock.Mono()
	cause := context.Cause(r.ctx)
	had := time.Duration(now - r.started)
	if cause != nil && (!errors.Is(cause, context.DeadlineExceeded) || had < min(c.policy.AttemptTimeout, c.policy.Deadline)/2) {
		// Cancelled by its twin, or because the job stops or had little time for it: not
		// the model's fault. The first of twins would have taken at least that long; of
		// the second this says nothing.
		if errors.Is(cause, errLost) && r.index == 0 {
			c.latencies.observe(len(r.calls), int64(had))
		}
		c.breaker.forget(r.permit.turn)
		return
	}
	broken, good, overloaded := 0, 0, false
	for i := range r.calls {
		_, f := a.of(i)
		if f == nil {
			good++
			continue
		}
		switch f.Kind {
		case model.Unavailable, model.Unknown:
			broken++
			overloaded = true
		case model.Limited:
			overloaded = true
			// Before the slot is free for another.
			c.pause(f.RetryAfter)
		case model.Invalid:
			broken++
		}
	}
	c.breaker.record(r.permit.turn, broken > 0 && float64(broken) >= c.policy.Breaker.Ratio*float64(len(r.calls)))
	c.flight.observe(r.started, now, overloaded)
	if good > 0 {
		c.latencies.observe(len(r.calls), int64(had))
	}
}

// settle accounts for the tokens and the cost of the request.
func (r *request[In, Out]) settle(a answer[Out]) {
	var used need
	for i := range r.calls {
		res, f := a.of(i)
		switch {
		case f != nil && (f.Kind == model.Unavailable || f.Kind == model.Limited):
			// Nothing was used.
		case res.Usage != model.Usage{}:
			used.add(r.c.meter.usage(res.Usage))
			r.c.meter.learn(res.Usage)
			r.c.counts.inputTokens.Add(res.Usage.InputTokens)
			r.c.counts.outputTokens.Add(res.Usage.OutputTokens)
		default:
			used.add(r.permit.each[i])
		}
	}
	r.c.counts.addCost(used[cost])
	r.c.budgets.settle(r.permit.ticket, used)
}
