package anomaly

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Robust declares a detector of values far from the median, in median absolute
// deviations scaled to standard ones (Hampel 1974; Iglewicz and Hoaglin 1993).
// Median and deviation are those of the last Window values: outliers, up to half
// of them, do not change what is normal.
//
// It says nothing before it has a tenth of Window.
//
// State: 8 bytes for each value of Window. Observe costs about Window/4 moves of a
// number.
type Robust struct {
	// Window is the number of values that count; 0 is 500; from 10 to 10,000.
	Window int
	// Limit is the number of deviations that is an alert; 0 is 6.
	Limit float64
	// Deviation is the smallest deviation that is believed, in the unit of the
	// values. 0: a hundredth of the distance between the smallest and the largest
	// value of the window, for values most of which are equal.
	Deviation float64
}

func (s Robust) build() (Detector, string, error) {
	s.Window, s.Limit = or(s.Window, 500), or(s.Limit, 6)
	c := checks{spec: "Robust"}
	c.that(s.Window >= 10 && s.Window <= 10_000, "Window %d is not from 10 to 10,000", s.Window)
	c.that(finite(s.Limit) && s.Limit > 0, "Limit %g is not positive", s.Limit)
	c.that(finite(s.Deviation) && s.Deviation >= 0, "Deviation %g is negative", s.Deviation)
	return &robust{spec: s, last: ring{cap: s.Window}}, fmt.Sprintf("robust(%d)", s.Window), c.err
}

type robust struct {
	spec   Robust
	last   ring
	sorted []float64 // the same values
}

// madScale makes the median absolute deviation of a normal distribution its
// standard deviation.
const madScale = 1.482602218505602

// Observe implements Detector.
func (r *robust) Observe(_ time.Time, v float64) Result {
	score := 0.0
	if n := len(r.sorted); n >= max(r.spec.Window/10, 5) {
		median := (r.sorted[(n-1)/2] + r.sorted[n/2]) / 2
		least := r.spec.Deviation
		if least == 0 {
			least = max((r.sorted[n-1]-r.sorted[0])/100, 1e-9*math.Abs(median), 1e-12)
		}
		score = ratio(math.Abs(v-median)/max(madScale*r.mad(median), least), r.spec.Limit)
	}
	if gone, full := r.last.push(v); full {
		i, _ := slices.BinarySearch(r.sorted, gone)
		r.sorted = slices.Delete(r.sorted, i, i+1)
	}
	i, _ := slices.BinarySearch(r.sorted, v)
	r.sorted = slices.Insert(r.sorted, i, v)
	return result(score, "robust")
}

// mad returns the median distance from the median: what lies nearer to it is a
// run of the sorted values, which grows by the nearer of its neighbours.
func (r *robust) mad(median float64) float64 {
	s := r.sorted
	n := len(s)
	// The k nearest values are s[lo:lo+k] for the first lo where going on to the
	// right would not bring them nearer.
	k := n/2 + 1
	lo, hi := 0, n-k
	for lo < hi {
		m := (lo + hi) / 2
		if median-s[m] > s[m+k]-median {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return max(median-s[lo], s[lo+k-1]-median)
}

// AppendState implements Detector.
func (r *robust) AppendState(b []byte) []byte { return r.last.append(b) }

// LoadState implements Detector.
func (r *robust) LoadState(b []byte) error {
	d := decoder{b: b}
	r.last.load(&d)
	r.sorted = append(r.sorted[:0], r.last.v...)
	slices.Sort(r.sorted)
	return d.end()
}
