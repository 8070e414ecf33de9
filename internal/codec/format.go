package codec

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/weirflow/weir/internal/base"
)

// Format turns the raw bytes that a source hands over into values and values into
// the bytes that a sink writes. A Format is safe for concurrent use.
type Format[T any] interface {
	// Name is a short word for metrics and messages: json, msgpack, csv, raw.
	Name() string
	// Encode appends the encoding of *v to dst. The error is WEIR-0604 for a value
	// that the format cannot express, WEIR-0602 for one that is too large; dst is
	// returned unchanged then.
	Encode(dst []byte, v *T) ([]byte, error)
	// Decode decodes src, exactly one record, into *v. What v held before is gone,
	// and v does not alias src. The error is WEIR-0601, -0602 or -0603 with the
	// reason and the position; *v is unspecified then.
	Decode(src []byte, v *T) error
	// ContentType is the media type of an encoded record.
	ContentType() string
}

// JSONOptions configure JSON.
type JSONOptions struct {
	// Limits bound a record.
	Limits Limits
	// Strict refuses objects with members that T does not have; by default they
	// are ignored.
	Strict bool
}

// JSON returns the JSON format of T with the rules and struct tags of
// encoding/json, except that <, > and & are not escaped. Size, depth and number of
// values are checked before a record is parsed; what it may allocate is at most
// the size of T's largest slice element for each array element of the record. It
// refuses types that encoding/json cannot encode (WEIR-0152).
func JSON[T any](o JSONOptions) (Format[T], error) {
	t := reflect.TypeFor[T]()
	if err := checkJSONType(t, t.String(), map[reflect.Type]bool{}); err != nil {
		return nil, err
	}
	o.Limits = o.Limits.WithDefaults()
	return jsonFormat[T]{o}, nil
}

type jsonFormat[T any] struct{ o JSONOptions }

func (jsonFormat[T]) Name() string        { return "json" }
func (jsonFormat[T]) ContentType() string { return "application/json" }

func (f jsonFormat[T]) Encode(dst []byte, v *T) ([]byte, error) {
	w := bytes.NewBuffer(dst)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return dst, &base.Error{Code: CodeEncode, Where: "JSON", What: "the value cannot be expressed", Cause: err}
	}
	out := w.Bytes()
	return checkEncoded(dst, out[:len(out)-1], f.o.Limits) // Encode ends with a line break
}

// checkEncoded returns out, which extends dst by one record, or dst and an error
// when a reader with the same limits would refuse the record.
func checkEncoded(dst, out []byte, lim Limits) ([]byte, error) {
	if err := lim.checkSize(len(out) - len(dst)); err != nil {
		return dst, err
	}
	return out, nil
}

func (f jsonFormat[T]) Decode(src []byte, v *T) error {
	var zero T
	*v = zero
	if err := f.o.Limits.checkSize(len(src)); err != nil {
		return err
	}
	if err := boundJSON(src, f.o.Limits); err != nil {
		return err
	}
	if !f.o.Strict {
		return jsonError(json.Unmarshal(src, v), src)
	}
	d := json.NewDecoder(bytes.NewReader(src))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return dataError(CodeMalformed, "JSON", len(src), "the record ends in the middle of a value")
	}
	if err != nil {
		return jsonError(err, src)
	}
	if rest := bytes.TrimLeft(src[d.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return dataError(CodeMalformed, "JSON", len(src)-len(rest), reasonTrailing)
	}
	return nil
}

var (
	jsonMarshalerType   = reflect.TypeFor[json.Marshaler]()
	jsonUnmarshalerType = reflect.TypeFor[json.Unmarshaler]()
)

// hasText reports whether *t has MarshalText and UnmarshalText.
func hasText(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[encoding.TextMarshaler]()) && p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// checkJSONType refuses what encoding/json would refuse at the first record.
func checkJSONType(t reflect.Type, path string, seen map[reflect.Type]bool) error {
	p := reflect.PointerTo(t)
	if seen[t] || p.Implements(jsonMarshalerType) && p.Implements(jsonUnmarshalerType) || hasText(t) {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return &base.Error{
			Code: CodeFormat, Where: path, What: fmt.Sprintf("the type %s has no JSON form", t),
			Next: `change the field's type, exclude it with the tag json:"-", or give the type MarshalJSON and UnmarshalJSON methods`,
		}
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return checkJSONType(t.Elem(), path+"[]", seen)
	case reflect.Struct:
		for i := range t.NumField() {
			sf := t.Field(i)
			if !sf.IsExported() && !sf.Anonymous || sf.Tag.Get("json") == "-" {
				continue
			}
			if err := checkJSONType(sf.Type, path+"."+sf.Name, seen); err != nil {
				return err
			}
		}
	}
	return nil
}

// MsgPack returns the MessagePack format of T: the encoding of Codec, with limits.
// Types are refused as For refuses them (WEIR-0150).
func MsgPack[T any](lim Limits) (Format[T], error) {
	c, err := For[T]()
	if err != nil {
		return nil, err
	}
	return msgpackFormat[T]{codec: c, lim: lim.WithDefaults()}, nil
}

type msgpackFormat[T any] struct {
	codec *Codec[T]
	lim   Limits
}

func (msgpackFormat[T]) Name() string        { return "msgpack" }
func (msgpackFormat[T]) ContentType() string { return "application/vnd.msgpack" }

func (f msgpackFormat[T]) Encode(dst []byte, v *T) (out []byte, err error) {
	if f.codec.methods {
		defer func() {
			if p := recover(); p != nil {
				e, ok := p.(*base.Error)
				if !ok {
					panic(p)
				}
				out, err = dst, e
			}
		}()
	}
	return checkEncoded(dst, f.codec.Append(dst, v), f.lim)
}

func (f msgpackFormat[T]) Decode(src []byte, v *T) error {
	if err := f.lim.checkSize(len(src)); err != nil {
		return err
	}
	// The codec checks structure as it goes, and T bounds the depth. The separate
	// scan is needed only where the limits could be tighter than that.
	if len(src) > f.lim.Elems || f.lim.Depth < DefaultDepth {
		if err := Validate(src, f.lim); err != nil {
			return err
		}
	}
	return f.codec.Decode(src, v)
}

// Raw returns the format that passes bytes through: a record is the value.
func Raw[T ~[]byte | ~string](lim Limits) Format[T] { return rawFormat[T]{lim.WithDefaults()} }

type rawFormat[T ~[]byte | ~string] struct{ lim Limits }

func (rawFormat[T]) Name() string        { return "raw" }
func (rawFormat[T]) ContentType() string { return "application/octet-stream" }

func (f rawFormat[T]) Encode(dst []byte, v *T) ([]byte, error) {
	return checkEncoded(dst, append(dst, *v...), f.lim)
}

func (f rawFormat[T]) Decode(src []byte, v *T) error {
	if err := f.lim.checkSize(len(src)); err != nil {
		return err
	}
	*v = T(append(make([]byte, 0, len(src)), src...))
	return nil
}
