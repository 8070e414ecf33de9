package guard

import (
	"math"
	"sync"
	"time"

	"github.com/weirflow/weir/internal/clock"
)

// States of a breaker, as Stats has them.
const (
	closed   = "closed"
	open     = "open"
	halfOpen = "half-open"
)

// breaker stops requests while a model fails. A nil breaker lets everything pass.
type breaker struct {
	clock    clock.Clock
	openFor  time.Duration
	probes   int
	failures int    // of the last requests, to open it
	opens    func() // told each time that it opens

	mu    sync.Mutex
	state string
	// turn counts the changes of state. Results of requests that were let pass in
	// another state say nothing of this one.
	turn uint64

	last   []bool // closed: whether each of the last requests failed, a ring
	at     int
	failed int // how many of last

	openedAt  int64
	sent      int // half-open: probes on their way
	succeeded int // half-open: probes that came back well
}

func newBreaker(p Breaker, c clock.Clock, opens func()) *breaker {
	if p.Off {
		return nil
	}
	return &breaker{
		clock: c, openFor: p.OpenFor, probes: p.Probes, opens: opens, state: closed,
		failures: max(1, int(math.Ceil(p.Ratio*float64(p.Window)))), last: make([]bool, p.Window),
	}
}

// turnTo changes the state.
func (b *breaker) turnTo(state string) {
	b.state = state
	b.turn++
	b.sent, b.succeeded, b.failed = 0, 0, 0
	clear(b.last)
	if state == open {
		b.openedAt = b.clock.Mono()
		b.opens()
	}
}

// wait returns how long the breaker stays open; 0 if it may let a request pass.
func (b *breaker) wait() time.Duration {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stillOpen()
}

func (b *breaker) stillOpen() time.Duration {
	if b.state != open {
		return 0
	}
	return max(0, b.openFor-time.Duration(b.clock.Mono()-b.openedAt))
}

// acquire lets a request pass, or says after which time to ask again. The result of
// one that passed must be recorded, under its turn.
func (b *breaker) acquire() (turn uint64, again time.Duration) {
	if b == nil {
		return 0, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if left := b.stillOpen(); left > 0 {
		return 0, left
	}
	if b.state == open {
		b.turnTo(halfOpen)
	}
	if b.state == halfOpen {
		if b.sent+b.succeeded >= b.probes {
			// All probes are on their way; one of them decides soon.
			return 0, max(b.openFor/10, 1)
		}
		b.sent++
	}
	return b.turn, 0
}

func (b *breaker) record(turn uint64, failed bool) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if turn != b.turn {
		return
	}
	if b.state == halfOpen {
		b.sent--
		b.succeeded++
		switch {
		case failed:
			b.turnTo(open)
		case b.succeeded >= b.probes:
			b.turnTo(closed)
		}
		return
	}
	if b.last[b.at] {
		b.failed--
	}
	b.last[b.at] = failed
	b.at = (b.at + 1) % len(b.last)
	if failed {
		if b.failed++; b.failed >= b.failures {
			b.turnTo(open)
		}
	}
}

// forget takes back that a request passed: it ended in a way that tells nothing.
func (b *breaker) forget(turn uint64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if turn == b.turn && b.state == halfOpen {
		b.sent--
	}
}

// now returns the state.
func (b *breaker) now() string {
	if b == nil {
		return closed
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}
