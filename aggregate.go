package weir

import (
	"fmt"

	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/window"
)

// AggregateFunction computes a result from the records of a window by way of an
// accumulator. The zero Acc is the accumulator of no records.
//
//	type spend struct{}
//
//	func (spend) Add(acc *float64, o Order)       { *acc += o.Price }
//	func (spend) Merge(dst, src *float64)         { *dst += *src }
//	func (spend) Result(acc *float64) float64     { return *acc }
//
//	var _ weir.AggregateFunction[Order, float64, float64] = spend{}
//
// The last line is worth its place: it makes the compiler name a method that is
// missing or wrong.
//
// An Acc made of numbers, bools, arrays and structs of these is kept in the state
// table as it is and costs no allocation; any other is encoded and decoded at
// every use. The functions must depend on their arguments alone and must not keep
// them.
type AggregateFunction[T, Acc, Out any] interface {
	// Add takes a record into acc.
	Add(acc *Acc, v T)
	// Merge folds src into dst and leaves src as it is; the two must share no
	// memory afterwards. It must be associative. All records of src are of later
	// event time than those of dst, or of a later session.
	Merge(dst, src *Acc)
	// Result turns an accumulator into a result and leaves it as it is.
	Result(acc *Acc) Out
}

// Subtracter is implemented by an AggregateFunction that can take records out
// again. Sliding windows then cost the same whatever their length. Add and Merge
// must not depend on the order of records, and Subtract must undo Merge exactly,
// to the last bit: counts and sums of integers can do that, sums of floating-point
// numbers, minima and maxima cannot.
type Subtracter[Acc any] interface {
	// Subtract takes out of dst what Merge folded in from src.
	Subtract(dst, src *Acc)
}

// Windowed is the result of one window, or session, of one key: Key, Start and
// End (exclusive, UTC), and Value. The end of a session is its last record plus
// the gap.
type Windowed[K comparable, Out any] = operators.Windowed[K, Out]

// AggregateOption is an option of Aggregate over records T.
type AggregateOption[T any] interface{ aggregate(*aggregateOptions[T]) }

type aggregateOptions[T any] struct{ late *Tag[T] }

// LateOption is an option of Aggregate and Detect; see LateTo.
type LateOption[T any] struct{ tag Tag[T] }

func (l LateOption[T]) aggregate(o *aggregateOptions[T]) { o.late = &l.tag }

// LateTo sends records that come too late to a side output, to be read with
// SideOutput: for Aggregate those that come after all their windows are gone, for
// Detect those that the watermark has passed. Without it they are dropped. In both
// cases they are counted in weir_operator_late_records_total.
func LateTo[T any](tag Tag[T]) LateOption[T] { return LateOption[T]{tag} }

// Aggregate computes agg over the records of every key and window. A result
// comes when the watermark reaches the end of its window (for a session: passes
// it), and again, with the record in it, for each record that comes after that
// but within the allowed lateness. Windows without records give no result.
//
// The event time of a result is one nanosecond below the end of its window, and
// for a session that end.
func Aggregate[K comparable, T, Acc, Out any](in KeyedStream[K, T], name string, spec window.Spec,
	agg AggregateFunction[T, Acc, Out], opts ...AggregateOption[T],
) Stream[Windowed[K, Out]] {
	j, where := in.j, caller(1)
	var o aggregateOptions[T]
	for _, opt := range opts {
		opt.aggregate(&o)
	}
	uid := j.declare(in.chain, name, "aggregate", spec.String(), where, in.uid)
	out := newStream[Windowed[K, Out]](j, in.chain, uid, true)
	late := func(s *operators.Subtask) operators.Consumer[T] { return operators.Fan[T](s, nil) }
	if o.late != nil {
		late = addSide(j, where, uid, in.chain, true, *o.late).bind
	}
	acc, ok := checkAggregate[Acc](j, where, uid, spec, agg == nil)
	if !ok || in.codec == nil {
		return out
	}
	ws := operators.WindowSpec[K, T, Acc, Out]{
		UID: uid, Window: spec, Key: in.key, Keys: in.codec, Add: agg.Add, Result: agg.Result, Acc: acc,
		Ops: window.Ops[Acc]{Merge: agg.Merge},
	}
	if s, ok := agg.(Subtracter[Acc]); ok {
		ws.Ops.Subtract = s.Subtract
	}
	if op := j.operatorOf(uid); op != nil {
		for _, st := range ws.States() {
			op.States = append(op.States, engine.State(st))
		}
	}
	in.attach(func(s *operators.Subtask) operators.Consumer[T] {
		return operators.Window(s, ws, out.bind(s), late(s))
	})
	return out
}

// checkAggregate reports mistakes in the arguments of Aggregate and returns the
// accumulator's codec.
func checkAggregate[Acc any](j *Job, where, uid string, spec window.Spec, none bool) (*codec.Codec[Acc], bool) {
	ok := true
	if err := spec.Validate(); err != nil {
		j.fail(where, "WEIR-0122", fmt.Sprintf("aggregate %s: %v", uid, err), "")
		ok = false
	}
	if none {
		j.fail(where, "WEIR-0123", fmt.Sprintf("aggregate %s has no function", uid), "use weir.Count, weir.Sum and the like, or a type of your own")
		ok = false
	}
	c, err := codec.For[Acc]()
	if err != nil {
		j.fail(where, "WEIR-0124", fmt.Sprintf("aggregate %s: an accumulator of type %T cannot be kept: %v", uid, *new(Acc), err),
			"use exported fields of encodable types")
		ok = false
	}
	return c, ok
}
