package anomaly

import (
	"fmt"
	"math"
	"time"
)

// ZScore declares a detector of values far from the mean, in standard deviations.
//
// Mean and variance are exponentially weighted with the factor Alpha, and start as
// the plain ones of the values so far (Welford 1962; the weighted form is that of
// Finch, "Incremental calculation of weighted mean and variance", 2009). With Mean
// above 1 the mean of the last so many values is held against its own past too,
// which finds shifts that are small beside the noise.
//
// State: 50 bytes, 8 more for each value of Mean.
type ZScore struct {
	// Alpha is the weight of a new value, from 0 to 1; 1/Alpha is about the number
	// of values that count. 0 is 0.002; negative: all values count alike.
	Alpha float64
	// Limit is the number of standard deviations that is an alert; 0 is 5.
	Limit float64
	// Mean is the number of values in the short mean, 0 for none; at most 10,000.
	Mean int
	// Weight multiplies the deviation of the short mean before it is held against
	// Limit; 0 is 1.
	Weight float64
	// Deviation is the smallest standard deviation that is believed, in the unit of
	// the values. 0: one so small beside the mean that it only guards against
	// rounding.
	Deviation float64
	// Learn is the number of values, and of short means, before they are judged; 0
	// is 30.
	Learn int
}

func (s ZScore) build() (Detector, string, error) {
	s.Alpha, s.Limit, s.Weight = or(s.Alpha, 0.002), or(s.Limit, 5), or(s.Weight, 1)
	s.Learn = or(s.Learn, defaultLearn)
	c := checks{spec: "ZScore"}
	c.that(finite(s.Alpha) && s.Alpha <= 1, "Alpha %g is above 1", s.Alpha)
	c.that(finite(s.Limit) && s.Limit > 0, "Limit %g is not positive", s.Limit)
	c.that(finite(s.Weight) && s.Weight > 0, "Weight %g is not positive", s.Weight)
	c.that(finite(s.Deviation) && s.Deviation >= 0, "Deviation %g is negative", s.Deviation)
	c.that(s.Mean >= 0 && s.Mean <= 10_000, "Mean %d is not from 0 to 10,000", s.Mean)
	c.that(s.Learn > 1 && s.Learn <= maxCount, "Learn %d is not above 1", s.Learn)
	if c.err != nil {
		return nil, "", c.err
	}
	return &zscore{spec: s, last: ring{cap: s.Mean}}, fmt.Sprintf("z(%d)", s.Mean), nil
}

// moments are the exponentially weighted mean and variance of numbers.
type moments struct {
	n              int
	mean, variance float64
}

// defaultLearn is how many numbers a deviation is estimated from at least.
const defaultLearn = 30

// maxCount is where counts of values stop.
const maxCount = math.MaxInt32

// add takes a number. Up to 1/alpha numbers count alike; alpha < 0: all do.
func (m *moments) add(x, alpha float64) {
	if m.n < maxCount {
		m.n++
	}
	a := max(alpha, 1/float64(m.n))
	d := x - m.mean
	m.mean += a * d
	m.variance = (1 - a) * (m.variance + a*d*d)
}

// deviation returns the standard deviation, least at the least.
func (m *moments) deviation(least float64) float64 {
	return max(math.Sqrt(m.variance), least, 1e-9*math.Abs(m.mean), 1e-12)
}

// z returns how many deviations x is from the mean, where a deviation is least at
// the least; 0 before there are learn numbers.
func (m *moments) z(x, least float64, learn int) float64 {
	if m.n < learn {
		return 0
	}
	return math.Abs(x-m.mean) / m.deviation(least)
}

func (m *moments) append(b []byte) []byte {
	return appendFloats(appendCount(b, m.n), m.mean, m.variance)
}

func (m *moments) load(d *decoder) {
	m.n = d.count(maxCount)
	d.floats(&m.mean, &m.variance)
	if d.err == nil && m.variance < 0 {
		d.err = fmt.Errorf("it holds a variance of %g", m.variance)
	}
}

// ring is the last cap numbers, oldest first from at on.
type ring struct {
	cap, at int
	v       []float64
}

// push adds a number and returns the one that went, if any.
func (r *ring) push(x float64) (gone float64, full bool) {
	if len(r.v) < r.cap {
		r.v = append(r.v, x)
		return 0, false
	}
	gone, r.v[r.at] = r.v[r.at], x
	if r.at++; r.at == r.cap {
		r.at = 0
	}
	return gone, true
}

// get returns the i-th oldest number.
func (r *ring) get(i int) float64 {
	if i += r.at; i >= len(r.v) {
		i -= len(r.v)
	}
	return r.v[i]
}

func (r *ring) append(b []byte) []byte {
	return appendFloats(appendFloats(appendCount(b, len(r.v)), r.v[r.at:]...), r.v[:r.at]...)
}

func (r *ring) load(d *decoder) { r.at, r.v = 0, d.list(r.v, r.cap) }

type zscore struct {
	spec  ZScore
	value moments
	short moments // of the short mean
	last  ring
}

// Observe implements Detector.
func (z *zscore) Observe(_ time.Time, v float64) Result {
	worst := z.value.z(v, z.spec.Deviation, z.spec.Learn)
	z.value.add(v, z.spec.Alpha)
	if z.spec.Mean > 1 {
		if z.last.push(v); len(z.last.v) == z.spec.Mean {
			m := z.mean()
			worst = max(worst, z.spec.Weight*z.short.z(m, z.spec.Deviation, z.spec.Learn))
			z.short.add(m, z.spec.Alpha)
		}
	}
	return result(ratio(worst, z.spec.Limit), "z-score")
}

// mean returns the mean of the last values, added up from the oldest on: the same
// after a restore.
func (z *zscore) mean() float64 {
	sum := 0.0
	for i := range z.last.v {
		sum += z.last.get(i)
	}
	return sum / float64(len(z.last.v))
}

// AppendState implements Detector.
func (z *zscore) AppendState(b []byte) []byte {
	return z.last.append(z.short.append(z.value.append(b)))
}

// LoadState implements Detector.
func (z *zscore) LoadState(b []byte) error {
	d := decoder{b: b}
	z.value.load(&d)
	z.short.load(&d)
	z.last.load(&d)
	return d.end()
}
