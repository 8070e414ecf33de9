package oip

import (
	"fmt"
	"slices"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/internal/rest"
)

// Datatypes of the protocol. The two 16-bit floats come in answers only.
const (
	Bool    = "BOOL"
	Uint8   = "UINT8"
	Uint16  = "UINT16"
	Uint32  = "UINT32"
	Uint64  = "UINT64"
	Int8    = "INT8"
	Int16   = "INT16"
	Int32   = "INT32"
	Int64   = "INT64"
	Float16 = "FP16"
	BFloat  = "BF16"
	Float32 = "FP32"
	Float64 = "FP64"
	Bytes   = "BYTES"
)

// Element is the type of the elements of a tensor. A string is BYTES.
type Element interface {
	bool | uint8 | uint16 | uint32 | uint64 | int8 | int16 | int32 | int64 | float32 | float64 | string
}

// Tensor is a tensor of a request or an answer. Its first dimension counts the rows.
type Tensor struct {
	Name     string
	Datatype string
	Shape    []int64
	// Data has the elements, row by row: a slice of an Element. Answers may hold
	// numbers of a datatype in a wider type.
	Data any
	// bad marks the rows with an element that is none of the datatype; nil for none.
	bad []bool
}

// Column is an input tensor: what each row of it is made of.
type Column[In any] struct {
	name, datatype string
	width          int
	dims           []int64
	pack           func(rows []*In) any
}

// Scalar is a column with one element for each input. The shape of its tensor is
// [n, 1], unless Dims says otherwise.
func Scalar[In any, T Element](name string, value func(in *In) T) Column[In] {
	c := Column[In]{name: name, datatype: datatypeOf[T](), width: 1, dims: []int64{1}}
	if value != nil {
		c.pack = func(rows []*In) any {
			out := make([]T, len(rows))
			for i, in := range rows {
				out[i] = value(in)
			}
			return out
		}
	}
	return c
}

// Vector is a column with width elements for each input, which fill writes to row.
// The shape of its tensor is [n, width], unless Dims says otherwise.
func Vector[In any, T Element](name string, width int, fill func(in *In, row []T)) Column[In] {
	c := Column[In]{name: name, datatype: datatypeOf[T](), width: width, dims: []int64{int64(width)}}
	if fill != nil {
		c.pack = func(rows []*In) any {
			out := make([]T, len(rows)*width)
			for i, in := range rows {
				fill(in, out[i*width:(i+1)*width:(i+1)*width])
			}
			return out
		}
	}
	return c
}

// Dims is the column with other dimensions for each row: none makes the shape of a
// scalar's tensor [n]. Their product must be the number of elements of a row.
func (c Column[In]) Dims(dims ...int64) Column[In] {
	c.dims = slices.Clone(dims)
	return c
}

func datatypeOf[T Element]() string {
	switch any(*new(T)).(type) {
	case bool:
		return Bool
	case uint8:
		return Uint8
	case uint16:
		return Uint16
	case uint32:
		return Uint32
	case uint64:
		return Uint64
	case int8:
		return Int8
	case int16:
		return Int16
	case int32:
		return Int32
	case int64:
		return Int64
	case float32:
		return Float32
	case float64:
		return Float64
	}
	return Bytes
}

// Codec turns inputs into tensors and tensors into predictions.
type Codec[In, Out any] struct {
	// Inputs are the input tensors.
	Inputs []Column[In]
	// Outputs names the output tensors to ask for; nil: all that the model has, and
	// then all must have a row for each input.
	Outputs []string
	// Decode makes a prediction of the row of an input. An error makes the answer to
	// that input invalid.
	Decode func(row *Row) (Out, error)
}

// Validate checks the codec. Its errors have the code model.CodeAccess.
func (c *Codec[In, Out]) Validate() error {
	if len(c.Inputs) == 0 || c.Decode == nil {
		return rest.Error("the codec has no inputs or no Decode", "", "give both")
	}
	seen := map[string]bool{}
	for _, col := range c.Inputs {
		product := int64(1)
		for _, d := range col.dims {
			product *= d
		}
		switch {
		case col.name == "" || col.pack == nil:
			return rest.Error("an input column has no name or no function", col.name, "make columns by Scalar and Vector")
		case seen[col.name]:
			return rest.Error("two input columns have one name", col.name, "rename one")
		case col.width < 1 || product != int64(col.width):
			return rest.Error(fmt.Sprintf("an input column has %d elements and dimensions %v", col.width, col.dims), col.name, "make the product of the dimensions the number of elements")
		}
		seen[col.name] = true
	}
	return nil
}

// Pack returns the input tensors for rows.
func (c *Codec[In, Out]) Pack(rows []*In) []Tensor {
	out := make([]Tensor, len(c.Inputs))
	for i, col := range c.Inputs {
		out[i] = Tensor{
			Name: col.name, Datatype: col.datatype, Data: col.pack(rows),
			Shape: append([]int64{int64(len(rows))}, col.dims...),
		}
	}
	return out
}

// Wants reports whether an output of that name is asked for.
func (c *Codec[In, Out]) Wants(output string) bool {
	return c.Outputs == nil || slices.Contains(c.Outputs, output)
}

// Unpack makes the predictions for n rows. Its error, and the Err of results, is a
// *model.Failure of kind Invalid.
func (c *Codec[In, Out]) Unpack(outputs []Tensor, n int) ([]model.Result[Out], error) {
	found := make(map[string]*Tensor, len(outputs))
	for i := range outputs {
		t := &outputs[i]
		if !c.Wants(t.Name) {
			continue
		}
		if found[t.Name] != nil {
			return nil, rest.Invalid(nil, "the answer has two outputs %.40q", t.Name)
		}
		if err := t.check(n); err != nil {
			return nil, rest.Invalid(err, "output %.40q of the answer does not fit", t.Name)
		}
		found[t.Name] = t
	}
	for _, name := range c.Outputs {
		if found[name] == nil {
			return nil, rest.Invalid(nil, "the answer has no output %q", name)
		}
	}
	results := make([]model.Result[Out], n)
	for i := range results {
		row := Row{tensors: found, at: i, rows: n}
		out, err := c.Decode(&row)
		if row.err != nil {
			err = row.err
		}
		if err != nil {
			results[i].Err = rest.Nonsense(err, "the answer to one of the inputs makes no sense")
			continue
		}
		results[i].Out = out
	}
	return results, nil
}

// check holds a tensor of an answer against its shape and n rows.
func (t *Tensor) check(n int) error {
	if len(t.Shape) == 0 || t.Shape[0] != int64(n) {
		return fmt.Errorf("its shape is %v, for %d inputs", t.Shape, n)
	}
	size, err := t.size()
	if err != nil {
		return err
	}
	if got := length(t.Data); got != size {
		return fmt.Errorf("it has %d elements, and its shape is %v", got, t.Shape)
	}
	return nil
}

// maxElements bounds what a shape may claim.
const maxElements = 1 << 31

// size is the number of elements of the shape.
func (t *Tensor) size() (int, error) {
	size := int64(1)
	for _, d := range t.Shape {
		if d < 0 || d > maxElements || size*d > maxElements {
			return 0, fmt.Errorf("its shape is %v", t.Shape)
		}
		size *= d
	}
	return int(size), nil
}
