package weir

import (
	"fmt"
	"slices"

	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/feature"
)

// Rolling computes rolling features at every record: what the records of its key
// say over many horizons. f gets each record and the features of its key, and makes
// what goes on; features derived from others are computed in it.
//
// V is a struct whose fields have tags that name features, or feature.Row for all
// of them as one record; see feature.Bind and feature.Row.
//
//	type Spending struct {
//		Count  float64 `feature:"count_5m"`
//		Spend  float64 `feature:"spend_24h"`
//	}
//
//	features := feature.Set(
//		feature.Count[Payment]("count").Over(5*time.Minute),
//		feature.Sum("spend", func(p Payment) float64 { return p.Amount }).Over(24*time.Hour),
//	)
//	scored := weir.Rolling(byCard, "spending", features, func(p Payment, s Spending) Scored {
//		return Scored{Payment: p, Burst: s.Count > 5}
//	})
//
// A record out of order is counted where it belongs; see package feature for time,
// for what a horizon counts exactly, and for the bounds of a key's state.
func Rolling[K comparable, T, V, Out any](in KeyedStream[K, T], name string, group *feature.Group[T], f func(T, V) Out) Stream[Out] {
	j, where := in.j, caller(1)
	uid := j.declare(in.chain, name, "rolling", describeGroup(group), where, in.uid)
	out := newStream[Out](j, in.chain, uid, true)
	program := compileGroup(j, where, uid, group)
	if program == nil {
		return out
	}
	read := reader[V](j, where, program.Schema())
	if f == nil {
		j.fail(where, "WEIR-0126", fmt.Sprintf("rolling %s has no function", uid), "")
	}
	if read == nil || f == nil || in.codec == nil {
		return out
	}
	declareFeatures(j, uid, program)
	spec := feature.Spec[K, T, T, Out]{
		UID: uid, Key: func(t *T) K { return in.key(*t) }, Keys: in.codec, Program: program,
		Record: func(t *T) *T { return t },
	}
	in.attach(func(s *operators.Subtask) operators.Consumer[T] {
		spec, v := spec, *new(V)
		spec.Make = func(t *T, vec *feature.Vector, o *Out) {
			read(vec, &v)
			*o = f(*t, v)
		}
		c, _ := feature.Node(s, spec, out.bind(s))
		return c
	})
	return out
}

// KeyedGroup is a group of features and the key that it goes by; see GroupBy.
type KeyedGroup[T any] struct {
	name  string
	group *feature.Group[T]
	// attach adds the group's exchange and operator to a stream, as group i; nil
	// without a key. The last group gets what the others made.
	attach func(b *rollingBy[T], i int, p *feature.Program[T]) Stream[feature.Carried[T]]
}

// rollingBy is a vector of several groups under construction.
type rollingBy[T any] struct {
	where, uid string
	in         Stream[feature.Carried[T]]
	all        *feature.Combined[T]
	groups     int
	parts      []Stream[feature.Carried[T]] // of the groups before the last
}

// GroupBy gives a group of features its key, for RollingBy. The name, 1 to 64
// characters of a-z, 0-9 and -, is part of the operator's.
func GroupBy[K comparable, T any](name string, key func(T) K, group *feature.Group[T], opts ...KeyOption) KeyedGroup[T] {
	if key == nil {
		return KeyedGroup[T]{name: name, group: group}
	}
	return KeyedGroup[T]{
		name: name, group: group,
		attach: func(b *rollingBy[T], i int, p *feature.Program[T]) Stream[feature.Carried[T]] {
			j := b.in.j
			of := func(c feature.Carried[T]) K { return key(c.Rec) }
			keyed := keyBy(b.in, name+"-key", b.where, of, opts)
			inputs := []string{keyed.uid}
			for _, part := range b.parts {
				inputs = append(inputs, part.uid)
			}
			uid := j.declare(keyed.chain, name, "rolling", describeGroup(group), b.where, inputs...)
			out := newStream[feature.Carried[T]](j, keyed.chain, uid, true)
			if keyed.codec == nil {
				return out
			}
			declareFeatures(j, uid, p)
			spec := feature.Spec[K, T, feature.Carried[T], feature.Carried[T]]{
				UID: uid, Key: func(c *feature.Carried[T]) K { return key(c.Rec) }, Keys: keyed.codec, Program: p,
				Record: b.all.Record, Make: b.all.Part,
			}
			made := func(s *operators.Subtask) operators.Consumer[feature.Carried[T]] { return out.bind(s) }
			if i == b.groups-1 {
				gather := b.gather(out)
				made = func(s *operators.Subtask) operators.Consumer[feature.Carried[T]] { return gather(s).Part(i) }
				for k, part := range b.parts {
					arrived := exchange(part, keyed.chain, keyed.uid, operators.Partition{Kind: operators.ByHash}, b.where, func(s *operators.Subtask, n int) operators.Consumer[feature.Carried[T]] {
						return operators.KeyBy(s, keyed.uid, n, of, keyed.codec.Hash)
					})
					arrived.attach(func(s *operators.Subtask) operators.Consumer[feature.Carried[T]] { return gather(s).Part(k) })
				}
			}
			keyed.attach(func(s *operators.Subtask) operators.Consumer[feature.Carried[T]] {
				c, _ := feature.Node(s, spec, made(s))
				return c
			})
			return out
		},
	}
}

