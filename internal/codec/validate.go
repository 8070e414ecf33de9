package codec

import (
	"encoding/binary"
	"fmt"
)

// Reasons of the structural scan. A scan returns one of them instead of an error
// value, so that the good path builds nothing.
const (
	reasonTruncated = "the message ends in the middle of a value"
	reasonReserved  = "0xc1 is not a MessagePack code"
	reasonLength    = "a container claims more elements than bytes are left"
	reasonDepth     = "containers nest too deeply"
	reasonElems     = "the message holds too many values"
	reasonTrailing  = "bytes follow the value"
)

// Validate scans one MessagePack value without decoding it. It accepts b only if
// b is exactly one well-formed value, every string, binary and container length
// fits the bytes that are left, and the limits hold; an empty container does not
// count as a level of depth. It allocates nothing unless
// it fails, and its stack does not grow with the nesting. A library that decodes
// b afterwards allocates no more than a small multiple of len(b).
func Validate(b []byte, lim Limits) error {
	lim = lim.WithDefaults()
	if err := lim.checkSize(len(b)); err != nil {
		return err
	}
	end, reason := scan(b, 0, lim.Depth, lim.Elems)
	if reason == "" && end != len(b) {
		reason = reasonTrailing
	}
	if reason == "" {
		return nil
	}
	return scanError(reason, end, lim)
}

// scanError turns the reason of a failed scan into an error.
func scanError(reason string, pos int, lim Limits) error {
	switch reason {
	case reasonDepth:
		return dataError(CodeLimit, "MessagePack", pos, fmt.Sprintf("%s (more than %d levels)", reason, lim.Depth))
	case reasonElems:
		return dataError(CodeLimit, "MessagePack", pos, fmt.Sprintf("%s (more than %d)", reason, lim.Elems))
	}
	return dataError(CodeMalformed, "MessagePack", pos, reason)
}

// scan walks the value that starts at pos. It returns the position after it, or
// the position of the fault and a reason.
func scan(b []byte, pos, depth, elems int) (int, string) {
	var open [MaxDepth]int // values still missing in each open container
	level := 0             // number of open containers
	for {
		if elems--; elems < 0 {
			return pos, reasonElems
		}
		next, children, reason := scanOne(b, pos)
		if reason != "" {
			return pos, reason
		}
		if children > 0 {
			if children > len(b)-next {
				return pos, reasonLength
			}
			if level == depth {
				return pos, reasonDepth
			}
			open[level] = children
			level++
			pos = next
			continue
		}
		pos = next
		for level > 0 {
			if open[level-1]--; open[level-1] > 0 {
				break
			}
			level--
		}
		if level == 0 {
			return pos, ""
		}
	}
}

// scanOne reads the value at pos: a whole scalar, or the header of a container
// and the number of values inside it (two for each pair of a map).
func scanOne(b []byte, pos int) (next, children int, reason string) {
	if pos >= len(b) {
		return pos, 0, reasonTruncated
	}
	c := b[pos]
	pos++
	switch {
	case c <= 0x7f || c >= 0xe0 || c == 0xc0 || c == 0xc2 || c == 0xc3:
		return pos, 0, ""
	case c <= 0x8f:
		return pos, 2 * int(c&0x0f), ""
	case c <= 0x9f:
		return pos, int(c & 0x0f), ""
	case c <= 0xbf:
		return skipBytes(b, pos, uint64(c&0x1f))
	case c == 0xc1:
		return pos, 0, reasonReserved
	}
	// What is left has its own row: the bytes of a length, and a fixed body.
	row := scanRows[c-0xc0]
	if len(b)-pos < int(row.length) {
		return pos, 0, reasonTruncated
	}
	n := readUint(b[pos : pos+int(row.length)])
	pos += int(row.length)
	if row.children != 0 {
		if n > uint64(len(b)) {
			return pos, 0, reasonLength
		}
		return pos, int(n) * int(row.children), ""
	}
	return skipBytes(b, pos, n+uint64(row.body))
}

// skipBytes steps over n bytes of payload.
func skipBytes(b []byte, pos int, n uint64) (int, int, string) {
	if n > uint64(len(b)-pos) {
		return pos, 0, reasonTruncated
	}
	return pos + int(n), 0, ""
}

// readUint reads a big-endian unsigned integer of 0, 1, 2 or 4 bytes.
func readUint(b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	}
	return 0
}

// scanRow describes a code from 0xc4 to 0xdf.
type scanRow struct {
	length   uint8 // bytes of the length field
	body     uint8 // bytes of payload besides those that the length counts
	children uint8 // values for each unit of the length; 0 means bytes
}

// scanRows is indexed by the code minus 0xc0.
var scanRows = [32]scanRow{
	0x04: {length: 1}, 0x05: {length: 2}, 0x06: {length: 4}, // bin
	0x07: {length: 1, body: 1}, 0x08: {length: 2, body: 1}, 0x09: {length: 4, body: 1}, // ext
	0x0a: {body: 4}, 0x0b: {body: 8}, // float
	0x0c: {body: 1}, 0x0d: {body: 2}, 0x0e: {body: 4}, 0x0f: {body: 8}, // uint
	0x10: {body: 1}, 0x11: {body: 2}, 0x12: {body: 4}, 0x13: {body: 8}, // int
	0x14: {body: 2}, 0x15: {body: 3}, 0x16: {body: 5}, 0x17: {body: 9}, 0x18: {body: 17}, // fixext
	0x19: {length: 1}, 0x1a: {length: 2}, 0x1b: {length: 4}, // str
	0x1c: {length: 2, children: 1}, 0x1d: {length: 4, children: 1}, // array
	0x1e: {length: 2, children: 2}, 0x1f: {length: 4, children: 2}, // map
}
