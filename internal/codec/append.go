package codec

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/weirflow/weir/internal/base"
)

// Nothing in this file lets p escape to the heap: values on the caller's stack
// stay there. The one exception is appendMethod, whose callers hand it heap
// memory (see Codec.Append).

// appendValue appends the encoding of the value at p.
func appendValue(dst []byte, n *node, p unsafe.Pointer) []byte {
	switch n.op {
	case opBool:
		return appendBool(dst, *(*bool)(p))
	case opInt8:
		return appendInt(dst, int64(*(*int8)(p)))
	case opInt16:
		return appendInt(dst, int64(*(*int16)(p)))
	case opInt32:
		return appendInt(dst, int64(*(*int32)(p)))
	case opInt64:
		return appendInt(dst, *(*int64)(p))
	case opUint8:
		return appendUint(dst, uint64(*(*uint8)(p)))
	case opUint16:
		return appendUint(dst, uint64(*(*uint16)(p)))
	case opUint32:
		return appendUint(dst, uint64(*(*uint32)(p)))
	case opUint64:
		return appendUint(dst, *(*uint64)(p))
	case opFloat32:
		return binary.BigEndian.AppendUint32(append(dst, 0xca), math.Float32bits(*(*float32)(p)))
	case opFloat64:
		return binary.BigEndian.AppendUint64(append(dst, 0xcb), math.Float64bits(*(*float64)(p)))
	case opString:
		return appendString(dst, *(*string)(p))
	case opBytes:
		return appendBytes(dst, *(*[]byte)(p))
	case opByteArray:
		return append(appendBinHead(dst, n.len), unsafe.Slice((*byte)(p), n.len)...)
	case opStruct:
		return appendStruct(dst, n, p)
	case opArray:
		return appendElems(appendArrayHead(dst, n.len), n.elem, p, n.len)
	case opSlice:
		s := (*sliceHeader)(p)
		if s.data == nil {
			return append(dst, 0xc0)
		}
		return appendElems(appendArrayHead(dst, s.len), n.elem, s.data, s.len)
	case opPtr:
		q := *(*unsafe.Pointer)(p)
		if q == nil {
			return append(dst, 0xc0)
		}
		return appendValue(dst, n.elem, q)
	case opMap:
		return appendMap(dst, n, *(*unsafe.Pointer)(p))
	case opTime:
		return appendTime(dst, *(*time.Time)(p))
	default:
		return appendMethod(dst, n, noescape(p))
	}
}

// sliceHeader is the memory of a slice.
type sliceHeader struct {
	data     unsafe.Pointer
	len, cap int
}

// noescape hides a pointer from escape analysis: the way through an integer is
// opaque to it. It may only be given pointers into the heap.
//
//go:nosplit
func noescape(p unsafe.Pointer) unsafe.Pointer {
	x := uintptr(p)
	return *(*unsafe.Pointer)(unsafe.Pointer(&x))
}

func appendStruct(dst []byte, n *node, p unsafe.Pointer) []byte {
	if n.omits {
		return appendSparse(dst, n, p)
	}
	dst = appendMapHead(dst, len(n.fields))
	for i := range n.fields {
		f := &n.fields[i]
		dst = append(dst, f.head...)
		q := unsafe.Add(p, f.offset)
		switch f.node.op { // the commonest kinds without a call
		case opInt64:
			dst = appendInt(dst, *(*int64)(q))
		case opString:
			dst = appendString(dst, *(*string)(q))
		case opFloat64:
			dst = binary.BigEndian.AppendUint64(append(dst, 0xcb), math.Float64bits(*(*float64)(q)))
		default:
			dst = appendValue(dst, f.node, q)
		}
	}
	return dst
}

// appendSparse encodes a struct with fields that are left out when empty.
func appendSparse(dst []byte, n *node, p unsafe.Pointer) []byte {
	count := 0
	for i := range n.fields {
		if f := &n.fields[i]; !f.omitEmpty || !empty(f.node, unsafe.Add(p, f.offset)) {
			count++
		}
	}
	dst = appendMapHead(dst, count)
	for i := range n.fields {
		f := &n.fields[i]
		if q := unsafe.Add(p, f.offset); !f.omitEmpty || !empty(f.node, q) {
			dst = appendValue(append(dst, f.head...), f.node, q)
		}
	}
	return dst
}

