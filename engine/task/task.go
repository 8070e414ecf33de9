// Package task runs one subtask: a single goroutine that takes batches, timers
// and control from a mailbox and drives the subtask's chain.
//
// A task takes part in checkpoints by the pure cores of internal/protocol: the
// aligner blocks inputs at barriers, the participant decides what a snapshot
// continues from. The goroutine itself copies frozen state out in short turns;
// uploads run elsewhere and report back through the mailbox.
package task

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/weirflow/weir/engine/exchange"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
	"github.com/weirflow/weir/window"
)

// Input is one channel into the task: one sending subtask of one edge.
type Input struct {
	// Head is the index of the chain's head that takes the channel's records.
	Head int
	// Port is the sender's side, for credit.
	Port *exchange.Port
}

// Config describes a task.
type Config struct {
	ID  protocol.TaskID
	Job string // the job's UID
	// Subtask is the chain, built and restored by Open on the task's goroutine.
	Subtask *operators.Subtask
	Restore operators.Restore
	// Chains is the keyed state to start from.
	Chains []state.Chain
	// From is the try that the task starts from; zero for none.
	From    protocol.Try
	Term    base.Term
	Gen     base.Generation
	Mailbox *exchange.Mailbox
	Inputs  []Input
	// Report sends a message to the coordinator; it must not block for long.
	Report func(*protocol.Message)
	// Opened is called once the task is restored; the task runs when it returns.
	Opened func()
	// Staged is given every sink block of the task, by its sum.
	Staged func(protocol.SHA, []byte)
	// Uploads counts uploads under way; they may outlive the task.
	Uploads *sync.WaitGroup
	Blob    blob.Store
	Clock   clock.Clock
	Logger  *slog.Logger
	// CreditNanos is how much work may be under way on each input.
	CreditNanos int64
	// Hold, when it is true, makes a source pause: too much output waits in memory
	// for a checkpoint. May be nil.
	Hold func() bool
	// Async says that the job has operators that wait for something outside. Then no
	// task blocks for want of credit, which could take as long as a call: it takes no
	// input instead while an operator of its own is full or one of Outs, its output
	// ports, is overdrawn.
	Async bool
	Outs  []*exchange.Port
}

// Task is a running subtask.
type Task struct {
	Config
	sub   *operators.Subtask
	align *protocol.Aligner
	part  *protocol.Participant
	comb  *window.Combiner
	fence protocol.Fence

	inputs  []input
	ready   []exchange.Message // unblocked messages, before those in the mailbox
	readyAt int
	ended   int
	acts    []protocol.AlignAction

	owed  []exchange.Message // processed, and their credit not given back; see Config.Async
	final *protocol.Barrier  // the last barrier, which waits until all calls are answered

	frozen bool // a snapshot is being copied out
	open   *snapshot
	// writing lists the snapshots whose keyed state is being written, oldest first.
	writing  []*snapshot
	moved    bool // Moved was reported since the last barrier
	output   bool
	seen     int64 // RecordsIn at the last barrier
	finished bool  // every source split is at its end
	halted   bool  // a stopping barrier has passed: no more records
	done     bool
	nextProc base.Timestamp // the next processing-time timer
	due      base.Timestamp // the next poll of the source
	more     bool           // the source has records ready
	held     bool           // the source pauses; see Config.Hold
	procAt   int64          // monotonic time at which timers were last looked at
}

type input struct {
	stash []exchange.Message
	ended bool
	// nanos and records measure how fast the input's records are processed.
	nanos, records, batches int64
}

// New returns a task that is not running yet.
func New(c Config) *Task {
	t := &Task{
		Config: c, sub: c.Subtask, align: protocol.NewAligner(len(c.Inputs), c.From),
		part: protocol.NewParticipant(c.From), comb: window.NewCombiner(len(c.Inputs)),
		fence: protocol.Fence{Job: c.Job, Term: c.Term, Gen: c.Gen}, inputs: make([]input, len(c.Inputs)),
		nextProc: base.MaxTime, due: base.MaxTime, more: c.Subtask.HasSource(),
	}
	return t
}

// errStopped ends the loop without a failure.
var errStopped = errors.New("stopped")

// Run restores and runs the task until it is stopped, fails, or is done. It
// returns nil when it was stopped or is done.
func (t *Task) Run(ctx context.Context) error {
	err := t.start(ctx)
	if err == nil {
		err = t.loop(ctx)
	}
	if cerr := t.close(); err == nil || errors.Is(err, errStopped) {
		err = cerr
	}
	if ctx.Err() != nil || errors.Is(err, exchange.ErrStopped) {
		return nil
	}
	return err
}

// start restores keyed state, then the chain.
func (t *Task) start(ctx context.Context) error {
	if b := t.sub.Env.Backend; b != nil {
		if err := b.Restore(ctx, t.Chains); err != nil {
			return refused(err)
		}
	}
	crash.At(crash.RecMidRestore)
	if err := t.sub.Open(t.Restore); err != nil {
		return err
	}
	t.sub.Env.Stats.Watermark.Store(base.MinTime)
	next, err := t.sub.ProcessingTime(t.Clock.Now())
	t.nextProc = next
	if err == nil {
		t.Opened()
	}
	return err
}

