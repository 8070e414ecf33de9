package weir

import (
	"cmp"
	"reflect"
)

// Number is a type that Sum and Mean can add up.
type Number interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

// Count counts records.
func Count[T any]() AggregateFunction[T, int64, int64] { return count[T]{} }

type count[T any] struct{}

func (count[T]) Add(acc *int64, _ T)      { *acc++ }
func (count[T]) Merge(dst, src *int64)    { *dst += *src }
func (count[T]) Subtract(dst, src *int64) { *dst -= *src }
func (count[T]) Result(acc *int64) int64  { return *acc }

// Sum adds up f of every record. Integers wrap around at the bounds of their
// type; choose a wide one. A floating-point sum is rounded as its additions come,
// by slice of the window and in the order of arrival within a slice.
func Sum[T any, N Number](f func(T) N) AggregateFunction[T, N, N] {
	if k := reflect.TypeFor[N]().Kind(); k == reflect.Float32 || k == reflect.Float64 {
		return sum[T, N]{f}
	}
	return exactSum[T, N]{sum[T, N]{f}}
}

type sum[T any, N Number] struct{ f func(T) N }

func (s sum[T, N]) Add(acc *N, v T) { *acc += s.f(v) }
func (sum[T, N]) Merge(dst, src *N) { *dst += *src }
func (sum[T, N]) Result(acc *N) N   { return *acc }

// exactSum is a sum that can be undone to the last bit.
type exactSum[T any, N Number] struct{ sum[T, N] }

func (exactSum[T, N]) Subtract(dst, src *N) { *dst -= *src }

// Extreme is the accumulator of Min and Max: the value, once one was seen.
type Extreme[N cmp.Ordered] struct {
	Value N
	Seen  bool
}

// Min returns the least f of all records. A floating-point NaN wins over
// everything.
func Min[T any, N cmp.Ordered](f func(T) N) AggregateFunction[T, Extreme[N], N] {
	return extreme[T, N]{f, func(a, b N) N { return min(a, b) }}
}

// Max returns the greatest f of all records. A floating-point NaN wins over
// everything.
func Max[T any, N cmp.Ordered](f func(T) N) AggregateFunction[T, Extreme[N], N] {
	return extreme[T, N]{f, func(a, b N) N { return max(a, b) }}
}

type extreme[T any, N cmp.Ordered] struct {
	f    func(T) N
	pick func(a, b N) N
}

func (e extreme[T, N]) Add(acc *Extreme[N], v T) { e.take(acc, e.f(v)) }

func (e extreme[T, N]) take(acc *Extreme[N], v N) {
	if acc.Seen {
		v = e.pick(acc.Value, v)
	}
	acc.Value, acc.Seen = v, true
}

func (e extreme[T, N]) Merge(dst, src *Extreme[N]) {
	if src.Seen {
		e.take(dst, src.Value)
	}
}

func (extreme[T, N]) Result(acc *Extreme[N]) N { return acc.Value }

// Total is the accumulator of Mean.
type Total struct {
	Sum   float64
	Count int64
}

// Mean returns the arithmetic mean of f of all records, computed in float64.
func Mean[T any, N Number](f func(T) N) AggregateFunction[T, Total, float64] { return mean[T, N]{f} }

type mean[T any, N Number] struct{ f func(T) N }

func (m mean[T, N]) Add(acc *Total, v T) {
	acc.Sum += float64(m.f(v))
	acc.Count++
}

func (mean[T, N]) Merge(dst, src *Total) {
	dst.Sum += src.Sum
	dst.Count += src.Count
}

func (mean[T, N]) Result(acc *Total) float64 { return acc.Sum / float64(acc.Count) }

// Collect lists f of every record: in order of arrival for tumbling windows, and
// by slice, then arrival, for sliding ones; sessions that merge keep theirs in the
// order of event time. The whole list is read and written for each record: it is
// meant for short ones.
func Collect[T, V any](f func(T) V) AggregateFunction[T, []V, []V] { return collect[T, V]{f} }

type collect[T, V any] struct{ f func(T) V }

func (c collect[T, V]) Add(acc *[]V, v T) { *acc = append(*acc, c.f(v)) }
func (collect[T, V]) Merge(dst, src *[]V) { *dst = append(*dst, *src...) }
func (collect[T, V]) Result(acc *[]V) []V { return *acc }
