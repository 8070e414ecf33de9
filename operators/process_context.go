package operators

import (
	"fmt"
	"slices"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state"
)

// ProcessContext is what a KeyedProcess sees of the record or timer in hand, and
// how it acts. It is valid during the call it was given to.
type ProcessContext[K comparable, Out any] struct {
	core  *processCore
	out   func(*base.Meta, *Out)
	sides []Side

	key     K
	meta    base.Meta   // of what is emitted
	from    base.Origin // of the record or timer in hand
	emitted int
	value   Out // one slot: a parameter whose address is taken would be allocated
}

// begin starts a call.
func (c *ProcessContext[K, Out]) begin(k K, m base.Meta) {
	c.key, c.meta, c.from, c.emitted = k, m, m.Origin, 0
}

// Key returns the key of the record or timer.
func (c *ProcessContext[K, Out]) Key() K { return c.key }

// Timestamp returns the event time that emitted records get: that of the record;
// that of an event timer; or, for a timer in processing time, the watermark.
func (c *ProcessContext[K, Out]) Timestamp() time.Time { return timeOf(c.meta.Time) }

// Watermark returns the operator's event time: no record with an earlier
// timestamp follows that is not late. It is StartOfTime before the first
// watermark and EndOfTime once the input has ended.
func (c *ProcessContext[K, Out]) Watermark() time.Time {
	return timeOf(c.core.prog.of(c.meta.Hash))
}

// ProcessingTime returns the wall-clock time.
func (c *ProcessContext[K, Out]) ProcessingTime() time.Time {
	return timeOf(c.core.s.Env.Clock.Now())
}

// Header returns the first header of that name, "" if there is none. Timers have
// no headers.
func (c *ProcessContext[K, Out]) Header(name string) string {
	if c.meta.Headers == nil {
		return ""
	}
	return c.meta.Headers.Get(name)
}

// SetHeader sets a header of all records that this call emits from now on. They
// have those of the record in hand otherwise.
func (c *ProcessContext[K, Out]) SetHeader(name, value string) {
	var h base.Headers
	if c.meta.Headers != nil {
		// Records emitted before, and the record itself, keep what they have.
		h = slices.DeleteFunc(slices.Clone(*c.meta.Headers), func(h base.Header) bool { return h.Name == name })
	}
	h = append(h, base.Header{Name: name, Value: value})
	c.meta.Headers = &h
}

// Emit hands on one record.
func (c *ProcessContext[K, Out]) Emit(v Out) {
	c.next()
	c.value = v
	c.out(&c.meta, &c.value)
	c.core.s.at = c.core.op
}

// next makes the metadata of the next record emitted.
func (c *ProcessContext[K, Out]) next() {
	c.meta.Origin = c.from.Derive(c.emitted)
	c.emitted++
}

// Side is a side output of a process operator.
type Side interface {
	name() string
	// hold makes the side output keep what it is given until the sender is flushed.
	hold() sender
}

type sideOutput[T any] struct {
	tag   string
	out   func(*base.Meta, *T)
	value T
}

func (s *sideOutput[T]) name() string { return s.tag }

func (s *sideOutput[T]) hold() sender {
	box := &outbox[T]{out: s.out}
	s.out = box.put
	return box
}

// NewSide returns the side output of that name, for one subtask.
func NewSide[T any](name string, out Consumer[T]) Side {
	return &sideOutput[T]{tag: name, out: out.One}
}

// EmitSide hands on one record to a side output. One that the operator was not
// given fails the subtask.
func EmitSide[K comparable, Out, T any](c *ProcessContext[K, Out], name string, v T) {
	for _, s := range c.sides {
		if s.name() != name {
			continue
		}
		if side, ok := s.(*sideOutput[T]); ok {
			c.next()
			side.value = v
			side.out(&c.meta, &side.value)
			c.core.s.at = c.core.op
			return
		}
	}
	c.core.s.Fail(base.Fatal(&base.Error{
		Code: "WEIR-0704", What: fmt.Sprintf("the function wrote to the side output %q of %T, which the operator does not have", name, v),
		Where: c.core.s.where(), Next: "give the operator the option WritesTo with the tag",
	}))
}

// RegisterEventTimer makes OnTimer be called for this key once the watermark has
// reached t, that is, once no more records before t are to be expected. A time
// that the watermark has reached already fires right after the call in hand.
// Registering the same time twice is the same as once. EndOfTime fires at the end
// of input.
func (c *ProcessContext[K, Out]) RegisterEventTimer(t time.Time) {
	c.core.register(state.EventTimer, nanosOf(t))
}

// DeleteEventTimer takes a timer of this key back; one that does not exist, or
// has fired, is ignored.
func (c *ProcessContext[K, Out]) DeleteEventTimer(t time.Time) {
	c.core.timers.Delete(state.EventTimer, nanosOf(t))
}

// RegisterProcessingTimer makes OnTimer be called for this key once the wall
// clock has reached t. If that happens while the job is down, it fires on
// restore. At the end of input all timers in processing time fire at once, and
// those registered from then on are ignored.
func (c *ProcessContext[K, Out]) RegisterProcessingTimer(t time.Time) {
	c.core.register(state.ProcessingTimer, nanosOf(t))
}

// DeleteProcessingTimer takes a timer of this key back; one that does not exist,
// or has fired, is ignored.
func (c *ProcessContext[K, Out]) DeleteProcessingTimer(t time.Time) {
	c.core.timers.Delete(state.ProcessingTimer, nanosOf(t))
}

// register adds a timer of the key in hand.
func (n *processCore) register(kind TimerKind, t base.Timestamp) {
	if n.ending && kind == state.ProcessingTimer {
		return
	}
	if n.firing && kind == n.kind && t <= n.firedAt {
		n.s.Fail(base.Fatal(&base.Error{
			Code: "WEIR-0707", Where: n.s.where(),
			What: fmt.Sprintf("a timer at %s registered a timer at %s, which would fire for ever", base.FormatTime(n.firedAt), base.FormatTime(t)),
			Next: "register a later time",
		}))
		return
	}
	n.timers.Register(kind, t)
	if n.ending {
		slot := &n.again[n.key.hash%endSlots]
		if *slot++; *slot > maxAgain {
			n.s.Fail(base.Fatal(&base.Error{
				Code: "WEIR-0707", Where: n.s.where(),
				What: "timers of the key go on registering timers after the end of input",
				Next: "register none when Watermark returns EndOfTime",
			}))
		}
	}
	if kind == state.EventTimer && t <= n.prog.w && !(n.firing && n.kind == kind) {
		n.past = true
	}
}

// StartOfTime and EndOfTime are the watermarks before the first record and after
// the last.
var (
	StartOfTime = timeOf(base.MinTime)
	EndOfTime   = timeOf(base.MaxTime)
)

func timeOf(t base.Timestamp) time.Time { return time.Unix(0, t).UTC() }

// nanosOf is the inverse of timeOf; times beyond what an int64 of nanoseconds
// holds become the nearest it does.
func nanosOf(t time.Time) base.Timestamp {
	switch {
	case t.Before(StartOfTime):
		return base.MinTime
	case t.After(EndOfTime):
		return base.MaxTime
	}
	return t.UnixNano()
}
