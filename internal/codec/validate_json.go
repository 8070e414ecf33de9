package codec

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/weirflow/weir/internal/base"
)

// ValidateJSON accepts b only if it is one well-formed JSON value, possibly
// surrounded by white space, within the limits. It allocates nothing of
// consequence unless it fails. Depth counts open objects and arrays, Elems counts
// values and member names.
func ValidateJSON(b []byte, lim Limits) error {
	lim = lim.WithDefaults()
	if err := lim.checkSize(len(b)); err != nil {
		return err
	}
	if err := boundJSON(b, lim); err != nil {
		return err
	}
	if json.Valid(b) {
		return nil
	}
	var probe json.RawMessage
	return jsonError(json.Unmarshal(b, &probe), b)
}

// boundJSON checks depth and count. It looks only at brackets, commas, colons and
// strings; whether they are in the right places is for the parser to say.
func boundJSON(b []byte, lim Limits) error {
	depth, elems := 0, 1
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			elems++
			if depth++; depth > lim.Depth {
				return dataError(CodeLimit, "JSON", i, fmt.Sprintf("%s (more than %d levels)", reasonDepth, lim.Depth))
			}
		case '}', ']':
			depth--
		case ',', ':':
			elems++
		}
		if elems > lim.Elems {
			return dataError(CodeLimit, "JSON", i, fmt.Sprintf("%s (more than %d)", reasonElems, lim.Elems))
		}
	}
	return nil
}

// jsonError turns an error of encoding/json into one with a position.
func jsonError(err error, b []byte) error {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return dataError(CodeMalformed, "JSON", int(min(syntax.Offset, int64(len(b)))), syntax.Error())
	case errors.As(err, &typ):
		field := typ.Field
		if field == "" {
			field = "the value"
		}
		return dataError(CodeMismatch, "JSON", int(typ.Offset), fmt.Sprintf("%s is a JSON %s, %s is wanted", field, typ.Value, typ.Type))
	}
	return &base.Error{Code: CodeMismatch, Where: "JSON", What: "the record does not fit its type", Cause: err}
}
