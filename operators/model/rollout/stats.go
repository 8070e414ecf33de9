package rollout

import (
	"fmt"
	"math"
	"sort"
)

// MaxBins is the most bins of a histogram of scores.
const MaxBins = 32

// Bins are the bins of histograms: edges, ascending, between one bin and the next. A
// score at an edge belongs to the bin above. Deciles of the scores that the model had in
// training make good edges.
type Bins []float64

// EqualBins returns n bins of the same width from lo to hi. Scores below lo are in the
// first, those above hi in the last.
func EqualBins(n int, lo, hi float64) Bins {
	var b Bins
	for i := 1; i < n; i++ {
		b = append(b, lo+(hi-lo)*float64(i)/float64(n))
	}
	return b
}

// Count is the number of bins.
func (b Bins) Count() int { return len(b) + 1 }

// Of returns the bin of a score that is a number.
func (b Bins) Of(score float64) int {
	return sort.Search(len(b), func(i int) bool { return b[i] > score })
}

// validate returns what is wrong with the bins.
func (b Bins) validate() error {
	if b.Count() < 2 || b.Count() > MaxBins {
		return fmt.Errorf("there are %d bins, want 2 to %d", b.Count(), MaxBins)
	}
	for i, e := range b {
		if math.IsNaN(e) || i > 0 && e <= b[i-1] {
			return fmt.Errorf("the edges of the bins do not ascend at %v", e)
		}
	}
	return nil
}

// Counts are what is counted of an arm.
type Counts struct {
	// Answers by the arm itself; Degraded are those of a fallback, Failed had none.
	Answers  int64 `msgpack:"answers" json:"answers"`
	Degraded int64 `msgpack:"degraded" json:"degraded"`
	Failed   int64 `msgpack:"failed" json:"failed"`
	// Odd are answers whose score is not a number; they are in no bin.
	Odd int64 `msgpack:"odd" json:"odd"`
	// Agreed and Differed count answers of a shadow beside the answer that counted.
	Agreed   int64 `msgpack:"agreed" json:"agreed"`
	Differed int64 `msgpack:"differed" json:"differed"`
	// Outcomes is the number of answers whose outcome is known, Metric the sum of the
	// metric over them, and Squares that of its squares.
	Outcomes int64 `msgpack:"outcomes" json:"outcomes"`
	Metric   Sum   `msgpack:"metric" json:"metric"`
	Squares  Sum   `msgpack:"squares" json:"squares"`
}

func (c *Counts) merge(o *Counts) {
	c.Answers += o.Answers
	c.Degraded += o.Degraded
	c.Failed += o.Failed
	c.Odd += o.Odd
	c.Agreed += o.Agreed
	c.Differed += o.Differed
	c.Outcomes += o.Outcomes
	c.Metric.merge(&o.Metric)
	c.Squares.merge(&o.Squares)
}

// Asked is how often the arm was asked.
func (c *Counts) Asked() int64 { return c.Answers + c.Degraded + c.Failed }

// share returns k/n, and -1 for nothing of nothing.
func share(k, n int64) float64 {
	if n == 0 {
		return -1
	}
	return float64(k) / float64(n)
}

// ErrorRate is the share of calls that failed for good, or -1 if there were none.
func (c *Counts) ErrorRate() float64 { return share(c.Failed, c.Asked()) }

// DegradedShare is the share of calls that something else has answered, or -1.
func (c *Counts) DegradedShare() float64 { return share(c.Degraded, c.Asked()) }

// Agreement is the share of a shadow's answers that agree with those that counted, or
// -1.
func (c *Counts) Agreement() float64 { return share(c.Agreed, c.Agreed+c.Differed) }

// Mean returns the mean of the metric, and the variance of that mean; ok is false
// without two outcomes.
func (c *Counts) Mean() (mean, variance float64, ok bool) {
	if c.Outcomes < 2 {
		return 0, 0, false
	}
	n := float64(c.Outcomes)
	mean = c.Metric.Float() / n
	v := max(0, c.Squares.Float()/n-mean*mean) * n / (n - 1)
	return mean, v / n, true
}

// Acc counts the facts about one arm in one window.
type Acc struct {
	Counts Counts
	Hist   [MaxBins]int64
}

// Add takes in a fact.
func (a *Acc) Add(f *Fact) {
	c := &a.Counts
	switch f.What {
	case Answered:
		c.Answers++
		if f.Bin >= 0 && f.Bin < MaxBins {
			a.Hist[f.Bin]++
		} else {
			c.Odd++
		}
	case Degraded:
		c.Degraded++
	case Failed:
		c.Failed++
	case Agreed:
		c.Agreed++
	case Differed:
		c.Differed++
	case Measured:
		c.Outcomes++
		c.Metric.add(f.Grains)
		c.Squares.addSquare(f.Grains)
	}
}

// Merge takes in another one.
func (a *Acc) Merge(o *Acc) {
	a.Counts.merge(&o.Counts)
	for i, n := range o.Hist {
		a.Hist[i] += n
	}
}

// PSI is the Population Stability Index of two histograms with the same bins, as the
// package documentation has it, what chance alone would make it on average if both were
// of one model, and the standard deviation of it. ok is false if one of them is empty.
func PSI(p, q []int64) (psi, chance, deviation float64, ok bool) {
	n, m := total(p), total(q)
	if n == 0 || m == 0 || len(p) != len(q) {
		return 0, 0, 0, false
	}
	half := float64(len(p)) / 2
	var gp, gpp, gq, gqq float64
	for i := range p {
		a, b := (float64(p[i])+0.5)/(n+half), (float64(q[i])+0.5)/(m+half)
		l := math.Log(a / b)
		psi += (a - b) * l
		// How much the index moves with a share; what of it is the same in all bins does
		// not count, for shares sum up to one.
		da, db := l-b/a, -l-a/b
		gp, gpp = gp+a*da, gpp+a*da*da
		gq, gqq = gq+b*db, gqq+b*db*db
	}
	free, r := float64(len(p)-1), 1/n+1/m
	chance = free * r
	deviation = math.Sqrt(max(0, gpp-gp*gp)/n + max(0, gqq-gq*gq)/m + 2*free*r*r)
	return psi, chance, deviation, true
}

func total(h []int64) float64 {
	n := int64(0)
	for _, c := range h {
		n += c
	}
	return float64(n)
}
