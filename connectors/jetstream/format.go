package jetstream

import (
	"fmt"
	"reflect"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

// formatChoice is what the options say about the format; the type of the records
// is known only to Stream and Publish. The zero value is MessagePack.
type formatChoice struct {
	kind   string
	strict bool
	custom any
}

// FormatOption is an option of Stream and of Publish.
type FormatOption struct{ choice formatChoice }

// sink implements SinkOption.
func (f FormatOption) sink(o *sinkOptions) { o.format = f.choice }

// source implements SourceOption.
func (f FormatOption) source(o *sourceOptions) { o.format = f.choice }

// MsgPack encodes records as MessagePack, a struct as a map by field name. It is
// the default.
func MsgPack() FormatOption { return FormatOption{} }

// JSON encodes records as JSON by the rules of encoding/json.
func JSON() FormatOption { return FormatOption{formatChoice{kind: "json"}} }

// StrictJSON is JSON that refuses members which the record type does not have.
func StrictJSON() FormatOption { return FormatOption{formatChoice{kind: "json", strict: true}} }

// CSV encodes a record as one CSV row, its columns in the order of the fields.
func CSV() FormatOption { return FormatOption{formatChoice{kind: "csv"}} }

// Raw passes the bytes of a message through; the record type is []byte or string.
func Raw() FormatOption { return FormatOption{formatChoice{kind: "raw"}} }

// Format uses a format of the caller's own. Its limits are its own affair.
func Format[T any](f codec.Format[T]) FormatOption {
	return FormatOption{formatChoice{kind: "custom", custom: f}}
}

// resolveFormat makes the format of T that was chosen.
func resolveFormat[T any](c formatChoice, lim codec.Limits) (codec.Format[T], error) {
	wrong := func(what string) (codec.Format[T], error) {
		return nil, &base.Error{Code: codec.CodeFormat, What: what, Where: reflect.TypeFor[T]().String(), Next: "choose a format that fits the record type"}
	}
	switch c.kind {
	case "json":
		return codec.JSON[T](codec.JSONOptions{Limits: lim, Strict: c.strict})
	case "csv":
		f, err := codec.CSV[T](codec.CSVOptions{Limits: lim})
		if err != nil {
			return nil, err
		}
		return f, nil
	case "raw":
		for _, f := range []any{codec.Raw[[]byte](lim), codec.Raw[string](lim)} {
			if f, ok := f.(codec.Format[T]); ok {
				return f, nil
			}
		}
		return wrong("Raw needs records of type []byte or string")
	case "custom":
		if f, ok := c.custom.(codec.Format[T]); ok {
			return f, nil
		}
		return wrong(fmt.Sprintf("the given format, a %T, is for records of another type", c.custom))
	}
	return codec.MsgPack[T](lim)
}
