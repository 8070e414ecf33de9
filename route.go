package weir

import (
	"fmt"
	"maps"
	"slices"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/model"
)

// Arms are several models that one operator asks, by name: 1 to 64 characters of a-z,
// 0-9 and -. Each has a client of its own in every subtask.
type Arms[In, Out any] map[string]func(model.Env) (model.Client[In, Out], error)

// InferRouted is Infer for several models, of which a routing says which one answers
// for a record: a key goes by a hash of it to an arm, and stays there until the weights
// change. The routing is the initial one until RoutingBy brings another; a restart goes
// on with the one of the checkpoint, unless the program's initial has a higher version.
//
//	arms := weir.Arms[Input, float64]{"stable": tree("fraud-7.txt"), "canary": tree("fraud-8.txt")}
//	routing := model.Routing{Arms: []model.Share{{Arm: "canary", Weight: 100}, {Arm: "stable", Weight: 9900}}}
//	scored := weir.InferRouted(byCard, "fraud", arms, routing,
//		func(p Payment) Input { return Input{p.Amount, p.Count} },
//		func(p Payment, r model.Result[float64]) Scored { return Scored{p, r.Out, r.Arm} },
//		weir.FailuresTo(failed), weir.RoutingBy(routings), weir.ShadowTo(shadows))
//
// The arm of a record is chosen when it comes and kept with it: a change of the routing
// leaves calls under way alone, and so does a restart. A record that was in flight to an
// arm that a later program does not have, and has no answer, goes by the routing in
// effect.
//
// An operator that was an Infer before and is an InferRouted now asks anew, with another
// idempotency key, about the records that were in flight at its last checkpoint: the arm
// is part of the key.
//
// CallsInFlight bounds the calls of all arms together, Batches the batches of each.
// An arm that hangs holds input up when as many records wait for it; give its client a
// fallback, see package operators/model/guard, or a short CallDeadline.
func InferRouted[K comparable, T, In, Out, O any](in KeyedStream[K, T], name string, arms Arms[In, Out], initial model.Routing,
	request func(T) In, result func(T, model.Result[Out]) O, opts ...InferOption,
) Stream[O] {
	b := newInfer(in, name, caller(1), request, result, opts)
	b.setArms(arms, initial)
	return addInfer(in, b)
}

// Predict is InferRouted whose results are predictions in the form in which they are
// logged: with their ID, model, version, arm and its propensity, the model's input, and
// whether they are degraded. result makes the record that goes on;
// model.Bare hands on the prediction as it is.
//
//	predictions := weir.Predict(byCard, "fraud", arms, model.Everything("stable"), input, model.Bare, weir.FailuresTo(failed))
//
// LogFeatures says what a prediction holds of the model's input. request is called once
// more for it, and must make the same input of the same record.
func Predict[K comparable, T, In, Out, O any](in KeyedStream[K, T], name string, arms Arms[In, Out], initial model.Routing,
	request func(T) In, result func(T, model.Prediction[In, Out]) O, opts ...InferOption,
) Stream[O] {
	where := caller(1)
	var made func(T, model.Result[Out]) O
	inputs, err := codec.For[In]()
	b := newInfer(in, name, where, request, made, opts)
	log := b.o.features
	if log == 0 {
		log = model.FeatureValues
	}
	if err != nil {
		in.j.fail(where, "WEIR-0107", fmt.Sprintf("infer %s: inputs of type %T cannot be encoded: %v", b.uid, *new(In), err),
			"use exported fields of encodable types, or give the type msgpack methods")
	}
	b.none = request == nil || result == nil
	b.spec.Make = func(t *T, r *model.Result[Out], out *O) bool {
		*out = result(*t, model.Predicted(r, request(*t), log, inputs))
		return true
	}
	b.setArms(arms, initial)
	return addInfer(in, b)
}

// LogFeatures says what predictions hold of the input that the model was asked with, the
// one or the other or both: model.FeatureValues, the default, and model.FeatureHash. It
// is for Predict.
func LogFeatures(what model.FeatureLog) InferOption {
	return inferOption(func(o *inferOptions) { o.features = what })
}

