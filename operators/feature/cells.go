package feature

import (
	"bytes"
	"math"
)

// at returns cell i of a store.
func (m *machine) cell(s *cellStore, i int) []byte {
	o := m.get(s.sec, secOff) + i*s.size
	return m.b[o : o+s.size : o+s.size]
}

// closed returns the number of cells that count.
func (m *machine) closed(s *cellStore) int { return m.entries(s.sec, s.size) - m.get(s.sec, secOpen) }

// findCell returns the cell of a tile and item among cells [lo, hi), or where it
// would go.
func (m *machine) findCell(s *cellStore, lo, hi int, t int64, item uint64) (int, bool) {
	for i, j := lo, hi; ; {
		if i == j {
			return i, false
		}
		// Most records belong to the last tile.
		h := j - 1
		if j-i > 4 && j != hi {
			h = int(uint(i+j) >> 1)
		}
		c := m.cell(s, h)
		ct := geti(c, 0)
		if ct == t && s.keyed {
			ci := getu(c, 8)
			switch {
			case ci == item:
				return h, true
			case ci < item:
				i = h + 1
			default:
				j = h
			}
			continue
		}
		switch {
		case ct == t:
			return h, true
		case ct < t:
			i = h + 1
		default:
			j = h
		}
	}
}

// tileAt returns the tile of time t at clock c; false when no horizon reaches
// there.
func tileAt(levels []level, c, t int64) (int64, bool) {
	for i := range levels {
		if tile := levels[i].tile(t); tile >= levels[i].lo(c) {
			return tile, true
		}
	}
	return 0, false
}

// place returns the cell for a value at time t, made empty (zero) if there is
// none; nil when the time is out of all horizons. at is the time of the event.
func (m *machine) place(s *cellStore, t int64, item uint64) []byte {
	c := m.clock()
	n, open := m.entries(s.sec, s.size), m.get(s.sec, secOpen)
	if t >= c && !m.p.including {
		tile := c
		if s.exact {
			tile = t
		}
		i, found := m.findCell(s, n-open, n, tile, item)
		if !found {
			item = m.admit(s, item)
			if i, found = m.findCell(s, n-open, n, tile, item); !found {
				m.newCell(s, i, tile, item)
				m.set(s.sec, secOpen, open+1)
			}
		}
		return m.cell(s, i)
	}
	tile, ok := tileAt(s.levels, c, t)
	if !ok {
		return nil
	}
	i, found := m.findCell(s, 0, n-open, tile, item)
	if !found {
		item = m.admit(s, item)
		if i, found = m.findCell(s, 0, n-open, tile, item); !found {
			m.newCell(s, i, tile, item)
		}
	}
	return m.cell(s, i)
}

func (m *machine) newCell(s *cellStore, i int, t int64, item uint64) {
	o := m.insert(s.sec, i*s.size, s.size)
	c := m.b[o : o+s.size]
	clear(c)
	puti(c, 0, t)
	if s.keyed {
		putu(c, 8, item)
	}
}

// admit returns the item under which a new cell is kept: the item, or Other when
// the store has as many different ones as it may.
func (m *machine) admit(s *cellStore, item uint64) uint64 {
	if s.by < 0 || s.limit == 0 {
		return item
	}
	n := m.entries(s.sec, s.size)
	for i := n - 1; i >= 0; i-- {
		if getu(m.cell(s, i), 8) == item {
			return item
		}
	}
	// aux bounds the number of different items from above.
	if m.get(s.sec, secAux) >= s.limit {
		m.items.reset()
		for i := range n {
			m.items.at(getu(m.cell(s, i), 8))
		}
		m.set(s.sec, secAux, len(m.items.keys))
		if len(m.items.keys) >= s.limit {
			m.keepText(otherHash, Other)
			return otherHash
		}
	}
	m.set(s.sec, secAux, m.get(s.sec, secAux)+1)
	return item
}

var otherHash = hashText(Other)