// empty reports whether omitempty leaves the value at p out.
func empty(n *node, p unsafe.Pointer) bool {
	switch n.op {
	case opString, opBytes, opSlice: // the length is the second word of each
		return *(*int)(unsafe.Add(p, unsafe.Sizeof(uintptr(0)))) == 0
	case opPtr:
		return *(*unsafe.Pointer)(p) == nil
	case opMap:
		m := *(*unsafe.Pointer)(p)
		return m == nil || mapAt(n, m).Len() == 0
	case opArray, opByteArray:
		return n.len == 0
	case opFloat32:
		return *(*float32)(p) == 0
	case opFloat64:
		return *(*float64)(p) == 0
	case opTime:
		return (*time.Time)(p).IsZero()
	case opStruct:
		for i := range n.fields {
			if !empty(n.fields[i].node, unsafe.Add(p, n.fields[i].offset)) {
				return false
			}
		}
		return true
	case opMethod:
		return false
	}
	for _, b := range unsafe.Slice((*byte)(p), n.size) {
		if b != 0 {
			return false
		}
	}
	return true
}

func appendElems(dst []byte, elem *node, p unsafe.Pointer, count int) []byte {
	for i := range count {
		dst = appendValue(dst, elem, unsafe.Add(p, uintptr(i)*elem.size))
	}
	return dst
}

// mapAt returns the map whose runtime pointer is m. The pointer is copied into
// fresh memory, so that no address of the caller's stack reaches reflect.
func mapAt(n *node, m unsafe.Pointer) reflect.Value {
	cell := reflect.New(n.typ)
	*(*unsafe.Pointer)(cell.UnsafePointer()) = m
	return cell.Elem()
}

// entry is an encoded pair of a map: buf[start:end], the key first.
type entry struct{ start, keyEnd, end int }

// appendMap encodes a map with its pairs in the order of their encoded keys, so
// that equal maps have equal encodings.
func appendMap(dst []byte, n *node, m unsafe.Pointer) []byte {
	if m == nil {
		return append(dst, 0xc0)
	}
	rv := mapAt(n, m)
	dst = appendMapHead(dst, rv.Len())
	// The pairs go through a buffer of their own: the comparison below would make
	// dst escape.
	var buf []byte
	key, val := reflect.New(n.key.typ), reflect.New(n.elem.typ)
	entries := make([]entry, 0, rv.Len())
	for it := rv.MapRange(); it.Next(); {
		key.Elem().SetIterKey(it)
		val.Elem().SetIterValue(it)
		e := entry{start: len(buf)}
		buf = appendValue(buf, n.key, key.UnsafePointer())
		e.keyEnd = len(buf)
		buf = appendValue(buf, n.elem, val.UnsafePointer())
		e.end = len(buf)
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return bytes.Compare(buf[a.start:a.keyEnd], buf[b.start:b.keyEnd])
	})
	for _, e := range entries {
		dst = append(dst, buf[e.start:e.end]...)
	}
	return dst
}

// encoders pools encoders of the reference library for types that want one.
var encoders = sync.Pool{New: func() any {
	e := msgpack.NewEncoder(nil)
	e.UseCompactInts(true)
	return e
}}

// appendMethod encodes by the type's own methods. p is heap memory. A method
// that fails is a fault of user code without a way to report it here: it panics
// with an Error, which the runtime attributes to the record like any other panic
// of user code.
func appendMethod(dst []byte, n *node, p unsafe.Pointer) []byte {
	v := reflect.NewAt(n.typ, p).Interface()
	var err error
	var b []byte
	switch n.method {
	case customMethod:
		buf := bytes.NewBuffer(nil)
		e := encoders.Get().(*msgpack.Encoder)
		e.ResetWriter(buf)
		err = v.(msgpack.CustomEncoder).EncodeMsgpack(e)
		encoders.Put(e)
		b = buf.Bytes()
	case msgMethod:
		b, err = v.(msgpack.Marshaler).MarshalMsgpack()
	case binaryMethod:
		b, err = v.(encoding.BinaryMarshaler).MarshalBinary()
	default:
		b, err = v.(encoding.TextMarshaler).MarshalText()
	}
	if err != nil {
		panic(&base.Error{Code: CodeEncode, Where: n.typ.String(), What: "the type's own encoding method failed", Cause: err})
	}
	if n.method == binaryMethod || n.method == textMethod {
		return append(appendBinHead(dst, len(b)), b...)
	}
	if end, reason := scan(b, 0, MaxDepth, len(b)); reason != "" || end != len(b) {
		panic(&base.Error{
			Code: CodeEncode, Where: n.typ.String(), What: "the type's own encoding method did not write exactly one MessagePack value",
			Next: fmt.Sprintf("it wrote %d bytes", len(b)),
		})
	}
	return append(dst, b...)
}
