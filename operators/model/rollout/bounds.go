package rollout

import "math"

// quantile returns how many standard deviations look number k, from 1, of one limit has
// to be beyond it: see the package documentation. looks are never over, so that the
// chances of them all sum up to alpha.
func quantile(alpha float64, k int64) float64 {
	a := alpha / criteria * 6 / (math.Pi * math.Pi * float64(k) * float64(k))
	return math.Sqrt2 * math.Erfinv(1-2*max(a, 1e-15))
}

// wilson returns the bounds of the share of k in n, at least 1, at z standard deviations,
// by Wilson's score interval.
func wilson(k, n int64, z float64) (lo, hi float64) {
	p, m := float64(k)/float64(n), float64(n)
	d := 1 + z*z/m
	mid := p + z*z/(2*m)
	r := z * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return max(0, (mid-r)/d), min(1, (mid+r)/d)
}
