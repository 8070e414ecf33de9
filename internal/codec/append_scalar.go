package codec

import (
	"encoding/binary"
	"math"
	"time"
)

// The MessagePack building blocks. All integers are written in their shortest
// form.

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 0xc3)
	}
	return append(dst, 0xc2)
}

func appendInt(dst []byte, v int64) []byte {
	if v >= 0 {
		return appendUint(dst, uint64(v))
	}
	switch {
	case v >= -32:
		return append(dst, byte(v))
	case v >= math.MinInt8:
		return append(dst, 0xd0, byte(v))
	case v >= math.MinInt16:
		return append(dst, 0xd1, byte(v>>8), byte(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(dst, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(v))
}

func appendUint(dst []byte, v uint64) []byte {
	switch {
	case v <= 0x7f:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return append(dst, 0xcd, byte(v>>8), byte(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcf), v)
}

func appendString(dst []byte, s string) []byte {
	if len(s) < 32 {
		return append(append(dst, 0xa0|byte(len(s))), s...)
	}
	return append(appendHead(dst, len(s), 0xd9, 0xda), s...)
}

// appendBytes keeps nil and empty apart.
func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 0xc0)
	}
	return append(appendBinHead(dst, len(b)), b...)
}

func appendBinHead(dst []byte, n int) []byte { return appendHead(dst, n, 0xc4, 0xc5) }

func appendArrayHead(dst []byte, n int) []byte {
	if n < 16 {
		return append(dst, 0x90|byte(n))
	}
	return appendHead(dst, n, 0, 0xdc)
}

func appendMapHead(dst []byte, n int) []byte {
	if n < 16 {
		return append(dst, 0x80|byte(n))
	}
	return appendHead(dst, n, 0, 0xde)
}

// appendHead writes a length with the code for 8 bits (0: there is none), or the
// code for 16 bits, or the next one, for 32 bits.
func appendHead(dst []byte, n int, code8, code16 byte) []byte {
	switch {
	case n <= math.MaxUint8 && code8 != 0:
		return append(dst, code8, byte(n))
	case n <= math.MaxUint16:
		return append(dst, code16, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, code16+1), uint32(n))
}

// appendTime writes the timestamp extension (type -1) in its shortest form. The
// zone is dropped: an encoded time is an instant.
func appendTime(dst []byte, t time.Time) []byte {
	sec, nsec := uint64(t.Unix()), uint64(t.Nanosecond())
	switch {
	case sec>>34 != 0:
		dst = binary.BigEndian.AppendUint32(append(dst, 0xc7, 12, 0xff), uint32(nsec))
		return binary.BigEndian.AppendUint64(dst, sec)
	case nsec == 0 && sec>>32 == 0:
		return binary.BigEndian.AppendUint32(append(dst, 0xd6, 0xff), uint32(sec))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd7, 0xff), nsec<<34|sec)
}
