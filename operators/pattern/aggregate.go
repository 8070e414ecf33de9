package pattern

import (
	"fmt"
	"math"
	"strings"
)

type aggKind uint8

const (
	aggSum aggKind = iota
	aggCount
	aggMin
	aggMax
	aggFirst
	aggLast
)

// aggDecl declares an aggregate over the accepted events of some stages.
type aggDecl[T any] struct {
	kind   aggKind
	field  func(*T) float64
	stages []string
	key    string
}

// Agg is an aggregate over the events that a run has accepted. It is kept as the
// run grows, so that a condition on it takes constant time. Events are folded in
// the order in which they are accepted.
type Agg[T any] struct{ d *aggDecl[T] }

// AggValue is the value of an aggregate.
type AggValue struct {
	// V is the sum, count, minimum, maximum, first or last value; 0 if N is 0.
	V float64
	// N is how many events went in.
	N int64
}

// Mean returns V divided by N: the mean, of a Sum. It is 0 if N is 0.
func (a AggValue) Mean() float64 {
	if a.N == 0 {
		return 0
	}
	return a.V / float64(a.N)
}

// Sum adds up a field over the events of the stages. Its Mean is the average.
func Sum[T any](field func(T) float64, stages ...string) Agg[T] {
	return newAgg(aggSum, field, stages)
}

// Count counts the events of the stages.
func Count[T any](stages ...string) Agg[T] {
	return newAgg(aggCount, func(T) float64 { return 1 }, stages)
}

// Min is the smallest value of a field over the events of the stages.
func Min[T any](field func(T) float64, stages ...string) Agg[T] {
	return newAgg(aggMin, field, stages)
}

// Max is the largest value of a field over the events of the stages.
func Max[T any](field func(T) float64, stages ...string) Agg[T] {
	return newAgg(aggMax, field, stages)
}

// First is a field of the first event of the stages.
func First[T any](field func(T) float64, stages ...string) Agg[T] {
	return newAgg(aggFirst, field, stages)
}

// Last is a field of the last event of the stages.
func Last[T any](field func(T) float64, stages ...string) Agg[T] {
	return newAgg(aggLast, field, stages)
}

func newAgg[T any](kind aggKind, field func(T) float64, stages []string) Agg[T] {
	return Agg[T]{&aggDecl[T]{kind: kind, field: func(v *T) float64 { return field(*v) }, stages: stages}}
}

// When is the condition that the aggregate, without the event in hand, and the
// event pass a test.
func (a Agg[T]) When(test func(AggValue, T) bool) Cond[T] {
	return a.when("", func(v AggValue, e *T) bool { return test(v, *e) })
}

func (a Agg[T]) when(text string, test func(AggValue, *T) bool) Cond[T] {
	if text == "" {
		text = fmt.Sprintf("func of %s(%s)", aggNames[a.d.kind], strings.Join(a.d.stages, ","))
	}
	return Cond[T]{&condNode[T]{kind: condAgg, text: text, agg: a.d, test: test}}
}

var aggNames = [...]string{"sum", "count", "min", "max", "first", "last"}

// fold takes one event into the value.
func (d *aggDecl[T]) fold(a AggValue, v *T) AggValue {
	x := d.field(v)
	a.N++
	switch {
	case d.kind == aggSum || d.kind == aggCount:
		a.V += x
	case a.N == 1, d.kind == aggLast:
		a.V = x
	case d.kind == aggMin:
		a.V = math.Min(a.V, x)
	case d.kind == aggMax:
		a.V = math.Max(a.V, x)
	}
	return a
}
