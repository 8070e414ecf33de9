package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
)

// Config describes the coordinator of one generation.
type Config struct {
	Core    protocol.CoordinatorConfig
	Start   protocol.Start
	Records *Records
	Clock   clock.Clock
	Logger  *slog.Logger
	// Send puts a message into a task's mailbox; it must not block.
	Send func(to protocol.TaskID, m *protocol.Message)
	// Commit hands the blocks of a durable epoch to their lanes.
	Commit func(protocol.Try, *protocol.Complete)
	// Manual starts epochs only when asked to.
	Manual bool
	// Encode carries every message through MessagePack; for tests.
	Encode bool
	// Retain is how many durable epochs are kept.
	Retain int
	Stats  *Stats
}

// Coordinator runs the checkpoint protocol of one generation.
type Coordinator struct {
	cfg  Config
	core *protocol.Coordinator
	gc   *collector

	mu     sync.Mutex
	inbox  []func(now int64) []protocol.Action
	notify chan struct{}
	// waiters are told when an epoch beyond theirs is committed.
	waiters []waiter
	err     error
	done    bool
	opening []protocol.Action
	// started and durableAt are monotonic times, until the epoch is committed.
	started   map[protocol.Try]int64
	durableAt map[base.Epoch]int64
}

type waiter struct {
	after base.Epoch
	c     chan error
}

// New returns a coordinator that is not running yet.
func New(cfg Config) *Coordinator {
	c := &Coordinator{cfg: cfg, notify: make(chan struct{}, 1), started: map[protocol.Try]int64{}, durableAt: map[base.Epoch]int64{}}
	c.core, c.opening = protocol.NewCoordinator(cfg.Core, cfg.Start, cfg.Clock.Mono())
	c.gc = newCollector(cfg)
	return c
}

// ErrSuperseded says that another generation of the job was deployed.
var ErrSuperseded = errors.New("another deployment of the job has taken over")

// Report takes a message of a task, from any goroutine.
func (c *Coordinator) Report(m *protocol.Message) {
	if c.cfg.Encode {
		m = throughWire(m)
	}
	if c.cfg.Manual && (m.Kind == protocol.KindOutput || m.Kind == protocol.KindMoved) {
		return
	}
	c.post(func(now int64) []protocol.Action {
		if m.Kind == protocol.KindAck {
			crash.At(crash.CoordAfterFirstAck)
		}
		acts, err := c.core.Receive(now, m)
		if err != nil {
			c.cfg.Logger.Error("report refused", "task", m.Task.String(), "error", err)
		}
		return acts
	})
}

// throughWire returns what the message's encoding decodes to.
func throughWire(m *protocol.Message) *protocol.Message {
	b, err := msgpack.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("a control message cannot be encoded: %v", err))
	}
	out := new(protocol.Message)
	if err := msgpack.Unmarshal(b, out); err != nil {
		panic(fmt.Sprintf("a control message cannot be decoded: %v", err))
	}
	return out
}

// Submit feeds an event, from any goroutine.
func (c *Coordinator) Submit(ev protocol.Event) {
	c.post(func(now int64) []protocol.Action { return c.core.Step(now, ev) })
}

func (c *Coordinator) post(f func(now int64) []protocol.Action) {
	c.mu.Lock()
	c.inbox = append(c.inbox, f)
	c.mu.Unlock()
	select {
	case c.notify <- struct{}{}:
	default:
	}
}

