package codec

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
)

// KeyKind says how a state table can hold keys of a type.
type KeyKind uint8

const (
	// KeyUint64: an integer type. Its encoding has 8 bytes; see Uint64.
	KeyUint64 KeyKind = iota
	// KeyString: a string type. Its encoding is the bytes of the string; see String.
	KeyString
	// KeyBytes: bool, byte arrays and structs. See Append.
	KeyBytes
)

// KeyCodec encodes keys. The encoding is injective and canonical: two keys are
// equal exactly if their encodings are. Its order means nothing. Encodings and
// hashes must not change, because they place keys on tasks and are stored in
// checkpoints; docs/format/state-keys.md gives them byte by byte.
//
// A KeyCodec is immutable and safe for concurrent use.
type KeyCodec[K comparable] struct {
	kind   KeyKind
	op     op // of the root for KeyUint64
	parts  []keyPart
	schema *Schema
}

// keyPart is one leaf of a key of kind KeyBytes, in the order of declaration.
type keyPart struct {
	op     op
	offset uintptr
	size   int
}

// KeyFor compiles the encoding of K: strings, integers, bool, byte arrays, and
// structs of these, nested as deep as one likes, unexported fields included.
// Blank fields do not take part, as they do not in ==. Other kinds are refused
// with an Error (WEIR-0151) that names the field.
func KeyFor[K comparable]() (*KeyCodec[K], error) {
	t := reflect.TypeFor[K]()
	c := &KeyCodec[K]{kind: KeyBytes}
	schema, err := c.add(t, 0, t.String())
	if err != nil {
		return nil, err
	}
	c.schema = schema
	root := op(0)
	if len(c.parts) == 1 {
		root = c.parts[0].op
	}
	switch {
	case t.Kind() == reflect.String:
		c.kind = KeyString
	case t.Kind() != reflect.Struct && root >= opInt8 && root <= opUint64:
		c.kind, c.op = KeyUint64, root
	}
	return c, nil
}

// add appends the leaves of t, which starts at offset, and returns its schema.
func (c *KeyCodec[K]) add(t reflect.Type, offset uintptr, path string) (*Schema, error) {
	refuse := func(why string) (*Schema, error) {
		return nil, &base.Error{
			Code: CodeKeyType, Where: path, What: fmt.Sprintf("the type %s cannot be part of a key: %s", t, why),
			Next: "use a string, an integer, a bool, a byte array or a struct of these as the key",
		}
	}
	o, scalar := scalarOps[t.Kind()]
	switch {
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		return refuse("a NaN is not equal to itself, and 0 equals -0")
	case scalar:
		c.parts = append(c.parts, keyPart{op: o, offset: offset, size: int(t.Size())})
		return &Schema{kind: scalarKinds[o].name}, nil
	case t.Kind() == reflect.Array && t.Elem().Kind() == reflect.Uint8:
		c.parts = append(c.parts, keyPart{op: opByteArray, offset: offset, size: t.Len()})
		return &Schema{kind: arrayKind, len: t.Len(), elem: &Schema{kind: "uint8"}}, nil
	case t.Kind() == reflect.Struct:
		return c.addStruct(t, offset, path)
	case t.Kind() == reflect.Array:
		return refuse("only arrays of bytes are supported")
	case t.Kind() == reflect.Pointer:
		return refuse("a pointer means another value after a restart")
	}
	return refuse("a " + t.Kind().String() + " has no stable encoding")
}

// addStruct appends the leaves of a struct. The schema keeps the declared order,
// on which the encoding depends, by numbering the names.
func (c *KeyCodec[K]) addStruct(t reflect.Type, offset uintptr, path string) (*Schema, error) {
	s := &Schema{kind: structKind}
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Name == "_" {
			continue
		}
		f, err := c.add(sf.Type, offset+sf.Offset, path+"."+sf.Name)
		if err != nil {
			return nil, err
		}
		s.fields = append(s.fields, SchemaField{Name: fmt.Sprintf("%03d_%s", len(s.fields), sf.Name), Schema: f})
	}
	return s, nil
}

// Kind says which of the fast paths keys of this type have.
func (c *KeyCodec[K]) Kind() KeyKind { return c.kind }

// Schema describes the encoding. Keys stored under another schema cannot be
// found again: unlike for values, even adding a field is a change, and the names
// of struct fields carry their position. Compare fingerprints, not Compatible.
func (c *KeyCodec[K]) Schema() *Schema { return c.schema }

// Append appends the encoding of k.
func (c *KeyCodec[K]) Append(dst []byte, k K) []byte {
	p := unsafe.Pointer(&k)
	switch c.kind {
	case KeyUint64:
		return binary.BigEndian.AppendUint64(dst, loadUint64(c.op, p))
	case KeyString:
		return append(dst, *(*string)(p)...)
	}
	return appendKeyParts(dst, c.parts, p)
}

// Uint64 returns an integer key as the 64 bits that its encoding consists of,
// sign-extended. The kind must be KeyUint64.
func (c *KeyCodec[K]) Uint64(k K) uint64 { return loadUint64(c.op, unsafe.Pointer(&k)) }

// FromUint64 is the inverse of Uint64; bits that K cannot hold are dropped.
func (c *KeyCodec[K]) FromUint64(u uint64) K {
	var k K
	storeUint64(c.op, unsafe.Pointer(&k), u)
	return k
}

// String returns a string key as a string. The kind must be KeyString.
func (c *KeyCodec[K]) String(k K) string { return *(*string)(unsafe.Pointer(&k)) }

// Hash returns the pinned hash that places the key: base.HashUint64 of Uint64 for
// integers, base.HashKey of the encoding for everything else. It allocates only
// for struct keys of more than 256 encoded bytes.
func (c *KeyCodec[K]) Hash(k K) uint64 {
	p := unsafe.Pointer(&k)
	switch c.kind {
	case KeyUint64:
		return base.HashUint64(loadUint64(c.op, p))
	case KeyString:
		return base.HashString(*(*string)(p))
	}
	var buf [256]byte
	return base.HashKey(appendKeyParts(buf[:0], c.parts, p))
}

// HashEncoded is Hash for a key that is encoded already. For KeyUint64 it wants
// exactly 8 bytes.
func (c *KeyCodec[K]) HashEncoded(encoded []byte) uint64 {
	if c.kind == KeyUint64 {
		return base.HashUint64(binary.BigEndian.Uint64(encoded))
	}
	return base.HashKey(encoded)
}

// Decode decodes an encoded key. It accepts exactly what Append produces; the
// error is WEIR-0601. A decoded key does not alias src.
func (c *KeyCodec[K]) Decode(src []byte) (K, error) {
	var k K
	p := unsafe.Pointer(&k)
	pos, reason := 0, ""
	switch c.kind {
	case KeyUint64:
		if len(src) != 8 {
			reason = "an integer key has 8 bytes"
			break
		}
		u := binary.BigEndian.Uint64(src)
		if storeUint64(c.op, p, u); loadUint64(c.op, p) != u {
			reason = reasonRange
		}
	case KeyString:
		*(*string)(p) = string(src)
	default:
		pos, reason = decodeKeyParts(src, c.parts, p)
	}
	if reason != "" {
		var zero K
		return zero, dataError(CodeMalformed, "key "+reflect.TypeFor[K]().String(), pos, reason)
	}
	return k, nil
}
