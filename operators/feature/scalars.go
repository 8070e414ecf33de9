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
	off  int // of the channel in a payload
	outs []scalarOut
	// null has what of the vector's null bits belongs to the fields.
	null []nullBits
}

// scalarOut is a field of one of the kinds from kCount to kStddev.
type scalarOut struct {
	kind  kind
	at    int32 // of the part in the channel; the sum's for a mean, that of pM2 for a variance
	slot  int32
	field int32
	none  float64 // what the vector holds when there is no value
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
	var of []int // channel of each of p.fast
	for _, o := range outs {
		if o.kind > kStddev || o.ch2 >= 0 {
			so := slowOut{out: o, off: off(o.ch), mask: s.chans[o.ch].mask}
			if o.ch2 >= 0 {
				so.off2, so.mask2 = off(o.ch2), s.chans[o.ch2].mask
			}
			p.slow = append(p.slow, so)
			continue
		}
		i := slices.Index(of, o.ch)
		if i < 0 {
			i = len(of)
			of = append(of, o.ch)
			p.fast = append(p.fast, chanOuts{off: off(o.ch)})
		}
		p.fast[i].add(&o, s.chans[o.ch].mask, schema.Fields[o.field].Default)
	}
	return p
}

// add adds a field.
func (c *chanOuts) add(o *out, mask uint8, def *float64) {
	so := scalarOut{kind: o.kind, slot: int32(o.slot), field: int32(o.field)}
	switch o.kind {
	case kSum, kMean:
		so.at = int32(partAt(mask, pSum))
	case kMin:
		so.at = int32(partAt(mask, pMin))
	case kMax:
		so.at = int32(partAt(mask, pMax))
	case kVariance, kStddev:
		so.at = int32(partAt(mask, pM2))
	}
	i := slices.IndexFunc(c.null, func(n nullBits) bool { return n.word == o.field>>6 })
	if i < 0 {
		i = len(c.null)
		c.null = append(c.null, nullBits{word: o.field >> 6})
	}
	bit := uint64(1) << (o.field & 63)
	c.null[i].all |= bit
	if def != nil {
		so.none = *def
	} else {
		c.null[i].none |= bit
	}
	c.outs = append(c.outs, so)
}

// outScalars sets the fields of a plan from a payload.
func (m *machine) outScalars(p *scalarPlan, pay []byte) {
	floats, null := m.vec.row.Floats, m.vec.row.Null
	for i := range p.fast {
		c := &p.fast[i]
		part := pay[c.off:]
		n := le.Uint32(part)
		if n == 0 {
			for j := range c.outs {
				floats[c.outs[j].slot] = c.outs[j].none
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
		for j := range c.outs {
			o := &c.outs[j]
			v := count
			switch o.kind {
			case kCount:
			case kMean, kVariance:
				v = getf(part, int(o.at)) / count
			case kStddev:
				v = math.Sqrt(getf(part, int(o.at)) / count)
			default:
				v = getf(part, int(o.at))
			}
			floats[o.slot] = v
			if v-v != 0 { // not finite
				m.vec.setNone(int(o.field))
			}
		}
	}
	for i := range p.slow {
		m.outScalar(&p.slow[i], pay)
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
