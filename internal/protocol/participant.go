package protocol

import (
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// Participant is a task's view of the tries it took part in. It answers the one
// question on which a task's next snapshot depends: which earlier snapshots are
// still part of the job's history, and which were given up, so that what they
// froze belongs to the next one.
//
// A try is held from its snapshot until it is given up or a newer epoch is
// durable. Giving up folds what it froze back: dirty entries are dirty again,
// staged records go in front of the open block. A held try that became durable
// stays held until the next durable one, as the starting point of deltas and as
// the proof, for a new coordinator, that this task continues from it.
type Participant struct {
	held      []Try // ascending, at most one per epoch
	confirmed base.Epoch
}

// maxHeld bounds the held tries: more epochs than that cannot be open, because
// an epoch starts only when the one before is durable.
const maxHeld = 1024

// ParticipantKind tells what a ParticipantAction orders.
type ParticipantKind uint8

const (
	// FoldBack: the snapshot of Try was given up; what it froze belongs to the
	// next snapshot. Carried out before anything that follows.
	FoldBack ParticipantKind = iota + 1
	// TakeSnapshot: freeze for Try.
	TakeSnapshot
	// Confirm: Try is durable. Acknowledge sources, commit lanes, drop what is
	// needed only by older tries.
	Confirm
	// Repeat: Try was confirmed before; lanes report their commits again.
	Repeat
	// StopTask: this task's history differs from the durable one. It must stop
	// without doing anything else; the job restarts from the durable epoch.
	StopTask
)

// ParticipantAction is one order to the task.
type ParticipantAction struct {
	Kind ParticipantKind
	Try  Try
	// Err says why, for StopTask.
	Err error
}

// NewParticipant returns the participant of a task that starts from a durable
// try; the zero Try starts from nothing.
func NewParticipant(from Try) *Participant {
	p := &Participant{confirmed: from.Epoch}
	if from.Epoch > 0 {
		p.held = []Try{from}
	}
	return p
}

// Barrier takes a barrier for which the alignment is complete.
func (p *Participant) Barrier(b Barrier) []ParticipantAction {
	if b.Try.Epoch <= p.confirmed {
		return p.stop("barrier %s, but epoch %d is durable", b.Try, p.confirmed)
	}
	acts := p.giveUp(func(t Try) bool { return t.Epoch >= b.Try.Epoch })
	prev := b.Try.Epoch - 1
	if prev > 0 && !slices.Contains(p.held, Try{prev, b.Trigger.Prev}) {
		return p.stop("barrier %s continues from %s, which this task does not hold", b.Try, Try{prev, b.Trigger.Prev})
	}
	if len(p.held) >= maxHeld {
		return p.stop("barrier %s: %d snapshots are open", b.Try, len(p.held))
	}
	p.held = append(p.held, b.Try)
	return append(acts, ParticipantAction{Kind: TakeSnapshot, Try: b.Try})
}

// Abort takes the order to give up a try.
func (p *Participant) Abort(t Try) []ParticipantAction {
	if t.Epoch <= p.confirmed {
		return nil
	}
	return p.giveUp(func(h Try) bool { return h == t })
}

// Complete takes the news that a try is durable.
func (p *Participant) Complete(t Try) []ParticipantAction {
	i := slices.Index(p.held, t)
	switch {
	case t.Epoch <= p.confirmed:
		if i < 0 && slices.ContainsFunc(p.held, func(h Try) bool { return h.Epoch == t.Epoch }) {
			return p.stop("%s is durable, but this task holds another attempt", t)
		}
		return []ParticipantAction{{Kind: Repeat, Try: t}}
	case i < 0:
		return p.stop("%s is durable, but this task does not hold it", t)
	}
	p.confirmed = t.Epoch
	p.held = slices.Delete(p.held, 0, i)
	return []ParticipantAction{{Kind: Confirm, Try: t}}
}

// Status returns what the participant contributes to the answer to a new
// coordinator: the held tries, ascending, and the newest epoch known durable.
func (p *Participant) Status() (held []Try, confirmed base.Epoch) {
	return slices.Clone(p.held), p.confirmed
}

// giveUp drops the held tries that match, newest first.
func (p *Participant) giveUp(match func(Try) bool) []ParticipantAction {
	var acts []ParticipantAction
	for i := len(p.held) - 1; i >= 0; i-- {
		if t := p.held[i]; t.Epoch > p.confirmed && match(t) {
			acts = append(acts, ParticipantAction{Kind: FoldBack, Try: t})
			p.held = slices.Delete(p.held, i, i+1)
		}
	}
	return acts
}

func (p *Participant) stop(format string, args ...any) []ParticipantAction {
	return []ParticipantAction{{Kind: StopTask, Err: fmt.Errorf(format, args...)}}
}
