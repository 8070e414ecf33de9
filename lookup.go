package weir

import (
	"fmt"

	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/lookup"
	"github.com/weirflow/weir/state"
)

// Found is what Lookup has found for one key of a record.
type Found[Q, V any] = lookup.Found[Q, V]

// Lookup fetches, for each record, the features of other keys: of the items that could
// be shown to a user, say, before a model ranks them. The table is a stream of the same
// job, such as what Rolling makes, and holds the last record of each key. keys says
// which keys a record asks for, and must say the same of the same record; f gets what
// the table has for them, in their order.
//
//	stats := weir.Rolling(byItem, "stats", group, func(c Click, v Stats) Item { return Item{c.Item, v.Count} })
//	table := weir.KeyBy(stats, "items", func(i Item) string { return i.ID })
//	ranked := weir.Lookup(byUser, "candidates", table, func(a Ask) []string { return a.Candidates },
//		func(a Ask, items []weir.Found[string, Item]) Ranked { … })
//
// Records of a key go on in the order in which they came, placed by the key that they
// had. What is found is what the table holds when the question comes there: of records
// and changes of the table that are under way at once, none is first. The table does not
// hold event time back. state.TTL bounds it.
//
// Features of several keys that the record itself is about, such as the user's and the
// merchant's of a payment, are RollingBy's: there the record counts, and nothing races.
func Lookup[K comparable, T any, Q comparable, V, Out any](in KeyedStream[K, T], name string, table KeyedStream[Q, V],
	keys func(T) []Q, f func(T, []Found[Q, V]) Out, opts ...state.Option,
) Stream[Out] {
	j, where := in.j, caller(1)
	if keys == nil || f == nil {
		j.fail(where, "WEIR-0131", fmt.Sprintf("lookup %s: a function is missing", j.scope+name), "give it one for the keys and one for what was found")
	}
	if keys == nil || f == nil || in.codec == nil || table.codec == nil {
		return newStream[Out](j, in.chain, in.uid, false)
	}
	b := lookupBuild[K, T, Q, V]{j: j, where: where, in: in, table: table, uid: j.scope + name}
	var joined Stream[lookup.Joined[T, Q, V]]
	Scope(j, name, func(*Job) { joined = b.build(keys, opts) })
	uid := j.declare(joined.chain, name, "map", "", where, joined.uid)
	out := newStream[Out](j, joined.chain, uid, true)
	joined.attach(func(s *operators.Subtask) operators.Consumer[lookup.Joined[T, Q, V]] {
		return operators.Map(s, uid, func(r lookup.Joined[T, Q, V]) Out { return f(r.Rec, r.Found) }, out.bind(s))
	})
	return out
}

// lookupBuild is a Lookup under construction.
type lookupBuild[K comparable, T any, Q comparable, V any] struct {
	j          *Job
	where, uid string
	in         KeyedStream[K, T]
	table      KeyedStream[Q, V]
}

func (b *lookupBuild[K, T, Q, V]) build(keys func(T) []Q, opts []state.Option) Stream[lookup.Joined[T, Q, V]] {
	j, in := b.j, b.in
	start := j.declare(in.chain, "start", "map", "", b.where, in.uid)
	carried := newStream[lookup.Carried[T, Q]](j, in.chain, start, true)
	home := func(rec T) uint64 { return in.codec.Hash(in.key(rec)) }
	in.attach(func(s *operators.Subtask) operators.Consumer[T] {
		return lookup.Start(s, start, home, keys, carried.bind(s))
	})

	answers := b.answers(carried, opts)
	c := j.newChain(b.uid, in.chain.parallelism)
	c.keyed = true
	uid := j.declare(c, "join", "join", "", b.where, start, answers.uid)
	out := newStream[lookup.Joined[T, Q, V]](j, c, uid, true)
	var last *operators.Subtask
	var built *lookup.Gather[T, Q, V]
	gather := func(s *operators.Subtask) *lookup.Gather[T, Q, V] { // one for both heads
		if s != last {
			last, built = s, lookup.NewGather(s, uid, out.bind(s))
		}
		return built
	}
	records := byHash(carried, c, uid, b.where, func(r lookup.Carried[T, Q]) placed { return placed(r.Home) })
	records.attach(func(s *operators.Subtask) operators.Consumer[lookup.Carried[T, Q]] { return gather(s).Records() })
	found := byHash(answers, c, uid, b.where, func(a lookup.Answer[V]) placed { return placed(a.Home) })
	found.attach(func(s *operators.Subtask) operators.Consumer[lookup.Answer[V]] { return gather(s).Answers() })
	return out
}

