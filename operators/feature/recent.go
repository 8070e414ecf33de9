package feature

import (
	"math"
	"sort"
)

// recentSize is the size of an entry: time and value.
const recentSize = 16

// addRecent puts the record in hand, at time t, among the latest values.
func (m *machine) addRecent(r *recentStore, t int64) {
	if m.in.preds&r.filter != r.filter {
		return
	}
	var v uint64
	switch {
	case r.text:
		v = m.in.hashes[r.col]
	case r.col >= 0:
		if m.in.null(r.col) {
			return
		}
		v = math.Float64bits(m.in.nums[r.col] + 0)
	}
	open := t >= m.clock() && !m.p.including
	if m.putRecent(r, t, v, open) && r.text {
		m.keepText(v, m.in.texts[r.col])
	}
}

// putRecent inserts an entry behind those of its time, and drops what exceeds k.
// It returns false when the entry is not kept.
func (m *machine) putRecent(r *recentStore, t int64, v uint64, open bool) bool {
	n, nopen := m.entries(r.sec, recentSize), m.get(r.sec, secOpen)
	lo, hi := 0, n-nopen
	if open {
		lo, hi = n-nopen, n
	}
	b := m.bytes(r.sec)
	i := hi
	for i > lo && geti(b, recentSize*(i-1)) > t {
		i--
	}
	if r.unique {
		for j := lo; j < hi; j++ {
			if getu(b, recentSize*j+8) != v {
				continue
			}
			if j >= i {
				return false // a later one is there
			}
			m.remove(r.sec, recentSize*j, recentSize)
			i, hi = i-1, hi-1
			if open {
				nopen--
			}
			break
		}
	}
	if hi-lo >= r.k {
		if i == lo {
			return false
		}
		m.remove(r.sec, recentSize*lo, recentSize)
		i--
		if open {
			nopen--
		}
	}
	o := m.insert(r.sec, recentSize*i, recentSize)
	puti(m.b, o, t)
	putu(m.b, o+8, v)
	if open {
		nopen++
	}
	m.set(r.sec, secOpen, nopen)
	return true
}

// advanceRecent closes what is open, and drops what no horizon of clock c reaches.
func (m *machine) advanceRecent(r *recentStore, c int64) {
	if open := m.get(r.sec, secOpen); open > 0 {
		n := m.entries(r.sec, recentSize) - open
		m.set(r.sec, secOpen, 0)
		if r.unique && n > 0 {
			m.buf = append(m.buf[:0], m.bytes(r.sec)[n*recentSize:]...)
			m.remove(r.sec, n*recentSize, open*recentSize)
			for b := m.buf; len(b) > 0; b = b[recentSize:] {
				m.putRecent(r, geti(b, 0), getu(b, 8), false)
			}
		} else if n+open > r.k {
			m.remove(r.sec, 0, (n+open-r.k)*recentSize)
		}
	}
	b, drop := m.bytes(r.sec), 0
	longest := r.levels[len(r.levels)-1].w
	if len(b) == 0 || longest == forever || geti(b, 0) >= c-longest {
		return // no window is shorter than its horizon
	}
	// Exact levels and others may be among each other.
	lo := int64(math.MaxInt64)
	for l := range r.levels {
		lo = min(lo, r.levels[l].lo(c))
	}
	for drop*recentSize < len(b) && geti(b, drop*recentSize) < lo {
		drop++
	}
	if drop > 0 {
		m.remove(r.sec, 0, drop*recentSize)
	}
}

// lastOf returns the latest value as a number.
func (m *machine) lastOf(r *recentStore) (float64, bool) {
	n := m.entries(r.sec, recentSize) - m.get(r.sec, secOpen)
	if n == 0 {
		return 0, false
	}
	return getf(m.bytes(r.sec), recentSize*n-8), true
}

// readRecent computes the fields of a list.
func (m *machine) readRecent(r *recentStore) {
	c := m.clock()
	b := m.bytes(r.sec)
	n := len(b)/recentSize - m.get(r.sec, secOpen)
	last := int64(math.MinInt64) // time of the latest
	if n > 0 {
		last = geti(b, recentSize*(n-1))
	}
	for l := range r.levels {
		lv := &r.levels[l]
		none := n == 0 || lv.w != forever && last < c-lv.w && last < lv.lo(c)
		for i := range r.outs[l] {
			o := &r.outs[l][i]
			switch {
			case none:
				m.vec.setNone(o.field)
			case o.kind == kSince:
				m.vec.setFloat(o.field, float64(c-last)/1e9)
			case o.kind == kLast && !o.text:
				m.vec.setFloat(o.field, getf(b, recentSize*n-8))
			default:
				lo := lv.lo(c)
				from := sort.Search(n, func(i int) bool { return geti(b, recentSize*i) >= lo })
				m.outValues(o, min(n-from, o.k), func(i int) uint64 { return getu(b, recentSize*(n-1-i)+8) })
			}
		}
	}
}
