package oipgrpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/weirflow/weir/operators/model/oip"
	"github.com/weirflow/weir/operators/model/oipgrpc/inference"
)

// contents are the elements of an input tensor.
func contents(data any) *inference.InferTensorContents {
	c := &inference.InferTensorContents{}
	switch d := data.(type) {
	case []bool:
		c.BoolContents = d
	case []uint8:
		c.UintContents = convert[uint32](d)
	case []uint16:
		c.UintContents = convert[uint32](d)
	case []uint32:
		c.UintContents = d
	case []uint64:
		c.Uint64Contents = d
	case []int8:
		c.IntContents = convert[int32](d)
	case []int16:
		c.IntContents = convert[int32](d)
	case []int32:
		c.IntContents = d
	case []int64:
		c.Int64Contents = d
	case []float32:
		c.Fp32Contents = d
	case []float64:
		c.Fp64Contents = d
	case []string:
		c.BytesContents = make([][]byte, len(d))
		for i, s := range d {
			c.BytesContents[i] = []byte(s)
		}
	}
	return c
}

func convert[To, From uint8 | uint16 | uint32 | int8 | int16 | int32](in []From) []To {
	out := make([]To, len(in))
	for i, v := range in {
		out[i] = To(v)
	}
	return out
}

// tensors are the output tensors of an answer that are wanted.
func tensors(a *inference.ModelInferResponse, wants func(name string) bool) ([]oip.Tensor, error) {
	isRaw := len(a.RawOutputContents) > 0
	if isRaw && len(a.RawOutputContents) != len(a.Outputs) {
		return nil, fmt.Errorf("it has %d raw contents for %d outputs", len(a.RawOutputContents), len(a.Outputs))
	}
	out := make([]oip.Tensor, 0, len(a.Outputs))
	for i, o := range a.Outputs {
		if !wants(o.GetName()) {
			continue
		}
		t := oip.Tensor{Name: o.GetName(), Datatype: o.GetDatatype(), Shape: o.GetShape()}
		var err error
		if isRaw {
			t.Data, err = rawData(t.Datatype, a.RawOutputContents[i])
		} else {
			t.Data, err = typedData(t.Datatype, o.GetContents())
		}
		if err != nil {
			return nil, fmt.Errorf("output %.40q: %w", t.Name, err)
		}
		out = append(out, t)
	}
	return out, nil
}

func typedData(datatype string, c *inference.InferTensorContents) (any, error) {
	switch datatype {
	case oip.Bool:
		return c.GetBoolContents(), nil
	case oip.Int8, oip.Int16, oip.Int32:
		return c.GetIntContents(), nil
	case oip.Int64:
		return c.GetInt64Contents(), nil
	case oip.Uint8, oip.Uint16, oip.Uint32:
		return c.GetUintContents(), nil
	case oip.Uint64:
		return c.GetUint64Contents(), nil
	case oip.Float32:
		return c.GetFp32Contents(), nil
	case oip.Float64:
		return c.GetFp64Contents(), nil
	case oip.Bytes:
		out := make([]string, len(c.GetBytesContents()))
		for i, b := range c.GetBytesContents() {
			out[i] = string(b)
		}
		return out, nil
	}
	return nil, fmt.Errorf("its datatype %.20q is not known, or has no contents but raw ones", datatype)
}

// rawData are elements one after the other, with the low byte first.
func rawData(datatype string, b []byte) (any, error) {
	le := binary.LittleEndian
	switch datatype {
	case oip.Bool:
		return each(b, 1, func(b []byte) bool { return b[0] != 0 })
	case oip.Int8:
		return each(b, 1, func(b []byte) int8 { return int8(b[0]) })
	case oip.Int16:
		return each(b, 2, func(b []byte) int16 { return int16(le.Uint16(b)) })
	case oip.Int32:
		return each(b, 4, func(b []byte) int32 { return int32(le.Uint32(b)) })
	case oip.Int64:
		return each(b, 8, func(b []byte) int64 { return int64(le.Uint64(b)) })
	case oip.Uint8:
		return each(b, 1, func(b []byte) uint8 { return b[0] })
	case oip.Uint16:
		return each(b, 2, le.Uint16)
	case oip.Uint32:
		return each(b, 4, le.Uint32)
	case oip.Uint64:
		return each(b, 8, le.Uint64)
	case oip.Float16:
		return each(b, 2, func(b []byte) float32 { return half(le.Uint16(b)) })
	case oip.BFloat:
		return each(b, 2, func(b []byte) float32 { return math.Float32frombits(uint32(le.Uint16(b)) << 16) })
	case oip.Float32:
		return each(b, 4, func(b []byte) float32 { return math.Float32frombits(le.Uint32(b)) })
	case oip.Float64:
		return each(b, 8, func(b []byte) float64 { return math.Float64frombits(le.Uint64(b)) })
	case oip.Bytes:
		return rawStrings(b)
	}
	return nil, fmt.Errorf("its datatype %.20q is not known", datatype)
}

func each[T any](b []byte, size int, one func([]byte) T) ([]T, error) {
	if len(b)%size != 0 {
		return nil, fmt.Errorf("%d bytes are no whole elements", len(b))
	}
	out := make([]T, len(b)/size)
	for i := range out {
		out[i] = one(b[i*size:])
	}
	return out, nil
}

// rawStrings are elements with their length, in 4 bytes, before each.
func rawStrings(b []byte) ([]string, error) {
	var out []string
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, errors.New("a length is cut off")
		}
		n := int64(binary.LittleEndian.Uint32(b))
		if b = b[4:]; n > int64(len(b)) {
			return nil, fmt.Errorf("an element of %d bytes is cut off", n)
		}
		out = append(out, string(b[:n]))
		b = b[n:]
	}
	return out, nil
}

// half is the value of a 16-bit float of IEEE 754.
func half(h uint16) float32 {
	sign, exponent, fraction := h>>15, int(h>>10&31), float64(h&1023)
	var v float64
	switch exponent {
	case 0:
		v = math.Ldexp(fraction, -24)
	case 31:
		if v = math.Inf(1); fraction != 0 {
			v = math.NaN()
		}
	default:
		v = math.Ldexp(1024+fraction, exponent-25)
	}
	if sign != 0 {
		v = -v
	}
	return float32(v)
}
