package anomaly

import (
	"fmt"
	"math"
	"time"
)

// ADWIN declares the adaptive window of Bifet and Gavaldà ("Learning from
// Time-Changing Data with Adaptive Windowing", 2007): a window over the past that
// is cut wherever its older and newer part have means that differ more than chance
// allows. A cut is an alert: the mean has changed. What is left after it is the
// data since.
//
// The window is kept as an exponential histogram: at most Buckets buckets of each
// of the sizes 1, 2, 4, …
//
// State: 20 bytes for each bucket, about 1 kB for a million values.
type ADWIN struct {
	// Delta bounds the probability of a cut without cause; 0 is 0.002.
	Delta float64
	// Every is how many values lie between two searches for a cut; 0 is 32.
	Every int
	// Buckets is how many of each size there may be; 0 is 5; at most 64.
	Buckets int
}

func (s ADWIN) build() (Detector, string, error) {
	s.Delta, s.Every, s.Buckets = or(s.Delta, 0.002), or(s.Every, 32), or(s.Buckets, 5)
	c := checks{spec: "ADWIN"}
	c.that(s.Delta > 0 && s.Delta < 1, "Delta %g is not between 0 and 1", s.Delta)
	c.that(s.Every > 0 && s.Every <= maxCount, "Every %d is not positive", s.Every)
	c.that(s.Buckets > 0 && s.Buckets <= 64, "Buckets %d is not from 1 to 64", s.Buckets)
	return &adwin{spec: s}, fmt.Sprintf("adwin(%d)", s.Buckets), c.err
}

// bucket is the sum and the sum of squared deviations of 2^level values.
type bucket struct{ sum, m2 float64 }

type adwin struct {
	spec ADWIN
	// tick counts values up to Every.
	tick int
	// levels holds the buckets of each size, oldest first.
	levels [][]bucket
}

const (
	// adwinLevels bounds the window at 2^40 values; the oldest go beyond it.
	adwinLevels = 40
	// adwinMin is the least number of values in either part of a window at a cut,
	// and adwinGrace that in the whole.
	adwinMin   = 5
	adwinGrace = 10
)

// add puts a value into the window.
func (a *adwin) add(v float64) {
	carry := bucket{sum: v}
	for level := 0; ; level++ {
		if level == len(a.levels) {
			a.levels = append(a.levels, nil)
		}
		l := append(a.levels[level], carry)
		a.levels[level] = l
		if len(l) <= a.spec.Buckets {
			return
		}
		carry = join(l[0], l[1], float64(uint64(1)<<level))
		a.levels[level] = append(l[:0], l[2:]...)
		if level+1 == adwinLevels {
			return
		}
	}
}

// join makes one bucket of two of n values each.
func join(x, y bucket, n float64) bucket {
	d := (x.sum - y.sum) / n
	return bucket{x.sum + y.sum, x.m2 + y.m2 + d*d*n/2}
}

// total returns number, sum and sum of squared deviations of the window.
func (a *adwin) total() (n float64, t bucket) {
	for i := len(a.levels) - 1; i >= 0; i-- {
		size := float64(uint64(1) << i)
		for _, b := range a.levels[i] {
			if n > 0 {
				d := b.sum/size - t.sum/n
				t.m2 += d * d * n * size / (n + size)
			}
			t.sum, t.m2, n = t.sum+b.sum, t.m2+b.m2, n+size
		}
	}
	return n, t
}

// excess returns the largest difference between the means of an older and a newer
// part of the window, over what chance allows: above 1 is a cut.
func (a *adwin) excess() float64 {
	n, t := a.total()
	if n <= adwinGrace {
		return 0
	}
	variance := t.m2 / n
	logs := math.Log(2 * math.Log(n) / a.spec.Delta)
	worst, older, sum := 0.0, 0.0, 0.0
	for i := len(a.levels) - 1; i >= 0; i-- {
		for _, b := range a.levels[i] {
			older, sum = older+float64(uint64(1)<<i), sum+b.sum
			newer := n - older
			if older < adwinMin || newer < adwinMin {
				continue
			}
			m := 1/(older-adwinMin+1) + 1/(newer-adwinMin+1)
			allowed := math.Sqrt(2*m*variance*logs) + 2./3*m*logs
			worst = max(worst, math.Abs(sum/older-(t.sum-sum)/newer)/allowed)
		}
	}
	return worst
}

// shrink drops the oldest bucket.
func (a *adwin) shrink() {
	for len(a.levels) > 0 {
		last := len(a.levels) - 1
		if l := a.levels[last]; len(l) > 0 {
			a.levels[last] = append(l[:0], l[1:]...)
			return
		}
		a.levels = a.levels[:last]
	}
}

// Observe implements Detector.
func (a *adwin) Observe(_ time.Time, v float64) Result {
	a.add(v)
	if a.tick++; a.tick < a.spec.Every {
		return Result{By: "adwin"}
	}
	a.tick = 0
	first := a.excess()
	for x := first; x > 1; x = a.excess() {
		a.shrink()
	}
	if first > 1 {
		return result(ratio(first, 1), "adwin")
	}
	return result(min(ratio(first, 1), quiet), "adwin")
}

// AppendState implements Detector.
func (a *adwin) AppendState(b []byte) []byte {
	b = appendCount(appendCount(b, a.tick), len(a.levels))
	for _, l := range a.levels {
		b = appendCount(b, len(l))
		for _, k := range l {
			b = appendFloats(b, k.sum, k.m2)
		}
	}
	return b
}

// LoadState implements Detector.
func (a *adwin) LoadState(b []byte) error {
	d := decoder{b: b}
	a.tick = d.count(maxCount)
	n := d.count(adwinLevels)
	a.levels = a.levels[:0]
	for range n {
		var l []bucket
		for range d.count(a.spec.Buckets) {
			var k bucket
			d.floats(&k.sum, &k.m2)
			l = append(l, k)
		}
		a.levels = append(a.levels, l)
	}
	return d.end()
}
