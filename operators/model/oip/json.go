package oip

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// appendTensor appends an input tensor as JSON.
func appendTensor(b []byte, t *Tensor) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, t.Name)
	b = append(b, `,"shape":[`...)
	for i, d := range t.Shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, d, 10)
	}
	b = append(b, `],"datatype":"`...)
	b = append(b, t.Datatype...)
	b = append(b, `","data":[`...)
	b = appendData(b, t.Data)
	return append(b, `]}`...)
}

func appendData(b []byte, data any) []byte {
	switch d := data.(type) {
	case []bool:
		return appendEach(b, d, strconv.AppendBool)
	case []uint8:
		return appendUints(b, d)
	case []uint16:
		return appendUints(b, d)
	case []uint32:
		return appendUints(b, d)
	case []uint64:
		return appendUints(b, d)
	case []int8:
		return appendInts(b, d)
	case []int16:
		return appendInts(b, d)
	case []int32:
		return appendInts(b, d)
	case []int64:
		return appendInts(b, d)
	case []float32:
		return appendEach(b, d, func(b []byte, v float32) []byte { return strconv.AppendFloat(b, float64(v), 'g', -1, 32) })
	case []float64:
		return appendEach(b, d, func(b []byte, v float64) []byte { return strconv.AppendFloat(b, v, 'g', -1, 64) })
	case []string:
		return appendEach(b, d, appendString)
	}
	return b
}

func appendUints[T uint8 | uint16 | uint32 | uint64](b []byte, d []T) []byte {
	return appendEach(b, d, func(b []byte, v T) []byte { return strconv.AppendUint(b, uint64(v), 10) })
}

func appendInts[T int8 | int16 | int32 | int64](b []byte, d []T) []byte {
	return appendEach(b, d, func(b []byte, v T) []byte { return strconv.AppendInt(b, int64(v), 10) })
}

func appendEach[T any](b []byte, d []T, one func([]byte, T) []byte) []byte {
	for i, v := range d {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(b, v)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	q, _ := json.Marshal(s) // a string has a form in JSON
	return append(b, q...)
}

// unsendable returns, for each row that has what JSON cannot carry, the reason; nil
// if there is none.
func unsendable(tensors []Tensor, rows int) map[int]error {
	var bad map[int]error
	note := func(t *Tensor, i int, err error) {
		if bad == nil {
			bad = map[int]error{}
		}
		bad[i*rows/length(t.Data)] = fmt.Errorf("input %s: %w", t.Name, err)
	}
	for k := range tensors {
		t := &tensors[k]
		switch d := t.Data.(type) {
		case []float32:
			for i, v := range d {
				if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
					note(t, i, fmt.Errorf("%g has no form in JSON", v))
				}
			}
		case []float64:
			for i, v := range d {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					note(t, i, fmt.Errorf("%g has no form in JSON", v))
				}
			}
		case []string:
			for i, v := range d {
				if !utf8.ValidString(v) {
					note(t, i, errors.New("a string is not UTF-8, which JSON needs"))
				}
			}
		}
	}
	return bad
}

// answerTensor is an output tensor as it comes.
type answerTensor struct {
	Name     string          `json:"name"`
	Shape    []int64         `json:"shape"`
	Datatype string          `json:"datatype"`
	Data     json.RawMessage `json:"data"`
}

// tensor decodes the elements. Elements that are none of the datatype make their row
// bad; data of another shape is an error.
func (a *answerTensor) tensor() (Tensor, error) {
	t := Tensor{Name: a.Name, Datatype: a.Datatype, Shape: a.Shape}
	size, err := t.size()
	if err != nil {
		return t, err
	}
	raw, err := flatten(a.Data, a.Shape, size)
	if err != nil {
		return t, err
	}
	switch a.Datatype {
	case Bool:
		t.Data = parse(&t, raw, strconv.ParseBool, "true", "false")
	case Uint8, Uint16, Uint32, Uint64:
		bits, _ := strconv.Atoi(strings.TrimPrefix(a.Datatype, "UINT"))
		t.Data = parse(&t, raw, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, bits) })
	case Int8, Int16, Int32, Int64:
		bits, _ := strconv.Atoi(strings.TrimPrefix(a.Datatype, "INT"))
		t.Data = parse(&t, raw, func(s string) (int64, error) { return strconv.ParseInt(s, 10, bits) })
	case Float16, BFloat, Float32, Float64:
		t.Data = parse(&t, raw, func(s string) (float64, error) {
			if s == "null" || s[0] == '"' {
				return 0, errors.New("no number")
			}
			return strconv.ParseFloat(s, 64)
		})
	case Bytes:
		t.Data = parse(&t, raw, func(s string) (string, error) {
			var out *string
			if err := json.Unmarshal([]byte(s), &out); err != nil || out == nil {
				return "", errors.New("no string")
			}
			return *out, nil
		})
	default:
		return t, fmt.Errorf("its datatype %.20q is not known", a.Datatype)
	}
	return t, nil
}

// parse parses the elements, all or only those of the given spellings.
func parse[T any](t *Tensor, raw []string, one func(string) (T, error), spellings ...string) []T {
	out := make([]T, len(raw))
	for i, s := range raw {
		v, err := one(s)
		known := len(spellings) == 0
		for _, w := range spellings {
			known = known || s == w
		}
		if err != nil || !known {
			if t.bad == nil {
				t.bad = make([]bool, t.Shape[0])
			}
			t.bad[i*int(t.Shape[0])/len(raw)] = true
			continue
		}
		out[i] = v
	}
	return out
}

// flatten returns the elements of tensor data, which is valid JSON: an array with all
// of them, or arrays within arrays as the shape has them.
func flatten(data []byte, shape []int64, size int) ([]string, error) {
	out := make([]string, 0, min(size, len(data)/2+1))
	var counts []int64 // elements seen in each array that is open
	deepest := 0
	s := string(data)
	for i := 0; i < len(s); {
		switch c := s[i]; c {
		case ' ', '\t', '\r', '\n', ',':
			i++
			continue
		case '[':
			if len(counts) > 0 {
				counts[len(counts)-1]++
			}
			counts = append(counts, 0)
			deepest = max(deepest, len(counts))
			if deepest > len(shape) {
				return nil, fmt.Errorf("its data is nested deeper than its shape %v", shape)
			}
			i++
			continue
		case ']':
			d := len(counts)
			// One level that is all is flat; its length is checked below.
			if deepest > 1 && counts[d-1] != shape[d-1] {
				return nil, fmt.Errorf("its data has %d elements in dimension %d of its shape %v", counts[d-1], d-1, shape)
			}
			counts = counts[:d-1]
			i++
			continue
		}
		end := elementEnd(s, i)
		if len(counts) == 0 || s[i] == '{' {
			return nil, errors.New("its data is no array of elements")
		}
		counts[len(counts)-1]++
		if len(out) == size {
			return nil, fmt.Errorf("its data has more elements than its shape %v", shape)
		}
		out = append(out, s[i:end])
		i = end
	}
	if len(out) != size || deepest > 1 && deepest != len(shape) {
		return nil, fmt.Errorf("its data has %d elements, and its shape is %v", len(out), shape)
	}
	return out, nil
}

// elementEnd is the position after the element that begins at s[i].
func elementEnd(s string, i int) int {
	if s[i] == '"' {
		for i++; s[i] != '"'; i++ {
			if s[i] == '\\' {
				i++
			}
		}
		return i + 1
	}
	for i < len(s) && !strings.ContainsRune(",] \t\r\n", rune(s[i])) {
		i++
	}
	return i
}
