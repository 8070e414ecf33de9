package protocol

import (
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// Receive takes a report of a task. Messages of another job are an error of the
// connection; reports from generations that the coordinator does not expect are
// ignored; a higher term makes it resign.
func (c *Coordinator) Receive(now int64, m *Message) ([]Action, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	if m.Job != c.cfg.Job {
		return nil, fmt.Errorf("a report of job %s reached the coordinator of job %s", m.Job, c.cfg.Job)
	}
	if m.Term > c.cfg.Term && !c.stopped {
		c.stopped = true
		return []Action{Resign{m.Term}}, nil
	}
	var ev Event
	switch m.Kind {
	case KindAck:
		ev = AckReceived{m.Task, m.Gen, m.Try(), m.Ack}
	case KindDecline:
		ev = Declined{m.Task, m.Gen, m.Try(), m.Failure.Text()}
	case KindFailed:
		ev = TaskFailed{m.Task, m.Gen, *m.Failure}
	case KindFinished:
		ev = TaskFinished{m.Task, m.Gen}
	case KindCommitted:
		ev = LaneCommitted{*m.Lane, m.Epoch}
	case KindMoved:
		ev = Moved{}
	case KindOutput:
		ev = OutputStaged{}
	default: // KindStatus belongs to take-over, KindStale to the engine
		return nil, nil
	}
	return c.Step(now, ev), nil
}

// Step takes one event at time now and returns the actions to carry out, in
// order.
func (c *Coordinator) Step(now int64, ev Event) []Action {
	if c.stopped {
		return nil
	}
	var acts []Action
	switch ev := ev.(type) {
	case Tick:
		acts = c.onTick(now)
	case TriggerDue:
		c.due = true
	case Moved:
		c.moved = true
	case OutputStaged:
		c.due = c.due || !c.begun
	case AckReceived:
		acts = c.onAck(now, ev)
	case Declined:
		if c.slot(ev.Task, ev.Gen) >= 0 {
			acts = c.abort(now, ev.Try, fmt.Sprintf("task %s: %s", ev.Task, ev.Cause))
		}
	case TaskFailed:
		acts = c.onTaskFailed(now, ev)
	case TaskFinished:
		c.onTaskFinished(ev)
	case Timeout:
		acts = c.abort(now, ev.Try, c.timeoutCause())
	case ManifestWritten:
		acts = c.onManifest(now, ev)
	case ClaimResult:
		acts = c.onClaim(now, ev)
	case FenceRead:
		acts = c.onFence(now, ev)
	case LaneCommitted:
		acts = c.onLaneCommitted(ev)
	case StopRequested:
		c.want = max(c.want, FinalStop)
	case EndOfInput:
		c.want = FinalEnd
	case ControlSubmitted:
		c.control = append(c.control, ev.Event)
	}
	return c.maybeStart(now, acts)
}

// slot returns the index of a task that runs under that generation, or -1.
func (c *Coordinator) slot(t TaskID, g base.Generation) int {
	i, ok := slices.BinarySearchFunc(c.cfg.Tasks, t, func(s TaskSlot, t TaskID) int {
		if s.Task == t {
			return 0
		}
		return order(s.Task.Less(t))
	})
	if !ok || c.cfg.Tasks[i].Gen != g {
		return -1
	}
	return i
}

func (c *Coordinator) onTick(now int64) []Action {
	switch {
	case c.retry && now >= c.retryAt:
		return c.again()
	case c.phase != phaseIdle && c.phase <= phaseWriting && c.cfg.Timeout > 0 &&
		now >= base.AddTime(c.startedAt, c.cfg.Timeout):
		return c.abort(now, c.try, c.timeoutCause())
	}
	return nil
}

// timeoutCause names what the open attempt waits for.
func (c *Coordinator) timeoutCause() string {
	if c.phase != phaseCollecting {
		return "timeout while the manifest was written"
	}
	i := slices.Index(c.acks, nil)
	return fmt.Sprintf("timeout; %d of %d acks are missing, the first from task %s", c.missing, len(c.acks), c.cfg.Tasks[i].Task)
}

// maybeStart begins the next epoch when it is due (C1, C2).
func (c *Coordinator) maybeStart(now int64, acts []Action) []Action {
	if c.stopped || c.phase != phaseIdle {
		return acts
	}
	at, ok := c.startTime()
	if !ok || now < at {
		return acts
	}
	c.counter++
	c.phase, c.startedAt, c.lastStart, c.begun = phaseCollecting, now, now, true
	c.try = Try{c.tip.Epoch + 1, NewAttempt(c.cfg.Term, c.counter)}
	c.final, c.controls = c.want, len(c.control)
	c.moved, c.due = false, false
	c.missing = len(c.acks)
	clear(c.acks)
	for _, g := range c.groups {
		if len(g.sources) == 0 {
			continue
		}
		m := c.message(KindTrigger, g.gen, c.try)
		m.Trigger = &Trigger{Prev: c.tip.Attempt, Final: c.final, Control: slices.Clone(c.control)}
		acts = append(acts, SendTrigger{g.sources, m})
	}
	return acts
}

func (c *Coordinator) message(k Kind, g base.Generation, t Try) Message {
	return Message{Kind: k, Job: c.cfg.Job, Term: c.cfg.Term, Gen: g, Epoch: t.Epoch, Attempt: t.Attempt}
}

func (c *Coordinator) sendAbort(acts []Action, t Try, cause string) []Action {
	for _, g := range c.groups {
		acts = append(acts, AbortAttempt{g.all, c.message(KindAbort, g.gen, t), cause})
	}
	return acts
}

func (c *Coordinator) sendComplete(acts []Action, t Try, body *Complete) []Action {
	for _, g := range c.groups {
		m := c.message(KindComplete, g.gen, t)
		m.Complete = body
		acts = append(acts, SendComplete{g.all, m})
	}
	return acts
}

// abort gives up the open attempt if it is t and nothing was claimed yet. The
// job runs on; what the attempt covered belongs to the next one.
func (c *Coordinator) abort(now int64, t Try, cause string) []Action {
	if t != c.try || c.phase != phaseCollecting && c.phase != phaseWriting {
		return nil
	}
	c.phase, c.manifest, c.recordBody = phaseIdle, nil, nil
	clear(c.acks)
	c.moved = true
	c.notBefore = base.AddTime(now, c.cfg.RetryDelay)
	c.failures++
	acts := c.sendAbort(nil, t, cause)
	if c.failures%c.cfg.AlarmAfter == 0 {
		acts = append(acts, Alarm{c.failures, cause})
	}
	return acts
}

func (c *Coordinator) onTaskFailed(now int64, ev TaskFailed) []Action {
	if c.slot(ev.Task, ev.Gen) < 0 {
		return nil
	}
	acts := c.abort(now, c.try, fmt.Sprintf("task %s failed", ev.Task))
	c.stopped = true
	return append(acts, StopGeneration{TaskDied, ev.Failure.Err(ev.Task)})
}

func (c *Coordinator) onTaskFinished(ev TaskFinished) {
	i := c.slot(ev.Task, ev.Gen)
	if i < 0 || !c.cfg.Tasks[i].Source {
		return
	}
	c.finished[i] = true
	for j, t := range c.cfg.Tasks {
		if t.Source && !c.finished[j] {
			return
		}
	}
	c.want = FinalEnd
}

func (c *Coordinator) onAck(now int64, ev AckReceived) []Action {
	i := c.slot(ev.Task, ev.Gen)
	if i < 0 || c.phase != phaseCollecting || ev.Try != c.try || c.acks[i] != nil {
		return nil // of another generation or attempt, or repeated
	}
	c.acks[i] = ev.Ack
	c.missing--
	if c.missing > 0 {
		return nil
	}
	return c.writeManifest(now)
}

// broken stops the generation because of a broken invariant.
func (c *Coordinator) broken(err error) []Action {
	c.stopped = true
	return []Action{StopGeneration{Broken, base.Fatal(&base.Error{
		Code: "WEIR-0380", What: "the checkpoint would be inconsistent and was not made", Where: "epoch " + c.try.String(),
		Next: "this is a defect of the engine; keep the data directory and report it", Cause: err,
	})}}
}

func (c *Coordinator) superseded(format string, args ...any) []Action {
	c.stopped = true
	return []Action{StopGeneration{Superseded, fmt.Errorf(format, args...)}}
}
