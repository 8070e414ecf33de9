package feature

import (
	"math"
	"math/bits"
)

// level is one horizon as the program sees it.
type level struct {
	w   int64 // nanoseconds; forever for a lifetime
	hop int64
	n   int64 // ⌈w/hop⌉
	// mul is ⌊(2^64−1)/hop⌋, and bias a multiple of hop by which times are made
	// positive; quo is what it adds to their tiles.
	mul, bias, quo int64
}

const forever = math.MaxInt64

// farthest bounds the times that a level divides without dividing.
const farthest = 1 << 62

// newLevel makes the level of a horizon; w and hop are forever for a lifetime.
func newLevel(w, hop int64) level {
	l := level{w: w, hop: hop, n: 1}
	if w == forever {
		return l
	}
	l.n = (w + hop - 1) / hop
	l.mul = int64(math.MaxUint64 / uint64(hop))
	l.quo = farthest/hop + 1
	l.bias = l.quo * hop
	return l
}

// number returns the number of the tile of time t, ⌊t/hop⌋.
func (l *level) number(t int64) int64 {
	if t < -farthest || t > farthest {
		return floorDiv(t, l.hop)
	}
	u := uint64(t) + uint64(l.bias)
	q, _ := bits.Mul64(u, uint64(l.mul)) // too low by 2 at most
	for u -= q * uint64(l.hop); u >= uint64(l.hop); u -= uint64(l.hop) {
		q++
	}
	return int64(q) - l.quo
}

// lo is where the window begins at clock c.
func (l *level) lo(c int64) int64 {
	if l.w == forever {
		return math.MinInt64
	}
	return (l.number(c) - l.n) * l.hop
}

// tile is the start of the tile of time t.
func (l *level) tile(t int64) int64 {
	if l.w == forever || t == math.MinInt64 { // the tile of a lifetime stays one
		return math.MinInt64
	}
	return l.number(t) * l.hop
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
