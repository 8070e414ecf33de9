package model

import (
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// FullWeight is the sum of the weights of a Routing: a weight is in hundredths of a
// percent.
const FullWeight = 10_000

// Routing says which of an operator's arms answers for which share of the keys. It is
// data: it comes by control events, is in checkpoints and in effect from a barrier on.
type Routing struct {
	// Version grows with each routing; one that is not newer than the one in effect is
	// ignored.
	Version uint64 `msgpack:"version" json:"version"`
	// Arms are the arms that answer, in an order that should stay the same: a key goes
	// by a hash of it to an arm, and moves only when the sums of weights up to its arm
	// move across it. The weights sum up to FullWeight.
	Arms []Share `msgpack:"arms" json:"arms"`
	// Shadows are arms that get the same input, and whose answers go to a side stream.
	Shadows []string `msgpack:"shadows,omitempty" json:"shadows,omitempty"`
}

// Share is the share of one arm.
type Share struct {
	Arm string `msgpack:"arm" json:"arm"`
	// Weight is in hundredths of a percent, 0 to FullWeight.
	Weight uint32 `msgpack:"weight" json:"weight"`
}

// Validate checks a routing against the arms that there are.
func (r Routing) Validate(arms []string) error {
	seen, sum := map[string]bool{}, uint64(0)
	for _, a := range r.Arms {
		switch {
		case !slices.Contains(arms, a.Arm):
			return fmt.Errorf("there is no arm %q", a.Arm)
		case seen[a.Arm]:
			return fmt.Errorf("the arm %q has two shares", a.Arm)
		}
		seen[a.Arm] = true
		sum += uint64(a.Weight)
	}
	if sum != FullWeight {
		return fmt.Errorf("the weights of the arms sum up to %d, and not to %d", sum, FullWeight)
	}
	for i, s := range r.Shadows {
		if !slices.Contains(arms, s) {
			return fmt.Errorf("there is no arm %q for a shadow", s)
		}
		if slices.Contains(r.Shadows[:i], s) {
			return fmt.Errorf("the arm %q is a shadow twice", s)
		}
	}
	return nil
}

// EnvelopeVersion is the version of Prediction as it is now.
const EnvelopeVersion = 1

// Prediction is a prediction as an event: what a model said about a record, and all
// that is needed to say later whether it was right and why it was said.
type Prediction[F, Out any] struct {
	// V is EnvelopeVersion.
	V int `msgpack:"v" json:"v"`
	// ID is the idempotency key of the call without the job's UID: the same in every
	// replay, so that outcomes can be joined by it.
	ID string `msgpack:"id" json:"id"`
	// Model is the operator's name, Arm the arm that answered, and ModelVersion the
	// version that the model says it has.
	Model        string `msgpack:"model" json:"model"`
	ModelVersion string `msgpack:"model_version,omitempty" json:"model_version,omitempty"`
	Arm          string `msgpack:"arm,omitempty" json:"arm,omitempty"`
	// Propensity is the probability with which a key drawn at random went to Arm, by
	// the routing with version Routing.
	Propensity float64 `msgpack:"propensity" json:"propensity"`
	Routing    uint64  `msgpack:"routing" json:"routing"`
	// Features is what the model was asked with, or FeatureHash is the xxHash64 of its
	// encoding, or both.
	Features    *F     `msgpack:"features,omitempty" json:"features,omitempty"`
	FeatureHash uint64 `msgpack:"feature_hash,omitempty" json:"feature_hash,omitempty"`
	Out         Out    `msgpack:"out" json:"out"`
	// Degraded is set when another than the arm has answered; By names it.
	Degraded bool   `msgpack:"degraded,omitempty" json:"degraded,omitempty"`
	By       string `msgpack:"by,omitempty" json:"by,omitempty"`
	Cached   bool   `msgpack:"cached,omitempty" json:"cached,omitempty"`
	// LatencyMicros is the time from when the operator took the record to the answer,
	// in microseconds. It is not the same in a replay.
	LatencyMicros int64 `msgpack:"latency_us" json:"latency_us"`
	// At is the event time of the record.
	At base.Timestamp `msgpack:"at" json:"at"`
}
