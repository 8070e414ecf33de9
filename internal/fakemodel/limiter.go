package fakemodel

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirflow/weir/internal/clock"
)

var errQueueFull = errors.New("the queue is full")

// limiter carries out one Limit.
type limiter struct {
	limit *Limit
	// slots holds a value for each call that may yet be worked on: the monotonic time at
	// which the slot came free. Waiting for a channel is first come, first served.
	slots    chan int64
	waiting  atomic.Int64
	requests bucket
	tokens   bucket
}

func newLimiter(l *Limit, clk clock.Clock) *limiter {
	burst := l.Burst
	if burst == 0 {
		burst = 1
	}
	lim := &limiter{limit: l, requests: newBucket(l.Requests, burst, clk), tokens: newBucket(l.Tokens, burst, clk)}
	if l.Concurrency > 0 {
		lim.slots = make(chan int64, l.Concurrency)
		for range l.Concurrency {
			lim.slots <- math.MinInt64
		}
	}
	return lim
}

// admit takes a call from the rates. It returns how long the client should wait
// instead; 0 is admitted.
func (l *limiter) admit(tokens int) time.Duration {
	if d := l.requests.take(1); d > 0 {
		return d
	}
	if d := l.tokens.take(float64(tokens)); d > 0 {
		l.requests.give(1)
		return d
	}
	return 0
}

// begin waits for the turn of a call that has arrived at that time. A nil limiter lets
// everything go at once.
func (l *limiter) begin(ctx context.Context, clk clock.Clock, arrived int64) (turn, error) {
	t := turn{clk: clk, at: arrived}
	if l == nil || l.slots == nil {
		return t, nil
	}
	free, err := l.slot(ctx)
	if err != nil {
		return t, err
	}
	t.slots, t.at = l.slots, max(t.at, free)
	return t, nil
}

// turn is the time in which one call is worked on. It is reckoned from when the slot
// came free or the call arrived, so that late timers and the work of this server do
// not slow the model down.
type turn struct {
	clk   clock.Clock
	at    int64 // monotonic time up to which the call is worked on
	slots chan int64
}

// until works for d more.
func (t *turn) until(ctx context.Context, d time.Duration) error {
	t.at += int64(d)
	err := t.clk.Sleep(ctx, time.Duration(t.at-t.clk.Mono()))
	if err != nil {
		t.at = min(t.at, t.clk.Mono())
	}
	return err
}

// end gives the slot to the next call; only the first one counts.
func (t *turn) end() {
	if t.slots != nil {
		t.slots <- t.at
		t.slots = nil
	}
}

func (l *limiter) slot(ctx context.Context) (int64, error) {
	select {
	case free := <-l.slots:
		return free, nil
	default:
	}
	queue := l.limit.Queue
	if queue == 0 {
		queue = defaultQueue
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > int64(queue) {
		return 0, errQueueFull
	}
	select {
	case free := <-l.slots:
		return free, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// bucket is a token bucket; a rate of 0 lets everything through.
type bucket struct {
	rate, most float64
	clk        clock.Clock

	mu   *sync.Mutex
	have float64
	at   int64
}

func newBucket(rate, burst float64, clk clock.Clock) bucket {
	most := math.Max(1, rate*burst)
	return bucket{rate: rate, most: most, have: most, clk: clk, at: clk.Mono(), mu: &sync.Mutex{}}
}

// take removes n, or returns how long until there are n. More than the bucket holds
// is let through when it is full.
func (b *bucket) take(n float64) time.Duration {
	if b.rate == 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	need := math.Min(n, b.most)
	if b.have >= need {
		b.have -= n
		return 0
	}
	return max(1, time.Duration(math.Ceil((need-b.have)/b.rate*float64(time.Second))))
}

func (b *bucket) give(n float64) {
	if b.rate > 0 {
		b.mu.Lock()
		b.have += n
		b.mu.Unlock()
	}
}

func (b *bucket) refill() {
	now := b.clk.Mono()
	b.have = math.Min(b.most, b.have+float64(now-b.at)/float64(time.Second)*b.rate)
	b.at = now
}

// level returns what is left and how long until the bucket is full.
func (b *bucket) level() (left float64, full time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	return math.Max(0, math.Floor(b.have)), time.Duration((b.most - b.have) / b.rate * float64(time.Second))
}
