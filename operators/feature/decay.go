package feature

import "math"

// decayHalfLives is the age at which a decayed value is forgotten: 2^−64 of it is
// left.
const decayHalfLives = 64

// faded returns v after dt seconds.
func (d *decay) faded(v float64, dt int64) float64 {
	return v * math.Exp2(-float64(dt)/1e9/d.half)
}

// old says that what was last touched dt before is forgotten.
func (d *decay) old(dt int64) bool { return float64(dt)/1e9 >= d.half*decayHalfLives }

// joinDecay adds a value at time t to the pair (value, time) at an offset of the
// state; the later of the two times is its new one. Two zeros are a pair of nothing.
func (m *machine) joinDecay(d *decay, at int, v float64, t int64) {
	have, from := getf(m.b, at), geti(m.b, at+8)
	switch {
	case have == 0 && from == 0 || t > from && d.old(t-from):
		have, from = v, t
	case t >= from:
		have, from = d.faded(have, t-from)+v, t
	default:
		have += d.faded(v, from-t)
	}
	putf(m.b, at, have)
	puti(m.b, at+8, from)
}

// addDecay adds the record in hand, at time t.
func (m *machine) addDecay(i int, t int64) {
	d := &m.p.decays[i]
	if m.in.preds&d.filter != d.filter || m.in.null(d.col) {
		return
	}
	v := 1.0
	if d.col >= 0 {
		v = m.in.nums[d.col]
	}
	at := headerSize + decaySize*i
	if t >= m.clock() && !m.p.including {
		at += 16
	}
	m.joinDecay(d, at, v, t)
}

// advanceDecay closes what is open.
func (m *machine) advanceDecay(i int) {
	at := headerSize + decaySize*i
	if v, t := getf(m.b, at+16), geti(m.b, at+24); v != 0 || t != 0 {
		m.joinDecay(&m.p.decays[i], at, v, t)
		putf(m.b, at+16, 0)
		puti(m.b, at+24, 0)
	}
}

// readDecay computes the field of a decay.
func (m *machine) readDecay(i int) {
	d := &m.p.decays[i]
	v, from := getf(m.b, headerSize+decaySize*i), geti(m.b, headerSize+decaySize*i+8)
	dt := m.clock() - from
	if v == 0 && from == 0 || d.old(dt) {
		m.vec.setNone(d.field)
		return
	}
	// A group of snapshots has a boundary behind the last value at most.
	m.outFloat(d.field, d.faded(v, max(0, dt)), true)
}
