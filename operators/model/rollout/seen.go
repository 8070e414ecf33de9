package rollout

import (
	"math"

	"github.com/weirflow/weir/operators/model"
)

// Kind says what was seen.
type Kind uint8

// Kinds of what is seen.
const (
	// Answer: the answer that counts.
	Answer Kind = iota + 1
	// Failure: the call failed for good.
	Failure
	// Shadow: what a shadow arm said, or, with Failed, that it failed.
	Shadow
	// Outcome: what became of it.
	Outcome
)

// Seen is one thing that was seen of a prediction. Its event time is that of the record.
type Seen struct {
	Kind Kind `msgpack:"kind" json:"kind"`
	// ID is that of the prediction, Model the name of the operator; an outcome needs no
	// Model.
	ID    string `msgpack:"id" json:"id"`
	Model string `msgpack:"model,omitempty" json:"model,omitempty"`
	Arm   string `msgpack:"arm,omitempty" json:"arm,omitempty"`
	// Routing is the version of the routing by which Arm was asked.
	Routing uint64 `msgpack:"routing,omitempty" json:"routing,omitempty"`
	// Score is the number that was predicted, Label the class; either may be left out.
	// For an outcome, Score is what the number turned out to be.
	Score float64 `msgpack:"score" json:"score"`
	Label string  `msgpack:"label,omitempty" json:"label,omitempty"`
	// Degraded: another than the arm has answered. Failed: the shadow arm has not.
	Degraded bool `msgpack:"degraded,omitempty" json:"degraded,omitempty"`
	Failed   bool `msgpack:"failed,omitempty" json:"failed,omitempty"`
}

// OfPrediction is what is seen of a prediction with such a score. Set Label of what it
// returns where the prediction is a class.
func OfPrediction[F, Out any](p model.Prediction[F, Out], score float64) Seen {
	return Seen{Kind: Answer, ID: p.ID, Model: p.Model, Arm: p.Arm, Routing: p.Routing, Score: score, Degraded: p.Degraded}
}

// OfShadow is what is seen of a shadow with such a score.
func OfShadow[Out any](s model.Shadow[Out], score float64) Seen {
	return Seen{Kind: Shadow, ID: s.ID, Model: s.Model, Arm: s.Arm, Routing: s.Routing, Score: score, Degraded: s.Degraded, Failed: s.Kind != ""}
}

// OfFailure is what is seen of a record whose call by the operator called name has
// failed.
func OfFailure[T any](name string, f model.Failed[T]) Seen {
	return Seen{Kind: Failure, ID: f.Key, Model: name, Arm: f.Arm, Routing: f.Routing}
}

// OfOutcome is the outcome of the prediction with an ID: value is what its score turned
// out to be, such as 1 for a payment that was fraud and 0 for one that was not.
func OfOutcome(id string, value float64) Seen { return Seen{Kind: Outcome, ID: id, Score: value} }

// Metric says how good an answer was, by its outcome; see Config. The arms' means of it
// are compared. Values are kept to about one millionth (2^-20), and cut off at plus and
// minus one million (2^20).
type Metric func(answer, outcome *Seen) float64

// Brier is the squared difference of score and outcome: the less, the better.
func Brier(answer, outcome *Seen) float64 {
	d := answer.Score - outcome.Score
	return d * d
}

// LogLoss is the logarithmic loss of a probability, of an outcome from 0 to 1: the less,
// the better. Scores are cut off at one millionth from 0 and from 1.
func LogLoss(answer, outcome *Seen) float64 {
	p := min(max(answer.Score, 1e-6), 1-1e-6)
	return -outcome.Score*math.Log(p) - (1-outcome.Score)*math.Log1p(-p)
}

// Correct is 1 for an answer that is on the outcome's side of a threshold, and 0 for
// one that is not: the more, the better. With labels on both, they have to be the same.
func Correct(threshold float64) Metric {
	return func(answer, outcome *Seen) float64 {
		right := (answer.Score >= threshold) == (outcome.Score >= threshold)
		if answer.Label != "" && outcome.Label != "" {
			right = answer.Label == outcome.Label
		}
		if right {
			return 1
		}
		return 0
	}
}

// Value is the outcome itself, whatever the answer was: the revenue after a
// recommendation, say.
func Value(_, outcome *Seen) float64 { return outcome.Score }
