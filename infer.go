package weir

import (
	"fmt"
	"time"

	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/model"
)

// InferOption is an option of Infer.
type InferOption interface{ infer(*inferOptions) }

type inferOptions struct {
	order    model.Order
	capacity int
	deadline time.Duration
	batch    model.Batching
	drop     bool
	dead     bool // they are dead letters
	failures any  // a failuresOption[T]
	routing  *Stream[model.Routing]
	shadows  any // a shadowsOption[Out]
	shadowed int
	features model.FeatureLog
	wrong    []string
}

type inferOption func(*inferOptions)

func (f inferOption) infer(o *inferOptions) { f(o) }

// ResultOrder says in which order results leave Infer: model.PerKey, the default,
// model.Ordered or model.Unordered.
func ResultOrder(order model.Order) InferOption {
	return inferOption(func(o *inferOptions) { o.order = order })
}

// CallsInFlight bounds the calls under way in each subtask of Infer; it is
// model.DefaultCapacity if not set. When as many records wait, the operator takes no
// more input, which in the end stops the sources; checkpoints go on.
func CallsInFlight(n int) InferOption {
	return inferOption(func(o *inferOptions) {
		if o.capacity = n; n < 1 {
			o.wrong = append(o.wrong, fmt.Sprintf("%d calls in flight", n))
		}
	})
}

// CallDeadline bounds the time from when a record's call is made to its result, with
// all that the client does, such as retries; it is model.DefaultDeadline if not set. A
// call that takes longer has failed. After a restart of the job it begins anew.
func CallDeadline(d time.Duration) InferOption {
	return inferOption(func(o *inferOptions) {
		if o.deadline = d; d <= 0 {
			o.wrong = append(o.wrong, fmt.Sprintf("a deadline of %v", d))
		}
	})
}

// Batches lets Infer put records together in one call of the client, as many as fit a
// goal for the latency; without it every call has one record. A batch never holds
// records from before and after a checkpoint's barrier.
func Batches(b model.Batching) InferOption {
	return inferOption(func(o *inferOptions) { o.batch = b })
}

type failuresOption[T any] struct{ tag Tag[model.Failed[T]] }

func (f failuresOption[T]) infer(o *inferOptions) { o.failures = f }

// FailuresTo sends the records whose calls have failed for good, with what went wrong,
// to a side output of Infer, to be read with SideOutput.
func FailuresTo[T any](tag Tag[model.Failed[T]]) InferOption { return failuresOption[T]{tag} }

// DropFailures drops the records whose calls have failed for good. They are counted in
// weir_model_failed_total.
func DropFailures() InferOption { return inferOption(func(o *inferOptions) { o.drop = true }) }

// Infer asks a model about every record of a stream. client makes the client of a
// subtask, request the input for the model, and result the record that goes on, with
// the event time and the key of the record that was asked about.
//
//	failed := weir.NewTag[model.Failed[Features]]("failed")
//	scores := weir.Infer(features, "churn", client,
//		func(f Features) Input { return Input{f.Views, f.Spend} },
//		func(f Features, r model.Result[Score]) Scored { return Scored{f.User, r.Out, r.Degraded} },
//		weir.FailuresTo(failed), weir.CallsInFlight(1000), weir.CallDeadline(2*time.Second))
//
// What happens to a call that fails for good must be said: FailuresTo, DropFailures or
// OnError(DeadLetter).
// No failure of a model stops or restarts the job; retries, fallbacks, budgets and the
// like are the client's, see package operators/model/guard.
//
// Results come once each, whatever happens. Calls are made once, but for those that
// were under way when the process died, or the machine was lost, or the client repeats
// them: each bears the idempotency key of its record, the same every time. Results wait
// in a journal in the data directory until a checkpoint covers them.
//
// Calls never hold a checkpoint up: what is under way is in it. A watermark goes on
// when all records before it have left.
func Infer[K comparable, T, In, Out, O any](in KeyedStream[K, T], name string, client func(model.Env) (model.Client[In, Out], error),
	request func(T) In, result func(T, model.Result[Out]) O, opts ...InferOption,
) Stream[O] {
	b := newInfer(in, name, caller(1), request, result, opts)
	b.spec.Client = client
	b.none = b.none || client == nil
	if b.o.routing != nil || b.o.shadows != nil {
		b.o.wrong = append(b.o.wrong, "RoutingBy and ShadowTo are for several arms: use InferRouted or Predict")
	}
	return addInfer(in, b)
}

