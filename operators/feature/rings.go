package feature

// The dense form of the scalars of a key: for each horizon a ring of its tiles and
// two running aggregates, so that a read is one merge for each horizon and channel.
//
// Tile number i = ⌊t/hop⌋ has slot i mod L of a ring of L = ⌈W/hop⌉+1 slots, which
// is what a window covers. Numbers divided by L are blocks. In the block of the
// clock, slots hold tiles as they are, and prefix their sum; slots behind that of
// the clock belong to the block before, and hold the sum from their tile to the
// block's end. So a window is the slot behind the clock's, and prefix: the scheme
// of van Herk and of Gil and Werman, with blocks that lie at fixed times, which
// makes the order of additions a matter of the tiles alone.
//
// Bytes: the open payload; then for each level: number of the clock's tile and its
// slot (i64), prefix, slots. A payload is the parts of the channels that the level uses. A
// lifetime has a prefix only.

// ringPlan is the layout of the dense form.
type ringPlan struct {
	open   int // size of the open payload
	size   int
	levels []ringLevel
	// most is the number of cells from which the dense form is used.
	most int
}

type ringLevel struct {
	off    int // of the level in the section
	slots  int64
	stride int
	chans  []ringChan
}

// ringChan is a channel as a level keeps it.
type ringChan struct {
	ch, off int
	src     int // offset in a payload of all channels
	mask    uint8
}

// ringHeader is the size of what is in front of the prefix of a level.
const ringHeader = 16

// denseCells is the number of tiles of a key from which it gets the dense form,
// unless that is smaller before.
const denseCells = 24

func planRings(s *cellStore) *ringPlan {
	r := &ringPlan{open: s.size - s.pay}
	off := r.open
	for l := range s.levels {
		lv := ringLevel{off: off}
		for c := range s.chans {
			if ch := &s.chans[c]; ch.used>>l&1 != 0 {
				lv.chans = append(lv.chans, ringChan{c, lv.stride, ch.off, ch.mask})
				lv.stride += maskSize(ch.mask)
			}
		}
		if s.levels[l].w != forever {
			lv.slots = s.levels[l].n + 1
		}
		off += ringHeader + lv.stride*int(1+lv.slots)
		r.levels = append(r.levels, lv)
	}
	r.size = off
	r.most = min(denseCells, r.size/s.size+1)
	return r
}

// dense says that a store of scalars has the dense form.
func (m *machine) dense(s *cellStore) bool { return s.rings != nil && m.get(s.sec, secAux) != 0 }

// makeDense turns the cells of a store into rings.
func (m *machine) makeDense(s *cellStore) {
	r := s.rings
	n, open := m.closed(s), m.get(s.sec, secOpen)
	cells := append([]byte(nil), m.bytes(s.sec)...)
	m.set(s.sec, secLen, 0)
	m.insert(s.sec, 0, r.size)
	b := m.bytes(s.sec)
	clear(b)
	m.set(s.sec, secAux, 1)
	c := m.clock()
	if open > 0 {
		copy(b[:r.open], cells[n*s.size+s.pay:])
	}
	for l := range r.levels {
		if s.levels[l].w != forever {
			now := floorDiv(c, s.levels[l].hop)
			puti(b, r.levels[l].off, now)
			puti(b, r.levels[l].off+8, now-floorDiv(now, r.levels[l].slots)*r.levels[l].slots)
		}
	}
	for i := range n {
		cell := cells[i*s.size:]
		for l := range r.levels {
			if geti(cell, 0) >= s.levels[l].lo(c) {
				m.addLevel(s, l, b, geti(cell, 0), cell[s.pay:])
			}
		}
	}
}

// addLevel adds a payload of all channels to the tile of time t.
func (m *machine) addLevel(s *cellStore, l int, b []byte, t int64, pay []byte) {
	lv := &s.rings.levels[l]
	b = b[lv.off:]
	prefix := b[ringHeader:]
	if lv.slots == 0 {
		lv.mergeFrom(prefix, pay)
		return
	}
	now, tile := geti(b, 0), floorDiv(t, s.levels[l].hop)
	if now-tile >= lv.slots {
		return
	}
	slots := b[ringHeader+lv.stride:]
	block := now - geti(b, 8)
	if tile >= block {
		lv.mergeFrom(slots[int(tile-block)*lv.stride:], pay)
		lv.mergeFrom(prefix, pay)
		return
	}
	// It counts in every sum from its tile or one before it.
	for i := now - block + 1; i <= tile-block+lv.slots; i++ {
		lv.mergeFrom(slots[int(i)*lv.stride:], pay)
	}
}

// addNow adds a payload of all channels to the clock's tile.
func (lv *ringLevel) addNow(b, pay []byte) {
	if lv.slots > 0 {
		lv.mergeFrom(b[ringHeader+lv.stride*int(1+geti(b, 8)):], pay)
	}
	lv.mergeFrom(b[ringHeader:], pay)
}

