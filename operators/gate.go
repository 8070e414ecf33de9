package operators

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/weirflow/weir/internal/clock"
)

// LaneGate keeps a sink's lane from staging more in one epoch than the target
// takes in a share of the checkpoint interval. Without it a job that reads faster
// than its sink commits would stage whole histories, and every epoch would take
// longer to commit than the one before.
//
// The sink's subtask waits at the gate while its open block is full and an earlier
// epoch is not committed. It never waits for the open epoch itself, whose barrier
// may be behind the record in hand.
type LaneGate struct {
	clk   clock.Clock
	share int64 // nanoseconds that the commit of one epoch may take
	// Demand asks for an epoch now; set before use.
	demand func()
	limit  atomic.Int64

	mu      sync.Mutex
	pending int // durable messages that are not committed
	since   int64
	rate    float64 // messages per nanosecond, smoothed
	changed chan struct{}
}

// minGate is the least number of messages that a lane may stage, and the number
// before anything was measured.
const minGate = 2_000

// NewLaneGate returns the gate of a lane whose epochs should be committed within
// share nanoseconds. demand asks for an epoch before its time.
func NewLaneGate(clk clock.Clock, share int64, demand func()) *LaneGate {
	g := &LaneGate{clk: clk, share: share, demand: demand, changed: make(chan struct{})}
	g.limit.Store(minGate)
	return g
}

// Limit returns how many messages an epoch may stage.
func (g *LaneGate) Limit() int64 { return g.limit.Load() }

// wait blocks until no durable epoch waits for its commit, or ctx ends. It returns
// the nanoseconds it took.
func (g *LaneGate) wait(ctx context.Context) int64 {
	start := g.clk.Mono()
	for {
		g.mu.Lock()
		pending, changed := g.pending, g.changed
		g.mu.Unlock()
		if pending == 0 {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return g.clk.Mono() - start
		}
	}
	return g.clk.Mono() - start
}

// durable says that n messages of the lane wait for their commit.
func (g *LaneGate) durable(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pending == 0 {
		g.since = g.clk.Mono()
	}
	g.pending += n
}

// committed says that n of them are visible, and measures how fast that goes.
func (g *LaneGate) committed(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.clk.Mono()
	if d := now - g.since; d > 0 && n > 0 {
		r := float64(n) / float64(d)
		if g.rate == 0 {
			g.rate = r
		}
		// Small epochs say little about the rate: a batch has a fixed cost.
		if n >= minGate/2 || r > g.rate {
			g.rate += (r - g.rate) / 4
		}
		g.limit.Store(max(minGate, int64(g.rate*float64(g.share))))
	}
	g.pending, g.since = max(g.pending-n, 0), now
	close(g.changed)
	g.changed = make(chan struct{})
}
