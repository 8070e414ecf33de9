package feature

import (
	"math"
	"slices"
)

// The raw form of the scalars of a key that has few records: the records themselves. It
// gives the same values as tiles do, for windows begin at the same times, and takes less
// memory, often a third, as long as most records have a tile of their own. A key gets
// tiles when these would be smaller, which is looked at every rawCheck records, or when
// it has rawMost records.
//
// An entry is the record's time (i64), a bit for each channel that it counts in, and
// the values (f64) of the columns of the channels; one that no channel takes is 0.
// Entries are in the order of time and, at one time, in that of their coming. A group
// whose clock stands still between calendar boundaries has no raw form: its records
// count as of the boundary.

const (
	rawMost  = 48
	rawCheck = 8
)

// The form of a store of scalars, in the first word of its section.
const (
	formRaw   = iota // cells where there is no raw form
	formRings        // see rings.go
	formCells
)

// rawPlan is the layout of an entry.
type rawPlan struct {
	size int
	at   []int // for each channel the offset of its value, 0 if it counts records
}

func planRaw(s *cellStore) *rawPlan {
	r := &rawPlan{size: 8 + (len(s.chans)+7)/8}
	offsets := map[int]int{} // by column
	for i := range s.chans {
		col := s.chans[i].col
		if _, known := offsets[col]; !known && col >= 0 {
			offsets[col] = r.size
			r.size += 8
		}
		r.at = append(r.at, offsets[col])
	}
	return r
}

// counts says that an entry counts in channel i.
func (r *rawPlan) counts(e []byte, i int) bool { return e[8+i>>3]>>(i&7)&1 != 0 }

// value is what an entry adds to channel i.
func (r *rawPlan) value(e []byte, i int) float64 {
	if r.at[i] == 0 {
		return 0
	}
	return getf(e, r.at[i])
}

// isRaw says that a store of scalars has the raw form.
func (m *machine) isRaw(s *cellStore) bool { return s.raw != nil && m.get(s.sec, secAux) == formRaw }

// entry makes the entry of the record in hand; nil if no channel takes it. It is valid
// until m.buf is used again.
func (m *machine) entry(s *cellStore, t int64) []byte {
	r, any := s.raw, false
	m.buf = slices.Grow(m.buf[:0], r.size)[:r.size]
	e := m.buf
	clear(e)
	puti(e, 0, t)
	for i := range s.chans {
		ch := &s.chans[i]
		if m.in.preds&ch.filter != ch.filter || m.in.null(ch.col) {
			continue
		}
		any = true
		e[8+i>>3] |= 1 << (i & 7)
		if r.at[i] > 0 {
			putf(e, r.at[i], m.in.nums[ch.col])
		}
	}
	if !any {
		return nil
	}
	return e
}

// addRaw adds the record in hand, at time t.
func (m *machine) addRaw(s *cellStore, t int64) {
	r, c := s.raw, m.clock()
	e := m.entry(s, t)
	if e == nil || t < s.levels[len(s.levels)-1].lo(c) {
		return
	}
	n, open := m.entries(s.sec, r.size), m.get(s.sec, secOpen)
	if n >= rawMost || n > 0 && n%rawCheck == 0 && m.tiles(s, c)*s.size < n*r.size {
		m.makeCells(s)
		m.addCells(s, t)
		return
	}
	i := n
	if t >= c && !m.p.including {
		m.set(s.sec, secOpen, open+1)
	} else {
		b := m.bytes(s.sec)
		for i = n - open; i > 0 && geti(b, (i-1)*r.size) > t; i-- {
		}
	}
	o := m.insert(s.sec, i*r.size, r.size)
	copy(m.b[o:], e)
}

// tiles counts the tiles that the closed entries of a store lie in at clock c.
func (m *machine) tiles(s *cellStore, c int64) (n int) {
	size := s.raw.size
	b := m.bytes(s.sec)
	b = b[:len(b)-m.get(s.sec, secOpen)*size]
	l, lo, last := 0, s.levels[0].lo(c), int64(0)
	for ; len(b) > 0; b = b[:len(b)-size] {
		t := geti(b, len(b)-size)
		from := l
		for t < lo { // no entry is out of all horizons
			l++
			lo = s.levels[l].lo(c)
		}
		if tile := s.levels[l].tile(t); n == 0 || l != from || tile != last {
			n, last = n+1, tile
		}
	}
	return n
}

