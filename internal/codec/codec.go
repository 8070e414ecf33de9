package codec

import (
	"reflect"
	"unsafe"
)

// Codec encodes values of T as MessagePack and back. A struct is a map keyed by
// field name (or by the name in a `msgpack:"name"` tag), so that values written
// before a field was added decode with that field zero, and fields that were
// removed are skipped. The bytes are those of github.com/vmihailenco/msgpack/v5
// with compact integers; each can read the other's.
//
// A time.Time is an instant: its zone is not kept and it decodes as UTC. Nil and
// empty slices and maps stay apart. Equal values have equal encodings, maps
// included. Unexported fields are not encoded. A Codec is immutable and safe for
// concurrent use.
type Codec[T any] struct {
	root    *node
	schema  *Schema
	methods bool
}

// For compiles the codec of T. It refuses channels, functions, interfaces,
// complex numbers, pointers to pointers, recursive types, structs without an
// exported field and types nested more than 32 levels deep; the Error
// (WEIR-0150) names the field.
func For[T any]() (*Codec[T], error) {
	t := reflect.TypeFor[T]()
	c := compiler{root: t}
	root, err := c.compile(t)
	if err != nil {
		return nil, err
	}
	return &Codec[T]{root: root, schema: describe(root, root.flat), methods: root.hasMethods()}, nil
}

// Append appends the encoding of *v to dst and returns the extended slice. It
// allocates only to grow dst, and for maps and types with methods of their own.
// It panics with an Error (WEIR-0604) when such a method fails.
func (c *Codec[T]) Append(dst []byte, v *T) []byte {
	if c.methods {
		// User methods may keep the pointer that they are called with, so they get
		// a copy on the heap.
		heap := new(T)
		*heap = *v
		return appendValue(dst, c.root, unsafe.Pointer(heap))
	}
	return appendValue(dst, c.root, unsafe.Pointer(v))
}

// Decode decodes src, which must hold exactly one value, into *v. What v held
// before is gone, also on error, and nothing in v aliases src or its old content.
// The errors are WEIR-0601 (malformed), WEIR-0602 (would take too much memory,
// nests too deeply) and WEIR-0603 (does not fit the type), with the field and the
// byte. Decode does not check the record size; see Limits.
func (c *Codec[T]) Decode(src []byte, v *T) error {
	if c.methods {
		heap := new(T)
		err := c.decode(src, heap)
		*v = *heap
		return err
	}
	return c.decode(src, v)
}

func (c *Codec[T]) decode(src []byte, v *T) error {
	var zero T
	*v = zero
	d := decoder{b: src, budget: budgetBase + budgetFactor*len(src)}
	if !d.value(c.root, unsafe.Pointer(v)) {
		return d.err(c.root.typ)
	}
	if d.pos != len(src) {
		d.fail(CodeMalformed, reasonTrailing)
		return d.err(c.root.typ)
	}
	return nil
}

// Schema describes what T is stored as.
func (c *Codec[T]) Schema() *Schema { return c.schema }
