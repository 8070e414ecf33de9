package protocol

import (
	"errors"
	"fmt"
	"strings"

	"github.com/weirflow/weir/internal/base"
)

// Kind tells what a control message says.
type Kind uint8

// Orders go from the coordinator to tasks, reports from a task to the
// coordinator. The numbers are part of the wire format and must not change.
const (
	// KindTrigger orders sources to emit a barrier (Message.Trigger).
	KindTrigger Kind = 1
	// KindAbort orders tasks to give up the try in the envelope.
	KindAbort Kind = 2
	// KindComplete says that the try in the envelope is durable (Message.Complete).
	KindComplete Kind = 3
	// KindQuery is a new coordinator's question; tasks answer with KindStatus.
	KindQuery Kind = 4
	// KindStop orders a task to close its state and drop its buffers.
	KindStop Kind = 5
	// KindAck reports a finished snapshot (Message.Ack).
	KindAck Kind = 16
	// KindDecline reports that the try in the envelope failed in this task,
	// which itself goes on (Message.Failure).
	KindDecline Kind = 17
	// KindMoved reports that something happened since the task's last barrier:
	// a source read records or a timer fired. Sent once per barrier at most.
	KindMoved Kind = 18
	// KindOutput reports that a sink staged the first record of this run.
	KindOutput Kind = 19
	// KindCommitted reports that a lane committed the epoch in the envelope
	// and all before it (Message.Lane).
	KindCommitted Kind = 20
	// KindFailed reports that the task died (Message.Failure).
	KindFailed Kind = 21
	// KindFinished reports that a source task has read its last record.
	KindFinished Kind = 22
	// KindStatus answers KindQuery (Message.Status).
	KindStatus Kind = 23
	// KindStale refuses a message of an old term or generation; the envelope
	// holds the current ones.
	KindStale Kind = 24
)

// Message is the one envelope of every control message. Orders and reports
// carry the job's uid and the term; the generation is the task's. Which payload
// pointer is set follows from Kind; all others are nil. The struct holds plain
// data only, so that any MessagePack library encodes it.
type Message struct {
	Kind    Kind
	Job     string
	Term    base.Term
	Gen     base.Generation
	Epoch   base.Epoch
	Attempt Attempt
	// Task is the sender of a report; zero in an order to several tasks.
	Task TaskID

	Trigger  *Trigger
	Complete *Complete
	Ack      *Ack
	Failure  *Failure
	Status   *Status
	Lane     *LaneID
}

// Try returns the epoch and attempt of the envelope.
func (m *Message) Try() Try { return Try{m.Epoch, m.Attempt} }

// Trigger is what a barrier carries besides its epoch and attempt; it travels
// in-band with the barrier from the sources to every task.
type Trigger struct {
	// Prev is the attempt by which epoch n-1 became durable; 0 for epoch 1. A
	// task that holds another attempt of n-1 must fail (Participant).
	Prev Attempt
	// Final tells sources to stop after the barrier.
	Final Final
	// Control takes effect right after the barrier.
	Control []ControlEvent
}

// Barrier is the in-band mark of one try.
type Barrier struct {
	Try     Try
	Trigger Trigger
}

// Ack reports one task's finished snapshot of the try in the envelope.
type Ack struct {
	// State is the task's complete chain, not only what this epoch added.
	State TaskState
	// Splits are the positions of a source task.
	Splits []SplitState
	// Lanes are the sealed blocks of a sink task. Lanes without records are
	// left out.
	Lanes []LaneBlock
}

// Complete tells tasks that an epoch is durable: sources may acknowledge what it
// covers, sinks commit their lanes' blocks.
type Complete struct {
	Manifest SHA
	// Lanes are the lanes that have a block in the epoch.
	Lanes []LaneState
	// Final repeats the trigger's.
	Final Final
}

// Failure says why a task died or declined: a base.Error in parts.
type Failure struct {
	// Code is a base.Error code, or "".
	Code string
	// Cause is for people.
	Cause string
	// Fatal says that the job must stop instead of restarting.
	Fatal bool
	// What, Where and Next are those of the base.Error; "" when there was none.
	What, Where, Next string
}

