package codec

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"math"
	"reflect"
	"sync"
	"time"
	"unsafe"

	"github.com/vmihailenco/msgpack/v5"
)

// take returns the next n bytes, or nil and a failure.
func (d *decoder) take(n uint64) ([]byte, bool) {
	if n > uint64(len(d.b)-d.pos) {
		return nil, d.fail(CodeMalformed, reasonTruncated)
	}
	start := d.pos
	d.pos += int(n)
	return d.b[start:d.pos], true
}

func (d *decoder) bool(p *bool) bool {
	switch d.b[d.pos] {
	case 0xc2:
		*p = false
	case 0xc3:
		*p = true
	default:
		return d.mismatch(reasonKind)
	}
	d.pos++
	return true
}

// integer reads any integer code. negative says that v is to be read as an int64
// below zero.
func (d *decoder) integer() (v uint64, negative, ok bool) {
	rest := d.b[d.pos:] // not empty: value looked at its first byte
	c := rest[0]
	switch {
	case c <= 0x7f:
		d.pos++
		return uint64(c), false, true
	case c >= 0xe0:
		d.pos++
		return uint64(int64(int8(c))), true, true
	case c < 0xcc || c > 0xd3:
		return 0, false, d.mismatch(reasonKind)
	}
	width := 1 << ((c - 0xcc) & 3)
	if len(rest) <= width {
		return 0, false, d.fail(CodeMalformed, reasonTruncated)
	}
	d.pos += 1 + width
	switch c {
	case 0xcc:
		return uint64(rest[1]), false, true
	case 0xcd:
		return uint64(binary.BigEndian.Uint16(rest[1:])), false, true
	case 0xce:
		return uint64(binary.BigEndian.Uint32(rest[1:])), false, true
	case 0xcf:
		return binary.BigEndian.Uint64(rest[1:]), false, true
	}
	var s int64
	switch c {
	case 0xd0:
		s = int64(int8(rest[1]))
	case 0xd1:
		s = int64(int16(binary.BigEndian.Uint16(rest[1:])))
	case 0xd2:
		s = int64(int32(binary.BigEndian.Uint32(rest[1:])))
	default:
		s = int64(binary.BigEndian.Uint64(rest[1:]))
	}
	return uint64(s), s < 0, true
}

func (d *decoder) signed(n *node, p unsafe.Pointer) bool {
	v, negative, ok := d.integer()
	if !ok {
		return false
	}
	s := int64(v)
	if !negative && v > math.MaxInt64 {
		return d.fail(CodeMismatch, reasonRange)
	}
	switch n.op {
	case opInt64:
		*(*int64)(p) = s
	case opInt32:
		*(*int32)(p) = int32(s)
		ok = int64(int32(s)) == s
	case opInt16:
		*(*int16)(p) = int16(s)
		ok = int64(int16(s)) == s
	default:
		*(*int8)(p) = int8(s)
		ok = int64(int8(s)) == s
	}
	return ok || d.fail(CodeMismatch, reasonRange)
}

func (d *decoder) unsigned(n *node, p unsafe.Pointer) bool {
	v, negative, ok := d.integer()
	if !ok {
		return false
	}
	if negative {
		return d.fail(CodeMismatch, reasonRange)
	}
	switch n.op {
	case opUint64:
		*(*uint64)(p) = v
	case opUint32:
		*(*uint32)(p) = uint32(v)
		ok = v <= math.MaxUint32
	case opUint16:
		*(*uint16)(p) = uint16(v)
		ok = v <= math.MaxUint16
	default:
		*(*uint8)(p) = uint8(v)
		ok = v <= math.MaxUint8
	}
	return ok || d.fail(CodeMismatch, reasonRange)
}

// float accepts integers too: encoders of dynamic languages write 3.0 as 3.
func (d *decoder) float() (float64, bool) {
	switch c := d.b[d.pos]; c {
	case 0xca:
		d.pos++
		raw, ok := d.take(4)
		if !ok {
			return 0, false
		}
		return float64(math.Float32frombits(binary.BigEndian.Uint32(raw))), true
	case 0xcb:
		d.pos++
		raw, ok := d.take(8)
		if !ok {
			return 0, false
		}
		return math.Float64frombits(binary.BigEndian.Uint64(raw)), true
	}
	v, negative, ok := d.integer()
	if negative {
		return float64(int64(v)), ok
	}
	return float64(v), ok
}

// isBlob reports whether c starts a string or a binary.
func isBlob(c byte) bool {
	return c&0xe0 == 0xa0 || c >= 0xd9 && c <= 0xdb || c >= 0xc4 && c <= 0xc6
}

