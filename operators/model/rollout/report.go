package rollout

import (
	"cmp"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// Report is what was seen of the arms of a model in one window of event time, Start to
// End (exclusive).
type Report struct {
	Model string         `msgpack:"model" json:"model"`
	Start base.Timestamp `msgpack:"start" json:"start"`
	End   base.Timestamp `msgpack:"end" json:"end"`
	// Arms by name, version of the routing, and answers before shadows.
	Arms []ArmReport `msgpack:"arms" json:"arms"`
	// Dropped counts facts of more arms and versions than a report has room for.
	Dropped int64 `msgpack:"dropped,omitempty" json:"dropped,omitempty"`
}

// ArmReport is what was seen of an arm under one version of the routing: of its answers
// that count, or, with Shadow, of those as a shadow.
type ArmReport struct {
	Arm     string  `msgpack:"arm" json:"arm"`
	Routing uint64  `msgpack:"routing" json:"routing"`
	Shadow  bool    `msgpack:"shadow,omitempty" json:"shadow,omitempty"`
	Counts  Counts  `msgpack:"counts" json:"counts"`
	Hist    []int64 `msgpack:"hist" json:"hist"`
	// PSI is that of the scores against those of the baseline in the same window, or
	// the reference. It, ErrorRate, Degraded and Agreement are -1 where there is
	// nothing to compute them of, and so is Mean, the mean of the metric, where Outcomes
	// is 0.
	PSI       float64 `msgpack:"psi" json:"psi"`
	ErrorRate float64 `msgpack:"error_rate" json:"error_rate"`
	Degraded  float64 `msgpack:"degraded" json:"degraded"`
	Agreement float64 `msgpack:"agreement" json:"agreement"`
	Outcomes  int64   `msgpack:"outcomes" json:"outcomes"`
	Mean      float64 `msgpack:"mean" json:"mean"`
}

// MaxSeries is the most arms, times versions of a routing, in a report.
const MaxSeries = 64

// Tally gathers the parts of a report.
type Tally struct {
	Arms    []ArmReport
	Dropped int64
}

// Add takes in what one part has counted of a series.
func (t *Tally) Add(s Series, a *Acc, bins int) {
	t.merge(&ArmReport{Arm: s.Arm, Routing: s.Routing, Shadow: s.Shadow, Counts: a.Counts, Hist: a.Hist[:bins]})
}

// Merge takes in another tally.
func (t *Tally) Merge(o *Tally) {
	for i := range o.Arms {
		t.merge(&o.Arms[i])
	}
	t.Dropped += o.Dropped
}

func (t *Tally) merge(a *ArmReport) {
	i, found := slices.BinarySearchFunc(t.Arms, a, func(x ArmReport, y *ArmReport) int { return order(&x, y) })
	if !found {
		t.Arms = slices.Insert(t.Arms, i, ArmReport{Arm: a.Arm, Routing: a.Routing, Shadow: a.Shadow, Hist: make([]int64, len(a.Hist))})
	}
	t.Arms[i].add(a)
	// The last go, so that what is left does not depend on the order of coming.
	if n := len(t.Arms); n > MaxSeries {
		t.Dropped += t.Arms[n-1].Counts.Asked()
		t.Arms = t.Arms[:n-1]
	}
}

func order(a, b *ArmReport) int {
	shadow := func(x *ArmReport) int {
		if x.Shadow {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.Arm, b.Arm), cmp.Compare(a.Routing, b.Routing), shadow(a)-shadow(b))
}

// add adds what was counted of the same arm.
func (a *ArmReport) add(o *ArmReport) {
	a.Counts.merge(&o.Counts)
	addHist(&a.Hist, o.Hist)
}

func addHist(h *[]int64, o []int64) {
	for len(*h) < len(o) {
		*h = append(*h, 0)
	}
	for i, n := range o {
		(*h)[i] += n
	}
}

// Report makes the report of a window.
func (t *Tally) Report(c *Config, model string, start, end base.Timestamp) Report {
	r := Report{Model: model, Start: start, End: end, Arms: slices.Clone(t.Arms), Dropped: t.Dropped}
	var baseline []int64
	for i := range r.Arms {
		if a := &r.Arms[i]; a.Arm == c.Baseline && !a.Shadow {
			addHist(&baseline, a.Hist)
		}
	}
	if total(baseline) == 0 {
		baseline = c.Reference
	}
	for i := range r.Arms {
		a := &r.Arms[i]
		a.ErrorRate, a.Degraded, a.Agreement = a.Counts.ErrorRate(), a.Counts.DegradedShare(), a.Counts.Agreement()
		a.PSI, a.Outcomes, a.Mean = -1, a.Counts.Outcomes, -1
		if psi, _, _, ok := PSI(a.Hist, baseline); ok {
			a.PSI = psi
		}
		if a.Outcomes > 0 {
			a.Mean = a.Counts.Metric.Float() / float64(a.Outcomes)
		}
	}
	return r
}
