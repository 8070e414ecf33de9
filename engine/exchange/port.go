package exchange

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators"
)

// MaxCredit is the largest number of batches under way from one subtask to
// another.
const MaxCredit = 16

// MinCredit keeps the sender filling one batch while the receiver works on
// another.
const MinCredit = 2

// ErrStopped is what a sender gets when its task must stop.
var ErrStopped = errors.New("the task is stopping")

// Port is one channel of an edge, from one subtask to one other in the same
// process. Batches circulate: the receiver gives each back after use, and with
// it one credit.
type Port struct {
	to    *Mailbox
	input int
	make  func() operators.Batch
	clk   clock.Clock
	// blocked counts the nanoseconds that the sender spent without credit.
	blocked *atomic.Int64
	// encode carries every batch through its wire form; for tests.
	encode bool
	buf    []byte

	mu      sync.Mutex
	cond    *sync.Cond
	free    []operators.Batch
	flying  int
	credit  int
	stopped bool
	// overdraft is how many batches more than the credit may be under way before the
	// sender blocks; wake tells it that there is credit again.
	overdraft int
	wake      func()
}

// PortOptions configures a port.
type PortOptions struct {
	// To is the receiver's mailbox, and Input the number it knows this channel by.
	To    *Mailbox
	Input int
	// Make makes an empty batch.
	Make  func() operators.Batch
	Clock clock.Clock
	// Blocked is added to while the sender waits for credit.
	Blocked *atomic.Int64
	// Encode sends every batch through its wire form.
	Encode bool
}

// NewPort returns a port with the least credit; the receiver raises it with
// SetCredit once it knows how fast it is.
func NewPort(o PortOptions) *Port {
	p := &Port{to: o.To, input: o.Input, make: o.Make, clk: o.Clock, blocked: o.Blocked, encode: o.Encode, credit: MinCredit}
	p.cond = sync.NewCond(&p.mu)
	return p
}

// New returns an empty batch to fill.
func (p *Port) New() operators.Batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.emptyLocked()
}

func (p *Port) emptyLocked() operators.Batch {
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b
	}
	return p.make()
}

// Idle reports that the receiver waits and has nothing of this sender queued.
func (p *Port) Idle() bool {
	if !p.to.Waiting() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flying == 0
}

// Send hands b over and returns an empty batch, blocking while the credit is
// used up.
func (p *Port) Send(b operators.Batch) (operators.Batch, error) {
	if p.encode {
		if err := p.throughWire(b); err != nil {
			return b, err
		}
	}
	p.mu.Lock()
	if p.flying >= p.credit+p.overdraft && !p.stopped {
		start := p.clk.Mono()
		for p.flying >= p.credit+p.overdraft && !p.stopped {
			p.cond.Wait()
		}
		p.blocked.Add(p.clk.Mono() - start)
	}
	if p.stopped {
		p.mu.Unlock()
		return b, ErrStopped
	}
	p.flying++
	next := p.emptyLocked()
	p.mu.Unlock()
	p.to.Put(Message{Kind: Data, Input: p.input, Batch: b, from: p})
	return next, nil
}

// throughWire replaces the batch's records by what its wire form decodes to.
func (p *Port) throughWire(b operators.Batch) error {
	p.buf = b.AppendWire(p.buf[:0])
	return b.ReadWire(p.buf)
}

// release takes a used batch back.
func (p *Port) release(b operators.Batch) {
	b.Reset()
	p.mu.Lock()
	p.flying--
	p.free = append(p.free, b)
	wake := p.wake
	if p.flying != p.credit-1 {
		wake = nil
	}
	p.mu.Unlock()
	p.cond.Signal()
	if wake != nil {
		wake()
	}
}

// maxOverdraft bounds what a sender may have under way beyond its credit, in batches.
const maxOverdraft = 64

// Lend lets the sender go on, within bounds, when its credit is used up, instead of
// blocking in Send: it must pause by itself while Overdrawn, and wake is called when
// it need not any more. Barriers then pass however long the receiver takes. It must
// be called before the first Send.
func (p *Port) Lend(wake func()) { p.overdraft, p.wake = maxOverdraft, wake }

// Overdrawn reports that the credit of a port that lends is used up.
func (p *Port) Overdrawn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.overdraft > 0 && p.flying >= p.credit
}

// SetCredit sets how many batches may be under way, within the bounds.
func (p *Port) SetCredit(n int) {
	n = max(MinCredit, min(n, MaxCredit))
	p.mu.Lock()
	changed, wake := n != p.credit, p.wake
	if p.flying < p.credit || p.flying >= n { // the sender was not overdrawn, or still is
		wake = nil
	}
	p.credit = n
	p.mu.Unlock()
	if changed {
		p.cond.Signal()
	}
	if wake != nil {
		wake()
	}
}

// Stop makes blocked and later sends fail.
func (p *Port) Stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.cond.Broadcast()
}

// Watermark sends the sender's event time.
func (p *Port) Watermark(w base.Timestamp) {
	p.to.Put(Message{Kind: Watermark, Input: p.input, Time: w})
}

// MarkIdle takes the sender out of the receiver's event-time minimum.
func (p *Port) MarkIdle() { p.to.Put(Message{Kind: Idle, Input: p.input}) }

// Barrier sends a checkpoint barrier.
func (p *Port) Barrier(b protocol.Barrier) {
	p.to.Put(Message{Kind: Barrier, Input: p.input, Barrier: b})
}

// End says that no record follows.
func (p *Port) End() { p.to.Put(Message{Kind: End, Input: p.input}) }