// refused marks errors of a restore that come back however often it is tried: what
// was stored is damaged, gone, or of a newer program.
func refused(err error) error {
	if errors.Is(err, state.ErrCorrupt) || errors.Is(err, blob.ErrNotFound) || base.CodeOf(err) == state.CodeVersion {
		return base.Fatal(err)
	}
	return err
}

func (t *Task) close() error {
	err := t.sub.Close()
	if b := t.sub.Env.Backend; b != nil {
		if berr := b.Close(); err == nil {
			err = berr
		}
	}
	return err
}

// loop takes turns until something ends it. The time of a turn counts as busy,
// less what it waited for credit; the time between turns as idle.
func (t *Task) loop(ctx context.Context) error {
	stats := t.sub.Env.Stats
	for {
		start := t.Clock.Mono()
		blocked := stats.BackpressuredNanos.Load()
		stats.TurnStart.Store(start)
		err := t.work(ctx)
		stats.TurnStart.Store(0)
		end := t.Clock.Mono()
		stats.BusyNanos.Add(end - start - (stats.BackpressuredNanos.Load() - blocked))
		if err != nil || t.done || ctx.Err() != nil {
			return err
		}
		t.wait(ctx)
		if waited := t.Clock.Mono() - end; t.held {
			stats.BackpressuredNanos.Add(waited)
		} else {
			stats.IdleNanos.Add(waited)
		}
	}
}

// busyNanos bounds one stretch of work, so that the accounting stays current.
const busyNanos = 10_000_000

// work takes turns until there is nothing to do, then hands on what is left in
// partial batches.
func (t *Task) work(ctx context.Context) error {
	deadline := t.Clock.Mono() + busyNanos
	for ctx.Err() == nil && !t.done {
		worked, err := t.turn()
		if err != nil {
			return err
		}
		if !worked {
			t.sub.Flush(true)
			return t.sub.Err()
		}
		t.sub.Flush(false)
		if t.Clock.Mono() > deadline {
			t.Mailbox.Wake()
			return t.sub.Err()
		}
	}
	return nil
}

// turn does one bounded piece of work and reports whether there was one.
func (t *Task) turn() (worked bool, err error) {
	if msg, ok := t.take(); ok {
		if err := t.handle(msg); err != nil {
			return true, err
		}
		worked = true
	}
	if more, err := t.sub.Turn(); err != nil || more {
		worked = true
		if err != nil {
			return true, err
		}
	}
	if err := t.async(); err != nil {
		return true, err
	}
	if t.sub.HasSource() && !t.halted && !t.finished {
		polled, err := t.poll()
		if err != nil {
			return true, err
		}
		worked = worked || polled
	}
	if err := t.timers(worked); err != nil {
		return true, err
	}
	if t.frozen {
		t.copyTurn()
		worked = worked || t.frozen
	}
	t.reportMoved()
	return worked, nil
}

// take returns the next message: first what was held back by an alignment.
func (t *Task) take() (exchange.Message, bool) {
	if t.readyAt < len(t.ready) {
		msg := t.ready[t.readyAt]
		t.ready[t.readyAt] = exchange.Message{}
		t.readyAt++
		if t.readyAt == len(t.ready) {
			t.ready, t.readyAt = t.ready[:0], 0
		}
		return msg, true
	}
	return t.Mailbox.Take()
}

// holdPause is how long a source that must pause waits before it looks again, in
// nanoseconds.
const holdPause = 5_000_000

// poll reads the sources if there may be something to read.
func (t *Task) poll() (worked bool, err error) {
	if !t.more && t.Clock.Now() < t.due {
		return false, nil
	}
	if t.held = t.Hold != nil && t.Hold() || t.full(); t.held {
		t.more, t.due = false, t.Clock.Now()+holdPause
		return false, nil
	}
	st, err := t.sub.Poll()
	if err != nil {
		return true, err
	}
	t.more, t.due = st.More, st.Due
	if st.Ended {
		t.finished = true
		if err := t.sub.End(); err != nil {
			return true, err
		}
		t.report(&protocol.Message{Kind: protocol.KindFinished})
		return true, nil
	}
	return st.More, nil
}

// procEvery bounds how often a busy task looks at its processing-time timers.
const procEvery = 1_000_000

func (t *Task) timers(busy bool) error {
	mono := t.Clock.Mono()
	if busy && mono-t.procAt < procEvery {
		return nil
	}
	t.procAt = mono
	next, err := t.sub.ProcessingTime(t.Clock.Now())
	t.nextProc = next
	return err
}

// wait blocks until there is something to do.
func (t *Task) wait(ctx context.Context) {
	t.Mailbox.SetWaiting(true)
	defer t.Mailbox.SetWaiting(false)
	if t.readyAt < len(t.ready) || t.Mailbox.Len() > 0 {
		return
	}
	next := t.nextProc
	if t.sub.HasSource() && !t.halted && !t.finished {
		next = min(next, t.due)
	}
	var timer <-chan time.Time
	if next != base.MaxTime {
		d := next - t.Clock.Now()
		if d <= 0 {
			return
		}
		tm := t.Clock.NewTimer(time.Duration(d))
		defer tm.Stop()
		timer = tm.C()
	}
	select {
	case <-t.Mailbox.C():
		// Whatever woke the task may be a source with new records.
		t.more = t.sub.HasSource()
	case <-timer:
	case <-ctx.Done():
	}
}