// mergeCell adds the payload of src to dst.
func (s *cellStore) mergeCell(dst, src []byte) {
	dst, src = dst[s.pay:], src[s.pay:]
	switch s.mode {
	case modeParts:
		for i := range s.chans {
			ch := &s.chans[i]
			mergeInto(ch.mask, dst[ch.off:], src[ch.off:])
		}
	case modeFirst:
		for i := range int(getu(src, 0)) {
			s.addFirst(dst, geti(src, 8+16*i), getu(src, 16+16*i))
		}
	default:
		for i := range int(getu(src, 0)) {
			s.addTop(dst, getf(src, 8+8*i))
		}
	}
}

// addTop puts a value into a list of the k greatest, or least, ones.
func (s *cellStore) addTop(list []byte, v float64) {
	n := int(getu(list, 0))
	i := n
	for i > 0 {
		w := getf(list, 8*i)
		if s.mode == modeTop && w >= v || s.mode == modeBottom && w <= v {
			break
		}
		i--
	}
	if i >= s.k {
		return
	}
	n = min(n+1, s.k)
	copy(list[8+8*(i+1):8+8*n], list[8+8*i:])
	putf(list, 8+8*i, v)
	putu(list, 0, uint64(n))
}

// addFirst puts a value into a list of the k earliest ones, behind those of its
// time; of one value only the earliest, if values are unique.
func (s *cellStore) addFirst(list []byte, t int64, v uint64) {
	n := int(getu(list, 0))
	for j := 0; s.unique && j < n; j++ {
		if getu(list, 16+16*j) != v {
			continue
		}
		if geti(list, 8+16*j) <= t {
			return
		}
		copy(list[8+16*j:], list[8+16*(j+1):8+16*n])
		n--
	}
	i := n
	for i > 0 && geti(list, 8+16*(i-1)) > t {
		i--
	}
	if i >= s.k {
		return
	}
	n = min(n+1, s.k)
	copy(list[8+16*(i+1):8+16*n], list[8+16*i:])
	puti(list, 8+16*i, t)
	putu(list, 16+16*i, v)
	putu(list, 0, uint64(n))
}

// addCells adds the record in hand, at time t, to a store.
func (m *machine) addCells(s *cellStore, t int64) {
	if s.keyed {
		m.addKeyed(s, t)
		return
	}
	if s.mode != modeParts {
		m.addList(s, t)
		return
	}
	switch {
	case m.dense(s):
		m.addRings(s, t)
		return
	case m.isRaw(s):
		m.addRaw(s, t)
		return
	}
	var c []byte
	for i := range s.chans {
		ch := &s.chans[i]
		if m.in.preds&ch.filter != ch.filter || m.in.null(ch.col) {
			continue
		}
		if c == nil {
			if c = m.place(s, t, 0); c == nil {
				return
			}
		}
		m.addParts(ch, c[s.pay+ch.off:], t)
	}
	switch {
	case s.exact && m.closed(s) > s.limit:
		m.cutExact(s)
	case s.rings != nil && m.closed(s) > s.rings.most:
		m.makeDense(s)
	}
}

// addParts adds the record in hand to parts in place.
func (m *machine) addParts(ch *channel, b []byte, t int64) {
	v := 0.0
	if ch.col >= 0 {
		v = m.in.nums[ch.col]
	}
	m.addValue(ch.mask, b, v, t)
}

// addValue adds a value of time t to the parts of mask, in place.
func (m *machine) addValue(mask uint8, b []byte, v float64, t int64) {
	switch n := le.Uint32(b); {
	case mask == pN:
		le.PutUint32(b, addCounts(n, 1))
	case mask == basic && n == 0:
		oneBasic((*[basicSize]byte)(b), v)
	default:
		var a acc
		a.load(mask, b)
		a.add(mask, v, t, m.secs(t))
		a.store(mask, b)
	}
}

