package feature

import (
	"math"
	"slices"
)

// scalarPlan says which fields are computed from the payloads of all levels of a
// store, which lie in one piece of memory.
type scalarPlan struct {
	// Fields that are the number of values of a channel, such that are a part, then
	// a part by the number of values, and then the root of that.
	counts, parts, means, roots []fieldAt
	// null are the null bits of all these fields.
	null  []nullBits
	chans []chanOuts
	slow  []slowOut
}

// fieldAt is a field of one of the kinds from kCount to kStddev: where in the
// payloads the part is that it is made of, and the number of values.
type fieldAt struct {
	at, n int32
	slot  int32
	field int32
}

// chanOuts are the fields that are made of the basic parts of a channel at a level.
type chanOuts struct {
	n    int32 // where the number of its values is
	outs []fieldAt
	// null has what of the vector's null bits belongs to the fields, none their
	// numbers when there is no value.
	null []nullBits
	none []float64
}

// nullBits are the bits of some fields in a word of null bits: of all, and of
// those that have no default.
type nullBits struct {
	word      int
	all, none uint64
}

// slowOut is any other field: of rarer parts, or of two channels.
type slowOut struct {
	out
	off, off2   int
	mask, mask2 uint8
}

// planScalars makes the plan of a store whose channels have the given offsets at the
// levels.
func (s *cellStore) planScalars(schema *Schema, off func(level, ch int) int) scalarPlan {
	var p scalarPlan
	for l, outs := range s.outs {
		for ch := range s.chans {
			c := chanOuts{}
			for i := range outs {
				o := &outs[i]
				if o.ch != ch {
					continue
				}
				if o.kind > kStddev || o.ch2 >= 0 {
					so := slowOut{out: *o, off: off(l, ch), mask: s.chans[ch].mask}
					if o.ch2 >= 0 {
						so.off2, so.mask2 = off(l, o.ch2), s.chans[o.ch2].mask
					}
					p.slow = append(p.slow, so)
					continue
				}
				c.n = int32(off(l, ch))
				f := fieldAt{at: c.n + partOf(o.kind, s.chans[ch].mask), n: c.n, slot: int32(o.slot), field: int32(o.field)}
				list := p.list(o.kind)
				*list = append(*list, f)
				c.outs = append(c.outs, f)
				def := schema.Fields[o.field].Default
				c.null = withNull(c.null, o.field, def == nil)
				p.null = withNull(p.null, o.field, false)
				if def == nil {
					def = new(float64)
				}
				c.none = append(c.none, *def)
			}
			if len(c.outs) > 0 {
				p.chans = append(p.chans, c)
			}
		}
	}
	return p
}

// list returns the list for fields of a kind.
func (p *scalarPlan) list(k kind) *[]fieldAt {
	switch k {
	case kCount:
		return &p.counts
	case kMean, kVariance:
		return &p.means
	case kStddev:
		return &p.roots
	}
	return &p.parts
}

// partOf is where in a channel the part is that a kind is made of.
func partOf(k kind, mask uint8) int32 {
	switch k {
	case kSum, kMean:
		return int32(partAt(mask, pSum))
	case kMin:
		return int32(partAt(mask, pMin))
	case kMax:
		return int32(partAt(mask, pMax))
	case kVariance, kStddev:
		return int32(partAt(mask, pM2))
	}
	return 0
}

// withNull adds the null bit of a field to a list; none says that it is set when the
// field has no value.
func withNull(list []nullBits, field int, none bool) []nullBits {
	i := slices.IndexFunc(list, func(n nullBits) bool { return n.word == field>>6 })
	if i < 0 {
		i = len(list)
		list = append(list, nullBits{word: field >> 6})
	}
	bit := uint64(1) << (field & 63)
	list[i].all |= bit
	if none {
		list[i].none |= bit
	}
	return list
}

// readParts computes the fields of a store of scalars from its cells.
func (m *machine) readParts(s *cellStore) {
	m.readLevels(s, s.size, func(sum, cells []byte) {
		for i := range s.chans {
			ch := &s.chans[i]
			sumCells(ch.mask, sum[ch.off:], cells, s.pay+ch.off, s.size)
		}
	})
}

