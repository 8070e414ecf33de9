package weir

import (
	"fmt"
	"sync"

	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/pattern"
)

// NamedPattern is one of several patterns; see DetectAll.
type NamedPattern[T any] struct {
	// Name is 1 to 64 characters of a-z, 0-9 and -. State goes by it.
	Name    string
	Pattern *pattern.Pattern[T]
	Options []pattern.Option
}

// DetectOption is an option of Detect and DetectAll. Options that have a type of
// records are held against the stream's when the job is built.
type DetectOption interface{ detect(*detectOptions) }

type detectOptions struct {
	compile    []pattern.Option
	processing bool
	// Of the types that Detect knows: func(a, b T) bool, LateOption[T],
	// timeoutMaker[K, T], living[T].
	less, late, timeouts, living any
}

type detectOption func(*detectOptions)

func (f detectOption) detect(o *detectOptions) { f(o) }

// PatternOptions sets how patterns are compiled, for all patterns of the operator:
// pattern.FlinkCompat, pattern.WithLimits.
func PatternOptions(opts ...pattern.Option) DetectOption {
	return detectOption(func(o *detectOptions) { o.compile = append(o.compile, opts...) })
}

// TieBreak orders records of one key and one event time: less says that a comes
// before b. Without it they are taken as they come, which a replay may change where
// they come from several splits.
func TieBreak[T any](less func(a, b *T) bool) DetectOption {
	return detectOption(func(o *detectOptions) { o.less = less })
}

// ArrivalTime makes the wall clock's time at which a record arrives its time for the
// patterns. Nothing waits for a watermark then and no record is late; windows end by
// the clock, and a replay may find other matches.
func ArrivalTime() DetectOption {
	return detectOption(func(o *detectOptions) { o.processing = true })
}

func (l LateOption[T]) detect(o *detectOptions) { o.late = l }

// sendTimeout makes the record of a timed-out run; called with its metadata, that
// hands it on.
type sendTimeout[K comparable, T any] func(k K, name string, t *pattern.Timeout[T]) func(*base.Meta)

// timeoutMaker adds the side output to the operator, and makes what writes to it in
// a subtask.
type timeoutMaker[K comparable, T any] func(j *Job, where, uid string, c *chain) func(*operators.Subtask) sendTimeout[K, T]

// TimeoutsTo writes what partial matches become when their window ends to a side
// output: f gets the key, the name of the pattern, and what had been found. Without
// it they are dropped.
func TimeoutsTo[K comparable, T, Out any](tag Tag[Out], f func(k K, name string, t *pattern.Timeout[T]) Out) DetectOption {
	maker := timeoutMaker[K, T](func(j *Job, where, uid string, c *chain) func(*operators.Subtask) sendTimeout[K, T] {
		side := addSide(j, where, uid, c, true, tag)
		return func(s *operators.Subtask) sendTimeout[K, T] {
			out := side.bind(s)
			return func(k K, name string, t *pattern.Timeout[T]) func(*base.Meta) {
				v := f(k, name, t)
				return func(m *base.Meta) { out.One(m, &v) }
			}
		}
	})
	return detectOption(func(o *detectOptions) { o.timeouts = maker })
}

// living is the control stream of an operator's patterns.
type living[T any] struct {
	changes Stream[pattern.Change]
	words   pattern.Vocabulary[T]
}

// LivingPatterns lets patterns be put in, replaced and taken out while the job runs: by
// records of a control stream, which go to all subtasks and take effect at the next
// checkpoint, in all of them at once: for all records whose turn has not come then,
// because the watermark has not passed them. Checkpoints hold what has become of the
// patterns.
// A pattern comes in its data form, see pattern.Spec, whose conditions are made of
// words. The control stream does not hold event time back. A change with mistakes
// changes nothing; it is logged and counted.
//
// With control records from one split, such as of a JetStream stream without
// partitions, all subtasks have the same changes in the same order.
func LivingPatterns[T any](changes Stream[pattern.Change], words pattern.Vocabulary[T]) DetectOption {
	return detectOption(func(o *detectOptions) { o.living = living[T]{changes, words} })
}

