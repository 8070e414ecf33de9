package feature

import "math"

// acc is the parts of one channel, in the open.
type acc struct {
	n           int64
	sum, m2     float64
	min, max    float64
	st, stt, sc float64 // Σt, Σ(t−t̄)², Σ(t−t̄)(v−v̄)
	ft          int64
	fv          float64
}

// add takes one value at time t; secs is t in seconds from the origin.
func (a *acc) add(mask uint8, v float64, t int64, secs float64) {
	if a.n == 0 {
		*a = acc{n: 1, sum: v, min: v, max: v, st: secs, ft: t, fv: v}
		return
	}
	one := acc{n: 1, sum: v, min: v, max: v, st: secs, ft: t, fv: v}
	a.merge(mask, &one)
}

// merge adds b to a. Of two first values at one time it keeps a's.
func (a *acc) merge(mask uint8, b *acc) {
	if b.n == 0 {
		return
	}
	if a.n == 0 {
		*a = *b
		return
	}
	if mask&(pM2|pTrend) != 0 {
		na, nb := float64(a.n), float64(b.n)
		if mask&pM2 != 0 {
			a.m2 += b.m2 + spread(na, nb, a.sum, b.sum)
		}
		if mask&pTrend != 0 {
			w := na * nb / (na + nb)
			dv := b.sum/nb - a.sum/na
			dt := b.st/nb - a.st/na
			a.stt += b.stt + dt*dt*w
			a.sc += b.sc + dt*dv*w
			a.st += b.st
		}
	}
	a.n += b.n
	a.sum += b.sum
	if b.min < a.min {
		a.min = b.min
	}
	if b.max > a.max {
		a.max = b.max
	}
	if b.ft < a.ft {
		a.ft, a.fv = b.ft, b.fv
	}
}

// load reads the parts of mask from the front of b.
func (a *acc) load(mask uint8, b []byte) {
	a.n = int64(le.Uint32(b))
	at := 4
	if mask&pSum != 0 {
		a.sum = getf(b, at)
		at += 8
	}
	if mask&pM2 != 0 {
		a.m2 = getf(b, at)
		at += 8
	}
	if mask&pMin != 0 {
		a.min = getf(b, at)
		at += 8
	}
	if mask&pMax != 0 {
		a.max = getf(b, at)
		at += 8
	}
	if mask&pTrend != 0 {
		a.st, a.stt, a.sc = getf(b, at), getf(b, at+8), getf(b, at+16)
		at += 24
	}
	if mask&pFirst != 0 {
		a.ft, a.fv = geti(b, at), getf(b, at+8)
	}
}

// store is the inverse of load.
func (a *acc) store(mask uint8, b []byte) {
	le.PutUint32(b, uint32(min(a.n, math.MaxUint32)))
	at := 4
	if mask&pSum != 0 {
		putf(b, at, a.sum)
		at += 8
	}
	if mask&pM2 != 0 {
		putf(b, at, a.m2)
		at += 8
	}
	if mask&pMin != 0 {
		putf(b, at, a.min)
		at += 8
	}
	if mask&pMax != 0 {
		putf(b, at, a.max)
		at += 8
	}
	if mask&pTrend != 0 {
		putf(b, at, a.st)
		putf(b, at+8, a.stt)
		putf(b, at+16, a.sc)
		at += 24
	}
	if mask&pFirst != 0 {
		puti(b, at, a.ft)
		putf(b, at+8, a.fv)
	}
}

// basic are the parts that have a fast path: all but those with times.
const basic = pN | pSum | pM2 | pMin | pMax

// mergeInto adds the parts at src to those at dst, in place.
func mergeInto(mask uint8, dst, src []byte) {
	nb := le.Uint32(src)
	if nb == 0 {
		return
	}
	na := le.Uint32(dst)
	switch {
	case mask == pN:
		le.PutUint32(dst, addCounts(na, nb))
	case mask == basic:
		mergeBasic((*[basicSize]byte)(dst), (*[basicSize]byte)(src), na, nb)
	case na == 0:
		copy(dst, src[:maskSize(mask)])
	case mask&^basic != 0:
		var a, b acc
		a.load(mask, dst)
		b.load(mask, src)
		a.merge(mask, &b)
		a.store(mask, dst)
	default:
		mergeSome(mask, dst, src, na, nb)
	}
}

// mergeCount is mergeInto for numbers of values.
func mergeCount(dst, src []byte) { le.PutUint32(dst, addCounts(le.Uint32(dst), le.Uint32(src))) }

// addCounts adds two counts, up to what 32 bits hold.
func addCounts(a, b uint32) uint32 { return uint32(min(uint64(a)+uint64(b), math.MaxUint32)) }

// basicSize is the size of all basic parts.
const basicSize = 36

// oneBasic sets all basic parts to those of one value.
func oneBasic(d *[basicSize]byte, v float64) {
	x := math.Float64bits(v)
	le.PutUint32(d[0:], 1)
	le.PutUint64(d[4:], x)
	le.PutUint64(d[12:], 0)
	le.PutUint64(d[20:], x)
	le.PutUint64(d[28:], x)
}

