package anomaly

import (
	"fmt"
	"time"
)

// CUSUM declares Page's two-sided cumulative sum ("Continuous inspection schemes",
// 1954) over values in standard deviations: it finds shifts of the mean that last,
// even small ones. Mean and deviation are exponentially weighted. An alert starts
// both sums again.
//
// State: 50 bytes.
type CUSUM struct {
	// Slack is how far from the mean, in standard deviations, a value must be to
	// count; 0 is 0.5.
	Slack float64
	// Limit is the sum that is an alert; 0 is 8.
	Limit float64
	// Alpha is the weight of a new value in mean and variance; 0 is 0.002; negative:
	// all values count alike.
	Alpha float64
	// Clip bounds how far one value can be from the mean, so that a single outlier
	// is no shift; in standard deviations; 0 is 4.
	Clip float64
	// Learn is the number of values before the sums start; 0 is 50.
	Learn int
}

func (s CUSUM) build() (Detector, string, error) {
	s.Slack, s.Limit, s.Alpha, s.Clip, s.Learn = or(s.Slack, 0.5), or(s.Limit, 8), or(s.Alpha, 0.002), or(s.Clip, 4), or(s.Learn, 50)
	c := checks{spec: "CUSUM"}
	c.that(finite(s.Slack) && s.Slack > 0, "Slack %g is not positive", s.Slack)
	c.that(finite(s.Limit) && s.Limit > 0, "Limit %g is not positive", s.Limit)
	c.that(finite(s.Alpha) && s.Alpha <= 1, "Alpha %g is above 1", s.Alpha)
	c.that(finite(s.Clip) && s.Clip > s.Slack, "Clip %g is not above Slack %g", s.Clip, s.Slack)
	c.that(s.Learn > 1 && s.Learn <= maxCount, "Learn %d is not above 1", s.Learn)
	return &cusum{spec: s}, "cusum", c.err
}

type cusum struct {
	spec     CUSUM
	value    moments
	up, down float64
}

// Observe implements Detector.
func (c *cusum) Observe(_ time.Time, v float64) Result {
	score := 0.0
	if c.value.n >= c.spec.Learn {
		z := (v - c.value.mean) / c.value.deviation(0)
		z = min(max(z, -c.spec.Clip), c.spec.Clip)
		c.up = max(0, c.up+z-c.spec.Slack)
		c.down = max(0, c.down-z-c.spec.Slack)
		if score = ratio(max(c.up, c.down), c.spec.Limit); score >= alertScore {
			c.up, c.down = 0, 0
		}
	}
	c.value.add(v, c.spec.Alpha)
	return result(score, "cusum")
}

// AppendState implements Detector.
func (c *cusum) AppendState(b []byte) []byte { return appendFloats(c.value.append(b), c.up, c.down) }

// LoadState implements Detector.
func (c *cusum) LoadState(b []byte) error {
	d := decoder{b: b}
	c.value.load(&d)
	d.floats(&c.up, &c.down)
	return d.end()
}

// PageHinkley declares the Page-Hinkley test (Page 1954; Hinkley 1971) in the form
// used for streams: the sum of the deviations from the mean of all values so far,
// less a tolerance, has risen or fallen far from its extreme. An alert starts it
// again. Its parameters are in the unit of the values; CUSUM's are not.
//
// State: 55 bytes.
type PageHinkley struct {
	// Delta is the tolerance for each value; 0 is 0.005.
	Delta float64
	// Lambda is the distance from the extreme beyond which is an alert; 0 is 50.
	Lambda float64
	// Forget multiplies the sum at each value, up to 1; 0 is 0.9999.
	Forget float64
	// Learn is the number of values before there can be an alert; 0 is 30.
	Learn int
}

func (s PageHinkley) build() (Detector, string, error) {
	s.Delta, s.Lambda, s.Forget, s.Learn = or(s.Delta, 0.005), or(s.Lambda, 50), or(s.Forget, 0.9999), or(s.Learn, 30)
	c := checks{spec: "PageHinkley"}
	c.that(finite(s.Delta) && s.Delta >= 0, "Delta %g is negative", s.Delta)
	c.that(finite(s.Lambda) && s.Lambda > 0, "Lambda %g is not positive", s.Lambda)
	c.that(finite(s.Forget) && s.Forget > 0 && s.Forget <= 1, "Forget %g is not between 0 and 1", s.Forget)
	c.that(s.Learn > 0 && s.Learn <= maxCount, "Learn %d is not positive", s.Learn)
	return &pageHinkley{spec: s}, "page-hinkley", c.err
}

type pageHinkley struct {
	spec         PageHinkley
	n            int
	mean         float64
	up, lowest   float64 // the rising sum and its minimum
	down, higher float64 // the falling sum and its maximum
}

// Observe implements Detector.
func (p *pageHinkley) Observe(_ time.Time, v float64) Result {
	if p.n < maxCount {
		p.n++
	}
	p.mean += (v - p.mean) / float64(p.n)
	p.up = p.spec.Forget*p.up + v - p.mean - p.spec.Delta
	p.down = p.spec.Forget*p.down + v - p.mean + p.spec.Delta
	p.lowest, p.higher = min(p.lowest, p.up), max(p.higher, p.down)
	if p.n < p.spec.Learn {
		return Result{By: "page-hinkley"}
	}
	far := max(p.up-p.lowest, p.higher-p.down)
	if far > p.spec.Lambda {
		*p = pageHinkley{spec: p.spec}
		return result(ratio(far, p.spec.Lambda), "page-hinkley")
	}
	return result(min(ratio(far, p.spec.Lambda), quiet), "page-hinkley")
}

// AppendState implements Detector.
func (p *pageHinkley) AppendState(b []byte) []byte {
	return appendFloats(appendCount(b, p.n), p.mean, p.up, p.lowest, p.down, p.higher)
}

// LoadState implements Detector.
func (p *pageHinkley) LoadState(b []byte) error {
	d := decoder{b: b}
	p.n = d.count(maxCount)
	d.floats(&p.mean, &p.up, &p.lowest, &p.down, &p.higher)
	if err := d.end(); err != nil {
		return err
	}
	if p.lowest > p.up || p.higher < p.down {
		return fmt.Errorf("it holds sums beyond their extremes")
	}
	return nil
}
