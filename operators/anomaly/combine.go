package anomaly

import (
	"strings"
	"time"
)

// AnyOf declares a detector that alerts when any of several does: its score is the
// highest of theirs. State: 4 bytes for each beside theirs.
type AnyOf []Spec

func (s AnyOf) build() (Detector, string, error) {
	c := checks{spec: "AnyOf"}
	c.that(len(s) > 0, "it names no detector")
	a := &anyOf{}
	var shapes []string
	for _, spec := range s {
		d, shape := c.inner(spec)
		a.of, shapes = append(a.of, d), append(shapes, shape)
	}
	return a, "any(" + strings.Join(shapes, ",") + ")", c.err
}

type anyOf struct{ of []Detector }

// Observe implements Detector.
func (a *anyOf) Observe(at time.Time, v float64) Result {
	var worst Result
	for i, d := range a.of {
		// All of them must see the value.
		if r := d.Observe(at, v); i == 0 || r.Score > worst.Score {
			worst = r
		}
	}
	return worst
}

// Learn implements Learner: a verdict goes to all.
func (a *anyOf) Learn(v Verdict) {
	for _, d := range a.of {
		learn(d, v)
	}
}

// AppendState implements Detector.
func (a *anyOf) AppendState(b []byte) []byte {
	for _, d := range a.of {
		b = appendInner(b, d)
	}
	return b
}

// LoadState implements Detector.
func (a *anyOf) LoadState(b []byte) error {
	d := decoder{b: b}
	for _, det := range a.of {
		d.inner(det)
	}
	return d.end()
}
