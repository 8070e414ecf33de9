package feature

import (
	"encoding/binary"
	"math"
)

// The state of a key is one byte string, little-endian:
//
//	 0  u8   version of the layout, 3
//	 1  u8   0
//	 2  u16  number of sections
//	 4  u32  fingerprint of the program
//	 8  i64  clock
//	16  i64  origin: the clock of the first record, from which trends count time
//	24       the decays, 32 bytes each: value and time of what is closed, value
//	         and time of what is open
//	 …       the section table, 24 bytes each: offset, length, capacity and number
//	         of open entries (u32), two words of the section's own
//	 …       the sections
//
// An entry is open when it is at the clock and does not count yet: after the
// boundary rule, or since the calendar boundary. Open entries are the last ones of
// their section, and are closed when the clock moves on.
//
// A section holds, by the kind of its store:
//
//   - Cells: tiles in the order of time, each its start (i64), its item (u64; only
//     keyed ones) and the payload: parts of the channels, or a sorted list of
//     values. Cells of one tile are in the order of items.
//   - Raw records and rings: the forms of scalars with few records and with many; see
//     raw.go and rings.go. The first word of the section says which it is.
//   - Latest values: time (i64) and value (u64: the bits of a float64, or the hash
//     of a text), in the order of time.
//   - Distinct values: time last seen (i64) and hash (u64), in the order of time;
//     or, once there were too many, time and register<<8|rank of those pairs that
//     some window may need.
//   - Texts: hash (u64), length (u16) and bytes of those that other sections name.
const (
	layoutVersion = 3
	headerSize    = 24
	decaySize     = 32
	sectionSize   = 24
)

// Offsets in the header of a state and of a section.
const (
	hdrSections = 2
	hdrFinger   = 4
	hdrClock    = 8
	hdrOrigin   = 16

	secOff  = 0
	secLen  = 4
	secCap  = 8
	secOpen = 12
	secAux  = 16
	secAux2 = 20
)

var le = binary.LittleEndian

func geti(b []byte, at int) int64    { return int64(le.Uint64(b[at:])) }
func puti(b []byte, at int, v int64) { le.PutUint64(b[at:], uint64(v)) }
func getu(b []byte, at int) uint64   { return le.Uint64(b[at:]) }
func putu(b []byte, at int, v uint64) {
	le.PutUint64(b[at:], v)
}
func getf(b []byte, at int) float64    { return math.Float64frombits(le.Uint64(b[at:])) }
func putf(b []byte, at int, v float64) { le.PutUint64(b[at:], math.Float64bits(v)) }

// machine runs a plan on one state after the other.
type machine struct {
	p *plan
	// b is the state in hand; moved says that it is no longer where it came from,
	// but in spare[cur].
	b     []byte
	moved bool
	spare [2][]byte
	cur   int
	in    input
	vec   Vector

	buf    []byte // a cell, or several, on the way
	los    []int64
	items  itemTable
	regs   []byte
	sketch []bucket
}

// input is what a program takes from one record.
type input struct {
	preds  uint64
	nums   []float64
	hashes []uint64
	texts  []string
}

// null says that a column has no value.
func (in *input) null(col int) bool { return col >= 0 && !finite(in.nums[col]) }

func (m *machine) hdr(sec, field int) int        { return m.p.secOff + sec*sectionSize + field }
func (m *machine) get(sec, field int) int        { return int(le.Uint32(m.b[m.hdr(sec, field):])) }
func (m *machine) set(sec, field int, v int)     { le.PutUint32(m.b[m.hdr(sec, field):], uint32(v)) }
func (m *machine) clock() int64                  { return geti(m.b, hdrClock) }
func (m *machine) origin() int64                 { return geti(m.b, hdrOrigin) }
func (m *machine) secs(t int64) float64          { return float64(t-m.origin()) / 1e9 }
func (m *machine) data(sec int) (off, n int)     { return m.get(sec, secOff), m.get(sec, secLen) }
func (m *machine) bytes(sec int) []byte          { o, n := m.data(sec); return m.b[o : o+n] }
func (m *machine) entries(sec, size int) (n int) { return m.get(sec, secLen) / size }

// fresh makes an empty state at clock c.
func (m *machine) fresh(c int64) {
	n := m.p.base
	b := m.take(n)
	clear(b)
	b[0] = layoutVersion
	le.PutUint16(b[hdrSections:], uint16(m.p.nsec))
	le.PutUint32(b[hdrFinger:], m.p.finger)
	puti(b, hdrClock, c)
	puti(b, hdrOrigin, c)
	m.b = b
	for i := range m.p.nsec {
		m.set(i, secOff, n)
	}
}

// take returns memory for a state of n bytes, that of neither the state in hand
// nor its content.
func (m *machine) take(n int) []byte {
	m.cur ^= 1
	if cap(m.spare[m.cur]) < n {
		m.spare[m.cur] = make([]byte, n, n+n/2)
	}
	m.moved = true
	return m.spare[m.cur][:n]
}

// insert makes room for n bytes in a section, at an offset in it, and returns
// where they are in the state. Their content is arbitrary.
func (m *machine) insert(sec, at, n int) int {
	off, have := m.data(sec)
	if have+n > m.get(sec, secCap) {
		m.grow(sec, have+n)
		off = m.get(sec, secOff)
	}
	s := m.b[off : off+have+n]
	copy(s[at+n:], s[at:have])
	m.set(sec, secLen, have+n)
	return off + at
}

// remove takes n bytes at an offset out of a section.
func (m *machine) remove(sec, at, n int) {
	off, have := m.data(sec)
	s := m.b[off : off+have]
	copy(s[at:], s[at+n:])
	m.set(sec, secLen, have-n)
}

// grow moves the state to memory where a section has room for n bytes, and an
// eighth in reserve, up to a kilobyte. Room that other sections no longer need is
// given up.
func (m *machine) grow(sec, n int) {
	total := m.p.base
	for i := range m.p.nsec {
		total += m.room(i, sec, n)
	}
	old := m.b
	b := m.take(total)
	copy(b[:m.p.base], old[:m.p.base])
	m.b = b
	off := m.p.base
	for i := range m.p.nsec {
		o, have := m.data(i)
		room := m.room(i, sec, n)
		copy(b[off:], old[o:o+have])
		m.set(i, secOff, off)
		m.set(i, secCap, room)
		off += room
	}
}

// room is the capacity that a section gets when section sec grows to n bytes.
func (m *machine) room(i, sec, n int) int {
	have := m.get(i, secLen)
	if i == sec {
		return n + min(n/8, 1024)*min(1, have) // none for the first, which may be the last
	}
	return have
}
