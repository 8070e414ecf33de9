package weir

import (
	"fmt"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
)

// Stream is a stream of records of type T. It is a handle of the build: records
// only flow when the plan runs. Functions of the job get values and must not
// change what those refer to, for another operator may see the same.
type Stream[T any] struct {
	j     *Job
	chain *chain
	uid   string
	keyed bool
	// consumers are what reads the stream; shared by all copies of the handle.
	consumers *[]operators.Bind[T]
}

// KeyedStream is a stream whose records are placed by a key: operators on it see
// the records of one key in one place and in order, and keep state by key.
type KeyedStream[K comparable, T any] struct {
	Stream[T]
	key   func(T) K
	codec *codec.KeyCodec[K]
}

func newStream[T any](j *Job, c *chain, uid string, keyed bool) Stream[T] {
	return Stream[T]{j: j, chain: c, uid: uid, keyed: keyed, consumers: new([]operators.Bind[T])}
}

// attach adds a reader of the stream.
func (s Stream[T]) attach(b operators.Bind[T]) { *s.consumers = append(*s.consumers, b) }

// bind makes the consumer that hands records to all readers of the stream.
func (s Stream[T]) bind(sub *operators.Subtask) operators.Consumer[T] {
	cs := make([]operators.Consumer[T], 0, len(*s.consumers))
	for _, b := range *s.consumers {
		cs = append(cs, b(sub))
	}
	return operators.Fan(sub, cs)
}

// Map returns the stream of f of every record. A panic of f stops the task, unless
// OnError says otherwise.
func Map[A, B any](in Stream[A], name string, f func(A) B, opts ...TryOption) Stream[B] {
	uid := in.j.declare(in.chain, name, "map", "", caller(1), in.uid)
	out := newStream[B](in.j, in.chain, uid, in.keyed)
	if policy := policyOf(opts); policy != Fail {
		letters := lettersOf[A](in.j, in.chain, caller(1), uid, in.keyed, policy)
		try := func(a A) (B, error) { return f(a), nil }
		in.attach(func(s *operators.Subtask) operators.Consumer[A] {
			return operators.GuardedMap(s, uid, try, policy, letters, out.bind(s))
		})
		return out
	}
	in.attach(func(s *operators.Subtask) operators.Consumer[A] {
		return operators.Map(s, uid, f, out.bind(s))
	})
	return out
}

// TryMap is Map for a function that may refuse a record. What happens then is
// the error policy's: OnError(Fail), the default, OnError(Skip) or
// OnError(DeadLetter).
func TryMap[A, B any](in Stream[A], name string, f func(A) (B, error), opts ...TryOption) Stream[B] {
	uid := in.j.declare(in.chain, name, "map", "", caller(1), in.uid)
	out := newStream[B](in.j, in.chain, uid, in.keyed)
	if policy := policyOf(opts); policy != Fail {
		letters := lettersOf[A](in.j, in.chain, caller(1), uid, in.keyed, policy)
		in.attach(func(s *operators.Subtask) operators.Consumer[A] {
			return operators.GuardedMap(s, uid, f, policy, letters, out.bind(s))
		})
		return out
	}
	in.attach(func(s *operators.Subtask) operators.Consumer[A] {
		return operators.TryMap(s, uid, f, out.bind(s))
	})
	return out
}

func policyOf(opts []TryOption) Policy {
	var o tryOptions
	for _, opt := range opts {
		opt.try(&o)
	}
	return o.policy
}

// Filter returns the stream of the records for which keep is true. A panic of keep
// stops the task, unless OnError says otherwise.
func Filter[T any](in Stream[T], name string, keep func(T) bool, opts ...TryOption) Stream[T] {
	uid := in.j.declare(in.chain, name, "filter", "", caller(1), in.uid)
	out := newStream[T](in.j, in.chain, uid, in.keyed)
	if policy := policyOf(opts); policy != Fail {
		letters := lettersOf[T](in.j, in.chain, caller(1), uid, in.keyed, policy)
		in.attach(func(s *operators.Subtask) operators.Consumer[T] {
			return operators.GuardedFilter(s, uid, keep, policy, letters, out.bind(s))
		})
		return out
	}
	in.attach(func(s *operators.Subtask) operators.Consumer[T] {
		return operators.Filter(s, uid, keep, out.bind(s))
	})
	return out
}