// Detect looks for a pattern in the records of every key, in the order of their event
// times: a record waits until the watermark has passed its time, and one that the
// watermark has passed already is late. f makes a record of each match.
//
//	hesitation := pattern.Begin("view", isView).Times(3).
//		FollowedBy("add", isAdd).
//		FollowedBy("remove", isRemove).Within(10 * time.Minute)
//	nudges := weir.Detect(byVisitor, "hesitation", hesitation, func(user string, m *pattern.Match[Click]) Nudge {
//		…
//	})
//
// A match has the event time of the record that completed it, or of the end of the
// window that did. See package pattern for what patterns mean and what bounds the
// state of a key; pattern.Explain draws one.
func Detect[K comparable, T, R any](in KeyedStream[K, T], name string, p *pattern.Pattern[T], f func(K, *pattern.Match[T]) R, opts ...DetectOption) Stream[R] {
	where := caller(1)
	var named func(K, string, *pattern.Match[T]) R
	if f != nil {
		named = func(k K, _ string, m *pattern.Match[T]) R { return f(k, m) }
	}
	return detect(in, name, where, []NamedPattern[T]{{Name: name, Pattern: p}}, named, opts)
}

// DetectAll is Detect for several patterns, which share the pass over the records
// and the evaluation of conditions: f also gets the name of the pattern. Patterns
// may be added to it, changed and removed between two versions of the job; a pattern
// that stays as it is, or changes in values only, keeps its partial matches.
func DetectAll[K comparable, T, R any](in KeyedStream[K, T], name string, patterns []NamedPattern[T], f func(K, string, *pattern.Match[T]) R, opts ...DetectOption) Stream[R] {
	return detect(in, name, caller(1), patterns, f, opts)
}

func detect[K comparable, T, R any](in KeyedStream[K, T], name, where string, patterns []NamedPattern[T], f func(K, string, *pattern.Match[T]) R, opts []DetectOption) Stream[R] {
	j := in.j
	var o detectOptions
	for _, opt := range opts {
		opt.detect(&o)
	}
	uid := j.declare(in.chain, name, "detect", plural(len(patterns), "pattern"), where, in.uid)
	out := newStream[R](j, in.chain, uid, true)
	set := func() (*pattern.Set[T], error) { return newSet(patterns, o.compile) }
	ok := checkPatterns(j, where, uid, patterns, f == nil, o.compile)
	values, err := codec.For[T]()
	if err != nil {
		j.fail(where, "WEIR-0107", fmt.Sprintf("detect %s: records of type %T cannot be kept: %v", uid, *new(T), err),
			"use exported fields of encodable types, or give the type msgpack methods")
		ok = false
	}
	spec := pattern.DetectSpec[K, T, R, func(*base.Meta)]{
		UID: uid, Set: set, Key: in.key, Keys: in.codec, Values: values, Processing: o.processing,
		Select: func(k K, name string, m *pattern.Match[T], emit func(R)) { emit(f(k, name, m)) },
	}
	spec.Less = optionOf[func(a, b *T) bool](j, where, uid, "TieBreak", o.less)
	late := func(s *operators.Subtask) operators.Consumer[T] { return operators.Fan[T](s, nil) }
	if l := optionOf[LateOption[T]](j, where, uid, "LateTo", o.late); o.late != nil {
		late = addSide(j, where, uid, in.chain, true, l.tag).bind
	}
	timeouts := func(*operators.Subtask) sendTimeout[K, T] { return nil }
	if m := optionOf[timeoutMaker[K, T]](j, where, uid, "TimeoutsTo", o.timeouts); m != nil {
		timeouts = m(j, where, uid, in.chain)
	}
	control := optionOf[living[T]](j, where, uid, "LivingPatterns", o.living)
	if !ok || in.codec == nil {
		return out
	}
	if op := j.operatorOf(uid); op != nil {
		op.States = append(op.States, engine.State{Name: pattern.StateName, Schema: pattern.StateSchema + " of " + values.Schema().String()})
	}
	if o.living != nil {
		spec.Words, spec.Options = &control.words, o.compile
	}
	queues := newPerSubtask[func(pattern.Change)]()
	in.attach(func(s *operators.Subtask) operators.Consumer[T] {
		spec := spec
		if send := timeouts(s); send != nil {
			spec.Timeout = func(k K, name string, t *pattern.Timeout[T], emit func(func(*base.Meta))) { emit(send(k, name, t)) }
		}
		sent := operators.Consumer[func(*base.Meta)]{One: func(m *base.Meta, send *func(*base.Meta)) { (*send)(m) }}
		c, d := pattern.Detect(s, spec, out.bind(s), sent, late(s))
		if o.living != nil {
			queues.set(s, d.Queue)
		}
		return c
	})
	if o.living != nil {
		j.operatorOf(uid).Inputs = append(j.operatorOf(uid).Inputs, control.changes.uid)
		changes := exchange(control.changes, in.chain, uid, operators.Partition{Kind: operators.Broadcast}, where, nil)
		changes.attach(func(s *operators.Subtask) operators.Consumer[pattern.Change] {
			queue := queues.take(s)
			return operators.Consumer[pattern.Change]{One: func(_ *base.Meta, c *pattern.Change) { queue(*c) }}
		})
	}
	return out
}