// advanceRaw brings a store from clock old to clock c: what no horizon reaches is
// dropped, and what was open is closed.
func (m *machine) advanceRaw(s *cellStore, old, c int64) {
	m.set(s.sec, secOpen, 0)
	last := &s.levels[len(s.levels)-1]
	if last.w == forever || last.number(old) == last.number(c) {
		return
	}
	b, lo, end := m.bytes(s.sec), last.lo(c), 0
	for end < len(b) && geti(b, end) < lo {
		end += s.raw.size
	}
	if end > 0 {
		m.remove(s.sec, 0, end)
	}
}

// makeCells turns the entries of a store into cells.
func (m *machine) makeCells(s *cellStore) {
	entries := append([]byte(nil), m.bytes(s.sec)...)
	m.set(s.sec, secLen, 0)
	m.set(s.sec, secOpen, 0)
	m.set(s.sec, secAux, formCells)
	for e := entries; len(e) > 0; e = e[s.raw.size:] {
		t := geti(e, 0)
		cell := m.place(s, t, 0) // open again if it was
		for i := range s.chans {
			if ch := &s.chans[i]; s.raw.counts(e, i) {
				m.addValue(ch.mask, cell[s.pay+ch.off:], s.raw.value(e, i), t)
			}
		}
	}
}

// readRaw computes the fields of a store from its entries.
func (m *machine) readRaw(s *cellStore) {
	m.readLevels(s, s.raw.size, func(sum, entries []byte) { m.addOlder(s, sum, entries) })
}

// addOlder adds entries to a payload of later ones.
func (m *machine) addOlder(s *cellStore, pay, entries []byte) {
	r := s.raw
	for i := range s.chans {
		ch := &s.chans[i]
		b := pay[ch.off:]
		switch ch.mask {
		case pN:
			le.PutUint32(b, addCounts(le.Uint32(b), r.count(entries, i)))
		case basic:
			var sum [basicSize]byte
			if n := r.sumBasic(&sum, entries, i); n > 0 {
				mergeBasic((*[basicSize]byte)(b), &sum, le.Uint32(b), n)
			}
		default:
			m.addAny(ch.mask, b, r, entries, i)
		}
	}
}

// count counts the entries that count in channel i.
func (r *rawPlan) count(entries []byte, i int) (n uint32) {
	for o := 8 + i>>3; o < len(entries); o += r.size {
		n += uint32(entries[o]>>(i&7)) & 1
	}
	return n
}

// sumBasic sets all basic parts to those of the entries that count in channel i, and
// returns how many there are. Squares are taken about the mean, in a second pass.
func (r *rawPlan) sumBasic(d *[basicSize]byte, entries []byte, i int) (n uint32) {
	sum, low, high := 0.0, math.Inf(1), math.Inf(-1)
	bit, val := 8+i>>3, r.at[i]
	for o := 0; o < len(entries); o += r.size {
		if entries[o+bit]>>(i&7)&1 == 0 {
			continue
		}
		v := getf(entries, o+val)
		n, sum, low, high = n+1, sum+v, min(low, v), max(high, v)
	}
	if n == 0 {
		return 0
	}
	mean, m2 := sum/float64(n), 0.0
	for o := 0; o < len(entries); o += r.size {
		if entries[o+bit]>>(i&7)&1 == 0 {
			continue
		}
		dist := getf(entries, o+val) - mean
		m2 += dist * dist
	}
	le.PutUint32(d[0:], n)
	putf(d[:], 4, sum)
	putf(d[:], 12, m2)
	putf(d[:], 20, low)
	putf(d[:], 28, high)
	return n
}

// addAny is addOlder for any parts of a channel.
func (m *machine) addAny(mask uint8, b []byte, r *rawPlan, entries []byte, i int) {
	var all acc
	all.load(mask, b)
	for o := len(entries) - r.size; o >= 0; o -= r.size {
		if e := entries[o : o+r.size]; r.counts(e, i) {
			// Of two first values at one time, the entry's is the first.
			t := geti(e, 0)
			one := acc{}
			one.add(mask, r.value(e, i), t, m.secs(t))
			one.merge(mask, &all)
			all = one
		}
	}
	all.store(mask, b)
}
