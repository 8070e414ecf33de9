// Package exchange moves batches and control between the subtasks of a process:
// mailboxes, credit, and edges. It knows no record type.
//
// Lock order: a port's lock is taken before a mailbox's lock, never the other
// way round.
package exchange

import (
	"sync"
	"sync/atomic"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators"
)

// Kind says what a message is.
type Kind uint8

const (
	// Data is a batch of records.
	Data Kind = iota
	// Watermark moves the event time of an input.
	Watermark
	// Idle takes an input out of the event-time minimum for now.
	Idle
	// Barrier separates the records of two epochs.
	Barrier
	// End says that no record follows on the input.
	End
	// Call runs a function on the task's goroutine, between batches.
	Call
	// Control is an order of the coordinator.
	Control
)

// Message is one entry of a mailbox.
type Message struct {
	Kind Kind
	// Input is the input channel: which edge and which sending subtask.
	Input int
	Batch operators.Batch
	// Time is the watermark.
	Time    base.Timestamp
	Barrier protocol.Barrier
	// Order is the coordinator's message.
	Order *protocol.Message
	// Call is the function to run.
	Call func()
	from *Port
}

// Release gives the message's batch and its credit back to the sender.
func (m *Message) Release() {
	if m.from != nil {
		m.from.release(m.Batch)
	}
}

// Mailbox is the queue of everything a subtask reacts to. Any goroutine may put;
// one goroutine takes. Its length is bounded by the credit of its inputs, plus
// control, of which each sender has a bounded amount under way.
type Mailbox struct {
	mu     sync.Mutex
	q      []Message
	head   int
	notify chan struct{}
	// waiting is set while the owner has nothing to do.
	waiting atomic.Bool
}

// NewMailbox returns an empty mailbox.
func NewMailbox() *Mailbox { return &Mailbox{notify: make(chan struct{}, 1)} }

// Put appends a message and wakes the owner. A watermark replaces one of the
// same input that is the last message, so that they do not pile up.
func (m *Mailbox) Put(msg Message) {
	m.mu.Lock()
	if n := len(m.q); msg.Kind == Watermark && n > m.head && m.q[n-1].Kind == Watermark && m.q[n-1].Input == msg.Input {
		m.q[n-1] = msg
	} else {
		m.q = append(m.q, msg)
	}
	m.mu.Unlock()
	m.Wake()
}

// Wake makes a waiting owner look again. It never blocks.
func (m *Mailbox) Wake() {
	select {
	case m.notify <- struct{}{}:
	default:
	}
}

// Take removes the oldest message.
func (m *Mailbox) Take() (Message, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.head == len(m.q) {
		return Message{}, false
	}
	msg := m.q[m.head]
	m.q[m.head] = Message{}
	m.head++
	if m.head == len(m.q) {
		m.q, m.head = m.q[:0], 0
	}
	return msg, true
}

// Len returns the number of messages queued.
func (m *Mailbox) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.q) - m.head
}

// C is signalled after Put and Wake.
func (m *Mailbox) C() <-chan struct{} { return m.notify }

// SetWaiting tells senders whether the owner has nothing to do.
func (m *Mailbox) SetWaiting(w bool) { m.waiting.Store(w) }

// Waiting reports what SetWaiting said last.
func (m *Mailbox) Waiting() bool { return m.waiting.Load() }