// perSubtask hands something from one head of a subtask's chain to another while the
// subtask is built. Subtasks may be built at once.
type perSubtask[V any] struct {
	mu sync.Mutex
	m  map[*operators.Subtask]V
}

func newPerSubtask[V any]() *perSubtask[V] { return &perSubtask[V]{m: map[*operators.Subtask]V{}} }

func (p *perSubtask[V]) set(s *operators.Subtask, v V) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.m[s] = v
}

func (p *perSubtask[V]) take(s *operators.Subtask) V {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.m[s]
	delete(p.m, s)
	return v
}

// optionOf returns an option of the type that this stream needs, and reports one of
// another type.
func optionOf[O any](j *Job, where, uid, name string, v any) (o O) {
	if v == nil {
		return o
	}
	o, ok := v.(O)
	if !ok {
		j.fail(where, "WEIR-0127", fmt.Sprintf("detect %s: the option %s is for records or keys of another type", uid, name),
			fmt.Sprintf("it is a %T, and must be a %T", v, o))
	}
	return o
}

// newSet compiles patterns.
func newSet[T any](patterns []NamedPattern[T], opts []pattern.Option) (*pattern.Set[T], error) {
	set := pattern.NewSet[T](false)
	for _, p := range patterns {
		all := append(append([]pattern.Option(nil), opts...), p.Options...)
		if err := set.Put(p.Name, p.Pattern, all...); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// checkPatterns reports the mistakes in patterns.
func checkPatterns[T any](j *Job, where, uid string, patterns []NamedPattern[T], none bool, opts []pattern.Option) bool {
	ok := true
	bad := func(what, next string) {
		j.fail(where, "WEIR-0127", fmt.Sprintf("detect %s: %s", uid, what), next)
		ok = false
	}
	if none {
		bad("there is no function for matches", "")
	}
	if len(patterns) == 0 {
		bad("there are no patterns", "use weir.Detect for one")
	}
	seen := map[string]bool{}
	for _, p := range patterns {
		switch {
		case base.CheckUID(p.Name) != nil:
			bad(fmt.Sprintf("pattern %q: %v", p.Name, base.CheckUID(p.Name)), "")
		case seen[p.Name]:
			bad(fmt.Sprintf("two patterns are called %q", p.Name), "the name is a pattern's identity, so give one of them another")
		case p.Pattern == nil:
			bad(fmt.Sprintf("pattern %q is nil", p.Name), "use pattern.Begin")
		default:
			set, err := newSet([]NamedPattern[T]{p}, opts)
			if err != nil {
				j.failWith(where, err)
				ok = false
				break
			}
			program := set.Program(p.Name)
			j.explained = append(j.explained, explained{uid, p.Name, pattern.Explain(program), pattern.Mermaid(program)})
		}
		seen[p.Name] = true
	}
	return ok
}