// RoutingBy lets records of a control stream change the routing while the job runs.
// They go to all subtasks and take effect at the next checkpoint, in all of them at
// once: for all records that come after its barrier. Checkpoints hold the routing in
// effect. A routing that is not newer than that one, or not valid (see model.Routing), or
// has shadows without ShadowTo, changes nothing; it is logged, and counted in
// weir_model_routings_refused_total.
//
// With control records from one split, such as of a JetStream stream without
// partitions, all subtasks have the same routings in the same order. A job that starts
// over from the beginning of its input has its barriers in other places, and so the
// records around a change may go to other arms than they did; predictions say by which
// routing they were made.
func RoutingBy(control Stream[model.Routing]) InferOption {
	return inferOption(func(o *inferOptions) { o.routing = &control })
}

type shadowsOption[Out any] struct{ tag Tag[model.Shadow[Out]] }

func (f shadowsOption[Out]) infer(o *inferOptions) { o.shadows = f }

// ShadowTo asks the shadow arms of the routing about the same records, but those that
// they answer anyway, and sends what they say, or that they failed, to a side output.
// model.Shadow has the ID of the answer that counts.
//
// Shadows never fail a record and never hold one up, but as far as they take computing
// time, and what reads them is slow, and as far as the client says: an arm that answers
// some keys and is a shadow for others has one client for both, and what that has in
// common, such as the budgets and the breaker of package operators/model/guard, they
// share. They are the first to go under load: a shadow is
// dropped, and counted in weir_model_shadow_dropped_total, when its arm has as many as
// ShadowsInFlight, or when three quarters of CallsInFlight are in use. They are neither
// journaled nor in checkpoints: what a shadow says comes once at most, and those under
// way at a restart are missing. A shadow that comes behind the watermark has its time;
// the end of input waits for them.
func ShadowTo[Out any](tag Tag[model.Shadow[Out]]) InferOption { return shadowsOption[Out]{tag} }

// ShadowsInFlight bounds the records that wait for each shadow arm in each subtask; it
// is model.DefaultShadows if not set.
func ShadowsInFlight(n int) InferOption {
	return inferOption(func(o *inferOptions) {
		if o.shadowed = n; n < 1 {
			o.wrong = append(o.wrong, fmt.Sprintf("%d shadows in flight", n))
		}
	})
}

// setArms gives the operator its arms, and notes mistakes.
func (b *inferBuild[T, In, Out, O]) setArms(arms Arms[In, Out], initial model.Routing) {
	names := slices.Sorted(maps.Keys(arms))
	b.spec.Routing = initial
	if len(names) == 0 {
		b.o.wrong = append(b.o.wrong, "it has no arms")
	}
	for _, name := range names {
		if err := base.CheckUID(name); err != nil {
			b.o.wrong = append(b.o.wrong, fmt.Sprintf("an arm: %v", err))
		}
		b.none = b.none || arms[name] == nil
		b.spec.Arms = append(b.spec.Arms, model.Arm[In, Out]{Name: name, Client: arms[name]})
	}
	if err := initial.Validate(names); err != nil {
		b.o.wrong = append(b.o.wrong, fmt.Sprintf("the initial routing: %v", err))
	}
	if len(initial.Shadows) > 0 && b.o.shadows == nil {
		b.o.wrong = append(b.o.wrong, "the initial routing has shadows, and there is no ShadowTo")
	}
}

// routeBy brings a control stream of routings to an operator.
func routeBy(c *chain, where, uid string, control Stream[model.Routing], queues *perSubtask[func(model.Routing)]) {
	op := control.j.operatorOf(uid)
	op.Inputs = append(op.Inputs, control.uid)
	routings := exchange(control, c, uid, operators.Partition{Kind: operators.Broadcast}, where, nil)
	routings.attach(func(s *operators.Subtask) operators.Consumer[model.Routing] {
		queue := queues.take(s)
		return operators.Consumer[model.Routing]{One: func(_ *base.Meta, r *model.Routing) { queue(*r) }}
	})
}