// readLevels computes the fields of a store of scalars. Its section holds pieces of a
// size, each with its time in front; add is given those that a level has and the one
// below it has not, to add them to what that one has.
func (m *machine) readLevels(s *cellStore, piece int, add func(sum, pieces []byte)) {
	size := s.size - s.pay
	m.buf = slices.Grow(m.buf[:0], size*len(s.levels))[:size*len(s.levels)]
	sum := m.buf[:size]
	clear(sum)
	c, b := m.clock(), m.bytes(s.sec)
	b = b[:len(b)-m.get(s.sec, secOpen)*piece]
	for l := range s.levels {
		if l > 0 {
			below := sum
			sum = m.buf[l*size : (l+1)*size]
			copy(sum, below)
		}
		lo, from := s.levels[l].lo(c), len(b)
		for from > 0 && geti(b, from-piece) >= lo {
			from -= piece
		}
		if from < len(b) {
			add(sum, b[from:])
			b = b[:from]
		}
	}
	m.outScalars(&s.plan, m.buf)
}

// outScalars sets the fields of a plan from the payloads of all levels.
func (m *machine) outScalars(p *scalarPlan, pay []byte) {
	floats, null := m.vec.row.Floats, m.vec.row.Null
	for _, w := range p.null {
		null[w.word] &^= w.all
	}
	for i := range p.counts {
		o := &p.counts[i]
		floats[o.slot] = float64(le.Uint32(pay[o.at:]))
	}
	// Each is not 0 once something is not finite.
	var bad, badMean, badRoot float64
	for i := range p.parts {
		o := &p.parts[i]
		v := getf(pay, int(o.at))
		floats[o.slot] = v
		bad += v - v
	}
	for i := range p.means {
		o := &p.means[i]
		v := getf(pay, int(o.at)) / float64(max(1, le.Uint32(pay[o.n:])))
		floats[o.slot] = v
		badMean += v - v
	}
	for i := range p.roots {
		o := &p.roots[i]
		v := math.Sqrt(getf(pay, int(o.at)) / float64(max(1, le.Uint32(pay[o.n:]))))
		floats[o.slot] = v
		badRoot += v - v
	}
	if bad != 0 || badMean != 0 || badRoot != 0 {
		m.outBad(p)
	}
	for i := range p.chans {
		if c := &p.chans[i]; le.Uint32(pay[c.n:]) == 0 {
			for j, v := range c.none {
				floats[c.outs[j].slot] = v
			}
			for _, w := range c.null {
				null[w.word] = null[w.word]&^w.all | w.none
			}
		}
	}
	for i := range p.slow {
		m.outScalar(&p.slow[i], pay)
	}
}

// outBad makes null what is not finite.
func (m *machine) outBad(p *scalarPlan) {
	for i := range p.chans {
		for _, o := range p.chans[i].outs {
			if !finite(m.vec.row.Floats[o.slot]) {
				m.vec.setNone(int(o.field))
			}
		}
	}
}

// outScalar sets one scalar field of any kind.
func (m *machine) outScalar(o *slowOut, pay []byte) {
	var a acc
	a.load(o.mask, pay[o.off:])
	v, ok := a.result(o.kind, o.secs)
	if o.ch2 >= 0 && ok {
		var b acc
		b.load(o.mask2, pay[o.off2:])
		var d float64
		if d, ok = b.result(o.kind2, o.secs); ok {
			ok = d != 0
			v /= d
		}
	}
	if o.kind == kDelta && ok {
		var last float64
		if last, ok = m.lastOf(m.p.recents[o.recent]); ok {
			v = last - v
		}
	}
	m.outFloat(o.field, v, ok)
}

// outFloat sets a number, or none; a sum that overflows is none.
func (m *machine) outFloat(field int, v float64, ok bool) {
	if ok && finite(v) {
		m.vec.setFloat(field, v)
		return
	}
	m.vec.setNone(field)
}