// FlatMap returns the stream of all records that f emits. A panic of f stops the task,
// unless OnError says otherwise.
func FlatMap[A, B any](in Stream[A], name string, f func(a A, emit func(B)), opts ...TryOption) Stream[B] {
	uid := in.j.declare(in.chain, name, "flat-map", "", caller(1), in.uid)
	out := newStream[B](in.j, in.chain, uid, in.keyed)
	if policy := policyOf(opts); policy != Fail {
		letters := lettersOf[A](in.j, in.chain, caller(1), uid, in.keyed, policy)
		in.attach(func(s *operators.Subtask) operators.Consumer[A] {
			return operators.GuardedFlatMap(s, uid, f, policy, letters, out.bind(s))
		})
		return out
	}
	in.attach(func(s *operators.Subtask) operators.Consumer[A] {
		return operators.FlatMap(s, uid, f, out.bind(s))
	})
	return out
}

// KeyBy places the records of a stream by a key. K may be a string, an integer,
// a bool, a byte array or a struct of these.
func KeyBy[K comparable, T any](in Stream[T], name string, key func(T) K, opts ...KeyOption) KeyedStream[K, T] {
	return keyBy(in, name, caller(1), key, opts)
}

func keyBy[K comparable, T any](in Stream[T], name, where string, key func(T) K, opts []KeyOption) KeyedStream[K, T] {
	j := in.j
	o := keyOptions{parallelism: j.opts.parallelism}
	for _, opt := range opts {
		opt.key(&o)
	}
	if o.parallelism < 1 || o.parallelism > MaxParallelism {
		j.fail(where, "WEIR-0102", fmt.Sprintf("key-by %s: the parallelism is %d", j.scope+name, o.parallelism), fmt.Sprintf("use 1 to %d", MaxParallelism))
	}
	c := j.newChain(j.scope+name, o.parallelism)
	c.keyed = true
	uid := j.declare(c, name, "key-by", fmt.Sprintf("parallelism %d", o.parallelism), where, in.uid)
	kc, err := codec.KeyFor[K]()
	if err != nil {
		j.fail(where, "WEIR-0106", fmt.Sprintf("key-by %s: a key of type %T cannot be used: %v", uid, *new(K), err),
			"use a string, an integer, a bool, a byte array or a struct of these")
		return KeyedStream[K, T]{Stream: newStream[T](j, c, uid, true)}
	}
	out := exchange(in, c, uid, operators.Partition{Kind: operators.ByHash}, where, func(s *operators.Subtask, out int) operators.Consumer[T] {
		return operators.KeyBy(s, uid, out, key, kc.Hash)
	})
	out.keyed = true
	return KeyedStream[K, T]{Stream: out, key: key, codec: kc}
}

// SameKey says that a stream, made from a keyed one by operators in between, still
// goes by the same key, so that what comes next needs no exchange: records stay
// where they are and in their order. It is a build error when an exchange lies in
// between; a record whose key is another one stops the job.
func SameKey[K comparable, A, T any](of KeyedStream[K, A], in Stream[T], key func(T) K) KeyedStream[K, T] {
	j, where := in.j, caller(1)
	out := newStream[T](j, in.chain, in.uid, true)
	if in.chain != of.chain || !in.keyed || key == nil {
		j.fail(where, "WEIR-0128", fmt.Sprintf("%s does not go by the key of %s", in.uid, of.uid),
			"use SameKey on what was made from the keyed stream, with nothing in between that sends records elsewhere; otherwise use KeyBy")
		return KeyedStream[K, T]{Stream: out}
	}
	if of.codec == nil {
		return KeyedStream[K, T]{Stream: out}
	}
	hash := func(v *T) uint64 { return of.codec.Hash(key(*v)) }
	in.attach(func(s *operators.Subtask) operators.Consumer[T] {
		return operators.SameKey(s, in.uid, hash, out.bind(s))
	})
	return KeyedStream[K, T]{Stream: out, key: key, codec: of.codec}
}

// exchange connects a stream to the head of another chain; send makes the operator
// that writes to the output of the sending side, nil for a plain one.
func exchange[T any](in Stream[T], to *chain, uid string, part operators.Partition, where string,
	send func(s *operators.Subtask, out int) operators.Consumer[T],
) Stream[T] {
	j := in.j
	out := newStream[T](j, to, uid, false)
	mk, err := operators.NewBatch[T]()
	if err != nil {
		j.fail(where, "WEIR-0107", fmt.Sprintf("records of type %T cannot be encoded: %v", *new(T), err),
			"use exported fields of encodable types, or give the type msgpack methods")
		return out
	}
	n := j.connect(in.chain, to, part, mk)
	if send == nil {
		send = func(s *operators.Subtask, out int) operators.Consumer[T] { return operators.ToEdge[T](s, out, part) }
	}
	in.attach(func(s *operators.Subtask) operators.Consumer[T] { return send(s, n) })
	to.heads = append(to.heads, func(s *operators.Subtask) error {
		operators.Head(s, out.bind(s))
		return nil
	})
	return out
}

