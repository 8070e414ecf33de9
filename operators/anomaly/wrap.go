package anomaly

import (
	"fmt"
	"math"
	"time"
)

// Warmup declares that a detector learns for some records before it may alert.
// State: 1 to 5 bytes beside the inner one.
type Warmup struct {
	Of Spec
	// Records is the number of records without alerts; at least 1.
	Records int
}

func (s Warmup) build() (Detector, string, error) {
	c := checks{spec: "Warmup"}
	c.that(s.Records > 0 && s.Records <= maxCount, "Records %d is not positive", s.Records)
	d, shape := c.inner(s.Of)
	return &warmup{of: of{d}, records: s.Records}, "warmup(" + shape + ")", c.err
}

// inner builds the detector inside a wrapper.
func (c *checks) inner(s Spec) (Detector, string) {
	if s == nil {
		c.that(false, "Of is missing")
		return nil, ""
	}
	d, shape, err := s.build()
	if err != nil {
		c.that(false, "%w", err)
	}
	return d, shape
}

// of is the inner detector of a wrapper.
type of struct{ inner Detector }

// Learn hands a verdict on.
func (o of) Learn(v Verdict) { learn(o.inner, v) }

type warmup struct {
	of
	records, seen int
}

// Observe implements Detector.
func (w *warmup) Observe(at time.Time, v float64) Result {
	r := w.inner.Observe(at, v)
	if w.seen < w.records {
		w.seen++
		return r.mute()
	}
	return r
}

// AppendState implements Detector.
func (w *warmup) AppendState(b []byte) []byte {
	return appendInner(appendCount(b, w.seen), w.inner)
}

// LoadState implements Detector.
func (w *warmup) LoadState(b []byte) error {
	d := decoder{b: b}
	w.seen = d.count(maxCount)
	d.inner(w.inner)
	return d.end()
}

// Rest declares that a detector is quiet for some records after an alert, while it
// goes on learning: an anomaly that lasts is told once.
// State: 1 to 5 bytes beside the inner one.
type Rest struct {
	Of Spec
	// Records is the number of records without alerts after one; at least 1.
	Records int
}

func (s Rest) build() (Detector, string, error) {
	c := checks{spec: "Rest"}
	c.that(s.Records > 0 && s.Records <= maxCount, "Records %d is not positive", s.Records)
	d, shape := c.inner(s.Of)
	return &rest{of: of{d}, records: s.Records}, "rest(" + shape + ")", c.err
}

type rest struct {
	of
	records, left int
}

// Observe implements Detector.
func (w *rest) Observe(at time.Time, v float64) Result {
	r := w.inner.Observe(at, v)
	switch {
	case w.left > 0:
		w.left--
		return r.mute()
	case r.Alert:
		w.left = w.records
	}
	return r
}

// AppendState implements Detector.
func (w *rest) AppendState(b []byte) []byte { return appendInner(appendCount(b, w.left), w.inner) }

// LoadState implements Detector.
func (w *rest) LoadState(b []byte) error {
	d := decoder{b: b}
	w.left = d.count(maxCount)
	d.inner(w.inner)
	return d.end()
}

// Consecutive declares that only the last of some alerts in a row is one.
// State: 1 to 5 bytes beside the inner one.
type Consecutive struct {
	Of Spec
	// Records is how many alerts in a row it takes, and each one after them is an
	// alert too; at least 2.
	Records int
}

func (s Consecutive) build() (Detector, string, error) {
	c := checks{spec: "Consecutive"}
	c.that(s.Records > 1 && s.Records <= maxCount, "Records %d is not above 1", s.Records)
	d, shape := c.inner(s.Of)
	return &consecutive{of: of{d}, records: s.Records}, "consecutive(" + shape + ")", c.err
}

type consecutive struct {
	of
	records, run int
}

// Observe implements Detector.
func (w *consecutive) Observe(at time.Time, v float64) Result {
	r := w.inner.Observe(at, v)
	if !r.Alert {
		w.run = 0
		return r
	}
	if w.run = min(w.run+1, w.records); w.run < w.records {
		return r.mute()
	}
	return r
}

