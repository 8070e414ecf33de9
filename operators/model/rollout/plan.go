package rollout

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model"
)

// Defaults of Plan.
const (
	DefaultAlpha      = 0.01
	DefaultMinSamples = 1000
)

// Plan says how a candidate takes over from a baseline.
type Plan struct {
	// Name names the rollout, 1 to 64 characters of a-z, 0-9 and -. A job that comes
	// with a plan of another name begins with its first step; a plan of the same name
	// goes on where it was, also when its steps or limits have changed.
	Name string
	// Model is the name of the operator; reports of others are not looked at.
	Model string
	// Baseline and Candidate are arms of it. They share all keys: the candidate has
	// those of the step, the baseline the rest.
	Baseline, Candidate string
	Steps               []Step
	Limits              Limits
	// Alpha is the probability, about, with which a candidate that is exactly at a
	// limit is rolled back by chance; 0: DefaultAlpha.
	Alpha float64
}

// Step is a step of a rollout.
type Step struct {
	// Weight is the candidate's share of the keys, in hundredths of a percent.
	Weight uint32
	// Shadow asks the candidate about the other records too, as a shadow.
	Shadow bool
	// MinSamples is how many calls of the candidate have to be seen: as a shadow if
	// Weight is 0. 0: DefaultMinSamples. MinOutcomes is how many outcomes of them, and of
	// the baseline's.
	MinSamples, MinOutcomes int64
	// MinTime is how long, in event time, the step lasts at least from the first window
	// in which the candidate is seen. MaxTime is the time, from when the step is
	// decided, after which the candidate is rolled back, also without any report, such as
	// where nothing is answered any more; 0: no end.
	MinTime, MaxTime time.Duration
}

// Steps makes steps of percentages of the keys, each of the same samples and time.
func Steps(minSamples int64, minTime time.Duration, percent ...float64) []Step {
	var s []Step
	for _, p := range percent {
		s = append(s, Step{Weight: uint32(math.Round(p * model.FullWeight / 100)), MinSamples: minSamples, MinTime: minTime})
	}
	return s
}

// Limits bound what is seen of the candidate. 0 is no limit.
type Limits struct {
	// MaxErrorRate bounds the share of calls that fail for good, MaxDegraded that of
	// those which something else answers.
	MaxErrorRate, MaxDegraded float64
	// MaxPSI bounds the Population Stability Index of the scores against the
	// baseline's.
	MaxPSI float64
	// MinAgreement is the least share of the candidate's answers, as a shadow, that
	// agree with those that count.
	MinAgreement float64
	// MaxWorse bounds, if Outcomes is set, by how much the candidate's mean of the
	// metric may be worse than the baseline's: higher, or lower where Higher says that a
	// higher metric is better.
	MaxWorse         float64
	Outcomes, Higher bool
}

// criteria is the number of limits, which share Alpha.
const criteria = 5

// Validate returns all that is wrong with a plan.
func (p *Plan) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := base.CheckUID(p.Name); err != nil {
		bad("its name: %w", err)
	}
	if p.Model == "" || p.Baseline == "" || p.Candidate == "" || p.Baseline == p.Candidate {
		bad("it needs the name of a model, and two arms that differ")
	}
	if len(p.Steps) == 0 || len(p.Steps) > maxSteps {
		bad("it has %d steps, want 1 to %d", len(p.Steps), maxSteps)
	}
	for i, s := range p.Steps {
		switch {
		case s.Weight > model.FullWeight:
			bad("step %d has the weight %d, more than %d", i+1, s.Weight, model.FullWeight)
		case i > 0 && s.Weight < p.Steps[i-1].Weight:
			bad("step %d has a lower weight than the one before", i+1)
		case s.Weight == 0 && !s.Shadow:
			bad("step %d has no weight and no shadow: nothing is seen of the candidate", i+1)
		case s.MinSamples < 0 || s.MinOutcomes < 0 || s.MinTime < 0 || s.MaxTime < 0:
			bad("step %d has a bound below 0", i+1)
		case s.MaxTime > 0 && s.MaxTime <= s.MinTime:
			bad("step %d has a MaxTime of %v, not more than its MinTime", i+1, s.MaxTime)
		}
	}
	l := p.Limits
	for _, v := range []float64{l.MaxErrorRate, l.MaxDegraded, l.MinAgreement} {
		if !(v >= 0 && v <= 1) {
			bad("a limit of a share is %v, want 0 to 1", v)
		}
	}
	if !(l.MaxPSI >= 0) || !(l.MaxWorse >= 0) || math.IsInf(l.MaxPSI+l.MaxWorse, 1) {
		bad("the limits MaxPSI %v and MaxWorse %v have to be 0 or more", l.MaxPSI, l.MaxWorse)
	}
	if !(p.Alpha >= 0 && p.Alpha < 0.5) {
		bad("Alpha is %v, want 0 to 0.5", p.Alpha)
	}
	return errors.Join(errs...)
}

// maxSteps bounds the steps of a plan, and with them the state.
const maxSteps = 32

// routing is that of a step; 0 for none of the keys, as after a rollback.
func (p *Plan) routing(version uint64, s Step) model.Routing {
	r := model.Routing{Version: version, Arms: []model.Share{
		// The candidate first: when its weight grows, keys only move to it.
		{Arm: p.Candidate, Weight: s.Weight}, {Arm: p.Baseline, Weight: model.FullWeight - s.Weight},
	}}
	if s.Shadow && s.Weight < model.FullWeight {
		r.Shadows = []string{p.Candidate}
	}
	return r
}
