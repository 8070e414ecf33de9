package rollout

import (
	"fmt"
	"math"
	"time"

	"github.com/weirflow/weir/internal/base"
)

// Defaults of Config.
const (
	DefaultWindow = time.Minute
	DefaultGrace  = 30 * time.Second
)

// Config says how arms are compared. The zero value has all defaults: ten bins from 0 to
// 1, windows of a minute, no outcomes.
type Config struct {
	// Window is the length of the windows of event time that there are reports of; 0:
	// DefaultWindow.
	Window time.Duration
	// Grace is how much later than the record, in event time, a prediction is counted,
	// with what shadows have said about it by then; 0: DefaultGrace; below 0: none.
	// Shadows hold no watermark back: one that comes later does not count.
	Grace time.Duration
	// Horizon is how long, in event time, a prediction waits for its outcome; 0: no
	// outcomes. As long is it kept in the state.
	Horizon time.Duration
	// Bins of the scores' histograms; nil: EqualBins(10, 0, 1).
	Bins Bins
	// Tolerance is how far the scores of a shadow and of the answer that counts may be
	// apart and agree. Answers with labels agree if these are the same.
	Tolerance float64
	// Metric says how good an answer was; nil: Brier.
	Metric Metric
	// Baseline is the arm that the scores of others are compared with; "": none.
	Baseline string
	// Reference is a histogram, in Bins, of the scores that were there in training.
	// Scores are compared with it when there is no Baseline, or when that had none.
	Reference []int64
}

// WithDefaults fills in what is left out.
func (c Config) WithDefaults() Config {
	if c.Window == 0 {
		c.Window = DefaultWindow
	}
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	c.Grace = max(c.Grace, 0)
	if c.Bins == nil {
		c.Bins = EqualBins(10, 0, 1)
	}
	if c.Metric == nil {
		c.Metric = Brier
	}
	return c
}

// Validate returns what is wrong with a Config whose defaults are filled in.
func (c Config) Validate() error {
	switch {
	case c.Window <= 0:
		return fmt.Errorf("the window is %v", c.Window)
	case c.Horizon < 0:
		return fmt.Errorf("the horizon is %v", c.Horizon)
	case !(c.Tolerance >= 0):
		return fmt.Errorf("the tolerance is %v", c.Tolerance)
	case c.Reference != nil && len(c.Reference) != c.Bins.Count():
		return fmt.Errorf("the reference has %d bins, and scores have %d", len(c.Reference), c.Bins.Count())
	}
	return c.Bins.validate()
}

// What says what a Fact is.
type What uint8

// Kinds of facts.
const (
	// Answered: the arm has answered.
	Answered What = iota + 1
	// Degraded: something else has answered for it.
	Degraded
	// Failed: nothing has.
	Failed
	// Agreed and Differed: a shadow's answer, beside the one that counts.
	Agreed
	Differed
	// Measured: the outcome is known.
	Measured
)

// Series names what facts are counted by: an arm, as asked by one version of a routing.
// Facts of a series are spread over Parts, so that they can be counted in several places.
type Series struct {
	Model, Arm string
	Routing    uint64
	Shadow     bool
	Part       uint8
}

// Parts is the number of parts of a series.
const Parts = 16

// Fact is what is known of one prediction, to be counted.
type Fact struct {
	Series Series
	What   What
	// Bin is that of the score, -1 for none. Grains is the metric's value in 2^-20.
	Bin    int
	Grains int64
}

// Joined is what is known of the prediction with an ID: the state of the join.
type Joined struct {
	Answer  Seen // Kind 0: it has not been seen
	Outcome Seen
	Shadows []Seen
	// AnsweredAt and OutcomeAt are event times, LastAt the last that anything had.
	AnsweredAt, OutcomeAt, LastAt base.Timestamp
	// Counted says that facts of the answer are out, Measured that those of the outcome
	// are.
	Counted, Measured bool
}

// maxShadows bounds the shadows of one prediction.
const maxShadows = 16