// mergeBasic is mergeInto for all basic parts.
func mergeBasic(d, s *[basicSize]byte, na, nb uint32) {
	if na == 0 {
		*d = *s
		return
	}
	le.PutUint32(d[0:], addCounts(na, nb))
	sa, sb := math.Float64frombits(le.Uint64(d[4:])), math.Float64frombits(le.Uint64(s[4:]))
	le.PutUint64(d[4:], math.Float64bits(sa+sb))
	m2 := math.Float64frombits(le.Uint64(s[12:])) + spread(float64(na), float64(nb), sa, sb)
	le.PutUint64(d[12:], math.Float64bits(math.Float64frombits(le.Uint64(d[12:]))+m2))
	if v := math.Float64frombits(le.Uint64(s[20:])); v < math.Float64frombits(le.Uint64(d[20:])) {
		le.PutUint64(d[20:], math.Float64bits(v))
	}
	if v := math.Float64frombits(le.Uint64(s[28:])); v > math.Float64frombits(le.Uint64(d[28:])) {
		le.PutUint64(d[28:], math.Float64bits(v))
	}
}

// sumCells adds the parts at an offset of each of some cells of a size to those at
// dst, from the last cell to the first.
func sumCells(mask uint8, dst, cells []byte, off, size int) {
	o := len(cells) - size + off
	switch mask {
	case pN:
		n := uint64(le.Uint32(dst))
		for ; o >= 0; o -= size {
			n += uint64(le.Uint32(cells[o:]))
		}
		le.PutUint32(dst, uint32(min(n, math.MaxUint32)))
	case basic:
		for ; o >= 0 && le.Uint32(dst) == 0; o -= size { // the first that has any
			*(*[basicSize]byte)(dst) = *(*[basicSize]byte)(cells[o:])
		}
		sumBasic((*[basicSize]byte)(dst), cells, o, size)
	default:
		for ; o >= 0; o -= size {
			mergeInto(mask, dst, cells[o:])
		}
	}
}

// sumBasic is the rest of sumCells for all basic parts, from offset o on.
func sumBasic(d *[basicSize]byte, cells []byte, o, size int) {
	n := uint64(le.Uint32(d[0:]))
	sum, m2 := math.Float64frombits(le.Uint64(d[4:])), math.Float64frombits(le.Uint64(d[12:]))
	low, high := math.Float64frombits(le.Uint64(d[20:])), math.Float64frombits(le.Uint64(d[28:]))
	for ; o >= 0; o -= size {
		s := (*[basicSize]byte)(cells[o:])
		nb := le.Uint32(s[0:])
		if nb == 0 {
			continue
		}
		sb := math.Float64frombits(le.Uint64(s[4:]))
		m2 += math.Float64frombits(le.Uint64(s[12:])) + spread(float64(n), float64(nb), sum, sb)
		n, sum = n+uint64(nb), sum+sb
		if v := math.Float64frombits(le.Uint64(s[20:])); v < low {
			low = v
		}
		if v := math.Float64frombits(le.Uint64(s[28:])); v > high {
			high = v
		}
	}
	le.PutUint32(d[0:], uint32(min(n, math.MaxUint32)))
	le.PutUint64(d[4:], math.Float64bits(sum))
	le.PutUint64(d[12:], math.Float64bits(m2))
	le.PutUint64(d[20:], math.Float64bits(low))
	le.PutUint64(d[28:], math.Float64bits(high))
}

// mergeSome is mergeInto for some of the basic parts, both of at least one value.
func mergeSome(mask uint8, dst, src []byte, na, nb uint32) {
	le.PutUint32(dst, addCounts(na, nb))
	at := 4
	if mask&pSum != 0 {
		sa, sb := getf(dst, at), getf(src, at)
		putf(dst, at, sa+sb)
		at += 8
		if mask&pM2 != 0 {
			putf(dst, at, getf(dst, at)+(getf(src, at)+spread(float64(na), float64(nb), sa, sb)))
			at += 8
		}
	}
	if mask&pMin != 0 {
		if v := getf(src, at); v < getf(dst, at) {
			putf(dst, at, v)
		}
		at += 8
	}
	if mask&pMax != 0 {
		if v := getf(src, at); v > getf(dst, at) {
			putf(dst, at, v)
		}
	}
}

// spread is what the distance of two means adds to the squares about their common
// one: (b̄−ā)²·na·nb/(na+nb), with one division.
func spread(na, nb, sa, sb float64) float64 {
	d := na*sb - nb*sa
	return d / (na * nb * (na + nb)) * d
}

// plus adds the parts at b to a; it is load and merge.
func (a *acc) plus(mask uint8, b []byte) {
	nb := int64(le.Uint32(b))
	switch {
	case nb == 0:
	case mask == pN:
		a.n += nb
	case a.n == 0:
		a.load(mask, b)
	default:
		var p acc
		p.load(mask, b)
		a.merge(mask, &p)
	}
}

// result computes a scalar feature; false when it has no value.
func (a *acc) result(k kind, secs float64) (float64, bool) {
	if a.n == 0 {
		return 0, false
	}
	switch k {
	case kCount:
		return float64(a.n), true
	case kSum:
		return a.sum, true
	case kMean:
		return a.sum / float64(a.n), true
	case kMin:
		return a.min, true
	case kMax:
		return a.max, true
	case kVariance:
		return a.m2 / float64(a.n), true
	case kStddev:
		return math.Sqrt(a.m2 / float64(a.n)), true
	case kRate:
		return float64(a.n) / secs, true
	case kTrend:
		// Times that differ by less than rounding makes of them are one.
		n := float64(a.n)
		if eps := a.st / n * 0x1p-48; a.n < 2 || a.stt <= n*eps*eps {
			return 0, false
		}
		return a.sc / a.stt, true
	}
	return a.fv, true // kFirst
}
