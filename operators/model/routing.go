package model

import (
	"fmt"
	"slices"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
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

// Everything is the routing, of version 0, by which one arm answers for all keys.
func Everything(arm string) Routing {
	return Routing{Arms: []Share{{Arm: arm, Weight: FullWeight}}}
}

// Bucket is the place of a key, 0 to FullWeight-1, in an operator: the same in every
// run, at any parallelism, and another one, independent of it, in another operator. hash
// is the key's hash, which also places the key on a subtask; the bucket does not depend
// on where that is.
func Bucket(operator string, hash uint64) uint32 {
	return bucket(saltOf(operator), hash)
}

// saltOf makes the buckets of an operator its own. It must not change, nor must bucket:
// keys would change their arms.
func saltOf(operator string) uint64 { return base.HashString("arm of " + operator) }

func bucket(salt, hash uint64) uint32 { return uint32(base.Mix(salt, hash) % FullWeight) }

// Pick returns the share that a bucket belongs to: the first one with which the sum of
// the weights exceeds the bucket. ok is false if there is none, as in a routing that is
// not valid.
func (r Routing) Pick(bucket uint32) (s Share, ok bool) {
	i := r.pick(bucket)
	if i < 0 {
		return Share{}, false
	}
	return r.Arms[i], true
}

func (r *Routing) pick(bucket uint32) int {
	sum := uint32(0)
	for i := range r.Arms {
		if sum += r.Arms[i].Weight; bucket < sum {
			return i
		}
	}
	return -1
}

// Asked is what the operator knows about a call and adds to its result. What a client
// sets there is overwritten.
type Asked struct {
	// ID names the record that was asked about: the idempotency key of the call without
	// the job's UID and the arm; see Prediction.
	ID string
	// Model is the name of the operator, Arm the arm that the record was routed to, ""
	// in an operator without arms.
	Model, Arm string
	// Propensity is the share of the arm, 0 to 1, in the routing of version Routing, by
	// which the record was routed. It is 1 without arms.
	Propensity float64
	Routing    uint64
	// At is the event time of the record.
	At base.Timestamp
	// Latency is the time from when the operator took the record to the answer. It is
	// not the same in a replay; that of a record that was in flight at a restart begins
	// anew.
	Latency time.Duration
}

// Shadow is what a shadow arm said about a record, or that it failed. The primary, the
// answer that counts, has the same ID.
type Shadow[Out any] struct {
	ID string `msgpack:"id" json:"id"`
	// Model is the operator's name, Arm the shadow arm, ModelVersion the version that
	// its model says it has, and Primary the arm that the record was routed to.
	Model        string `msgpack:"model" json:"model"`
	ModelVersion string `msgpack:"model_version,omitempty" json:"model_version,omitempty"`
	Arm          string `msgpack:"arm" json:"arm"`
	Primary      string `msgpack:"primary" json:"primary"`
	// Routing is the version of the routing that asked for the shadow.
	Routing uint64 `msgpack:"routing" json:"routing"`
	// Out is the answer, if Kind is "".
	Out Out `msgpack:"out" json:"out"`
	// Kind is that of a failure, as in Failed, with its Status and What.
	Kind   string `msgpack:"kind,omitempty" json:"kind,omitempty"`
	Status int    `msgpack:"status,omitempty" json:"status,omitempty"`
	What   string `msgpack:"what,omitempty" json:"what,omitempty"`
	// Degraded, By and Cached are as in Result.
	Degraded bool   `msgpack:"degraded,omitempty" json:"degraded,omitempty"`
	By       string `msgpack:"by,omitempty" json:"by,omitempty"`
	Cached   bool   `msgpack:"cached,omitempty" json:"cached,omitempty"`
	// LatencyMicros is the time from when the operator took the record to the answer,
	// in microseconds.
	LatencyMicros int64 `msgpack:"latency_us" json:"latency_us"`
	// At is the event time of the record.
	At base.Timestamp `msgpack:"at" json:"at"`
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

// FeatureLog says what a prediction holds of the model's input.
type FeatureLog uint8

const (
	// FeatureValues: the input.
	FeatureValues FeatureLog = 1 << iota
	// FeatureHash: the XXH64 of the input's encoding, to tell whether two predictions
	// were made of the same. An input with maps has no encoding of its own, and so no
	// hash to go by.
	FeatureHash
)

// Predicted puts a result, whose Err is nil, into an envelope. inputs encodes the
// features; it is needed for FeatureHash only.
func Predicted[F, Out any](r *Result[Out], features F, log FeatureLog, inputs *codec.Codec[F]) Prediction[F, Out] {
	p := Prediction[F, Out]{
		V: EnvelopeVersion, ID: r.ID, Model: r.Model, ModelVersion: r.Version, Arm: r.Arm, Propensity: r.Propensity, Routing: r.Routing,
		Out: r.Out, Degraded: r.Degraded, By: r.By, Cached: r.Cached, LatencyMicros: r.Latency.Microseconds(), At: r.At,
	}
	if log&FeatureValues != 0 {
		p.Features = &features
	}
	if log&FeatureHash != 0 {
		p.FeatureHash = base.HashKey(inputs.Append(nil, &features))
	}
	return p
}

// Bare returns the prediction: it is the function for weir.Predict that makes nothing
// else of it.
func Bare[T, F, Out any](_ T, p Prediction[F, Out]) Prediction[F, Out] { return p }
