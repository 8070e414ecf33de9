package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/weirflow/weir/internal/base"
)

// The stored form is MessagePack with one canonical encoding per value: structs
// are arrays in field order, integers and lengths take their shortest form, no
// maps. A decoder accepts the canonical form only, so equal values have equal
// sums and "identical" can be judged on bytes. Decoding allocates at most a
// small multiple of the input: lengths are checked against what remains first.

// Limits of stored records. A value above one is refused when written and when
// read.
const (
	// MaxManifest is the largest encoded manifest, in bytes.
	MaxManifest = 64 << 20
	// MaxRecord is the largest encoded record or marker, in bytes.
	MaxRecord = 1 << 20
	// MaxInline is the largest inline delta or named snapshot, in bytes.
	MaxInline = 1 << 20
	// MaxChunks is the largest number of chunks of a lane's block.
	MaxChunks = 1 << 20
	// MaxElems is the longest other list of a manifest.
	MaxElems = 1 << 18

	maxName   = 1 << 10
	maxDetail = 64 << 10
)

// errCorrupt is the root of every decoding error.
var errCorrupt = errors.New("not a valid stored record")

// encoder appends canonical MessagePack to b. The first limit that is exceeded
// is kept in err.
type encoder struct {
	b   []byte
	err error
}

func (e *encoder) fail(what string, n, limit int) {
	if e.err == nil {
		e.err = fmt.Errorf("%s: %d is above the limit of %d", what, n, limit)
	}
}

func (e *encoder) uint(v uint64) {
	switch {
	case v < 0x80:
		e.b = append(e.b, byte(v))
	case v <= math.MaxUint8:
		e.b = append(e.b, 0xcc, byte(v))
	case v <= math.MaxUint16:
		e.b = binary.BigEndian.AppendUint16(append(e.b, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xce), uint32(v))
	default:
		e.b = binary.BigEndian.AppendUint64(append(e.b, 0xcf), v)
	}
}

// time writes a timestamp: always as int64, so that the form stays canonical
// without a second set of negative integers.
func (e *encoder) time(t base.Timestamp) {
	e.b = binary.BigEndian.AppendUint64(append(e.b, 0xd3), uint64(t))
}

func (e *encoder) bool(v bool) {
	if v {
		e.b = append(e.b, 0xc3)
	} else {
		e.b = append(e.b, 0xc2)
	}
}

func (e *encoder) array(n, limit int) {
	if n > limit {
		e.fail("list", n, limit)
	}
	switch {
	case n < 16:
		e.b = append(e.b, 0x90|byte(n))
	case n <= math.MaxUint16:
		e.b = binary.BigEndian.AppendUint16(append(e.b, 0xdc), uint16(n))
	default:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xdd), uint32(n))
	}
}

func (e *encoder) str(s string, limit int) {
	if len(s) > limit {
		e.fail("text", len(s), limit)
	}
	n := len(s)
	switch {
	case n < 32:
		e.b = append(e.b, 0xa0|byte(n))
	case n <= math.MaxUint8:
		e.b = append(e.b, 0xd9, byte(n))
	case n <= math.MaxUint16:
		e.b = binary.BigEndian.AppendUint16(append(e.b, 0xda), uint16(n))
	default:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xdb), uint32(n))
	}
	e.b = append(e.b, s...)
}

func (e *encoder) bin(v []byte, limit int) {
	if len(v) > limit {
		e.fail("bytes", len(v), limit)
	}
	n := len(v)
	switch {
	case n <= math.MaxUint8:
		e.b = append(e.b, 0xc4, byte(n))
	case n <= math.MaxUint16:
		e.b = binary.BigEndian.AppendUint16(append(e.b, 0xc5), uint16(n))
	default:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xc6), uint32(n))
	}
	e.b = append(e.b, v...)
}

func (e *encoder) sha(s SHA) { e.bin(s[:], len(s)) }

// index writes a task's or lane's number.
func (e *encoder) index(i int) {
	if i < 0 || i > math.MaxInt32 {
		e.fail("index", i, math.MaxInt32)
	}
	e.uint(uint64(i))
}

func (e *encoder) task(t TaskID) {
	e.array(2, 2)
	e.str(t.Operator, maxName)
	e.index(t.Index)
}

func (e *encoder) lane(l LaneID) {
	e.array(2, 2)
	e.str(l.Sink, maxName)
	e.index(l.Lane)
}

// decoder reads canonical MessagePack from b. After the first error every read
// returns a zero value.
type decoder struct {
	b   []byte
	pos int
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: offset %d: %s", errCorrupt, d.pos, fmt.Sprintf(format, args...))
	}
}