// gather returns what gives the node that joins the parts, one for each subtask, which
// all heads of the subtask share.
func (b *rollingBy[T]) gather(out Stream[feature.Carried[T]]) func(*operators.Subtask) *feature.Gather[T] {
	var last *operators.Subtask
	var built *feature.Gather[T]
	return func(s *operators.Subtask) *feature.Gather[T] {
		if s != last {
			last, built = s, feature.NewGather(s, b.uid, b.all, out.bind(s))
		}
		return built
	}
}

// RollingBy is Rolling for a vector of several groups, each by a key of its own: a
// record goes to its keys at once, and on when the features of all are there. Its
// operators are called NAME/GROUP. Two groups must not have a feature of the same
// name: see feature.Group.Prefix.
//
// Every group gets the records of a key in the order in which they came, whatever the
// other groups and the parallelism are, and so do operators behind it for the key of
// the last group, by which the vectors are placed.
func RollingBy[T, V, Out any](in Stream[T], name string, f func(T, V) Out, groups ...KeyedGroup[T]) Stream[Out] {
	j, where := in.j, caller(1)
	broken := func() Stream[Out] { return newStream[Out](j, in.chain, in.uid, false) }
	if len(groups) == 0 || f == nil {
		j.fail(where, "WEIR-0126", fmt.Sprintf("rolling %s needs a function and at least one group", j.scope+name), "use weir.GroupBy")
		return broken()
	}
	var programs []*feature.Program[T]
	for i, g := range groups {
		p := compileGroup(j, where, j.scope+name+"/"+g.name, g.group)
		if p == nil || !checkGroup(j, where, j.scope+name, groups[:i], g) {
			return broken()
		}
		programs = append(programs, p)
	}
	all, err := feature.Combine(programs...)
	if err != nil {
		j.failWith(where, err)
		return broken()
	}
	read := rowReader[V](j, where, all.Schema())
	if read == nil {
		return broken()
	}
	b := rollingBy[T]{where: where, uid: j.scope + name, all: all, groups: len(groups)}
	var last Stream[feature.Carried[T]]
	Scope(j, name, func(*Job) {
		uid := j.declare(in.chain, "start", "map", "", where, in.uid)
		b.in = newStream[feature.Carried[T]](j, in.chain, uid, in.keyed)
		in.attach(func(s *operators.Subtask) operators.Consumer[T] {
			return feature.Start(s, uid, b.in.bind(s))
		})
		for i, g := range groups {
			last = g.attach(&b, i, programs[i])
			b.parts = append(b.parts, last)
		}
	})
	uid := j.declare(last.chain, name, "map", all.Schema().String(), where, last.uid)
	out := newStream[Out](j, last.chain, uid, true)
	last.attach(func(s *operators.Subtask) operators.Consumer[feature.Carried[T]] {
		var v V
		return operators.Map(s, uid, func(c feature.Carried[T]) Out {
			read(&c.Row, &v)
			return f(c.Rec, v)
		}, out.bind(s))
	})
	return out
}

// checkGroup reports the mistakes of a group's name and key; before are the groups
// before it.
func checkGroup[T any](j *Job, where, uid string, before []KeyedGroup[T], g KeyedGroup[T]) bool {
	n := len(j.errs)
	if err := base.CheckUID(g.name); err != nil {
		j.fail(where, "WEIR-0101", fmt.Sprintf("rolling %s has a group without a proper name: %v", uid, err), "")
	}
	if slices.ContainsFunc(before, func(b KeyedGroup[T]) bool { return b.name == g.name }) {
		j.fail(where, "WEIR-0105", fmt.Sprintf("rolling %s has two groups %q", uid, g.name), "the name is a group's identity, so give one of them another")
	}
	if g.attach == nil {
		j.fail(where, "WEIR-0126", fmt.Sprintf("group %q of rolling %s has no key", g.name, uid), "give weir.GroupBy a function")
	}
	return len(j.errs) == n
}

func describeGroup[T any](g *feature.Group[T]) string {
	if g == nil {
		return ""
	}
	return plural(len(g.Features()), "feature")
}

// compileGroup reports the mistakes of a group; nil if there are any.
func compileGroup[T any](j *Job, where, uid string, g *feature.Group[T]) *feature.Program[T] {
	if g == nil {
		j.fail(where, "WEIR-0126", fmt.Sprintf("rolling %s has no features", uid), "use feature.Set")
		return nil
	}
	p, err := g.Compile()
	if err != nil {
		j.failWith(where, err)
		return nil
	}
	return p
}

// rowReader returns what fills a V from a row; nil after reporting that V does not
// fit.
func rowReader[V any](j *Job, where string, schema *feature.Schema) func(*feature.Row, *V) {
	if f, ok := any(func(r *feature.Row, v *feature.Row) { *v = *r }).(func(*feature.Row, *V)); ok {
		return f
	}
	b, err := feature.Bind[V](schema)
	if err != nil {
		j.failWith(where, err)
		return nil
	}
	return b.Fill
}

// reader is rowReader from a vector.
func reader[V any](j *Job, where string, schema *feature.Schema) func(*feature.Vector, *V) {
	if f, ok := any(func(vec *feature.Vector, v *feature.Row) { *v = vec.Row() }).(func(*feature.Vector, *V)); ok {
		return f
	}
	b, err := feature.Bind[V](schema)
	if err != nil {
		j.failWith(where, err)
		return nil
	}
	return b.FillVector
}

func declareFeatures[T any](j *Job, uid string, p *feature.Program[T]) {
	j.vectors = append(j.vectors, vectorSchema{uid, p.Schema()})
	if op := j.operatorOf(uid); op != nil {
		op.States = append(op.States, engine.State{Name: feature.StateName, Schema: p.StateSchema()})
	}
}
