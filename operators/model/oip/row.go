package oip

import (
	"errors"
	"fmt"
	"math"
)

// Row is what the outputs of a model say of one input. Its methods return the
// elements of an output in the input's row. Where that cannot be, because there is no
// such output, or it has other elements, or NaN or an infinity among its numbers, they
// return zeros and the answer is invalid, whatever Decode returns.
type Row struct {
	tensors  map[string]*Tensor
	at, rows int
	err      error
}

func (r *Row) fail(name, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("output %q %s", name, fmt.Sprintf(format, args...))
	}
}

// Has reports whether the answer has an output of that name.
func (r *Row) Has(name string) bool { return r.tensors[name] != nil }

// Shape is the shape of the input's row of an output: its dimensions but the first.
func (r *Row) Shape(name string) []int64 {
	if t := r.tensors[name]; t != nil {
		return t.Shape[1:]
	}
	r.fail(name, "is missing")
	return nil
}

// Float is the only number of a row. Integers are converted.
func (r *Row) Float(name string) float64 { return only(r, name, r.Floats(name)) }

// Int is the only integer of a row.
func (r *Row) Int(name string) int64 { return only(r, name, r.Ints(name)) }

// Bool is the only truth value of a row.
func (r *Row) Bool(name string) bool { return only(r, name, r.Bools(name)) }

// Text is the only BYTES element of a row.
func (r *Row) Text(name string) string { return only(r, name, r.Texts(name)) }

func only[T any](r *Row, name string, values []T) T {
	if len(values) == 1 {
		return values[0]
	}
	r.fail(name, "has %d elements in a row, where one is due", len(values))
	return *new(T)
}

// Floats are the numbers of a row. Integers are converted.
func (r *Row) Floats(name string) []float64 {
	t, lo, hi := r.elements(name)
	if t == nil {
		return nil
	}
	out, ok := floats(t.Data, lo, hi)
	if !ok {
		r.fail(name, "has %s, where numbers are due", t.Datatype)
		return nil
	}
	for _, v := range out {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			r.fail(name, "has %g, or what is no number, where numbers are due", v)
		}
	}
	return out
}

// Ints are the integers of a row.
func (r *Row) Ints(name string) []int64 {
	t, lo, hi := r.elements(name)
	if t == nil {
		return nil
	}
	out, err := integers(t.Data, lo, hi)
	if err != nil {
		r.fail(name, "has %s, where integers are due: %v", t.Datatype, err)
	}
	return out
}

// Bools are the truth values of a row.
func (r *Row) Bools(name string) []bool { return plain[bool](r, name, "truth values") }

// Texts are the BYTES elements of a row.
func (r *Row) Texts(name string) []string { return plain[string](r, name, "BYTES") }

func plain[T any](r *Row, name, what string) []T {
	t, lo, hi := r.elements(name)
	if t == nil {
		return nil
	}
	data, ok := t.Data.([]T)
	if !ok {
		r.fail(name, "has %s, where %s are due", t.Datatype, what)
		return nil
	}
	return data[lo:hi:hi]
}

// elements finds an output and where in it the row is.
func (r *Row) elements(name string) (t *Tensor, lo, hi int) {
	t = r.tensors[name]
	switch {
	case t == nil:
		r.fail(name, "is missing")
		return nil, 0, 0
	case t.bad != nil && t.bad[r.at]:
		r.fail(name, "has an element that is no %s", t.Datatype)
		return nil, 0, 0
	}
	width := length(t.Data) / r.rows
	return t, r.at * width, (r.at + 1) * width
}

func floats(data any, lo, hi int) ([]float64, bool) {
	switch d := data.(type) {
	case []float64:
		return d[lo:hi:hi], true
	case []float32:
		return convert[float64](d[lo:hi]), true
	case []int64:
		return convert[float64](d[lo:hi]), true
	case []int32:
		return convert[float64](d[lo:hi]), true
	case []int16:
		return convert[float64](d[lo:hi]), true
	case []int8:
		return convert[float64](d[lo:hi]), true
	case []uint64:
		return convert[float64](d[lo:hi]), true
	case []uint32:
		return convert[float64](d[lo:hi]), true
	case []uint16:
		return convert[float64](d[lo:hi]), true
	case []uint8:
		return convert[float64](d[lo:hi]), true
	}
	return nil, false
}

func integers(data any, lo, hi int) ([]int64, error) {
	switch d := data.(type) {
	case []int64:
		return d[lo:hi:hi], nil
	case []int32:
		return convert[int64](d[lo:hi]), nil
	case []int16:
		return convert[int64](d[lo:hi]), nil
	case []int8:
		return convert[int64](d[lo:hi]), nil
	case []uint64:
		for _, v := range d[lo:hi] {
			if v > math.MaxInt64 {
				return nil, fmt.Errorf("%d is larger than an int64", v)
			}
		}
		return convert[int64](d[lo:hi]), nil
	case []uint32:
		return convert[int64](d[lo:hi]), nil
	case []uint16:
		return convert[int64](d[lo:hi]), nil
	case []uint8:
		return convert[int64](d[lo:hi]), nil
	}
	return nil, errors.New("it has another type")
}

func convert[To, From int64 | int32 | int16 | int8 | uint64 | uint32 | uint16 | uint8 | float64 | float32](in []From) []To {
	out := make([]To, len(in))
	for i, v := range in {
		out[i] = To(v)
	}
	return out
}

// length is the number of elements of a tensor's data; -1 if it is of no such type.
func length(data any) int {
	switch d := data.(type) {
	case []bool:
		return len(d)
	case []uint8:
		return len(d)
	case []uint16:
		return len(d)
	case []uint32:
		return len(d)
	case []uint64:
		return len(d)
	case []int8:
		return len(d)
	case []int16:
		return len(d)
	case []int32:
		return len(d)
	case []int64:
		return len(d)
	case []float32:
		return len(d)
	case []float64:
		return len(d)
	case []string:
		return len(d)
	}
	return -1
}
