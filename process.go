package weir

import (
	"errors"
	"fmt"

	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state"
)

// KeyedProcess is a function of the job with state and timers by key: the general
// stateful operator, for what Aggregate does not do. See Process.
//
//	type longRides struct{ start *state.Value[time.Time] }
//
//	func (f *longRides) Declare(d *weir.Declarer) {
//		f.start = weir.ValueState[time.Time](d, "start")
//	}
//
//	func (f *longRides) OnRecord(c *weir.Context[uint64, Alert], r Ride) error {
//		if r.End {
//			…
//		}
//		f.start.Set(r.At)
//		c.RegisterEventTimer(r.At.Add(2 * time.Hour))
//		return nil
//	}
//
//	func (f *longRides) OnTimer(c *weir.Context[uint64, Alert], t weir.Timer) error {
//		c.Emit(Alert{Ride: c.Key()})
//		f.start.Clear()
//		return nil
//	}
//
// Every subtask makes a value of its own and uses it from one goroutine. Fields
// other than state handles are shared by all keys of the subtask and are in no
// checkpoint.
type KeyedProcess[K comparable, T, Out any] = operators.KeyedProcess[K, T, Out]

// Context is what a KeyedProcess sees of the record or timer in hand, and how it
// emits records and registers timers. It is valid during one call.
type Context[K comparable, Out any] = operators.ProcessContext[K, Out]

// Declarer takes the states that a KeyedProcess declares.
type Declarer = operators.Declarer

// Timer is a timer that has fired: the time it was registered for, and whether
// that was in event time or in processing time.
type Timer = operators.Timer

// NoTimers can be embedded in a KeyedProcess that registers no timers, in place
// of a method OnTimer.
type NoTimers[K comparable, Out any] = operators.NoTimers[K, Out]

// NoState can be embedded in a KeyedProcess without state, in place of a method
// Declare.
type NoState = operators.NoState

// Kinds of timers.
const (
	// EventTimer: it fires when the watermark reaches its time.
	EventTimer = state.EventTimer
	// ProcessingTimer: it fires when the wall clock reaches its time.
	ProcessingTimer = state.ProcessingTimer
)

// StartOfTime and EndOfTime are what Context.Watermark returns before the first
// watermark and after the end of input.
var (
	StartOfTime = operators.StartOfTime
	EndOfTime   = operators.EndOfTime
)

// ValueState declares a state of one V per key and returns its handle, whose
// methods act on the key of the call under way. The name, 1 to 64 characters of
// a-z, 0-9 and -, is unique in the operator. state.TTL makes it forget.
func ValueState[V any](d *Declarer, name string, opts ...state.Option) *state.Value[V] {
	return operators.ValueState[V](d, name, opts...)
}

// ListState is ValueState for a list of V per key.
func ListState[V any](d *Declarer, name string, opts ...state.Option) *state.List[V] {
	return operators.ListState[V](d, name, opts...)
}

// MapState is ValueState for a map from MK to V per key; MK is a type that can be
// a key.
func MapState[MK comparable, V any](d *Declarer, name string, opts ...state.Option) *state.Map[MK, V] {
	return operators.MapState[MK, V](d, name, opts...)
}

// ProcessOption is an option of Process.
type ProcessOption interface{ process(*processOptions) }

type processOptions struct {
	policy Policy
	sides  []sideMaker
}

// sideMaker gives the operator a side output at build, and returns what makes it
// in a subtask.
type sideMaker func(j *Job, where, uid string, c *chain) func(*operators.Subtask) operators.Side

func (o ErrorOption) process(p *processOptions) { p.policy = o.policy }

type writesOption[T any] struct{ tag Tag[T] }

func (o writesOption[T]) process(p *processOptions) {
	p.sides = append(p.sides, func(j *Job, where, uid string, c *chain) func(*operators.Subtask) operators.Side {
		side := addSide(j, where, uid, c, true, o.tag)
		return func(s *operators.Subtask) operators.Side { return operators.NewSide(o.tag.name, side.bind(s)) }
	})
}

// WritesTo gives the operator a side output: the function writes to it with
// EmitTo, and SideOutput reads it.
func WritesTo[T any](tag Tag[T]) ProcessOption { return writesOption[T]{tag} }

// EmitTo hands on one record to a side output that the operator was given by
// WritesTo; it has the event time that Context.Emit would give it. Any other tag
// stops the job.
func EmitTo[K comparable, Out, T any](c *Context[K, Out], tag Tag[T], v T) {
	operators.EmitSide(c, tag.name, v)
}

// Process runs a function with state and timers over every key of a stream.
// newFn makes the function of one subtask; it is also called when the plan is
// built, to learn what states there are.
//
// Records of a key come in the order in which they were sent, and a watermark
// before the records that followed it: all timers that it fires have fired. Timers
// of event time fire in the order of their times. What the function emits for a
// timer has the timer's event time.
//
// The option OnError says what happens when the function returns an error and, unless
// that is Fail, when it panics. What a call that fails has changed in the state, and the
// timers that it has registered, stay; what it has emitted is dropped. A function that
// checks first and changes afterwards leaves nothing behind.
func Process[K comparable, T, Out any](in KeyedStream[K, T], name string, newFn func() KeyedProcess[K, T, Out], opts ...ProcessOption) Stream[Out] {
	return addProcess(caller(1), "process", in, name, newFn, opts)
}

// addProcess is Process for an operator of some kind, which was declared at where.
func addProcess[K comparable, T, Out any](where, kind string, in KeyedStream[K, T], name string, newFn func() KeyedProcess[K, T, Out], opts []ProcessOption) Stream[Out] {
	j := in.j
	var o processOptions
	for _, opt := range opts {
		opt.process(&o)
	}
	uid := j.declare(in.chain, name, kind, "", where, in.uid)
	out := newStream[Out](j, in.chain, uid, true)
	makers := make([]func(*operators.Subtask) operators.Side, 0, len(o.sides))
	for _, m := range o.sides {
		makers = append(makers, m(j, where, uid, in.chain))
	}
	states, err := describeProcess(uid, newFn)
	if err != nil {
		j.fail(where, "WEIR-0125", fmt.Sprintf("%s %s: %v", kind, uid, err), "")
	}
	if err != nil || in.codec == nil {
		return out
	}
	if op := j.operatorOf(uid); op != nil {
		for _, s := range states {
			op.States = append(op.States, engine.State{Name: s.Name, Schema: s.Schema})
		}
	}
	spec := operators.ProcessSpec[K, T, Out]{UID: uid, Key: in.key, Keys: in.codec, New: newFn, OnError: o.policy}
	spec.Letters = lettersOf[T](j, in.chain, where, uid, true, o.policy)
	in.attach(func(s *operators.Subtask) operators.Consumer[T] {
		sides := make([]operators.Side, 0, len(makers))
		for _, m := range makers {
			sides = append(sides, m(s))
		}
		return operators.Process(s, spec, out.bind(s), sides...)
	})
	return out
}

// describeProcess returns the states that a function declares. The function is
// the user's, and building must not panic.
func describeProcess[K comparable, T, Out any](uid string, newFn func() KeyedProcess[K, T, Out]) (states []operators.DeclaredState, err error) {
	if newFn == nil {
		return nil, errors.New("there is no function")
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("declaring its state panicked: %v", r)
		}
	}()
	fn := newFn()
	if fn == nil {
		return nil, errors.New("newFn returned nil")
	}
	return operators.DescribeStates(uid, fn.Declare)
}
