package feature

import (
	"bytes"
	"math"
	"math/bits"
	"slices"
	"sort"
)

// A distinct count keeps each value with the time it was last seen: a window that
// ends at the clock holds as many values as were last seen in it, so that one list
// serves all horizons. When there are too many, each becomes a pair of register
// and rank, as in HyperLogLog (Flajolet et al. 2007), and of those only what some
// window may need stays: a pair goes when the same register gets as high a rank
// later (Chabchoub, Hébrail 2010).

// seenSize is the size of an entry: time and hash, or time and register<<8|rank.
const seenSize = 16

// estimated says that the store has gone over to registers.
func (m *machine) estimated(d *distinctStore) bool { return m.get(d.sec, secAux) != 0 }

func pairOf(h uint64, prec int) uint64 {
	reg := h >> (64 - prec)
	rank := bits.LeadingZeros64(h<<prec|1<<(prec-1)) + 1
	return reg<<8 | uint64(rank)
}

// addDistinct adds the record in hand, at time t.
func (m *machine) addDistinct(d *distinctStore, t int64) {
	if m.in.preds&d.filter != d.filter {
		return
	}
	var h uint64
	if d.text {
		h = m.in.hashes[d.col]
	} else {
		if m.in.null(d.col) {
			return
		}
		h = hashNumber(m.in.nums[d.col])
	}
	if m.estimated(d) {
		h = pairOf(h, d.prec)
	}
	open := t >= m.clock() && !m.p.including
	if !open && t < d.levels[len(d.levels)-1].lo(m.clock()) {
		return
	}
	m.putSeen(d, t, h, open)
	if !m.estimated(d) && m.entries(d.sec, seenSize) > d.limit {
		m.estimate(d)
	}
}

// covers says that having seen a at some time makes having seen b at or before it
// of no account.
func covers(estimated bool, a, b uint64) bool {
	return a == b || estimated && a>>8 == b>>8 && a > b
}

// putSeen notes that a value was seen at time t.
func (m *machine) putSeen(d *distinctStore, t int64, h uint64, open bool) {
	n, nopen := m.entries(d.sec, seenSize), m.get(d.sec, secOpen)
	lo, hi := 0, n-nopen
	if open {
		lo, hi = n-nopen, n
	}
	b, est := m.bytes(d.sec), m.estimated(d)
	i := hi
	for i > lo && geti(b, seenSize*(i-1)) > t {
		i--
		if covers(est, getu(b, seenSize*i+8), h) {
			return
		}
	}
	// One entry at most is gone from an exact list, several from registers.
	for j := i - 1; j >= lo; j-- {
		if e := getu(b, seenSize*j+8); e == h && geti(b, seenSize*j) == t {
			return
		} else if covers(est, h, e) {
			m.remove(d.sec, seenSize*j, seenSize)
			b, i = m.bytes(d.sec), i-1
			if open {
				nopen--
			}
			if !est {
				break
			}
		} else if geti(b, seenSize*j) == t && covers(est, e, h) {
			return
		}
	}
	o := m.insert(d.sec, seenSize*i, seenSize)
	puti(m.b, o, t)
	putu(m.b, o+8, h)
	if open {
		nopen++
	}
	m.set(d.sec, secOpen, nopen)
}

// estimate goes over to registers.
func (m *machine) estimate(d *distinctStore) {
	all := bytes.Clone(m.bytes(d.sec))
	open := m.get(d.sec, secOpen)
	first := len(all)/seenSize - open
	m.remove(d.sec, 0, len(all))
	m.set(d.sec, secOpen, 0)
	m.set(d.sec, secAux, 1)
	for i := range len(all) / seenSize {
		m.putSeen(d, geti(all, seenSize*i), pairOf(getu(all, seenSize*i+8), d.prec), i >= first)
	}
}

// advanceDistinct closes what is open, and drops what no horizon reaches.
func (m *machine) advanceDistinct(d *distinctStore, c int64) {
	if open := m.get(d.sec, secOpen); open > 0 {
		n := m.entries(d.sec, seenSize) - open
		m.buf = append(m.buf[:0], m.bytes(d.sec)[n*seenSize:]...)
		m.remove(d.sec, n*seenSize, open*seenSize)
		m.set(d.sec, secOpen, 0)
		for b := m.buf; len(b) > 0; b = b[seenSize:] {
			m.putSeen(d, geti(b, 0), getu(b, 8), false)
		}
	}
	lo := d.levels[len(d.levels)-1].lo(c)
	b, drop := m.bytes(d.sec), 0
	for drop*seenSize < len(b) && geti(b, drop*seenSize) < lo {
		drop++
	}
	if drop > 0 {
		m.remove(d.sec, 0, drop*seenSize)
	}
}

// readDistinct computes the fields of a distinct count.
func (m *machine) readDistinct(d *distinctStore) {
	c := m.clock()
	b := m.bytes(d.sec)
	n := len(b)/seenSize - m.get(d.sec, secOpen)
	from := n
	est := m.estimated(d)
	var h hll
	if est {
		m.regs = slices.Grow(m.regs[:0], 1<<d.prec)[:1<<d.prec]
		clear(m.regs)
		h = newHLL(m.regs)
	}
	for l := range d.levels {
		lo := d.levels[l].lo(c)
		next := sort.Search(from, func(i int) bool { return geti(b, seenSize*i) >= lo })
		v := float64(n - next)
		if est {
			for i := next; i < from; i++ {
				e := getu(b, seenSize*i+8)
				h.add(int(e>>8), uint8(e))
			}
			v = h.count()
		}
		from = next
		for i := range d.outs[l] {
			m.outFloat(d.outs[l][i].field, v, n > next)
		}
	}
}

// hll is a HyperLogLog whose estimate is kept up to date.
type hll struct {
	regs  []byte
	zeros int
	sum   float64 // Σ 2^−rank; exact, for the terms are powers of two
}

func newHLL(regs []byte) hll { return hll{regs: regs, zeros: len(regs), sum: float64(len(regs))} }

func (h *hll) add(reg int, rank uint8) {
	old := h.regs[reg]
	if rank <= old {
		return
	}
	if old == 0 {
		h.zeros--
	}
	h.regs[reg] = rank
	h.sum += inverse(rank) - inverse(old)
}

// inverse returns 2^−rank.
func inverse(rank uint8) float64 { return math.Float64frombits(uint64(1023-int(rank)) << 52) }

// count returns the estimate.
func (h *hll) count() float64 {
	m := float64(len(h.regs))
	alpha := 0.7213 / (1 + 1.079/m)
	switch len(h.regs) {
	case 16:
		alpha = 0.673
	case 32:
		alpha = 0.697
	case 64:
		alpha = 0.709
	}
	e := alpha * m * m / h.sum
	if e <= 2.5*m && h.zeros > 0 {
		e = m * math.Log(m/float64(h.zeros)) // linear counting, for few
	}
	return math.Round(e)
}
