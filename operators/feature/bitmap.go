package feature

import "math/bits"

// bitmap is a set of small numbers in a state: words of 64 bits.
type bitmap []byte

func (b bitmap) has(i int) bool { return b[i>>3]>>(i&7)&1 != 0 }

func (b bitmap) set(i int) { b[i>>3] |= 1 << (i & 7) }

// next returns the least member that is at least i, or a number beyond all.
func (b bitmap) next(i int) int {
	w := i >> 6
	if w<<3 >= len(b) {
		return len(b) << 3
	}
	for x := getu(b, w<<3) >> (i & 63) << (i & 63); ; x = getu(b, w<<3) {
		if x != 0 {
			return w<<6 + bits.TrailingZeros64(x)
		}
		if w++; w<<3 >= len(b) {
			return len(b) << 3
		}
	}
}

// prev returns the greatest member that is at most i; −1 if there is none.
func (b bitmap) prev(i int) int {
	if i < 0 {
		return -1
	}
	w := i >> 6
	for x := getu(b, w<<3) << (63 - i&63) >> (63 - i&63); ; x = getu(b, w<<3) {
		if x != 0 {
			return w<<6 + 63 - bits.LeadingZeros64(x)
		}
		if w--; w < 0 {
			return -1
		}
	}
}

// keep removes all but members in [lo, hi).
func (b bitmap) keep(lo, hi int) {
	for w := 0; w<<3 < len(b); w++ {
		putu(b, w<<3, getu(b, w<<3)&between(lo-w<<6, hi-w<<6))
	}
}

// drop removes members in [lo, hi).
func (b bitmap) drop(lo, hi int) {
	for w := 0; w<<3 < len(b); w++ {
		putu(b, w<<3, getu(b, w<<3)&^between(lo-w<<6, hi-w<<6))
	}
}

// between has the bits [lo, hi) of a word, both cut to it.
func between(lo, hi int) uint64 {
	lo, hi = max(0, min(lo, 64)), max(0, min(hi, 64))
	if lo >= hi {
		return 0
	}
	return ^uint64(0) >> (64 - (hi - lo)) << lo
}
