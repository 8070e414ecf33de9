package guard

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/operators/model"
)

// What budgets bound.
const (
	requests = iota
	calls
	tokens
	cost
	kinds
)

// need is an amount of each of them.
type need [kinds]float64

func (n *need) add(o need) {
	for i := range n {
		n[i] += o[i]
	}
}

// gate is one bound.
type gate struct {
	of    int
	limit float64
	win   window
}

// slack is for rounding errors of sums.
func (g *gate) slack() float64 { return g.limit * 1e-9 }

// budgets are all bounds of a policy. Whoever waits for one has those that come later
// wait behind it, so that large requests are not starved by small ones.
type budgets struct {
	clock clock.Clock
	turn  chan struct{}

	mu    sync.Mutex
	gates []gate
}

// ticket is a reservation.
type ticket struct {
	buckets []int64 // per gate
	need    need
}

var (
	errSpent = errors.New("the budget is spent")
	errLarge = errors.New("one call is larger than the budget")
)

func newBudgets(p Budgets, c clock.Clock) *budgets {
	b := &budgets{clock: c, turn: make(chan struct{}, 1)}
	for of, r := range [...]Rate{requests: p.Requests, calls: p.Calls, tokens: p.Tokens, cost: p.Cost} {
		for _, bound := range []struct {
			limit  float64
			period time.Duration
		}{{r.PerSecond, time.Second}, {r.PerMinute, time.Minute}, {r.PerDay, 24 * time.Hour}} {
			if bound.limit > 0 {
				b.gates = append(b.gates, gate{of: of, limit: bound.limit, win: newWindow(bound.period, c.Mono())})
			}
		}
	}
	return b
}

// fit returns how many of the calls fit into empty budgets as one request, and what
// these need.
func (b *budgets) fit(each []need) (n int, all need) {
	all[requests] = 1
	for _, one := range each {
		with := all
		with.add(one)
		for i := range b.gates {
			if g := &b.gates[i]; with[g.of] > g.limit+g.slack() {
				return n, all
			}
		}
		all = with
		n++
	}
	return n, all
}

// acquire reserves what the first n of the calls need, as many as fit into one
// request at all. It waits until the monotonic time limit at most; the error is
// errSpent then, errLarge if not even one call fits.
func (b *budgets) acquire(ctx context.Context, each []need, limit int64) (n int, t ticket, err error) {
	if len(b.gates) == 0 {
		return len(each), ticket{}, nil
	}
	n, all := b.fit(each)
	if n == 0 {
		return 0, ticket{}, errLarge
	}
	ctx, cancel := withTimeout(ctx, b.clock, time.Duration(limit-b.clock.Mono()))
	defer cancel()
	select {
	case b.turn <- struct{}{}:
	default:
		select {
		case b.turn <- struct{}{}:
		case <-ctx.Done():
			return 0, ticket{}, errSpent
		}
	}
	defer func() { <-b.turn }()
	for {
		t, wait := b.reserve(all)
		if wait == 0 {
			return n, t, nil
		}
		if b.clock.Mono()+int64(wait) > limit || b.clock.Sleep(ctx, wait) != nil {
			return 0, ticket{}, errSpent
		}
	}
}

// reserve takes what is needed, or says after which time to try again.
func (b *budgets) reserve(n need) (ticket, time.Duration) {
	if len(b.gates) == 0 {
		return ticket{}, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Mono()
	var wait time.Duration
	for i := range b.gates {
		g := &b.gates[i]
		wait = max(wait, g.win.until(now, max(0, g.limit-n[g.of])+g.slack()))
	}
	if wait > 0 {
		return ticket{}, wait
	}
	t := ticket{buckets: make([]int64, len(b.gates)), need: n}
	for i := range b.gates {
		t.buckets[i] = b.gates[i].win.add(now, n[b.gates[i].of])
	}
	return t, 0
}

// settle replaces the tokens and the cost reserved by those used.
func (b *budgets) settle(t ticket, used need) {
	if len(t.buckets) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Mono()
	for i := range b.gates {
		if g := &b.gates[i]; g.of == tokens || g.of == cost {
			g.win.total(now)
			g.win.adjust(t.buckets[i], used[g.of]-t.need[g.of])
		}
	}
}

// cancel gives a reservation back whole: nothing was sent.
func (b *budgets) cancel(t ticket) {
	if len(t.buckets) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Mono()
	for i := range b.gates {
		g := &b.gates[i]
		g.win.total(now)
		g.win.adjust(t.buckets[i], -t.need[g.of])
	}
}

// meter turns usages into needs, and learns the usual one.
type meter struct {
	prices Prices

	mu      sync.Mutex
	in, out float64 // mean tokens of a call
	weight  float64
}

func (m *meter) need(in, out float64) need {
	return need{
		calls: 1, tokens: in + out,
		cost: m.prices.PerCall + in*m.prices.PerMillionInput/1e6 + out*m.prices.PerMillionOutput/1e6,
	}
}

func (m *meter) usage(u model.Usage) need {
	return m.need(float64(u.InputTokens), float64(u.OutputTokens))
}

// usual is what a call needs on average.
func (m *meter) usual() need {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.need(m.in, m.out)
}

func (m *meter) learn(u model.Usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.weight = 0.99*m.weight + 1
	m.in += (float64(u.InputTokens) - m.in) / m.weight
	m.out += (float64(u.OutputTokens) - m.out) / m.weight
}