// answers adds the operator that holds the table, which values and questions come to.
func (b *lookupBuild[K, T, Q, V]) answers(carried Stream[lookup.Carried[T, Q]], opts []state.Option) Stream[lookup.Answer[V]] {
	type message = lookup.Message[Q, V]
	asked := newStream[message](b.j, carried.chain, b.j.declare(carried.chain, "ask", "flat-map", "", b.where, carried.uid), false)
	carried.attach(func(s *operators.Subtask) operators.Consumer[lookup.Carried[T, Q]] {
		return operators.FlatMap(s, asked.uid, lookup.Ask[T, Q, V], asked.bind(s))
	})
	values := newStream[message](b.j, b.table.chain, b.j.declare(b.table.chain, "value", "map", "", b.where, b.table.uid), true)
	key := b.table.key
	b.table.attach(func(s *operators.Subtask) operators.Consumer[V] {
		return operators.Map(s, values.uid, func(v V) message { return message{Key: key(v), Value: &v, Is: true} }, values.bind(s))
	})
	c := b.j.newChain(b.uid+"/table", b.table.chain.parallelism)
	c.keyed = true
	both := newStream[message](b.j, c, asked.uid, true)
	var last *operators.Subtask
	var built operators.Consumer[message]
	once := func(s *operators.Subtask) operators.Consumer[message] {
		if s != last {
			last, built = s, both.bind(s)
		}
		return built
	}
	hash := func(m message) placed { return placed(b.table.codec.Hash(m.Key)) }
	byKey := operators.Partition{Kind: operators.ByHash, Timeless: true} // as the table is placed already
	exchange(values, c, values.uid, byKey, b.where, nil).attach(once)
	byHash(asked, c, asked.uid, b.where, hash).attach(once)
	keyed := KeyedStream[Q, message]{Stream: both, key: func(m message) Q { return m.Key }, codec: b.table.codec}
	answers := addProcess(b.where, "table", keyed, "table", func() KeyedProcess[Q, message, lookup.Answer[V]] { return &lookupTable[Q, V]{opts: opts} }, nil)
	if op := b.j.operatorOf(answers.uid); op != nil {
		op.Inputs = append(op.Inputs, values.uid)
	}
	return answers
}

// placed is the hash of a key; it is not hashed again.
type placed uint64

// byHash sends a stream to a task by the hash of a key that a function returns.
func byHash[T any](in Stream[T], to *chain, uid, where string, hash func(T) placed) Stream[T] {
	return exchange(in, to, uid, operators.Partition{Kind: operators.ByHash}, where, func(s *operators.Subtask, n int) operators.Consumer[T] {
		return operators.KeyBy(s, uid, n, hash, func(h placed) uint64 { return uint64(h) })
	})
}

// lookupTable holds the last value of each key, and answers questions.
type lookupTable[Q comparable, V any] struct {
	NoTimers[Q, lookup.Answer[V]]
	opts []state.Option
	last *state.Value[V]
}

// Declare implements KeyedProcess.
func (t *lookupTable[Q, V]) Declare(d *Declarer) { t.last = ValueState[V](d, "last", t.opts...) }

// OnRecord implements KeyedProcess.
func (t *lookupTable[Q, V]) OnRecord(c *Context[Q, lookup.Answer[V]], m lookup.Message[Q, V]) error {
	if m.Is {
		t.last.Set(lookup.Content(m.Value))
		return nil
	}
	a := lookup.Answer[V]{ID: m.ID, Home: m.Home, Index: m.Index}
	if v, ok := t.last.Get(); ok {
		a.Value, a.Is = &v, true
	}
	c.Emit(a)
	return nil
}
