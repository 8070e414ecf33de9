package rollout

import (
	"math"
	"math/bits"
)

// Sum is an exact sum of numbers in units of 2^-40: the same whatever the order in
// which they came. It is a signed number of 128 bits.
type Sum struct {
	Hi int64  `msgpack:"hi" json:"hi"`
	Lo uint64 `msgpack:"lo" json:"lo"`
}

// largest is where values of metrics are cut off, and grain is the part of 1 that they
// are kept to.
const (
	largest = 1 << 20
	grain   = 1 << 20
)

// inGrains returns a value of a metric in units of 1/grain, at most 2^40.
func inGrains(v float64) int64 {
	return int64(math.RoundToEven(min(max(v, -largest), largest) * grain))
}

// add adds x units of 1/grain.
func (s *Sum) add(x int64) { s.plus(x>>44, uint64(x)<<20) }

// addSquare adds the square of x units of 1/grain.
func (s *Sum) addSquare(x int64) {
	u := uint64(max(x, -x))
	hi, lo := bits.Mul64(u, u)
	s.plus(int64(hi), lo)
}

// merge adds another sum.
func (s *Sum) merge(o *Sum) { s.plus(o.Hi, o.Lo) }

func (s *Sum) plus(hi int64, lo uint64) {
	var carry uint64
	s.Lo, carry = bits.Add64(s.Lo, lo, 0)
	s.Hi += hi + int64(carry)
}

// Float returns the sum.
func (s Sum) Float() float64 {
	if s.Hi < 0 {
		lo, borrow := bits.Sub64(0, s.Lo, 0)
		return -Sum{Hi: -s.Hi - int64(borrow), Lo: lo}.Float()
	}
	return math.Ldexp(float64(s.Hi), 64-40) + math.Ldexp(float64(s.Lo), -40)
}
