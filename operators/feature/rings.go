package feature

// The dense form of the scalars of a key: for each horizon a ring of its tiles and
// the running aggregate of its window, so that a record costs two merges for each
// horizon and channel, whatever the horizon's length.
//
// Tile number i = ⌊t/hop⌋ has slot i mod L of a ring of L = ⌈W/hop⌉+1 slots, which
// is what a window covers. Numbers divided by L are blocks. Slots before that of
// the clock's tile hold tiles of its block as they are, and prefix their sum; slots
// behind it belong to the block before, and hold the sum from their tile to the
// block's end. So the window is the first slot behind the clock's, prefix, and the
// clock's tile: the scheme of van Herk and of Gil and Werman, with blocks that lie
// at fixed times. The window is summed anew when a tile leaves it, so that nothing
// is ever subtracted; between, what comes is added. A horizon's tile at the clock
// lacks what is in the one of the horizon below, until that one is closed.
//
// Bytes: what each record touches, namely the open payload, the clock's tile of the
// first level, and then for each level twice the clock's slot plus 1 if the clock's
// tile has a value (u32), a bit for each slot that has one, and the window; then for
// each level what turns touch: prefix, the clock's tile unless it is in front, and
// slots. What is in a slot without a bit is arbitrary. A payload is the parts of the
// channels that the level uses; in the clock's tiles it is of all channels. A
// lifetime has a window only.

// ringPlan is the layout of the dense form.
type ringPlan struct {
	open   int // size of a payload of all channels
	hot    int // size of what each record touches
	size   int
	levels []ringLevel
	plan   scalarPlan // of the section
	// most is the number of cells from which the dense form is used.
	most int
}

type ringLevel struct {
	*level
	hot    int // where what each record touches is in the section
	cold   int // where prefix and, behind it, slots are
	tile   int // where the clock's tile is
	window int
	slots  int
	words  int // of bits
	stride int
	chans  []ringChan
	// counts, basics and others are the channels by how they are merged.
	counts, basics, others []ringChan
	// whole says that a payload of the level is one of all channels.
	whole bool
}

// ringChan is a channel as a level keeps it.
type ringChan struct {
	ch, off int
	src     int // offset in a payload of all channels
	mask    uint8
}

// ringBits is where the bits are in the part of a level that each record touches.
const ringBits = 4

// A key with tiles gets the dense form when it has more than denseCells of them, and
// the dense form is at most denseWaste times as large.
const (
	denseCells = 24
	denseWaste = 8
)

func planRings(s *cellStore) *ringPlan {
	r := &ringPlan{open: s.size - s.pay}
	off := 2 * r.open
	for l := range s.levels {
		lv := ringLevel{level: &s.levels[l], hot: off, tile: r.open}
		for c := range s.chans {
			if ch := &s.chans[c]; ch.used>>l&1 != 0 {
				lv.add(ringChan{c, lv.stride, ch.off, ch.mask})
			}
		}
		lv.whole = lv.stride == r.open // the order is that of all channels
		if lv.w != forever {
			lv.slots = int(lv.n) + 1
			lv.words = (lv.slots + 63) / 64
		}
		lv.window = off + ringBits + 8*lv.words
		off = lv.window + lv.stride
		r.levels = append(r.levels, lv)
	}
	r.hot = off
	for l := range r.levels {
		lv := &r.levels[l]
		if lv.slots == 0 {
			continue
		}
		if l > 0 {
			lv.tile = off
			off += r.open
		}
		lv.cold = off
		off += lv.stride * (1 + lv.slots)
	}
	r.size = off
	r.most = max(denseCells, r.size/(denseWaste*s.size))
	return r
}

// add adds a channel to a level, behind those that it has.
func (lv *ringLevel) add(c ringChan) {
	lv.chans = append(lv.chans, c)
	lv.stride += maskSize(c.mask)
	switch c.mask {
	case pN:
		lv.counts = append(lv.counts, c)
	case basic:
		lv.basics = append(lv.basics, c)
	default:
		lv.others = append(lv.others, c)
	}
}

// slot returns the payload of a slot; slot −1 is prefix.
func (lv *ringLevel) slot(b []byte, i int) []byte {
	o := lv.cold + lv.stride*(i+1)
	return b[o : o+lv.stride]
}

// bits returns the bits of the slots.
func (lv *ringLevel) bits(b []byte) bitmap {
	o := lv.hot + ringBits
	return bitmap(b[o : o+8*lv.words])
}

// dense says that a store of scalars has the dense form.
func (m *machine) dense(s *cellStore) bool {
	return s.rings != nil && m.get(s.sec, secAux) == formRings
}

