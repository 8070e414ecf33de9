package clock

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirflow/weir/internal/base"
)

// Virtual is a clock that stands still until a test advances it. Its monotonic
// time starts at 0.
type Virtual struct {
	mono atomic.Int64 // written only under mu
	skew atomic.Int64 // wall time minus monotonic time

	// turn lets one Advance run at a time, so that callbacks fire in time order
	// even when several goroutines advance. It is taken before mu.
	turn sync.Mutex

	mu      sync.Mutex
	changed *sync.Cond // signalled when the number of pending timers changes
	queue   timerQueue
	seq     uint64
}

// NewVirtual returns a virtual clock whose wall time is start, in nanoseconds
// since the epoch.
func NewVirtual(start int64) *Virtual {
	v := &Virtual{}
	v.changed = sync.NewCond(&v.mu)
	v.skew.Store(start)
	return v
}

// Now implements Clock.
func (v *Virtual) Now() int64 { return v.mono.Load() + v.skew.Load() }

// Mono implements Clock.
func (v *Virtual) Mono() int64 { return v.mono.Load() }

// AfterFunc implements Clock. A callback whose time has come already fires at
// the next Advance, even at Advance(0), never inside AfterFunc.
func (v *Virtual) AfterFunc(d time.Duration, f func()) Timer {
	t := &virtualTimer{clock: v, index: -1, call: f}
	t.Reset(d)
	return t
}

// NewTimer implements Clock.
func (v *Virtual) NewTimer(d time.Duration) Timer {
	t := &virtualTimer{clock: v, index: -1, c: make(chan time.Time, 1)}
	t.Reset(d)
	return t
}

// Sleep implements Clock.
func (v *Virtual) Sleep(ctx context.Context, d time.Duration) error { return sleep(ctx, v, d) }

// Advance moves both times forward by d (at least 0) and fires everything that
// falls due, in time order, equal times in the order in which they were set.
// While a callback runs, the clock shows the callback's own time. Timers that
// callbacks set inside the span fire in the same Advance. A callback must not
// call Advance.
func (v *Virtual) Advance(d time.Duration) {
	v.turn.Lock()
	defer v.turn.Unlock()
	target := base.AddTime(v.mono.Load(), int64(max(d, 0)))
	for v.fireNext(target) {
	}
}

// AdvanceTo moves the wall time forward to t; an earlier t does nothing.
func (v *Virtual) AdvanceTo(t int64) { v.Advance(time.Duration(t - v.Now())) }

// JumpWall moves the wall time by d in either direction without letting
// monotonic time pass: what an administrator or NTP does to a machine.
func (v *Virtual) JumpWall(d time.Duration) { v.skew.Add(int64(d)) }

// Pending returns how many timers and sleepers wait.
func (v *Virtual) Pending() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.queue)
}

// Next returns how long it takes until the next timer fires; false without one.
func (v *Virtual) Next() (time.Duration, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.queue) == 0 {
		return 0, false
	}
	return time.Duration(max(v.queue[0].when-v.mono.Load(), 0)), true
}

// BlockUntil returns once at least n timers and sleepers wait, so that a test can
// let other goroutines go to sleep before it advances the clock.
func (v *Virtual) BlockUntil(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for len(v.queue) < n {
		v.changed.Wait()
	}
}

// fireNext fires the earliest timer due by target and reports true, or moves the
// clock to target and reports false.
func (v *Virtual) fireNext(target int64) bool {
	v.mu.Lock()
	if len(v.queue) == 0 || v.queue[0].when > target {
		v.mono.Store(target)
		v.mu.Unlock()
		return false
	}
	t := heap.Pop(&v.queue).(*virtualTimer)
	v.mono.Store(max(v.mono.Load(), t.when))
	v.changed.Broadcast()
	if t.call == nil {
		t.c <- time.Unix(0, v.Now()) // never blocks: Reset and Stop drain under mu
	}
	v.mu.Unlock()
	if t.call != nil {
		t.call()
	}
	return true
}

type virtualTimer struct {
	clock *Virtual
	call  func()
	c     chan time.Time

	// Guarded by clock.mu.
	when  int64
	seq   uint64
	index int // in the queue; -1 when not pending
}

func (t *virtualTimer) C() <-chan time.Time { return t.c }

func (t *virtualTimer) Stop() bool {
	v := t.clock
	v.mu.Lock()
	defer v.mu.Unlock()
	return t.remove()
}

func (t *virtualTimer) Reset(d time.Duration) bool {
	v := t.clock
	v.mu.Lock()
	defer v.mu.Unlock()
	was := t.remove()
	v.seq++
	t.when, t.seq = base.AddTime(v.mono.Load(), int64(d)), v.seq
	heap.Push(&v.queue, t)
	v.changed.Broadcast()
	return was
}

// remove takes the timer out of the queue and its stale value out of the
// channel, and reports whether it was pending. The caller holds clock.mu.
func (t *virtualTimer) remove() bool {
	select {
	case <-t.c:
	default:
	}
	if t.index < 0 {
		return false
	}
	heap.Remove(&t.clock.queue, t.index)
	t.clock.changed.Broadcast()
	return true
}

// timerQueue is a heap by (when, seq).
type timerQueue []*virtualTimer

func (q timerQueue) Len() int { return len(q) }
func (q timerQueue) Less(i, j int) bool {
	if q[i].when != q[j].when {
		return q[i].when < q[j].when
	}
	return q[i].seq < q[j].seq
}
func (q timerQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *timerQueue) Push(x any) {
	t := x.(*virtualTimer)
	t.index = len(*q)
	*q = append(*q, t)
}
func (q *timerQueue) Pop() any {
	old := *q
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	t.index = -1
	return t
}