// mergeFrom adds a payload of all channels to one of the level.
func (lv *ringLevel) mergeFrom(dst, pay []byte) {
	for i := range lv.chans {
		c := &lv.chans[i]
		mergeInto(c.mask, dst[c.off:], pay[c.src:])
	}
}

// merge adds a payload of the level to another.
func (lv *ringLevel) merge(dst, src []byte) {
	for i := range lv.chans {
		c := &lv.chans[i]
		mergeInto(c.mask, dst[c.off:], src[c.off:])
	}
}

// advanceRings closes what is open and moves the rings to clock c.
func (m *machine) advanceRings(s *cellStore, c int64) {
	r := s.rings
	b := m.bytes(s.sec)
	open := m.get(s.sec, secOpen) != 0
	for l := range r.levels {
		lv := &r.levels[l]
		if open {
			lv.addNow(b[lv.off:], b)
		}
		if lv.slots > 0 {
			if now, next := geti(b, lv.off), floorDiv(c, s.levels[l].hop); next != now {
				lv.turn(b[lv.off:], now, next)
			}
		}
	}
	if open {
		clear(b[:r.open])
		m.set(s.sec, secOpen, 0)
	}
}

// turn moves a ring from one tile to a later one.
func (lv *ringLevel) turn(b []byte, now, next int64) {
	prefix, slots := b[ringHeader:ringHeader+lv.stride], b[ringHeader+lv.stride:ringHeader+lv.stride*int(1+lv.slots)]
	r := int(geti(b, 8))
	r2 := r + int(min(next-now, 2*lv.slots))
	puti(b, 0, next)
	if r2 < int(lv.slots) { // in the same block
		puti(b, 8, int64(r2))
		clear(slots[(r+1)*lv.stride : (r2+1)*lv.stride])
		return
	}
	r2 = int(next - floorDiv(next, lv.slots)*lv.slots)
	puti(b, 8, int64(r2))
	switch {
	case next-now < lv.slots: // in the next block
		clear(slots[(r+1)*lv.stride:])
		for i := r - 1; i > r2; i-- {
			lv.merge(slots[i*lv.stride:], slots[(i+1)*lv.stride:])
		}
		// Slots behind r are sums of nothing; those up to r2 are tiles again.
		clear(slots[:(r2+1)*lv.stride])
	default:
		clear(slots)
	}
	clear(prefix)
}

// addRings adds the record in hand at time t.
func (m *machine) addRings(s *cellStore, t int64) {
	r := s.rings
	b := m.bytes(s.sec)
	if t >= m.clock() && !m.p.including {
		for i := range s.chans {
			if ch := &s.chans[i]; m.in.preds&ch.filter == ch.filter && !m.in.null(ch.col) {
				m.addParts(ch, b[ch.off:], t)
				m.set(s.sec, secOpen, 1)
			}
		}
		return
	}
	m.buf = append(m.buf[:0], make([]byte, r.open)...)
	for i := range s.chans {
		if ch := &s.chans[i]; m.in.preds&ch.filter == ch.filter && !m.in.null(ch.col) {
			m.addParts(ch, m.buf[ch.off:], t)
		}
	}
	for l := range r.levels {
		m.addLevel(s, l, b, t, m.buf)
	}
}

// readRings computes the fields of scalars.
func (m *machine) readRings(s *cellStore) {
	r := s.rings
	b := m.bytes(s.sec)
	for l := range r.levels {
		lv := &r.levels[l]
		d := b[lv.off:]
		next := -1
		if lv.slots > 0 {
			if i := geti(d, 8) + 1; i < lv.slots {
				next = ringHeader + lv.stride*int(1+i)
			}
		}
		for i := range lv.chans {
			c := &lv.chans[i]
			a := &m.accs[c.ch]
			a.n = 0
			if next >= 0 {
				a.plus(c.mask, d[next+c.off:])
			}
			a.plus(c.mask, d[ringHeader+c.off:])
		}
		m.outScalars(s.outs[l])
	}
}

// touch reads what a step will read of a state first, for the cache.
func (p *plan) touch(b []byte) (x byte) {
	const line = 64
	for i := 0; i < len(b) && i < 4*line; i += line {
		x += b[i]
	}
	for _, s := range p.cells {
		if s.rings == nil || len(b) < p.base {
			continue
		}
		off := int(le.Uint32(b[p.secOff+s.sec*sectionSize+secOff:]))
		if le.Uint32(b[p.secOff+s.sec*sectionSize+secAux:]) == 0 || off+s.rings.size > len(b) {
			continue
		}
		for l := range s.rings.levels {
			lv := &s.rings.levels[l]
			at := off + lv.off
			x += b[at+ringHeader+lv.stride-1]
			if lv.slots > 0 {
				// Both the clock's slot and the one behind it.
				o := at + ringHeader + lv.stride*int(1+geti(b, at+8))
				x += b[o] + b[min(o+2*lv.stride, len(b))-1]
			}
		}
	}
	return x
}
