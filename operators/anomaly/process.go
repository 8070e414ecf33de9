package anomaly

import (
	"bytes"
	"fmt"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state"
)

// Input is what the operator takes from a record: a value, or a verdict on the
// last alert of the key.
type Input struct {
	// Value is the value to judge. One that is no finite number is an error, under
	// the operator's error policy.
	Value float64
	// Verdict, when set, is taken instead of the value, and nothing is emitted.
	Verdict Verdict
	// Skip leaves the record alone.
	Skip bool
}

// Scored is a record with what the detector of its key made of it.
type Scored[K comparable, T any] struct {
	Key    K
	Record T
	// Time is the event time of the record, in UTC.
	Time  time.Time
	Value float64
	// Score, Alert and By are the detector's Result.
	Score float64
	Alert bool
	By    string
}

// ProcessSpec declares the operator.
type ProcessSpec[T any] struct {
	// Detector is run for each key.
	Detector Spec
	// Input reads a record.
	Input func(T) Input
	// OnlyAlerts leaves out records that are no alert.
	OnlyAlerts bool
	// TTL, when set, drops the detector of a key that has had no record for so long
	// in event time; the key starts afresh.
	TTL time.Duration
}

// Process returns what makes the function of a process operator, one for each
// subtask: a detector for each key, in a value state "detector" that holds the
// bytes of AppendState. The error is that of a wrong declaration.
//
// Records of a key are judged in the order in which they come; what is late is
// judged late.
func Process[K comparable, T any](spec ProcessSpec[T]) (func() operators.KeyedProcess[K, T, Scored[K, T]], error) {
	if spec.Input == nil {
		return nil, specError(wrong("ProcessSpec", "Input is missing"))
	}
	if spec.TTL < 0 {
		return nil, specError(wrong("ProcessSpec", "TTL %v is negative", spec.TTL))
	}
	// Every subtask builds its own; that this one could be built is what counts.
	if _, err := New(spec.Detector); err != nil {
		return nil, err
	}
	return func() operators.KeyedProcess[K, T, Scored[K, T]] { return &process[K, T]{spec: spec} }, nil
}

// kept is how many detectors of a subtask are kept as they are between records.
// It is a power of two.
const kept = 256

// process runs the detectors of a subtask.
type process[K comparable, T any] struct {
	operators.NoTimers[K, Scored[K, T]]
	spec  ProcessSpec[T]
	state *state.Value[[]byte]
	fresh []byte // the state of a detector that has seen nothing
	// slots keep detectors with the state that they wrote last, each at the place
	// that the hash of that state gives. A detector whose state is the one stored
	// need not load it, which for some costs more than to judge a value.
	slots [kept]slot
}

type slot struct {
	det   Learner
	wrote []byte
}

// Declare implements operators.KeyedProcess.
func (p *process[K, T]) Declare(d *operators.Declarer) {
	var opts []state.Option
	if p.spec.TTL > 0 {
		opts = append(opts, state.TTL(p.spec.TTL))
	}
	p.state = operators.ValueState[[]byte](d, "detector", opts...)
}

// OnRecord implements operators.KeyedProcess.
func (p *process[K, T]) OnRecord(c *operators.ProcessContext[K, Scored[K, T]], v T) error {
	in := p.spec.Input(v)
	if in.Skip {
		return nil
	}
	if in.Verdict == 0 && !finite(in.Value) {
		return &base.Error{
			Code: CodeValue, What: fmt.Sprintf("the value to judge is %g", in.Value),
			Next: "let Input skip such records, or give the operator an error policy",
		}
	}
	s, err := p.detector()
	if err != nil {
		return base.Fatal(err)
	}
	if in.Verdict != 0 {
		s.det.Learn(in.Verdict)
		p.store(s)
		return nil
	}
	r := s.det.Observe(c.Timestamp(), in.Value)
	p.store(s)
	if r.Alert || !p.spec.OnlyAlerts {
		c.Emit(Scored[K, T]{
			Key: c.Key(), Record: v, Time: c.Timestamp(), Value: in.Value,
			Score: r.Score, Alert: r.Alert, By: r.By,
		})
	}
	return nil
}

// detector returns a slot whose detector is in the state of the key.
func (p *process[K, T]) detector() (*slot, error) {
	stored, ok := p.state.Get()
	if !ok {
		if err := p.prepare(); err != nil {
			return nil, err
		}
		stored = p.fresh
	}
	s := p.slot(stored)
	if s.det != nil && bytes.Equal(s.wrote, stored) {
		return s, nil
	}
	if s.det == nil {
		var err error
		if s.det, err = New(p.spec.Detector); err != nil {
			return nil, err
		}
	}
	if err := s.det.LoadState(stored); err != nil {
		// What it has loaded by now is nothing to go on from.
		s.det = nil
		return nil, err
	}
	return s, nil
}

// slot returns the place of a state.
func (p *process[K, T]) slot(state []byte) *slot {
	return &p.slots[base.HashKey(state)&(kept-1)]
}

// prepare makes the state of a detector that has seen nothing.
func (p *process[K, T]) prepare() error {
	if p.fresh != nil {
		return nil
	}
	d, err := New(p.spec.Detector)
	if err == nil {
		p.fresh = d.AppendState(nil)
	}
	return err
}

// store writes the state of a slot's detector to the key in hand, and puts it
// where that state is looked for.
func (p *process[K, T]) store(s *slot) {
	s.wrote = s.det.AppendState(s.wrote[:0])
	p.state.Set(s.wrote)
	to := p.slot(s.wrote)
	*s, *to = *to, *s
}
