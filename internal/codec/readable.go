package codec

import (
	"bytes"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/weirflow/weir/internal/base"
)

// Readable decodes MessagePack of any form into values that encoding/json can write:
// maps have strings for keys. It is for showing records to people.
func Readable(b []byte, lim Limits) (any, error) {
	if err := Validate(b, lim); err != nil {
		return nil, err
	}
	dec := msgpack.NewDecoder(bytes.NewReader(b))
	dec.SetMapDecoder(func(d *msgpack.Decoder) (any, error) { return d.DecodeUntypedMap() })
	v, err := dec.DecodeInterface()
	if err != nil {
		return nil, &base.Error{Code: CodeMalformed, What: "MessagePack that cannot be shown", Cause: err}
	}
	return stringKeys(v), nil
}

// stringKeys makes the keys of all maps in v strings.
func stringKeys(v any) any {
	switch v := v.(type) {
	case map[any]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[fmt.Sprint(k)] = stringKeys(e)
		}
		return out
	case []any:
		for i := range v {
			v[i] = stringKeys(v[i])
		}
	}
	return v
}