// AppendState implements Detector.
func (w *consecutive) AppendState(b []byte) []byte {
	return appendInner(appendCount(b, w.run), w.inner)
}

// LoadState implements Detector.
func (w *consecutive) LoadState(b []byte) error {
	d := decoder{b: b}
	w.run = d.count(w.records)
	d.inner(w.inner)
	return d.end()
}

// Range declares the range that values can have. A value outside is an alert by
// itself, with score 1, and the detector does not learn from it. Values inside are
// handed on scaled to 0 … 1, so that detectors need not learn the range.
// State: that of the inner detector.
type Range struct {
	Of       Spec
	Min, Max float64
}

func (s Range) build() (Detector, string, error) {
	c := checks{spec: "Range"}
	c.that(finite(s.Min, s.Max, s.Max-s.Min) && s.Min < s.Max, "Min %g is not below Max %g", s.Min, s.Max)
	d, shape := c.inner(s.Of)
	return &inRange{of{d}, s}, fmt.Sprintf("range(%g,%g,%s)", s.Min, s.Max, shape), c.err
}

type inRange struct {
	of
	spec Range
}

// Observe implements Detector.
func (w *inRange) Observe(at time.Time, v float64) Result {
	if v < w.spec.Min || v > w.spec.Max {
		return result(1, "range")
	}
	return w.inner.Observe(at, (v-w.spec.Min)/(w.spec.Max-w.spec.Min))
}

// AppendState implements Detector.
func (w *inRange) AppendState(b []byte) []byte { return w.inner.AppendState(b) }

// LoadState implements Detector.
func (w *inRange) LoadState(b []byte) error { return w.inner.LoadState(b) }

// Feedback declares a detector that heeds verdicts on its alerts: each false alarm
// raises its limit, each confirmed alert lowers it again, never below the
// declared one. What is raised is the measure m = score/(1-score) of the inner
// detector that an alert takes, 1 at first.
// State: 8 bytes beside the inner one.
type Feedback struct {
	Of Spec
	// Step multiplies the limit at a false alarm, and its root divides it when an
	// alert is confirmed; above 1; 0 is 1.25.
	Step float64
	// Most is the largest factor by which the limit is raised; 0 is 10.
	Most float64
}

func (s Feedback) build() (Detector, string, error) {
	s.Step, s.Most = or(s.Step, 1.25), or(s.Most, 10)
	c := checks{spec: "Feedback"}
	c.that(finite(s.Step) && s.Step > 1, "Step %g is not above 1", s.Step)
	c.that(finite(s.Most) && s.Most >= s.Step, "Most %g is below Step %g", s.Most, s.Step)
	d, shape := c.inner(s.Of)
	return &feedback{of: of{d}, spec: s, factor: 1}, "feedback(" + shape + ")", c.err
}

type feedback struct {
	of
	spec   Feedback
	factor float64
}

// Observe implements Detector.
func (w *feedback) Observe(at time.Time, v float64) Result {
	r := w.inner.Observe(at, v)
	if r.Score >= 1 {
		return result(ratio(math.Inf(1), 1), r.By)
	}
	return result(ratio(r.Score/(1-r.Score), w.factor), r.By)
}

// Learn implements Learner.
func (w *feedback) Learn(v Verdict) {
	switch v {
	case FalseAlarm:
		w.factor = min(w.factor*w.spec.Step, w.spec.Most)
	case Confirmed:
		w.factor = max(w.factor/math.Sqrt(w.spec.Step), 1)
	}
	w.of.Learn(v)
}

// AppendState implements Detector.
func (w *feedback) AppendState(b []byte) []byte {
	return appendInner(appendFloat(b, w.factor), w.inner)
}

// LoadState implements Detector.
func (w *feedback) LoadState(b []byte) error {
	d := decoder{b: b}
	if w.factor = d.float(); d.err == nil && w.factor < 1 {
		d.err = fmt.Errorf("it holds the factor %g", w.factor)
	}
	d.inner(w.inner)
	return d.end()
}
