package rollout

import (
	"fmt"
	"math"
	"time"

	"github.com/weirflow/weir/internal/base"
)

// What figures need at least before they are held against a limit.
const (
	leastScores   = 100 // of each histogram
	leastOutcomes = 30  // of each arm
)

// asked is what was seen of the candidate in a step: as a shadow where it has no keys.
func (p *Plan) asked(e *Evidence) *Side {
	if p.Steps[min(e.Step, len(p.Steps)-1)].Weight == 0 {
		return &e.Shadow
	}
	return &e.Candidate
}

// against is what the candidate is compared with: the baseline under the same routing,
// or, where that had next to nothing, in all steps.
func (s *State) against(e *Evidence) *Side {
	if e.Baseline.Counts.Asked() >= leastScores {
		return &e.Baseline
	}
	var all Side
	for i := range s.Evidence {
		all.add(&s.Evidence[i].Baseline.Counts, s.Evidence[i].Baseline.Hist)
	}
	return &all
}

// psi returns the candidate's index less what chance makes of it, and its deviation.
func (p *Plan) psi(s *State, e *Evidence) (psi, deviation float64, ok bool) {
	c, b := p.asked(e), s.against(e)
	if total(c.Hist) < leastScores || total(b.Hist) < leastScores {
		return 0, 0, false
	}
	psi, chance, deviation, ok := PSI(c.Hist, b.Hist)
	return max(0, psi-chance), deviation, ok
}

// worse returns by how much the candidate's mean metric is worse, and the deviation of
// that.
func (p *Plan) worse(s *State, e *Evidence) (worse, deviation float64, ok bool) {
	c, b := &p.asked(e).Counts, &s.against(e).Counts
	if c.Outcomes < leastOutcomes || b.Outcomes < leastOutcomes {
		return 0, 0, false
	}
	cm, cv, _ := c.Mean()
	bm, bv, _ := b.Mean()
	worse = cm - bm
	if p.Limits.Higher {
		worse = -worse
	}
	return worse, math.Sqrt(cv + bv), true
}

// broken says which limit is broken beyond chance, z deviations; "" for none.
func (p *Plan) broken(s *State, e *Evidence, z float64) string {
	l, c := &p.Limits, &p.asked(e).Counts
	if n := c.Asked(); n > 0 {
		if lo, _ := wilson(c.Failed, n, z); l.MaxErrorRate > 0 && lo > l.MaxErrorRate {
			return fmt.Sprintf("%d of %d calls failed, more than %v", c.Failed, n, l.MaxErrorRate)
		}
		if lo, _ := wilson(c.Degraded, n, z); l.MaxDegraded > 0 && lo > l.MaxDegraded {
			return fmt.Sprintf("%d of %d answers are degraded, more than %v", c.Degraded, n, l.MaxDegraded)
		}
	}
	sh := &e.Shadow.Counts
	if n := sh.Agreed + sh.Differed; n > 0 && l.MinAgreement > 0 {
		if _, hi := wilson(sh.Agreed, n, z); hi < l.MinAgreement {
			return fmt.Sprintf("%d of %d answers as a shadow agree, less than %v", sh.Agreed, n, l.MinAgreement)
		}
	}
	if l.MaxPSI > 0 {
		if psi, dev, ok := p.psi(s, e); ok && psi-z*dev > l.MaxPSI {
			return fmt.Sprintf("the scores have drifted from the baseline's by a PSI of %.3f, more than %v", psi, l.MaxPSI)
		}
	}
	if l.Outcomes {
		if worse, dev, ok := p.worse(s, e); ok && worse-z*dev > l.MaxWorse {
			return fmt.Sprintf("outcomes are worse than the baseline's by %.4g, more than %v", worse, l.MaxWorse)
		}
	}
	return ""
}

// missing says what a step lacks to be passed; "" for nothing.
func (p *Plan) missing(s *State, e *Evidence, now base.Timestamp) string {
	step, l := &p.Steps[s.Step], &p.Limits
	c, b := &p.asked(e).Counts, &s.against(e).Counts
	want := step.MinSamples
	if want == 0 {
		want = DefaultMinSamples
	}
	switch {
	case s.Since == 0:
		return "the candidate has not been seen yet"
	case c.Asked() < want:
		return fmt.Sprintf("%d of %d calls of the candidate were seen", c.Asked(), want)
	case c.Outcomes < step.MinOutcomes || b.Outcomes < step.MinOutcomes:
		return fmt.Sprintf("%d outcomes of the candidate and %d of the baseline are known, %d are wanted", c.Outcomes, b.Outcomes, step.MinOutcomes)
	case now-s.Since < int64(step.MinTime):
		return fmt.Sprintf("%v of %v have passed", time.Duration(now-s.Since), step.MinTime)
	case l.MaxErrorRate > 0 && c.ErrorRate() > l.MaxErrorRate:
		return fmt.Sprintf("%.3g of the calls failed, more than %v", c.ErrorRate(), l.MaxErrorRate)
	case l.MaxDegraded > 0 && c.DegradedShare() > l.MaxDegraded:
		return fmt.Sprintf("%.3g of the answers are degraded, more than %v", c.DegradedShare(), l.MaxDegraded)
	}
	return p.notBetter(s, e)
}

// notBetter is missing for the limits that compare.
func (p *Plan) notBetter(s *State, e *Evidence) string {
	l := &p.Limits
	if step := &p.Steps[s.Step]; l.MinAgreement > 0 && step.Shadow {
		if a := e.Shadow.Counts.Agreement(); a < l.MinAgreement {
			return fmt.Sprintf("the agreement is %.3g, less than %v (-1: nothing to compare)", a, l.MinAgreement)
		}
	}
	if l.MaxPSI > 0 {
		psi, _, ok := p.psi(s, e)
		switch {
		case !ok:
			return fmt.Sprintf("there are fewer than %d scores of the candidate or the baseline to compare", leastScores)
		case psi > l.MaxPSI:
			return fmt.Sprintf("the PSI is %.3f, more than %v", psi, l.MaxPSI)
		}
	}
	if l.Outcomes {
		worse, _, ok := p.worse(s, e)
		switch {
		case !ok:
			return fmt.Sprintf("there are fewer than %d outcomes of the candidate or the baseline to compare", leastOutcomes)
		case worse > l.MaxWorse:
			return fmt.Sprintf("outcomes are worse by %.4g, more than %v", worse, l.MaxWorse)
		}
	}
	return ""
}

// summary says what a step was passed with.
func (p *Plan) summary(s *State, e *Evidence) string {
	c := &p.asked(e).Counts
	t := fmt.Sprintf("all limits are kept: %d calls, %d failed, %d degraded", c.Asked(), c.Failed, c.Degraded)
	if psi, _, ok := p.psi(s, e); ok {
		t += fmt.Sprintf(", PSI %.3f", psi)
	}
	if a := e.Shadow.Counts.Agreement(); a >= 0 {
		t += fmt.Sprintf(", agreement %.3f", a)
	}
	if worse, _, ok := p.worse(s, e); ok {
		t += fmt.Sprintf(", worse by %.4g", worse)
	}
	return t
}
