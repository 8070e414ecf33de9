package task

import (
	"fmt"

	"github.com/weirflow/weir/engine/exchange"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
)

// handle takes one message. Messages of a blocked input are held back.
func (t *Task) handle(m exchange.Message) error {
	switch m.Kind {
	case exchange.Call:
		m.Call()
		return t.sub.Err()
	case exchange.Control:
		return t.order(m.Order)
	}
	if t.align.Blocked(m.Input) {
		t.inputs[m.Input].stash = append(t.inputs[m.Input].stash, m)
		return nil
	}
	switch m.Kind {
	case exchange.Data:
		return t.data(m)
	case exchange.Watermark:
		if w, moved := t.comb.Update(m.Input, m.Time); moved {
			return t.sub.Watermark(w)
		}
	case exchange.Idle:
		w, moved := t.comb.SetIdle(m.Input, true)
		if moved {
			if err := t.sub.Watermark(w); err != nil {
				return err
			}
		}
		if t.comb.Idle() {
			return t.sub.MarkIdle()
		}
	case exchange.Barrier:
		return t.barrier(m.Input, m.Barrier)
	case exchange.End:
		return t.endInput(m.Input)
	}
	return t.sub.Err()
}

// creditEvery is after how many batches an input's credit is set anew.
const creditEvery = 32

// data processes a batch and measures how long that takes.
func (t *Task) data(m exchange.Message) error {
	in := &t.inputs[m.Input]
	n := int64(m.Batch.Len())
	stats := t.sub.Env.Stats
	start, blocked := t.Clock.Mono(), stats.BackpressuredNanos.Load()
	err := t.sub.Process(t.Inputs[m.Input].Head, m.Batch)
	if t.full() {
		t.owed = append(t.owed, m)
	} else {
		m.Release()
	}
	in.nanos += t.Clock.Mono() - start - (stats.BackpressuredNanos.Load() - blocked)
	in.records += n
	if in.batches++; in.batches >= creditEvery && in.records > 0 {
		perBatch := max(in.nanos*n/in.records, 1)
		t.Inputs[m.Input].Port.SetCredit(int(t.CreditNanos / perBatch))
		in.nanos, in.records, in.batches = 0, 0, 0
	}
	return err
}

func (t *Task) endInput(i int) error {
	if t.inputs[i].ended {
		return nil
	}
	t.inputs[i].ended = true
	t.ended++
	if err := t.aligned(t.align.End(i, t.acts[:0])); err != nil {
		return err
	}
	if w, moved := t.comb.Update(i, base.MaxTime); moved && t.ended < len(t.inputs) {
		return t.sub.Watermark(w)
	}
	if t.ended == len(t.inputs) {
		return t.sub.End()
	}
	return nil
}

// barrier takes a barrier of an input, or, in a source task, the trigger.
func (t *Task) barrier(input int, b protocol.Barrier) error {
	if input == 0 {
		crash.At(crash.AlignFirstBarrier)
	}
	return t.aligned(t.align.Barrier(input, b, t.acts[:0]))
}

// aligned carries out the actions of the aligner.
func (t *Task) aligned(acts []protocol.AlignAction) error {
	t.acts = acts
	for _, a := range acts {
		switch a.Kind {
		case protocol.AlignBlock:
			crash.At(crash.AlignMid)
		case protocol.AlignSnapshot:
			crash.At(crash.AlignLast)
			if err := t.snapshot(a.Barrier); err != nil {
				return err
			}
		case protocol.AlignForward:
			// The chain sends the barrier on when it takes its snapshot.
			crash.At(crash.SrcAfterBarrier)
		case protocol.AlignUnblockAll:
			t.unblock()
		case protocol.AlignAbort:
			t.Logger.Debug("alignment given up", "task", t.ID.String(), "try", a.Barrier.Try.String())
		}
	}
	return nil
}

// unblock makes everything that was held back ready, input by input, in front
// of what is ready already.
func (t *Task) unblock() {
	var held []exchange.Message
	for i := range t.inputs {
		held = append(held, t.inputs[i].stash...)
		t.inputs[i].stash = t.inputs[i].stash[:0]
	}
	if len(held) > 0 {
		t.ready, t.readyAt = append(held, t.ready[t.readyAt:]...), 0
	}
}

// order takes a message of the coordinator.
func (t *Task) order(m *protocol.Message) error {
	switch v := t.fence.Admit(m); v {
	case protocol.Admit:
	case protocol.NewTerm:
		t.fence.Term = m.Term
	case protocol.NewGeneration:
		return errStopped
	default:
		t.Logger.Warn("control message refused", "task", t.ID.String(), "kind", m.Kind, "verdict", v, "term", m.Term, "gen", m.Gen)
		t.report(&protocol.Message{Kind: protocol.KindStale})
		return nil
	}
	switch m.Kind {
	case protocol.KindTrigger:
		return t.barrier(0, protocol.Barrier{Try: m.Try(), Trigger: *m.Trigger})
	case protocol.KindAbort:
		if t.final != nil && t.final.Try == m.Try() {
			t.final = nil
		}
		if err := t.aligned(t.align.Cancel(m.Try(), t.acts[:0])); err != nil {
			return err
		}
		return t.participate(t.part.Abort(m.Try()), nil)
	case protocol.KindComplete:
		return t.participate(t.part.Complete(m.Try()), m.Complete)
	case protocol.KindStop:
		t.done = true
		return nil
	default:
		return fmt.Errorf("task %s: control message of kind %d is not for a task", t.ID, m.Kind)
	}
}

// participate carries out the actions of the participant.
func (t *Task) participate(acts []protocol.ParticipantAction, c *protocol.Complete) error {
	for _, a := range acts {
		switch a.Kind {
		case protocol.FoldBack:
			if err := t.sub.GiveUp(a.Try); err != nil {
				return err
			}
			if t.open != nil && t.open.try == a.Try {
				t.open = nil
			}
		case protocol.Confirm:
			t.sub.Confirm(a.Try)
			if c != nil && c.Final != protocol.NotFinal {
				t.done = t.halted
			}
		case protocol.StopTask:
			return a.Err
		case protocol.TakeSnapshot, protocol.Repeat:
		}
	}
	return nil
}

// report sends a message of this task to the coordinator.
func (t *Task) report(m *protocol.Message) {
	m.Job, m.Term, m.Gen, m.Task = t.Job, t.fence.Term, t.fence.Gen, t.ID
	t.Report(m)
}

// reportMoved tells the coordinator, once per barrier, that there is something
// to checkpoint.
func (t *Task) reportMoved() {
	s := t.sub.Env.Stats
	if !t.output && s.RecordsOut.Load() > 0 {
		t.output = true
		t.report(&protocol.Message{Kind: protocol.KindOutput})
	}
	if t.moved {
		return
	}
	if activity(s) != t.seen {
		t.moved = true
		t.report(&protocol.Message{Kind: protocol.KindMoved})
	}
}

// activity changes when there is something to checkpoint.
func activity(s *base.TaskStats) int64 {
	return s.RecordsIn.Load() + s.TimersFired.Load() + s.AsyncOut.Load()
}
