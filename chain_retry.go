package weir

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/state"
)

// Attempt is an event that a step tries: for the N-th time, from 1.
type Attempt struct {
	Event Event `msgpack:"event"`
	N     int   `msgpack:"n"`
	// Cause is the ID of the event that led to the attempt: Event's own, or that of the
	// RetryRequested event.
	Cause string `msgpack:"cause"`
}

// ID is that of the event: a key for KeyBy and SameKey.
func (a Attempt) ID() string { return a.Event.ID }

// Next is Event.Next for what this attempt made. Its ID is the same for every attempt.
func (a Attempt) Next(typ string, at time.Time, payload any) (Event, error) {
	n, err := a.Event.Next(typ, at, payload)
	n.Attempt, n.Causation = a.N, a.Cause
	return n, err
}

// Attempts is how a step takes its events: each one once as attempt 1, and again for
// each RetryRequested event for the step that comes on the stream retries, when its
// time has come. Retries for other steps are ignored. An attempt that waits is keyed
// state; no memory, thread or connection is held for it, and a restart does not
// forget it.
//
// The result goes by the event's ID. opts say what happens to a retry that cannot be
// read, as for TryMap.
func Attempts(events, retries Stream[Event], step string, opts ...TryOption) KeyedStream[string, Attempt] {
	j := events.j
	var out KeyedStream[string, Attempt]
	Scope(j, step, func(*Job) {
		first := Map(events, "first", func(e Event) heldAttempt { return heldAttempt{Attempt: Attempt{e, 1, e.ID}} })
		mine := Filter(TryMap(retries, "requested", readRetry, opts...), "mine", func(w heldAttempt) bool { return w.Step == step })
		byID := KeyBy(Union("attempts", first, mine), "by-event", func(w heldAttempt) string { return w.Attempt.Event.ID })
		due := Process(byID, "due", func() KeyedProcess[string, heldAttempt, Attempt] { return new(holdAttempts) })
		out = SameKey(byID, due, Attempt.ID)
	})
	return out
}

// heldAttempt is an attempt and the earliest time for it.
type heldAttempt struct {
	Attempt   Attempt
	Step      string
	NotBefore int64
}

func readRetry(e Event) (heldAttempt, error) {
	if e.Type != RetryRequestedType {
		return heldAttempt{}, nil
	}
	r, err := EventPayload[RetryRequested](e)
	if err != nil {
		return heldAttempt{}, err
	}
	if r.Event.ID == "" || r.Attempt < 2 {
		return heldAttempt{}, fmt.Errorf("a retry of event %q as attempt %d", r.Event.ID, r.Attempt)
	}
	return heldAttempt{Attempt: Attempt{r.Event, r.Attempt, e.ID}, Step: r.Step, NotBefore: r.NotBefore}, nil
}

// holdAttempts keeps attempts until their time.
type holdAttempts struct{ held *state.Map[int, heldAttempt] }

// Declare implements KeyedProcess.
func (h *holdAttempts) Declare(d *Declarer) { h.held = MapState[int, heldAttempt](d, "held") }

// OnRecord implements KeyedProcess.
func (h *holdAttempts) OnRecord(c *Context[string, Attempt], w heldAttempt) error {
	if w.NotBefore <= c.ProcessingTime().UnixMilli() {
		c.Emit(w.Attempt)
		return nil
	}
	h.held.Put(w.Attempt.N, w)
	c.RegisterProcessingTimer(time.UnixMilli(w.NotBefore))
	return nil
}

// OnTimer implements KeyedProcess. At the end of input all timers fire at once, and
// what waits is tried without heldAttempt.
func (h *holdAttempts) OnTimer(c *Context[string, Attempt], t Timer) error {
	var due []int
	for n, w := range h.held.All() {
		if w.NotBefore <= t.Time.UnixMilli() {
			due = append(due, n)
		}
	}
	for _, n := range due {
		w, _ := h.held.Get(n)
		h.held.Delete(n)
		c.Emit(w.Attempt)
	}
	return nil
}

// RetryPolicy says how often and for how long a step tries an event.
type RetryPolicy struct {
	// Attempts is the most attempts; 0 is 5.
	Attempts int
	// Backoff is the wait before the second attempt, twice as long before each further
	// one, up to MaxBackoff, and each time by up to a half shorter, so that events that
	// failed together do not come back together. 0 is 1 s and 1 min.
	Backoff, MaxBackoff time.Duration
	// Within is the time that the step has for an event from when it was made: no
	// attempt begins later. 0 is no bound.
	Within time.Duration
	// DeadLetters makes what is given up a dead letter too, of the operator
	// "STEP/given-up"; the job must have DeadLetters. Where that is sent back, the event
	// is tried once more.
	DeadLetters bool
}

