package codec

import (
	"encoding/binary"
	"unsafe"
)

// loadUint64 reads the integer of kind o at p, sign-extended.
func loadUint64(o op, p unsafe.Pointer) uint64 {
	switch o {
	case opInt64:
		return uint64(*(*int64)(p))
	case opUint64:
		return *(*uint64)(p)
	case opInt32:
		return uint64(int64(*(*int32)(p)))
	case opUint32:
		return uint64(*(*uint32)(p))
	case opInt16:
		return uint64(int64(*(*int16)(p)))
	case opUint16:
		return uint64(*(*uint16)(p))
	case opInt8:
		return uint64(int64(*(*int8)(p)))
	}
	return uint64(*(*uint8)(p))
}

// storeUint64 is the inverse of loadUint64.
func storeUint64(o op, p unsafe.Pointer, u uint64) {
	switch o {
	case opInt64, opUint64:
		*(*uint64)(p) = u
	case opInt32, opUint32:
		*(*uint32)(p) = uint32(u)
	case opInt16, opUint16:
		*(*uint16)(p) = uint16(u)
	default:
		*(*uint8)(p) = uint8(u)
	}
}

// appendKeyParts appends the leaves of the key at p: integers big-endian in their
// own size, bool as 0 or 1, byte arrays as they are, strings after their length.
func appendKeyParts(dst []byte, parts []keyPart, p unsafe.Pointer) []byte {
	for i := range parts {
		part := &parts[i]
		q := unsafe.Add(p, part.offset)
		switch part.op {
		case opString:
			s := *(*string)(q)
			dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
		case opByteArray:
			dst = append(dst, unsafe.Slice((*byte)(q), part.size)...)
		case opInt8, opUint8, opBool:
			dst = append(dst, *(*byte)(q))
		case opInt16, opUint16:
			dst = binary.BigEndian.AppendUint16(dst, *(*uint16)(q))
		case opInt32, opUint32:
			dst = binary.BigEndian.AppendUint32(dst, *(*uint32)(q))
		default:
			dst = binary.BigEndian.AppendUint64(dst, *(*uint64)(q))
		}
	}
	return dst
}

// decodeKeyParts decodes all of src into the leaves of the key at p, and returns
// a position and a reason on failure.
func decodeKeyParts(src []byte, parts []keyPart, p unsafe.Pointer) (int, string) {
	pos := 0
	for i := range parts {
		part := &parts[i]
		q := unsafe.Add(p, part.offset)
		n := part.size
		if part.op == opString {
			length, width := binary.Uvarint(src[pos:])
			// The last group of a longer varint is zero only when it is not the
			// shortest one, which would be a second encoding of the same key.
			if width <= 0 || width > 1 && src[pos+width-1] == 0 {
				return pos, "the length of a string is malformed"
			}
			pos += width
			if length > uint64(len(src)-pos) {
				return pos, reasonTruncated
			}
			n = int(length)
		}
		if n > len(src)-pos {
			return pos, reasonTruncated
		}
		raw := src[pos : pos+n]
		switch part.op {
		case opString:
			*(*string)(q) = string(raw)
		case opByteArray:
			copy(unsafe.Slice((*byte)(q), n), raw)
		case opBool:
			if raw[0] > 1 {
				return pos, "a bool is 0 or 1"
			}
			*(*bool)(q) = raw[0] == 1
		case opInt8, opUint8:
			*(*byte)(q) = raw[0]
		case opInt16, opUint16:
			*(*uint16)(q) = binary.BigEndian.Uint16(raw)
		case opInt32, opUint32:
			*(*uint32)(q) = binary.BigEndian.Uint32(raw)
		default:
			*(*uint64)(q) = binary.BigEndian.Uint64(raw)
		}
		pos += n
	}
	if pos != len(src) {
		return pos, reasonTrailing
	}
	return pos, ""
}
