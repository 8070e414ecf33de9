package main

import (
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/state"
)

func next(e weir.Event, typ string, payload any) (weir.Event, error) {
	return e.Next(typ, time.Now(), payload)
}

// giveUp makes the event that says that a step has given an event up.
func giveUp(e weir.Event, step string, why error) (weir.Event, error) {
	return next(e, stepFailed, weir.StepFailed{Step: step, Attempts: 1, Kind: model.Permanent.String(), Why: why.Error(), Event: e})
}

// store numbers the turns of a conversation and writes the answer and the memory, both
// at once; it takes a turn back when the saga asks for it.
func store(j *weir.Job, _ config) {
	all := weir.Union("all", read(j, evaluated), read(j, undoRequested))
	byConversation := weir.KeyBy(all, "by-conversation", func(e weir.Event) string { return e.Key })
	publish(j, weir.Process(byConversation, "memory", func() weir.KeyedProcess[string, weir.Event, weir.Event] { return new(turnCounter) }, refused),
		answered, memoryUpdated, memoryUndone)
}

// turnCounter is what a conversation has come to. The turns themselves are in the log, and
// the last of them in the state of retrieve.
type turnCounter struct {
	weir.NoTimers[string, weir.Event]
	turns *state.Value[int]
}

// Declare implements weir.KeyedProcess.
func (m *turnCounter) Declare(d *weir.Declarer) { m.turns = weir.ValueState[int](d, "turns") }

// OnRecord implements weir.KeyedProcess.
func (m *turnCounter) OnRecord(c *weir.Context[string, weir.Event], e weir.Event) error {
	if e.Type == undoRequested {
		t, err := weir.EventPayload[Turn](e)
		if err != nil {
			return err
		}
		return emit(c, e, memoryUndone, t)
	}
	v, err := weir.EventPayload[Evaluation](e)
	if err != nil {
		return err
	}
	n, _ := m.turns.Get()
	m.turns.Set(n + 1)
	t := Turn{Turn: n + 1, Question: v.Question, Answer: v.Answer}
	a := Answer{Turn: t, Channel: v.Channel, Grounded: v.Grounded}
	for _, p := range v.Passages {
		a.Sources = append(a.Sources, p.ID)
	}
	if err := emit(c, e, memoryUpdated, t); err != nil {
		return err
	}
	return emit(c, e, answered, a)
}

func emit(c *weir.Context[string, weir.Event], cause weir.Event, typ string, payload any) error {
	e, err := cause.Next(typ, c.ProcessingTime(), payload)
	if err == nil {
		c.Emit(e)
	}
	return err
}

// saga follows each chain as far as there is something to undo, and undoes it, last
// first, when a later step gives up. That the one comes after the other is certain, but
// not that their events come here in that order: they are in different streams.
func saga(j *weir.Job, _ config) {
	all := weir.Union("all", read(j, answered), read(j, stepFailed))
	byChain := weir.KeyBy(all, "by-chain", func(e weir.Event) string { return e.Correlation })
	publish(j, weir.Process(byChain, "compensate", func() weir.KeyedProcess[string, weir.Event, weir.Event] { return new(compensate) }, refused),
		undoRequested, abandoned)
}

// sagaKept is how long a chain may take from store to its end.
const sagaKept = 7 * 24 * time.Hour

// compensate is the saga of one chain.
type compensate struct {
	weir.NoTimers[string, weir.Event]
	// stored is what store has done, failed which later step has given up.
	stored *state.Value[weir.Event]
	failed *state.Value[weir.Event]
}

// Declare implements weir.KeyedProcess.
func (s *compensate) Declare(d *weir.Declarer) {
	s.stored = weir.ValueState[weir.Event](d, "stored", state.TTLProcessing(sagaKept))
	s.failed = weir.ValueState[weir.Event](d, "failed", state.TTLProcessing(sagaKept))
}

// OnRecord implements weir.KeyedProcess.
func (s *compensate) OnRecord(c *weir.Context[string, weir.Event], e weir.Event) error {
	if e.Type == answered {
		if failed, ok := s.failed.Get(); ok {
			return s.undo(c, failed, e)
		}
		s.stored.Set(e)
		return nil
	}
	f, err := weir.EventPayload[weir.StepFailed](e)
	if err != nil {
		return err
	}
	if f.Event.Type == documentAdded {
		return nil // no chain of a prompt
	}
	if err := emit(c, e, abandoned, Notification{Text: f.Step + ": " + f.Why}); err != nil || f.Event.Type != answered {
		return err // nothing was stored yet
	}
	if stored, ok := s.stored.Get(); ok {
		return s.undo(c, e, stored)
	}
	s.failed.Set(e)
	return nil
}

// undo has the memory of an answer undone, because of a failure.
func (s *compensate) undo(c *weir.Context[string, weir.Event], failed, stored weir.Event) error {
	s.stored.Clear()
	s.failed.Clear()
	a, err := weir.EventPayload[Answer](stored)
	if err != nil {
		return err
	}
	return emit(c, failed, undoRequested, a.Turn)
}