// RetryOrGiveUp turns the failures of a step into control events: RetryRequested when
// the policy has another attempt for the event, else StepFailed. Both are caused by
// what led to the attempt that failed. The step must read the former by Attempts; whoever undoes
// what earlier steps did reads the latter. Failures of kind "permanent" are given up at
// once.
func RetryOrGiveUp(failures Stream[model.Failed[Attempt]], step string, p RetryPolicy) Stream[Event] {
	p.Attempts = cmp.Or(p.Attempts, 5)
	p.Backoff = cmp.Or(p.Backoff, time.Second)
	p.MaxBackoff = cmp.Or(p.MaxBackoff, time.Minute)
	j, where := failures.j, caller(1)
	if p.Attempts < 1 || p.Backoff < 0 || p.MaxBackoff < p.Backoff || p.Within < 0 {
		j.fail(where, "WEIR-0129", fmt.Sprintf("step %s: the retry policy makes no sense: %+v", step, p), "see weir.RetryPolicy")
	}
	var out Stream[Event]
	Scope(j, step, func(*Job) {
		byID := KeyBy(failures, "by-failed", func(f model.Failed[Attempt]) string { return f.Record.Event.ID })
		out = Process(byID, "retry-or-give-up", func() KeyedProcess[string, model.Failed[Attempt], Event] {
			return &retryOrGiveUp{step: step, policy: p}
		})
		if p.DeadLetters {
			over := Filter(out, "over", func(e Event) bool { return e.Type == StepFailedType })
			byCause := KeyBy(over, "by-given-up", func(e Event) string { return e.ID })
			again := Process(byCause, "given-up", func() KeyedProcess[string, Event, Event] { return new(givenUp) }, OnError(DeadLetter))
			out = Union("control", out, again)
		}
	})
	return out
}

// givenUpKept is for how long it is known that an event was given up.
const givenUpKept = 90 * 24 * time.Hour

// givenUp refuses what a step has given up, so that it becomes a dead letter. One that
// comes again was sent back by somebody.
type givenUp struct {
	NoTimers[string, Event]
	refused *state.Value[bool]
}

// Declare implements KeyedProcess.
func (g *givenUp) Declare(d *Declarer) {
	g.refused = ValueState[bool](d, "refused", state.TTLProcessing(givenUpKept))
}

// OnRecord implements KeyedProcess. What a call that fails has changed in the state
// stays.
func (g *givenUp) OnRecord(c *Context[string, Event], e Event) error {
	f, err := EventPayload[StepFailed](e)
	if err != nil {
		return err
	}
	if again, _ := g.refused.Get(); !again {
		g.refused.Set(true)
		return &base.Error{
			Code: CodeEvent, What: fmt.Sprintf("the event was given up after attempt %d (%s): %s", f.Attempts, f.Kind, f.Why),
			Where: "step " + f.Step + ", chain " + e.Correlation, Next: "send it back, and it is tried once more",
		}
	}
	g.refused.Clear()
	now := c.ProcessingTime()
	r, err := e.Next(RetryRequestedType, now, RetryRequested{
		Step: f.Step, Attempt: f.Attempts + 1, NotBefore: now.UnixMilli(), Why: "sent back from the dead letters", Event: f.Event,
	})
	if err == nil {
		c.Emit(r)
	}
	return err
}

type retryOrGiveUp struct {
	NoState
	NoTimers[string, Event]
	step   string
	policy RetryPolicy
}

// OnRecord implements KeyedProcess.
func (r *retryOrGiveUp) OnRecord(c *Context[string, Event], f model.Failed[Attempt]) error {
	now, a := c.ProcessingTime(), f.Record
	next := now.Add(r.policy.backoff(a.Event.ID, a.N))
	late := r.policy.Within > 0 && next.After(time.UnixMilli(a.Event.At).Add(r.policy.Within))
	var e Event
	var err error
	if f.Kind == model.Permanent.String() || a.N >= r.policy.Attempts || late {
		e, err = a.Next(StepFailedType, now, StepFailed{Step: r.step, Attempts: a.N, Kind: f.Kind, Why: f.What, Event: a.Event})
	} else {
		e, err = a.Next(RetryRequestedType, now, RetryRequested{
			Step: r.step, Attempt: a.N + 1, NotBefore: next.UnixMilli(), Why: f.What, Event: a.Event,
		})
	}
	if err != nil {
		return err
	}
	// One event may fail in several steps, and several times in each.
	e.ID = eventID(a.Event.ID, e.Type+"\x00"+r.step, a.N)
	c.Emit(e)
	return nil
}

// backoff is the wait after attempt n of an event. Its jitter is a function of both.
func (p RetryPolicy) backoff(id string, n int) time.Duration {
	d := p.MaxBackoff
	if n < 32 && p.Backoff < p.MaxBackoff>>(n-1) {
		d = p.Backoff << (n - 1)
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(id + strconv.Itoa(n)))
	return d - time.Duration(float64(d)/2*float64(h.Sum64()%1024)/1024)
}