// take returns the next n bytes, or nil with an error.
func (d *decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > len(d.b)-d.pos {
		d.fail("%d bytes wanted, %d left", n, len(d.b)-d.pos)
		return nil
	}
	v := d.b[d.pos : d.pos+n : d.pos+n]
	d.pos += n
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

// wide reads a big-endian integer of width bytes that must be above min, the
// largest value of the next shorter form.
func (d *decoder) wide(width int, min uint64) uint64 {
	raw := d.take(width)
	var v uint64
	for _, b := range raw {
		v = v<<8 | uint64(b)
	}
	if d.err == nil && v <= min {
		d.fail("%d is not in its shortest form", v)
		return 0
	}
	return v
}

func (d *decoder) uint(limit uint64) uint64 {
	var v uint64
	switch c := d.byte(); {
	case c < 0x80:
		v = uint64(c)
	case c == 0xcc:
		v = d.wide(1, 0x7f)
	case c == 0xcd:
		v = d.wide(2, math.MaxUint8)
	case c == 0xce:
		v = d.wide(4, math.MaxUint16)
	case c == 0xcf:
		v = d.wide(8, math.MaxUint32)
	default:
		d.fail("code %#x is not an unsigned integer", c)
	}
	if v > limit {
		d.fail("%d is above the limit of %d", v, limit)
		return 0
	}
	return v
}

func (d *decoder) u64() uint64 { return d.uint(math.MaxUint64) }

func (d *decoder) time() base.Timestamp {
	if c := d.byte(); c != 0xd3 && d.err == nil {
		d.fail("code %#x is not a timestamp", c)
	}
	if raw := d.take(8); raw != nil {
		return base.Timestamp(binary.BigEndian.Uint64(raw))
	}
	return 0
}

func (d *decoder) bool() bool {
	switch c := d.byte(); c {
	case 0xc3:
		return true
	case 0xc2:
	default:
		d.fail("code %#x is not a boolean", c)
	}
	return false
}

// array reads the length of a list whose elements take at least size bytes.
func (d *decoder) array(limit, size int) int {
	var n uint64
	switch c := d.byte(); {
	case c&0xf0 == 0x90:
		n = uint64(c & 0x0f)
	case c == 0xdc:
		n = d.wide(2, 15)
	case c == 0xdd:
		n = d.wide(4, math.MaxUint16)
	default:
		d.fail("code %#x is not a list", c)
	}
	if d.err == nil && (n > uint64(limit) || n*uint64(size) > uint64(len(d.b)-d.pos)) {
		d.fail("a list of %d elements does not fit", n)
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

// fields reads the header of a struct of exactly n fields.
func (d *decoder) fields(n int) {
	if got := d.array(n, 1); got != n {
		d.fail("%d fields, want %d", got, n)
	}
}

func (d *decoder) str(limit int) string {
	var n uint64
	switch c := d.byte(); {
	case c&0xe0 == 0xa0:
		n = uint64(c & 0x1f)
	case c == 0xd9:
		n = d.wide(1, 31)
	case c == 0xda:
		n = d.wide(2, math.MaxUint8)
	case c == 0xdb:
		n = d.wide(4, math.MaxUint16)
	default:
		d.fail("code %#x is not a text", c)
	}
	return string(d.payload(n, limit))
}

func (d *decoder) payload(n uint64, limit int) []byte {
	if d.err == nil && n > uint64(limit) {
		d.fail("length %d is above the limit of %d", n, limit)
	}
	return d.take(int(min(n, math.MaxInt32)))
}

// view reads bytes without copying them.
func (d *decoder) view(limit int) []byte {
	var n uint64
	switch c := d.byte(); c {
	case 0xc4:
		n = uint64(d.byte())
	case 0xc5:
		n = d.wide(2, math.MaxUint8)
	case 0xc6:
		n = d.wide(4, math.MaxUint16)
	default:
		d.fail("code %#x is not a byte string", c)
	}
	return d.payload(n, limit)
}

// bin reads bytes into memory of their own; empty reads as nil.
func (d *decoder) bin(limit int) []byte {
	return append([]byte(nil), d.view(limit)...)
}

func (d *decoder) sha() (s SHA) {
	v := d.view(len(s))
	if d.err == nil && len(v) != len(s) {
		d.fail("a sum has %d bytes, want %d", len(v), len(s))
	}
	copy(s[:], v)
	return s
}

func (d *decoder) task() TaskID {
	d.fields(2)
	return TaskID{d.str(maxName), int(d.uint(math.MaxInt32))}
}

func (d *decoder) lane() LaneID {
	d.fields(2)
	return LaneID{d.str(maxName), int(d.uint(math.MaxInt32))}
}
