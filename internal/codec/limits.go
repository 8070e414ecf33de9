// Package codec turns values into bytes and back: MessagePack for records and
// state, raw memory for state without pointers, a canonical encoding for keys,
// and the formats that connectors offer (JSON, MessagePack, CSV, raw).
//
// Everything is resolved from a type once, when a job is built: For and KeyFor
// walk the type by reflection and compile a plan of memory offsets, and refuse
// what cannot be encoded there and then, naming the field. At run time nothing
// reflects except for maps and for types with their own encoding methods.
//
// Bytes from outside are never trusted. Every length is compared with the bytes
// that are left before anything is allocated, nesting is bounded, and what a
// message may allocate is bounded by a multiple of its own size. Decoders return
// errors and do not panic, unless a type's own decoding method does.
package codec

import (
	"fmt"

	"github.com/weirflow/weir/internal/base"
)

// Error codes of this package.
const (
	// CodeType: a type cannot be encoded (found when a job is built).
	CodeType = "WEIR-0150"
	// CodeKeyType: a type cannot be a key (found when a job is built).
	CodeKeyType = "WEIR-0151"
	// CodeFormat: a format does not fit the type (found when a job is built).
	CodeFormat = "WEIR-0152"
	// CodeSchema: stored data has another shape than the type that reads it.
	CodeSchema = "WEIR-0350"
	// CodeMalformed: bytes are not well-formed in their format.
	CodeMalformed = "WEIR-0601"
	// CodeLimit: a record exceeds a size, depth or element limit.
	CodeLimit = "WEIR-0602"
	// CodeMismatch: a well-formed value does not fit the field it is meant for.
	CodeMismatch = "WEIR-0603"
	// CodeEncode: a value could not be encoded, for example because a user's own
	// encoding method failed.
	CodeEncode = "WEIR-0604"
)

// Limits bound what a decoder accepts. The zero value of a field means its
// default.
type Limits struct {
	// MaxRecord is the largest record in bytes. Default 1 MiB.
	MaxRecord int
	// Depth is how deep containers may nest. Default 32, at most MaxDepth.
	Depth int
	// Elems is how many values a record may hold, containers and the keys of maps
	// included. Default 1,000,000.
	Elems int
}

const (
	// DefaultMaxRecord is the default of Limits.MaxRecord in bytes.
	DefaultMaxRecord = 1 << 20
	// DefaultDepth is the default of Limits.Depth.
	DefaultDepth = 32
	// DefaultElems is the default of Limits.Elems.
	DefaultElems = 1_000_000
	// MaxDepth is the largest useful Limits.Depth; larger values count as it.
	MaxDepth = 128
)

// WithDefaults returns the limits with defaults filled in.
func (l Limits) WithDefaults() Limits {
	if l.MaxRecord <= 0 {
		l.MaxRecord = DefaultMaxRecord
	}
	if l.Depth <= 0 {
		l.Depth = DefaultDepth
	}
	l.Depth = min(l.Depth, MaxDepth)
	if l.Elems <= 0 {
		l.Elems = DefaultElems
	}
	return l
}

// checkSize refuses a record that is larger than MaxRecord.
func (l Limits) checkSize(n int) error {
	if n > l.MaxRecord {
		return &base.Error{
			Code: CodeLimit, What: fmt.Sprintf("the record has %d bytes, %d are allowed", n, l.MaxRecord),
			Next: "raise the format's MaxRecord limit if such records are legitimate",
		}
	}
	return nil
}

// dataError builds an error about bytes of a format at a position.
func dataError(code, format string, pos int, reason string) error {
	return &base.Error{Code: code, Where: fmt.Sprintf("%s, byte %d", format, pos), What: reason}
}