// inferBuild is an operator that asks a model, under construction.
type inferBuild[T, In, Out, O any] struct {
	where, uid string
	o          inferOptions
	spec       model.Spec[T, In, Out, O]
	none       bool // a function is missing
}

func newInfer[K comparable, T, In, Out, O any](in KeyedStream[K, T], name, where string, request func(T) In, result func(T, model.Result[Out]) O, opts []InferOption) *inferBuild[T, In, Out, O] {
	b := &inferBuild[T, In, Out, O]{where: where, none: request == nil || result == nil}
	for _, opt := range opts {
		opt.infer(&b.o)
	}
	b.uid = in.j.declare(in.chain, name, "infer", "", where, in.uid)
	b.spec = model.Spec[T, In, Out, O]{
		UID: b.uid, Order: b.o.order, Capacity: b.o.capacity, Deadline: b.o.deadline, Batch: b.o.batch, ShadowCapacity: b.o.shadowed,
		Request: func(t *T) In { return request(*t) },
		Make: func(t *T, r *model.Result[Out], out *O) bool {
			*out = result(*t, *r)
			return true
		},
	}
	return b
}

// addInfer adds the operator to the job.
func addInfer[K comparable, T, In, Out, O any](in KeyedStream[K, T], b *inferBuild[T, In, Out, O]) Stream[O] {
	j, out := in.j, newStream[O](in.j, in.chain, b.uid, true)
	to := model.Outputs[T, Out, O]{Results: out.bind}
	if f, ok := b.o.failures.(failuresOption[T]); ok {
		to.Failed = addSide(j, b.where, b.uid, in.chain, true, f.tag).bind
	} else if b.o.failures != nil {
		b.o.wrong = append(b.o.wrong, fmt.Sprintf("FailuresTo for records of another type than %T", *new(T)))
	}
	if f, ok := b.o.shadows.(shadowsOption[Out]); ok {
		to.Shadows = addSide(j, b.where, b.uid, in.chain, true, f.tag).bind
	} else if b.o.shadows != nil {
		b.o.wrong = append(b.o.wrong, fmt.Sprintf("ShadowTo for predictions of another type than %T", *new(Out)))
	}
	if !checkInfer(j, b.where, b.uid, &b.spec, &b.o, b.none) || in.codec == nil {
		return out
	}
	if op := j.operatorOf(b.uid); op != nil {
		for _, st := range b.spec.States() {
			op.States = append(op.States, engine.State(st))
		}
	}
	letters := operators.Letters[T]{}
	if b.o.dead {
		letters = lettersOf[T](j, in.chain, b.where, b.uid, true, DeadLetter)
	}
	queues := newPerSubtask[func(model.Routing)]()
	in.attach(func(s *operators.Subtask) operators.Consumer[T] {
		to, takeBack := to, func(operators.Consumer[T]) {}
		if b.o.dead {
			takeBack = deadInfer(s, b.uid, letters, &to)
		}
		c, queue := model.Infer(s, b.spec, to)
		takeBack(c)
		if b.o.routing != nil {
			queues.set(s, queue)
		}
		return c
	})
	if b.o.routing != nil {
		routeBy(in.chain, b.where, b.uid, *b.o.routing, queues)
	}
	return out
}

// checkInfer reports mistakes in the arguments of Infer, and sets the codecs.
func checkInfer[T, In, Out, O any](j *Job, where, uid string, spec *model.Spec[T, In, Out, O], o *inferOptions, none bool) bool {
	ok := true
	fail := func(code, what, next string) {
		j.fail(where, code, fmt.Sprintf("infer %s: %s", uid, what), next)
		ok = false
	}
	if none {
		fail("WEIR-0129", "a function is missing", "give it a client, a function for requests and one for results")
	}
	for _, w := range o.wrong {
		fail("WEIR-0129", w, "")
	}
	if o.ways() != 1 {
		fail("WEIR-0129", "it must be said what happens to records whose calls fail for good", "give it one of the options FailuresTo, DropFailures and OnError(DeadLetter)")
	}
	var err error
	if spec.In, err = codec.For[T](); err != nil {
		fail("WEIR-0107", fmt.Sprintf("records of type %T cannot be kept: %v", *new(T), err), "use exported fields of encodable types, or give the type msgpack methods")
	}
	if spec.Out, err = codec.For[Out](); err != nil {
		fail("WEIR-0107", fmt.Sprintf("predictions of type %T cannot be kept: %v", *new(Out), err), "use exported fields of encodable types, or give the type msgpack methods")
	}
	return ok
}