// blob reads a string or a binary; the bytes alias the message.
func (d *decoder) blob() ([]byte, bool) {
	if d.pos >= len(d.b) || !isBlob(d.b[d.pos]) {
		return nil, d.mismatch(reasonKind)
	}
	c := d.b[d.pos]
	d.pos++
	if c&0xe0 == 0xa0 {
		return d.take(uint64(c & 0x1f))
	}
	size, ok := d.take(uint64(scanRows[c-0xc0].length))
	if !ok {
		return nil, false
	}
	return d.take(readUint(size))
}

func (d *decoder) string(p *string) bool {
	raw, ok := d.blob()
	if !ok || !d.charge(uintptr(len(raw))) {
		return false
	}
	*p = string(raw)
	return true
}

// arrayHead reads the header of an array; its elements fit the bytes left if
// each takes one byte.
func (d *decoder) arrayHead() (int, bool) { return d.head(0x90, 1) }

// mapHead is arrayHead for the pairs of a map.
func (d *decoder) mapHead() (int, bool) { return d.head(0x80, 2) }

func (d *decoder) head(fix byte, values int) (int, bool) {
	if d.pos >= len(d.b) {
		return 0, d.fail(CodeMalformed, reasonTruncated)
	}
	c := d.b[d.pos]
	count := uint64(c & 0x0f)
	if c&0xf0 != fix {
		if c < 0xdc || c > 0xdf || int(scanRows[c-0xc0].children) != values {
			return 0, d.mismatch(reasonKind)
		}
		d.pos++
		size, ok := d.take(uint64(scanRows[c-0xc0].length))
		if !ok {
			return 0, false
		}
		count = readUint(size)
	} else {
		d.pos++
	}
	if count*uint64(values) > uint64(len(d.b)-d.pos) {
		return 0, d.fail(CodeMalformed, reasonLength)
	}
	return int(count), true
}

// time decodes the timestamp extension in its three sizes, as UTC.
func (d *decoder) time(p unsafe.Pointer) bool {
	start := d.pos
	var size uint64
	switch d.b[start] {
	case 0xd6:
		size = 4
	case 0xd7:
		size = 8
	case 0xc7:
		d.pos++
		if n, ok := d.take(1); !ok {
			return false
		} else if n[0] != 12 {
			d.pos = start
			return d.fail(CodeMismatch, reasonTime)
		}
		d.pos--
		size = 12
	default:
		return d.mismatch(reasonTime)
	}
	d.pos++
	raw, ok := d.take(1 + size)
	if !ok {
		return false
	}
	var sec int64
	var nsec uint64
	switch size {
	case 4:
		sec = int64(binary.BigEndian.Uint32(raw[1:]))
	case 8:
		v := binary.BigEndian.Uint64(raw[1:])
		sec, nsec = int64(v&(1<<34-1)), v>>34
	default:
		nsec, sec = uint64(binary.BigEndian.Uint32(raw[1:])), int64(binary.BigEndian.Uint64(raw[5:]))
	}
	if raw[0] != 0xff || nsec >= 1e9 {
		d.pos = start
		return d.fail(CodeMismatch, reasonTime)
	}
	*(*time.Time)(p) = time.Unix(sec, int64(nsec)).UTC()
	return true
}

// decoders pools decoders of the reference library.
var decoders = sync.Pool{New: func() any { return msgpack.NewDecoder(nil) }}

// method decodes by the type's own methods. p is heap memory. What a library or
// user code gets to see was scanned first.
func (d *decoder) method(n *node, p unsafe.Pointer) bool {
	v := reflect.NewAt(n.typ, p).Interface()
	start := d.pos
	var raw []byte
	ok := false
	if n.method == binaryMethod || n.method == textMethod {
		raw, ok = d.blob()
	} else if ok = d.skip(); ok {
		raw = d.b[start:d.pos]
	}
	if !ok || !d.charge(uintptr(len(raw))) {
		return false
	}
	raw = bytes.Clone(raw) // methods may keep what they get
	var err error
	switch n.method {
	case customMethod:
		dec := decoders.Get().(*msgpack.Decoder)
		dec.Reset(bytes.NewReader(raw))
		err = v.(msgpack.CustomDecoder).DecodeMsgpack(dec)
		decoders.Put(dec)
	case msgMethod:
		err = v.(msgpack.Unmarshaler).UnmarshalMsgpack(raw)
	case binaryMethod:
		err = v.(encoding.BinaryUnmarshaler).UnmarshalBinary(raw)
	default:
		err = v.(encoding.TextUnmarshaler).UnmarshalText(raw)
	}
	if err != nil {
		d.cause, d.pos = err, start
		return d.fail(CodeMismatch, "the type's own decoding method failed")
	}
	return true
}
