package anomaly

import (
	"fmt"
	"math"
	"time"
)

// Threshold declares a fixed limit. State: none.
type Threshold struct {
	// Above and Below are limits: a value at or beyond one is an alert. At least
	// one of them is set, and Below is less than Above.
	Above, Below *float64
}

// Limit returns a pointer to v, for the fields of Threshold.
func Limit(v float64) *float64 { return &v }

func (s Threshold) build() (Detector, string, error) {
	c := checks{spec: "Threshold"}
	c.that(s.Above != nil || s.Below != nil, "neither Above nor Below is set")
	c.that(s.Above == nil || finite(*s.Above), "Above is not a number")
	c.that(s.Below == nil || finite(*s.Below), "Below is not a number")
	c.that(s.Above == nil || s.Below == nil || *s.Below < *s.Above, "Below is not less than Above")
	t := &threshold{math.Inf(1), math.Inf(-1)}
	if s.Above != nil {
		t.above = *s.Above
	}
	if s.Below != nil {
		t.below = *s.Below
	}
	return t, "threshold", c.err
}

type threshold struct{ above, below float64 }

// Observe implements Detector. There is no measure between quiet and alert.
func (t *threshold) Observe(_ time.Time, v float64) Result {
	if v >= t.above || v <= t.below {
		return result(1, "threshold")
	}
	return Result{By: "threshold"}
}

// AppendState implements Detector.
func (t *threshold) AppendState(b []byte) []byte { return b }

// LoadState implements Detector.
func (t *threshold) LoadState(b []byte) error {
	d := decoder{b: b}
	return d.end()
}

// Rate declares a detector for counts of events: it adds up the values that fall
// into the same interval of time, each the number of events of its record, and
// holds the sum against a Poisson distribution whose mean is the exponentially
// weighted mean of the intervals before. An interval alerts at most once: with the
// first record at which it has too many events, or, when it had too few, with the
// first record after it. Intervals without records count as 0, one by one, but no
// more than the last 1,000 of them.
//
// The score is log(p)/(log(p)+log(Probability)), where p is Chernoff's bound on the
// probability of so many events, or of so few. Negative values count as 0.
//
// State: 35 bytes.
type Rate struct {
	// Interval is the length of an interval; it starts at a multiple of Interval
	// since the epoch. At least a millisecond.
	Interval time.Duration
	// Probability is how improbable a count must be to be an alert; 0 is 10⁻⁶.
	Probability float64
	// Alpha is the weight of a new interval in the mean; 0 is 0.05; negative: all
	// count alike.
	Alpha float64
	// Learn is the number of intervals before there can be an alert; 0 is 10.
	Learn int
	// OnlyMore leaves out intervals with too few events.
	OnlyMore bool
}

func (s Rate) build() (Detector, string, error) {
	s.Probability, s.Alpha, s.Learn = or(s.Probability, 1e-6), or(s.Alpha, 0.05), or(s.Learn, 10)
	c := checks{spec: "Rate"}
	c.that(s.Interval >= time.Millisecond, "Interval %v is shorter than 1ms", s.Interval)
	c.that(s.Probability > 0 && s.Probability < 1, "Probability %g is not between 0 and 1", s.Probability)
	c.that(finite(s.Alpha) && s.Alpha <= 1, "Alpha %g is above 1", s.Alpha)
	c.that(s.Learn > 0 && s.Learn <= maxCount, "Learn %d is not positive", s.Learn)
	return &rate{spec: s}, fmt.Sprintf("rate(%d)", s.Interval), c.err
}

type rate struct {
	spec     Rate
	n        int     // complete intervals, counted up to maxCount
	mean     float64 // of their counts
	interval int64   // the one under way
	started  bool
	told     bool // it has alerted
	count    float64
}

// maxGap is how many intervals without records count.
const maxGap = 1000

// Observe implements Detector.
func (r *rate) Observe(at time.Time, v float64) Result {
	length := int64(r.spec.Interval)
	i := at.UnixNano() / length
	if at.UnixNano()%length < 0 {
		i--
	}
	score := 0.0
	if !r.started {
		r.started, r.interval = true, i
	}
	for gap := 0; r.interval < i; gap++ {
		if gap == maxGap {
			r.interval = i // too long ago
			break
		}
		score = max(score, r.complete())
	}
	// A record of an interval that is over counts for the one under way.
	r.count += max(v, 0)
	if !r.told && r.n >= r.spec.Learn && r.count > r.mean {
		more := r.score(poissonTail(r.count, r.mean, true))
		score = max(score, more)
		r.told = more >= alertScore
	}
	return result(score, "rate")
}

// complete ends the interval under way, and returns the score of its having too
// few events.
func (r *rate) complete() (score float64) {
	if !r.spec.OnlyMore && !r.told && r.n >= r.spec.Learn && r.count < r.mean {
		score = r.score(poissonTail(r.count, r.mean, false))
	}
	if r.n < maxCount {
		r.n++
	}
	r.mean += max(r.spec.Alpha, 1/float64(r.n)) * (r.count - r.mean)
	r.interval, r.count, r.told = r.interval+1, 0, false
	return score
}

// score scales the logarithm of a probability.
func (r *rate) score(logP float64) float64 {
	return ratio(-logP, -math.Log(r.spec.Probability))
}

// poissonTail bounds the logarithm of the probability that a Poisson variable with
// that mean is as large as x, or as small, by Chernoff: x-mean-x·log(x/mean). It
// is 0 on the other side of the mean.
func poissonTail(x, mean float64, upper bool) float64 {
	mean = max(mean, 1e-9)
	if (x > mean) != upper {
		return 0
	}
	if x == 0 {
		return -mean
	}
	return x - mean - x*math.Log(x/mean)
}

// AppendState implements Detector.
func (r *rate) AppendState(b []byte) []byte {
	flags := byte(0)
	if r.started {
		flags |= 1
	}
	if r.told {
		flags |= 2
	}
	b = appendUint64(append(appendCount(b, r.n), flags), uint64(r.interval))
	return appendFloats(b, r.mean, r.count)
}

// LoadState implements Detector.
func (r *rate) LoadState(b []byte) error {
	d := decoder{b: b}
	r.n = d.count(maxCount)
	flags := d.byte()
	r.started, r.told = flags&1 != 0, flags&2 != 0
	r.interval = int64(d.uint64())
	d.floats(&r.mean, &r.count)
	return d.end()
}