// makeDense turns the cells of a store into rings.
func (m *machine) makeDense(s *cellStore) {
	r := s.rings
	n, open := m.closed(s), m.get(s.sec, secOpen)
	cells := append([]byte(nil), m.bytes(s.sec)...)
	m.set(s.sec, secLen, 0)
	m.insert(s.sec, 0, r.size)
	b := m.bytes(s.sec)
	clear(b)
	m.set(s.sec, secAux, formRings)
	c := m.clock()
	if open > 0 {
		copy(b[:r.open], cells[n*s.size+s.pay:])
	}
	for l := range r.levels {
		if lv := &r.levels[l]; lv.slots > 0 {
			lv.setSlot(b, lv.slotOf(lv.number(c)))
		}
	}
	for i := range n {
		m.putRings(s, b, geti(cells, i*s.size), cells[i*s.size+s.pay:])
	}
}

// slotOf is the slot of a tile.
func (lv *ringLevel) slotOf(tile int64) int {
	return int(tile - floorDiv(tile, int64(lv.slots))*int64(lv.slots))
}

// now returns the slot of the clock's tile, and whether that has a value.
func (lv *ringLevel) now(b []byte) (slot int, full bool) {
	v := le.Uint32(b[lv.hot:])
	return int(v >> 1), v&1 != 0
}

// setSlot makes a slot that of the clock, whose tile is empty.
func (lv *ringLevel) setSlot(b []byte, slot int) { le.PutUint32(b[lv.hot:], uint32(slot)<<1) }

// putRings adds a payload of all channels to the tile of time t, at most the
// clock's.
func (m *machine) putRings(s *cellStore, b []byte, t int64, pay []byte) {
	c := m.clock()
	placed := false
	for l := range s.rings.levels {
		lv := &s.rings.levels[l]
		if lv.slots == 0 {
			lv.mergeFrom(b[lv.window:], pay)
			continue
		}
		back := lv.number(c) - lv.number(t)
		if back >= int64(lv.slots) {
			continue
		}
		lv.mergeFrom(b[lv.window:], pay)
		if back > 0 {
			lv.putBack(b, int(back), pay)
		} else if !placed {
			placed = true
			s.addNow(b, lv, pay)
		}
	}
}

// putBack adds a payload of all channels to a tile before the clock's in the window.
func (lv *ringLevel) putBack(b []byte, back int, pay []byte) {
	now, _ := lv.now(b)
	bits := lv.bits(b)
	i := now - back
	if i >= 0 { // a tile of the same block
		if bits.next(0) < now {
			lv.mergeFrom(lv.slot(b, -1), pay)
		} else {
			lv.copyFrom(lv.slot(b, -1), pay)
		}
		if bits.has(i) {
			lv.mergeFrom(lv.slot(b, i), pay)
		} else {
			lv.copyFrom(lv.slot(b, i), pay)
			bits.set(i)
		}
		return
	}
	// One of the block before: it counts in the sums from it and from those before.
	i += lv.slots
	if j := bits.next(i); j != i {
		lv.copyFrom(lv.slot(b, i), pay)
		if j < lv.slots {
			lv.merge(lv.slot(b, i), lv.slot(b, j))
		}
		bits.set(i)
		i--
	}
	for j := bits.prev(i); j > now; j = bits.prev(j - 1) {
		lv.mergeFrom(lv.slot(b, j), pay)
	}
}

// addNow adds a payload of all channels to the clock's tile of a level, but not to
// its window.
func (s *cellStore) addNow(b []byte, lv *ringLevel, pay []byte) {
	tile := b[lv.tile:]
	if b[lv.hot]&1 == 0 {
		b[lv.hot] |= 1
		copy(tile[:s.rings.open], pay)
		return
	}
	for i := range s.chans {
		ch := &s.chans[i]
		mergeInto(ch.mask, tile[ch.off:], pay[ch.off:])
	}
}

// mergeFrom adds a payload of all channels to one of the level.
func (lv *ringLevel) mergeFrom(dst, pay []byte) {
	for i := range lv.counts {
		c := &lv.counts[i]
		mergeCount(dst[c.off:], pay[c.src:])
	}
	for i := range lv.basics {
		c := &lv.basics[i]
		if d, s := dst[c.off:], pay[c.src:]; le.Uint32(s) != 0 {
			mergeBasic((*[basicSize]byte)(d), (*[basicSize]byte)(s), le.Uint32(d), le.Uint32(s))
		}
	}
	for i := range lv.others {
		c := &lv.others[i]
		mergeInto(c.mask, dst[c.off:], pay[c.src:])
	}
}