// Union merges streams of one type. Event time is the least of theirs.
func Union[T any](name string, first Stream[T], rest ...Stream[T]) Stream[T] {
	j, where := first.j, caller(1)
	all := append([]Stream[T]{first}, rest...)
	inputs := make([]string, 0, len(all))
	for _, s := range all {
		inputs = append(inputs, s.uid)
	}
	c := j.newChain(j.scope+name, first.chain.parallelism)
	uid := j.declare(c, name, "union", fmt.Sprintf("%d streams", len(all)), where, inputs...)
	out := newStream[T](j, c, uid, false)
	// What reads the union is built once for each subtask, not once for each head.
	once := onePerSubtask(out.bind)
	for _, in := range all {
		merged := exchange(in, c, uid, operators.Partition{Kind: operators.Forward}, where, nil)
		merged.attach(once)
	}
	return out
}

// To sends a stream to a sink.
func To[T any](in Stream[T], name string, sink connectors.Sink[T], opts ...SinkOption) {
	where := caller(1)
	if bound, ok := boundSink[T](in.j, name, where); ok {
		sink = bound
	}
	toSink(in, name, where, sink, opts)
}

// toSink is To for a sink that is bound.
func toSink[T any](in Stream[T], name, where string, sink connectors.Sink[T], opts []SinkOption) {
	j := in.j
	var o sinkOptions
	for _, opt := range opts {
		opt.sink(&o)
	}
	if sink.Target == nil || sink.Encode == nil {
		j.fail(where, "WEIR-0108", fmt.Sprintf("sink %s has no target", name), "use a sink made by a connector package")
		return
	}
	detail := sink.Target.Kind() + ", " + sink.Target.Class().String()
	if o.require == connectors.ExactlyOnce && sink.Target.Class() != connectors.ExactlyOnce {
		j.fail(where, "WEIR-0109", fmt.Sprintf("sink %s is %s, and the job requires exactly-once", name, sink.Target.Class()),
			"use an exactly-once sink, or drop the option RequireExactlyOnce")
	}
	checkBuild(j, where, "sink "+name, sink.Target)
	switch t := sink.Target.(type) {
	case connectors.LaneTarget:
		toLanes(in, name, detail, where, sink, t)
	case connectors.DirectTarget:
		uid := j.declare(in.chain, name, "to", detail, where, in.uid)
		in.attach(func(s *operators.Subtask) operators.Consumer[T] { return operators.DirectSinkOf(s, uid, sink) })
	default:
		j.fail(where, "WEIR-0108", fmt.Sprintf("sink %s: %T is neither a LaneTarget nor a DirectTarget", name, sink.Target), "")
	}
}

// toLanes adds an exactly-once sink. Every lane needs one owner: the sink is
// fused to the chain where the chain's subtasks own whole lanes, and otherwise
// becomes a task of its own behind an exchange by lane.
func toLanes[T any](in Stream[T], name, detail, where string, sink connectors.Sink[T], t connectors.LaneTarget) {
	j, lanes, p := in.j, t.Lanes(), in.chain.parallelism
	if lanes < 1 || lanes > MaxLanes {
		j.fail(where, "WEIR-0112", fmt.Sprintf("sink %s has %d lanes", name, lanes), fmt.Sprintf("use 1 to %d", MaxLanes))
		return
	}
	c := in.chain
	if p > 1 && (!in.keyed || lanes%p != 0) {
		c = j.newChain(j.scope+name, min(p, lanes))
	}
	uid := j.declare(c, name, "to", detail, where, in.uid)
	j.sinks = append(j.sinks, operators.NewLaneSink(uid, t))
	if c != in.chain {
		part := operators.Partition{Kind: operators.ByLane, Lanes: lanes}
		if !in.keyed {
			part.Kind = operators.BySplitLane
		}
		keyed := in.keyed
		in = exchange(in, c, uid, part, where, nil)
		in.keyed = keyed
	}
	in.attach(func(s *operators.Subtask) operators.Consumer[T] {
		return operators.LaneSinkOf(s, uid, sink, lanes, in.keyed)
	})
}

// MaxLanes bounds the lanes of a sink.
const MaxLanes = 1024
