package feature

import (
	"math"
	"slices"
)

// scalarPlan says which fields are computed at one level from a payload.
type scalarPlan struct {
	fast []chanOuts
	slow []slowOut
}

// chanOuts are the fields that are made of the basic parts of one channel.
type chanOuts struct {
	off int // of the channel in a payload
	// outs are fields that are the number of values, then such that are a part,
	// then a part by the number of values, and then the root of that. They end at
	// the indices in ends.
	outs []scalarOut
	ends [4]int32
	// null has what of the vector's null bits belongs to the fields, none their
	// numbers when there is no value.
	null []nullBits
	none []float64
}

// scalarOut is a field of one of the kinds from kCount to kStddev.
type scalarOut struct {
	at    int32 // of the part in the channel
	slot  int32
	field int32
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

// planScalars makes the plan of a level whose channels have the given offsets.
func (s *cellStore) planScalars(outs []out, schema *Schema, off func(ch int) int) scalarPlan {
	var p scalarPlan
	byChan := make([][]*out, len(s.chans))
	n := 0
	for i := range outs {
		o := &outs[i]
		if o.kind > kStddev || o.ch2 >= 0 {
			so := slowOut{out: *o, off: off(o.ch), mask: s.chans[o.ch].mask}
			if o.ch2 >= 0 {
				so.off2, so.mask2 = off(o.ch2), s.chans[o.ch2].mask
			}
			p.slow = append(p.slow, so)
			continue
		}
		byChan[o.ch] = append(byChan[o.ch], o)
		n++
	}
	all := make([]scalarOut, 0, n) // one piece of memory, for the cache
	for ch, of := range byChan {
		if len(of) == 0 {
			continue
		}
		c := chanOuts{off: off(ch)}
		first := len(all)
		for class := range c.ends {
			for _, o := range of {
				if o.kind.class() == class {
					all = append(all, scalarOut{at: partOf(o.kind, s.chans[ch].mask), slot: int32(o.slot), field: int32(o.field)})
					c.addNull(o.field, schema.Fields[o.field].Default)
				}
			}
			c.ends[class] = int32(len(all) - first)
		}
		c.outs = all[first:]
		p.fast = append(p.fast, c)
	}
	return p
}

// class is where in a chanOuts a kind comes.
func (k kind) class() int {
	switch k {
	case kCount:
		return 0
	case kMean, kVariance:
		return 2
	case kStddev:
		return 3
	}
	return 1
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

// addNull adds the null bit of a field, and its default.
func (c *chanOuts) addNull(field int, def *float64) {
	i := slices.IndexFunc(c.null, func(n nullBits) bool { return n.word == field>>6 })
	if i < 0 {
		i = len(c.null)
		c.null = append(c.null, nullBits{word: field >> 6})
	}
	bit := uint64(1) << (field & 63)
	c.null[i].all |= bit
	if def != nil {
		c.none = append(c.none, *def)
		return
	}
	c.null[i].none |= bit
	c.none = append(c.none, 0)
}

// readParts computes the fields of a store of scalars from its cells, from the newest
// to the oldest.
func (m *machine) readParts(s *cellStore) {
	m.buf = slices.Grow(m.buf[:0], s.size-s.pay)[:s.size-s.pay]
	sum := m.buf
	clear(sum)
	c, to := m.clock(), m.closed(s)
	b := m.bytes(s.sec)
	for l := range s.levels {
		lo, from := s.levels[l].lo(c), to
		for from > 0 && geti(b, (from-1)*s.size) >= lo {
			from--
		}
		if from < to {
			cells := b[from*s.size : to*s.size]
			for i := range s.chans {
				ch := &s.chans[i]
				sumCells(ch.mask, sum[ch.off:], cells, s.pay+ch.off, s.size)
			}
			to = from
		}
		m.outScalars(&s.plans[l], sum)
	}
}

// outScalars sets the fields of a plan from a payload.
func (m *machine) outScalars(p *scalarPlan, pay []byte) {
	floats, null := m.vec.row.Floats, m.vec.row.Null
	for i := range p.fast {
		c := &p.fast[i]
		part := pay[c.off:]
		n := le.Uint32(part)
		if n == 0 {
			for j, v := range c.none {
				floats[c.outs[j].slot] = v
			}
			for _, w := range c.null {
				null[w.word] = null[w.word]&^w.all | w.none
			}
			continue
		}
		for _, w := range c.null {
			null[w.word] &^= w.all
		}
		count := float64(n)
		outs, e := c.outs, &c.ends
		for _, o := range outs[:e[0]] {
			floats[o.slot] = count
		}
		bad := 0.0 // not 0 once something is not finite
		for _, o := range outs[e[0]:e[1]] {
			v := getf(part, int(o.at))
			floats[o.slot] = v
			bad += v - v
		}
		for _, o := range outs[e[1]:e[2]] {
			v := getf(part, int(o.at)) / count
			floats[o.slot] = v
			bad += v - v
		}
		for _, o := range outs[e[2]:e[3]] {
			v := math.Sqrt(getf(part, int(o.at)) / count)
			floats[o.slot] = v
			bad += v - v
		}
		if bad != 0 {
			m.outBad(c)
		}
	}
	for i := range p.slow {
		m.outScalar(&p.slow[i], pay)
	}
}

// outBad makes null what is not finite.
func (m *machine) outBad(c *chanOuts) {
	for _, o := range c.outs {
		if !finite(m.vec.row.Floats[o.slot]) {
			m.vec.setNone(int(o.field))
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