// copyFrom makes a payload of the level from one of all channels.
func (lv *ringLevel) copyFrom(dst, pay []byte) {
	if lv.whole {
		copy(dst[:lv.stride], pay)
		return
	}
	for i := range lv.chans {
		c := &lv.chans[i]
		n := maskSize(c.mask)
		copy(dst[c.off:c.off+n], pay[c.src:])
	}
}

// merge adds a payload of the level to another.
func (lv *ringLevel) merge(dst, src []byte) {
	for i := range lv.counts {
		c := &lv.counts[i]
		mergeCount(dst[c.off:], src[c.off:])
	}
	for i := range lv.basics {
		c := &lv.basics[i]
		if d, s := dst[c.off:], src[c.off:]; le.Uint32(s) != 0 {
			mergeBasic((*[basicSize]byte)(d), (*[basicSize]byte)(s), le.Uint32(d), le.Uint32(s))
		}
	}
	for i := range lv.others {
		c := &lv.others[i]
		mergeInto(c.mask, dst[c.off:], src[c.off:])
	}
}

// advanceRings closes what is open and moves the rings from clock old to clock c.
func (m *machine) advanceRings(s *cellStore, old, c int64) {
	r := s.rings
	b := m.bytes(s.sec)
	var open []byte
	if m.get(s.sec, secOpen) != 0 {
		open = b[:r.open]
		s.addNow(b, &r.levels[0], open)
	}
	turns := true
	for l := range r.levels {
		lv := &r.levels[l]
		anew := false
		if turns && lv.slots > 0 {
			now, next := lv.number(old), lv.number(c)
			if turns = now != next; turns {
				_, full := lv.now(b)
				if full && l+1 < len(r.levels) && r.levels[l+1].slots > 0 {
					s.addNow(b, &r.levels[l+1], b[lv.tile:])
				}
				anew = lv.turn(b, full, next, next-now)
			}
		}
		if open != nil && !anew {
			lv.mergeFrom(b[lv.window:], open)
		}
	}
	if open != nil {
		clear(open)
		m.set(s.sec, secOpen, 0)
	}
}

// turn moves a ring by some tiles to a later one, and returns whether it has summed
// the window anew: it has when something left it.
func (lv *ringLevel) turn(b []byte, full bool, next, by int64) (anew bool) {
	bits := lv.bits(b)
	if by >= int64(lv.slots) {
		bits.keep(0, 0)
		lv.setSlot(b, lv.slotOf(next))
		clear(b[lv.window:][:lv.stride])
		return true
	}
	r, _ := lv.now(b)
	if full {
		lv.shut(b, bits, r)
	}
	r2 := r + int(by)
	if r2 < lv.slots { // in the same block
		lv.setSlot(b, r2)
		if bits.next(r+1) > r2 {
			return false
		}
		bits.drop(r+1, r2+1)
	} else { // in the next one: tiles of this one that stay become sums to its end
		r2 -= lv.slots
		lv.setSlot(b, r2)
		bits.keep(r2+1, r+1)
		i := bits.prev(r)
		for j := bits.prev(i - 1); j >= 0; i, j = j, bits.prev(j-1) {
			lv.merge(lv.slot(b, j), lv.slot(b, i))
		}
	}
	lv.sum(b, bits, r2)
	return true
}

// shut puts the clock's tile into its slot, r.
func (lv *ringLevel) shut(b []byte, bits bitmap, r int) {
	tile := b[lv.tile:]
	if bits.next(0) < r {
		lv.mergeFrom(lv.slot(b, -1), tile)
	} else {
		lv.copyFrom(lv.slot(b, -1), tile)
	}
	lv.copyFrom(lv.slot(b, r), tile)
	bits.set(r)
}

// sum makes the window from the slots when the clock's tile, of slot r, is empty.
func (lv *ringLevel) sum(b []byte, bits bitmap, r int) {
	w := b[lv.window:][:lv.stride]
	i, prefix := bits.next(r), bits.next(0) < r
	switch {
	case i < lv.slots:
		copy(w, lv.slot(b, i))
		if prefix {
			lv.merge(w, lv.slot(b, -1))
		}
	case prefix:
		copy(w, lv.slot(b, -1))
	default:
		clear(w)
	}
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
	m.putRings(s, b, t, m.buf)
}

// readRings computes the fields of scalars.
func (m *machine) readRings(s *cellStore) {
	m.outScalars(&s.rings.plan, m.bytes(s.sec))
}