func (m *machine) addKeyed(s *cellStore, t int64) {
	ch := &s.chans[0]
	if m.in.preds&ch.filter != ch.filter || m.in.null(ch.col) {
		return
	}
	var item uint64
	if s.by >= 0 {
		item = m.in.hashes[s.by]
	} else {
		item = m.bucketOf(s, m.in.nums[ch.col])
	}
	c := m.place(s, t, item)
	if c == nil {
		return
	}
	m.addParts(ch, c[s.pay+ch.off:], t)
	if s.by >= 0 && getu(c, 8) == item {
		m.keepText(item, m.in.texts[s.by])
	} else if s.gamma > 0 && m.entries(s.sec, s.size) > s.limit {
		m.collapse(s)
	}
}

func (m *machine) addList(s *cellStore, t int64) {
	ch := &s.chans[0]
	if m.in.preds&ch.filter != ch.filter || !s.text && m.in.null(ch.col) {
		return
	}
	c := m.place(s, t, 0)
	if c == nil {
		return
	}
	if s.mode != modeFirst {
		s.addTop(c[s.pay:], m.in.nums[ch.col])
		return
	}
	if !s.text {
		s.addFirst(c[s.pay:], t, math.Float64bits(m.in.nums[ch.col]+0))
		return
	}
	h := m.in.hashes[ch.col]
	s.addFirst(c[s.pay:], t, h)
	if bytes.Contains(c[s.pay:], le.AppendUint64(m.buf[:0], h)) {
		m.keepText(h, m.in.texts[ch.col])
	}
}

// advanceCells brings a store from clock old to clock c: tiles that leave a
// horizon become those of the next, and what was open is closed.
func (m *machine) advanceCells(s *cellStore, old, c int64) {
	switch {
	case m.dense(s):
		m.advanceRings(s, old, c)
		return
	case m.isRaw(s):
		m.advanceRaw(s, old, c)
		return
	}
	if s.exact || floorDiv(old, s.levels[0].hop) != floorDiv(c, s.levels[0].hop) {
		m.coarsen(s, old, c)
	}
	open := m.get(s.sec, secOpen)
	if open == 0 {
		return
	}
	n := m.entries(s.sec, s.size) - open
	switch {
	case s.exact:
		m.closeInPlace(s, c, n)
		return
	case open == 1 && !s.keyed:
		m.closeOne(s, c, n)
		return
	}
	m.buf = append(m.buf[:0], m.bytes(s.sec)[n*s.size:]...)
	m.set(s.sec, secOpen, 0)
	m.remove(s.sec, n*s.size, open*s.size)
	for b := m.buf; len(b) > 0; b = b[s.size:] {
		tile, ok := tileAt(s.levels, c, geti(b, 0))
		if !ok {
			continue
		}
		var item uint64
		if s.keyed {
			item = getu(b, 8)
		}
		n := m.entries(s.sec, s.size)
		i, found := m.findCell(s, 0, n, tile, item)
		if found {
			s.mergeCell(m.cell(s, i), b)
			continue
		}
		o := m.insert(s.sec, i*s.size, s.size)
		copy(m.b[o:], b[:s.size])
		puti(m.b, o, tile)
	}
}

// closeOne closes the only open cell, behind n closed ones, at clock c.
func (m *machine) closeOne(s *cellStore, c int64, n int) {
	m.set(s.sec, secOpen, 0)
	cell := m.cell(s, n)
	tile, ok := tileAt(s.levels, c, geti(cell, 0))
	if ok && (n == 0 || geti(m.cell(s, n-1), 0) != tile) {
		puti(cell, 0, tile)
		return
	}
	if ok {
		s.mergeCell(m.cell(s, n-1), cell)
	}
	m.remove(s.sec, n*s.size, s.size)
}

// closeInPlace closes the open cells behind n closed ones where they become the
// last tiles as they are.
func (m *machine) closeInPlace(s *cellStore, c int64, n int) {
	open := m.get(s.sec, secOpen)
	m.set(s.sec, secOpen, 0)
	for i := n; i < n+open; i++ {
		cell := m.cell(s, i)
		if tile, ok := tileAt(s.levels, c, geti(cell, 0)); ok {
			puti(cell, 0, tile)
			continue
		}
		m.remove(s.sec, i*s.size, s.size)
		i, open = i-1, open-1
	}
}