// FailureOf takes an error apart. What callers put in front of a base.Error says
// where it came from and becomes a part of Where.
func FailureOf(err error) *Failure {
	f := &Failure{Fatal: errors.Is(err, base.ErrFatal)}
	e, ok := errors.AsType[*base.Error](err)
	if !ok {
		f.Cause = err.Error()
		return f
	}
	f.Code, f.What, f.Where, f.Next = e.Code, e.What, e.Where, e.Next
	if e.Cause != nil {
		f.Cause = e.Cause.Error()
	}
	if at, found := strings.CutSuffix(err.Error(), e.Error()); found {
		f.Where = joinPlaces(strings.TrimSuffix(strings.TrimSpace(at), ":"), f.Where)
	}
	return f
}

// Text is the failure on one line.
func (f *Failure) Text() string { return f.error("").Error() }

// Err puts the error of a task together again.
func (f *Failure) Err(t TaskID) error {
	where := f.Where
	if at := "task " + t.String(); !strings.Contains(where, at) {
		where = joinPlaces(at, where)
	}
	if f.Fatal {
		return base.Fatal(f.error(where))
	}
	return f.error(where)
}

func (f *Failure) error(where string) *base.Error {
	e := &base.Error{Code: f.Code, What: f.What, Where: where, Next: f.Next}
	switch {
	case f.What == "":
		e.What = f.Cause
	case f.Cause != "":
		e.Cause = errors.New(f.Cause)
	}
	return e
}

func joinPlaces(outer, inner string) string {
	if outer == "" || inner == "" {
		return outer + inner
	}
	return outer + "; " + inner
}

// Status is what a task tells a new coordinator.
type Status struct {
	PlanHash SHA
	// Held are the tries that the task took a snapshot of (or was restored
	// from) and has not given up, ascending. See Participant.
	Held []Try
	// Confirmed is the newest epoch that the task was told is durable.
	Confirmed base.Epoch
	// Committed is, for each lane the task owns, its newest committed marker.
	Committed []LaneMark
	// Finished says that a source task has read its last record.
	Finished bool
}

// LaneMark is a lane and a marker in it.
type LaneMark struct {
	Lane   LaneID
	Marker MarkerID
}

// Check reports what is malformed in a received message. It does not look at
// job, term or generation; Fence does.
func (m *Message) Check() error {
	want := ""
	switch m.Kind {
	case KindTrigger:
		want = "trigger"
	case KindComplete:
		want = "complete"
	case KindAck:
		want = "ack"
	case KindDecline, KindFailed:
		want = "failure"
	case KindCommitted:
		want = "lane"
	case KindStatus:
		want = "status"
	case KindAbort, KindQuery, KindStop, KindMoved, KindOutput, KindFinished, KindStale:
	default:
		return fmt.Errorf("unknown kind %d of control message", m.Kind)
	}
	for _, p := range []struct {
		name string
		set  bool
	}{
		{"trigger", m.Trigger != nil}, {"complete", m.Complete != nil}, {"ack", m.Ack != nil},
		{"failure", m.Failure != nil}, {"status", m.Status != nil}, {"lane", m.Lane != nil},
	} {
		if p.set != (p.name == want) {
			return fmt.Errorf("control message of kind %d: payload %q present: %v", m.Kind, p.name, p.set)
		}
	}
	if len(m.Job) > maxName || len(m.Task.Operator) > maxName {
		return fmt.Errorf("control message of kind %d: a name is longer than %d bytes", m.Kind, maxName)
	}
	return nil
}

// Verdict is what a receiver does with an order.
type Verdict uint8

const (
	// Admit: act on it.
	Admit Verdict = iota
	// Stale: answer KindStale, change nothing.
	Stale
	// NewTerm: remember the term, then act on it, and keep running.
	NewTerm
	// NewGeneration: this task was replaced. Stop first (close the state, drop
	// the buffers), then answer.
	NewGeneration
	// Foreign: it belongs to another job; drop the connection.
	Foreign
)

// Fence is what a task knows of its coordinator and deployment.
type Fence struct {
	Job  string
	Term base.Term
	Gen  base.Generation
}

// Admit judges an order. Generation goes before term: a task that was replaced
// stops, whoever tells it.
func (f Fence) Admit(m *Message) Verdict {
	switch {
	case m.Job != f.Job:
		return Foreign
	case m.Gen > f.Gen:
		return NewGeneration
	case m.Gen < f.Gen || m.Term < f.Term:
		return Stale
	case m.Term > f.Term:
		return NewTerm
	}
	return Admit
}