// Take takes in what was seen, and returns the times at which Due wants to be called. ok
// is false if it does not count: it was seen before, or came when all was counted.
func (j *Joined) Take(c *Config, s *Seen, at base.Timestamp) (due []base.Timestamp, ok bool) {
	switch s.Kind {
	case Answer, Failure:
		if j.Answer.Kind != 0 {
			return nil, false
		}
		j.Answer, j.AnsweredAt = *s, at
		if c.Horizon > 0 {
			due = append(due, j.end(c))
		}
	case Shadow:
		if j.Counted || len(j.Shadows) == maxShadows || j.shadow(s.Arm) != nil {
			return nil, false
		}
		j.Shadows = append(j.Shadows, *s)
	case Outcome:
		if j.Outcome.Kind != 0 || c.Horizon == 0 {
			return nil, false
		}
		j.Outcome, j.OutcomeAt = *s, at
	default:
		return nil, false
	}
	j.LastAt = max(j.LastAt, at)
	return append(due, base.AddTime(at, int64(c.Grace))), true
}

func (j *Joined) shadow(arm string) *Seen {
	for i := range j.Shadows {
		if j.Shadows[i].Arm == arm {
			return &j.Shadows[i]
		}
	}
	return nil
}

// end is when the outcome is not waited for any more.
func (j *Joined) end(c *Config) base.Timestamp {
	return base.AddTime(base.AddTime(j.AnsweredAt, int64(c.Grace)), int64(c.Horizon))
}

// Due hands over the facts that are due when event time has come to now, and reports
// whether all is counted and the prediction can be forgotten.
func (j *Joined) Due(c *Config, now base.Timestamp, emit func(Fact)) (over bool) {
	grace := int64(c.Grace)
	if j.Answer.Kind == 0 {
		// Of a prediction that is unknown, or was forgotten.
		return now >= base.AddTime(j.LastAt, grace)
	}
	if !j.Counted && now >= base.AddTime(j.AnsweredAt, grace) {
		j.Counted = true
		j.count(c, emit)
	}
	if j.Counted && !j.Measured && j.Outcome.Kind != 0 && now >= base.AddTime(j.OutcomeAt, grace) {
		j.Measured = true
		j.measure(c, &j.Answer, emit)
		for i := range j.Shadows {
			j.measure(c, &j.Shadows[i], emit)
		}
	}
	return j.Counted && (j.Measured || j.Outcome.Kind == 0 && now >= j.end(c))
}

// count emits the facts of the answer and its shadows.
func (j *Joined) count(c *Config, emit func(Fact)) {
	j.outcomeOf(c, &j.Answer, emit)
	for i := range j.Shadows {
		s := &j.Shadows[i]
		j.outcomeOf(c, s, emit)
		if s.Failed || s.Degraded || j.Answer.Kind != Answer || j.Answer.Degraded {
			continue
		}
		what := Differed
		if agree(c, s, &j.Answer) {
			what = Agreed
		}
		emit(Fact{Series: j.series(s), What: what})
	}
}

// outcomeOf emits whether a call was answered.
func (j *Joined) outcomeOf(c *Config, s *Seen, emit func(Fact)) {
	f := Fact{Series: j.series(s), What: Answered, Bin: -1}
	switch {
	case s.Kind == Failure || s.Failed:
		f.What = Failed
	case s.Degraded:
		f.What = Degraded
	case !math.IsNaN(s.Score):
		f.Bin = c.Bins.Of(s.Score)
	}
	emit(f)
}

func (j *Joined) measure(c *Config, s *Seen, emit func(Fact)) {
	if s.Kind == Failure || s.Failed || s.Degraded {
		return
	}
	if v := c.Metric(s, &j.Outcome); !math.IsNaN(v) {
		emit(Fact{Series: j.series(s), What: Measured, Grains: inGrains(v)})
	}
}

// series is that of an answer or a shadow; both are of the same model.
func (j *Joined) series(s *Seen) Series {
	return Series{
		Model: j.Answer.Model, Arm: s.Arm, Routing: s.Routing, Shadow: s.Kind == Shadow, Part: uint8(base.HashString(j.Answer.ID) % Parts),
	}
}

func agree(c *Config, a, b *Seen) bool {
	if a.Label != "" || b.Label != "" {
		return a.Label == b.Label
	}
	if math.IsNaN(a.Score) || math.IsNaN(b.Score) {
		return false
	}
	return a.Score == b.Score || math.Abs(a.Score-b.Score) <= c.Tolerance
}
