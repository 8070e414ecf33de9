package anomaly

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// maxFloats bounds every list in a state: longer ones are corrupt.
const maxFloats = 1 << 20

var errShort = errors.New("it is cut off")

func appendUint64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

func appendFloat(b []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
}

// appendFloats appends numbers without their count.
func appendFloats(b []byte, vs ...float64) []byte {
	for _, v := range vs {
		b = appendFloat(b, v)
	}
	return b
}

// appendList appends the count of vs and vs.
func appendList(b []byte, vs []float64) []byte {
	return appendFloats(binary.AppendUvarint(b, uint64(len(vs))), vs...)
}

func appendCount(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

// appendInner appends the state of an inner detector with its length, in four
// bytes that are filled in afterwards.
func appendInner(b []byte, d Detector) []byte {
	at := len(b)
	b = d.AppendState(append(b, 0, 0, 0, 0))
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// decoder reads a state. After the first error all that it returns is zero.
type decoder struct {
	b   []byte
	err error
}

// take returns the next n bytes, nil after an error.
func (d *decoder) take(n int) []byte {
	if d.err == nil && (n < 0 || n > len(d.b)) {
		d.err = errShort
	}
	if d.err != nil {
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if p := d.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) float() float64 {
	v := math.Float64frombits(d.uint64())
	if d.err == nil && !finite(v) {
		d.err = fmt.Errorf("it holds the number %g", v)
		return 0
	}
	return v
}

// floats reads into each of ps.
func (d *decoder) floats(ps ...*float64) {
	for _, p := range ps {
		*p = d.float()
	}
}

// count reads a number from 0 to most.
func (d *decoder) count(most int) int {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b)
	switch {
	case n <= 0:
		d.err = errShort
		return 0
	case v > uint64(most):
		d.err = fmt.Errorf("it counts %d where at most %d are possible", v, most)
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

// list reads a list of at most most numbers into dst, whose content goes.
func (d *decoder) list(dst []float64, most int) []float64 {
	n := d.count(min(most, maxFloats))
	if d.err == nil && 8*n > len(d.b) {
		d.err = errShort
	}
	dst = dst[:0]
	for range n {
		dst = append(dst, d.float())
	}
	return dst
}

// inner loads the state of an inner detector.
func (d *decoder) inner(det Detector) {
	p := d.take(4)
	if p == nil {
		return
	}
	if q := d.take(int(binary.LittleEndian.Uint32(p))); d.err == nil {
		d.err = det.LoadState(q)
	}
}

// end reports the first error, or that bytes are left.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		return fmt.Errorf("%d bytes are left over", len(d.b))
	}
	return d.err
}
