package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The layout of checkpoint objects; docs/format/delta.md describes it. It must
// not change without a new version, because objects outlive binaries.
const (
	objectMagic   = 0x57454f42 // "WEOB"
	objectVersion = 1
	headerLen     = 8
	trailerLen    = 12
	// inlineLimit is the size in bytes up to which an object travels inline.
	inlineLimit = 32 << 10
	// maxFooter bounds what a reader allocates for a footer.
	maxFooter = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// groupInfo describes a state in an object.
type groupInfo struct {
	id             uint32
	operator, name string
	key            KeyKind
	valueSize      int
	scattered      bool
	expires        bool
	schema         string
}

// blockInfo is where a block lies in an object.
type blockInfo struct {
	off uint64
	len uint32
	crc uint32
}

// footer is the index of an object.
type footer struct {
	groups  []groupInfo
	blocks  []blockInfo
	entries uint64
	base    uint64 // of them, those that had not changed
}

func appendHeader(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, objectMagic)
	dst = binary.LittleEndian.AppendUint16(dst, objectVersion)
	return append(dst, 0, 0)
}

// infoOf describes a group.
func infoOf(g *Group) groupInfo {
	d := &g.decl
	return groupInfo{g.id, d.Operator, d.Name, d.Key, d.ValueSize, d.scattered, d.expires, d.Schema}
}

// appendFooter appends the footer and the trailer.
func (f *footer) append(dst []byte) []byte {
	at := len(dst)
	dst = binary.AppendUvarint(dst, uint64(len(f.groups)))
	for i := range f.groups {
		g := &f.groups[i]
		dst = binary.AppendUvarint(dst, uint64(g.id))
		dst = appendText(dst, g.operator)
		dst = appendText(dst, g.name)
		flags := byte(0)
		if g.scattered {
			flags |= 1
		}
		if g.expires {
			flags |= 2
		}
		dst = append(dst, byte(g.key), flags)
		dst = binary.AppendUvarint(dst, uint64(g.valueSize))
		dst = appendText(dst, g.schema)
	}
	dst = binary.AppendUvarint(dst, uint64(len(f.blocks)))
	for _, b := range f.blocks {
		dst = binary.AppendUvarint(dst, uint64(b.len))
		dst = binary.LittleEndian.AppendUint32(dst, b.crc)
	}
	dst = binary.AppendUvarint(dst, f.entries)
	dst = binary.AppendUvarint(dst, f.base)
	sum := crc32.Checksum(dst[at:], castagnoli)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(dst)-at))
	dst = binary.LittleEndian.AppendUint32(dst, sum)
	return binary.LittleEndian.AppendUint32(dst, objectMagic)
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// errVersion says that an object was written in a later format.
var errVersion = errors.New("written in a later format")

// checkHeader checks the first headerLen bytes.
func checkHeader(b []byte) error {
	if len(b) < headerLen || binary.LittleEndian.Uint32(b) != objectMagic {
		return fmt.Errorf("%w: it does not begin like a state object", ErrCorrupt)
	}
	if v := binary.LittleEndian.Uint16(b[4:]); v != objectVersion {
		return fmt.Errorf("%w: version %d, this program reads %d", errVersion, v, objectVersion)
	}
	return nil
}

// footerSpan returns where the footer of an object of a size lies, from its
// trailer.
func footerSpan(trailer []byte, size int64) (off int64, n int, sum uint32, err error) {
	if len(trailer) != trailerLen || binary.LittleEndian.Uint32(trailer[8:]) != objectMagic {
		return 0, 0, 0, fmt.Errorf("%w: it does not end like a state object", ErrCorrupt)
	}
	n = int(binary.LittleEndian.Uint32(trailer))
	off = size - trailerLen - int64(n)
	if n > maxFooter || off < headerLen {
		return 0, 0, 0, fmt.Errorf("%w: a footer of %d bytes", ErrCorrupt, n)
	}
	return off, n, binary.LittleEndian.Uint32(trailer[4:]), nil
}

// reader decodes a footer. The first fault sticks.
type footerReader struct {
	b   []byte
	bad bool
}

func (r *footerReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *footerReader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *footerReader) text() string { return string(r.take(r.uvarint())) }

// count reads the length of a list whose elements have at least min bytes.
func (r *footerReader) count(min int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/min) {
		r.bad = true
		return 0
	}
	return int(n)
}

// parseFooter decodes a footer whose sum was checked; end is where it begins in
// the object.
func parseFooter(b []byte, end int64) (*footer, error) {
	r, f := footerReader{b: b}, &footer{}
	for range r.count(7) {
		g := groupInfo{id: uint32(r.uvarint()), operator: r.text(), name: r.text()}
		if p := r.take(2); p != nil {
			g.key, g.scattered, g.expires = KeyKind(p[0]), p[1]&1 != 0, p[1]&2 != 0
		}
		g.valueSize = int(min(r.uvarint(), maxValueSize+1))
		g.schema = r.text()
		if g.key != KeyUint64 && g.key != KeyBytes || g.valueSize > maxValueSize {
			r.bad = true
		}
		f.groups = append(f.groups, g)
	}
	off := uint64(headerLen)
	for range r.count(5) {
		bl := blockInfo{off: off, len: uint32(r.uvarint())}
		if p := r.take(4); p != nil {
			bl.crc = binary.LittleEndian.Uint32(p)
		}
		off += uint64(bl.len)
		f.blocks = append(f.blocks, bl)
	}
	f.entries, f.base = r.uvarint(), r.uvarint()
	if r.bad || len(r.b) != 0 || off != uint64(end) {
		return nil, fmt.Errorf("%w: its footer does not fit it", ErrCorrupt)
	}
	return f, nil
}