// Checkpoint starts an epoch now and waits until one that began after the call
// is durable and committed.
func (c *Coordinator) Checkpoint(ctx context.Context) error {
	w := waiter{c: make(chan error, 1)}
	c.post(func(now int64) []protocol.Action {
		w.after = c.core.Tip().Epoch
		if _, open := c.core.Open(); open {
			w.after++ // the open one may have begun before the call
		}
		c.waiters = append(c.waiters, w)
		return c.core.Step(now, protocol.TriggerDue{})
	})
	select {
	case err := <-w.c:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run drives the protocol until the final epoch is committed (nil), the
// generation must stop (its error), or ctx ends.
func (c *Coordinator) Run(ctx context.Context) error {
	defer c.release()
	c.cfg.Stats.deployed()
	c.carry(ctx, c.opening)
	for !c.done && c.err == nil {
		c.drain(ctx)
		c.cfg.Stats.waiting(c.core.Uncommitted())
		c.wake()
		if c.done || c.err != nil {
			break
		}
		var timer clock.Timer
		var due <-chan time.Time
		if at, ok := c.core.NextWake(); ok {
			timer = c.cfg.Clock.NewTimer(time.Duration(max(at-c.cfg.Clock.Mono(), 0)))
			due = timer.C()
		}
		select {
		case <-c.notify:
		case <-due:
			c.carry(ctx, c.core.Step(c.cfg.Clock.Mono(), protocol.Tick{}))
		case <-ctx.Done():
			c.err = ctx.Err()
		}
		if timer != nil {
			timer.Stop()
		}
	}
	return c.err
}

// drain takes everything in the inbox.
func (c *Coordinator) drain(ctx context.Context) {
	for {
		c.mu.Lock()
		fs := c.inbox
		c.inbox = nil
		c.mu.Unlock()
		if len(fs) == 0 {
			return
		}
		for _, f := range fs {
			c.carry(ctx, f(c.cfg.Clock.Mono()))
		}
	}
}

// wake tells those who wait for a committed epoch, and asks for another epoch
// when theirs has not begun.
func (c *Coordinator) wake() {
	committed := c.core.Tip().Epoch - base.Epoch(c.core.Uncommitted())
	_, open := c.core.Open()
	left := c.waiters[:0]
	again := false
	for _, w := range c.waiters {
		if committed > w.after {
			w.c <- nil
			continue
		}
		again = again || !open && c.core.Tip().Epoch <= w.after
		left = append(left, w)
	}
	c.waiters = left
	if again {
		c.post(func(now int64) []protocol.Action { return c.core.Step(now, protocol.TriggerDue{}) })
	}
}

func (c *Coordinator) release() {
	for _, w := range c.waiters {
		err := c.err
		if err == nil {
			err = errors.New("the job ended")
		}
		w.c <- err
	}
}

// carry carries out actions in order. Store accesses run beside the loop and
// come back as events.
func (c *Coordinator) carry(ctx context.Context, acts []protocol.Action) {
	for _, act := range acts {
		switch a := act.(type) {
		case protocol.SendTrigger:
			crash.At(crash.CkptBeforeTrigger)
			try := a.Msg.Try()
			c.started[try] = c.cfg.Clock.Mono()
			c.cfg.Stats.begin(try.Epoch)
			c.send(a.To, &a.Msg, crash.CkptAfterTriggerOne)
		case protocol.SendComplete:
			if n := a.Msg.Epoch; c.durableAt[n] == 0 {
				c.durableAt[n] = c.cfg.Clock.Mono()
			}
			c.send(a.To, &a.Msg, crash.CoordAfterCompleteOne)
			c.cfg.Commit(a.Msg.Try(), a.Msg.Complete)
		case protocol.AbortAttempt:
			c.cfg.Stats.aborted()
			c.cfg.Logger.Warn("checkpoint attempt given up", "try", a.Msg.Try().String(), "cause", a.Cause)
			delete(c.started, a.Msg.Try())
			c.send(a.To, &a.Msg, crash.CkptAfterTriggerOne)
		case protocol.WriteManifest:
			crash.At(crash.CoordAfterLastAck)
			go c.writeManifest(ctx, a)
		case protocol.ClaimEpoch:
			go func() { c.Submit(c.cfg.Records.claim(ctx, a)) }()
		case protocol.ReadFence:
			crash.At(crash.CoordAfterClaim)
			go func() { c.Submit(c.cfg.Records.fence(ctx, a, c.cfg.Core.Term, c.cfg.Core.Gen)) }()
		case protocol.MarkDone:
			c.markDone(ctx, a)
		case protocol.StopGeneration:
			c.stop(a)
		case protocol.Resign:
			c.err = fmt.Errorf("%w: term %d", ErrSuperseded, a.Term)
		case protocol.Alarm:
			c.cfg.Logger.Error("checkpoints keep failing", "in_a_row", a.Failures, "cause", a.Cause)
		case protocol.FinalDone:
			c.done = true
		}
	}
}

func (c *Coordinator) stop(a protocol.StopGeneration) {
	c.err = a.Err
	if a.Reason == protocol.Superseded {
		c.err = fmt.Errorf("%w: %w", ErrSuperseded, a.Err)
	}
}

// send delivers a message to tasks; each gets its own copy.
func (c *Coordinator) send(to []protocol.TaskID, m *protocol.Message, after crash.Point) {
	if c.cfg.Encode {
		m = throughWire(m)
	}
	for _, t := range to {
		c.cfg.Send(t, m)
		crash.At(after)
	}
}

func (c *Coordinator) writeManifest(ctx context.Context, a protocol.WriteManifest) {
	crash.At(crash.CoordBeforeManifest)
	err := c.cfg.Records.Blob.Put(ctx, a.Key, a.Body)
	crash.At(crash.CoordAfterManifest)
	c.post(func(now int64) []protocol.Action {
		if err == nil {
			c.cfg.Stats.manifest(a.Manifest, len(a.Body))
			c.gc.note(a.Manifest)
		}
		return c.core.Step(now, protocol.ManifestWritten{Try: a.Try, Err: err})
	})
}

// markDone stores the hint that an epoch is committed and lets old ones go.
func (c *Coordinator) markDone(ctx context.Context, a protocol.MarkDone) {
	for try, at := range c.started {
		if try.Epoch <= a.Epoch {
			if try.Epoch == a.Epoch {
				c.cfg.Stats.committed(a.Epoch, c.cfg.Clock.Mono()-at, c.cfg.Clock.Now())
			}
			delete(c.started, try)
		}
	}
	if at, ok := c.durableAt[a.Epoch]; ok {
		c.cfg.Stats.commitTook(c.cfg.Clock.Mono() - at)
		delete(c.durableAt, a.Epoch)
	}
	crash.At(crash.DoneBefore)
	c.gc.done(ctx, a.Epoch)
	crash.At(crash.DoneAfter)
}
