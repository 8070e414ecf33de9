package pattern

import (
	"fmt"
	"runtime"
	"time"

	"github.com/weirflow/weir/internal/base"
)

// contiguity says how the first event of a stage follows what is before it.
type contiguity uint8

const (
	strict     contiguity = iota // the very next event
	relaxed                      // events that do not fit are dropped
	relaxedAny                   // any event may be dropped
	notNext
	notFollow
)

// stage is one element of a pattern: a stage proper, a NOT, or a group.
type stage[T any] struct {
	name  string
	group []*stage[T] // nil for a stage proper
	how   contiguity
	where *condNode[T] // nil: always true
	// quantified says that times, timesOrMore or oneOrMore was given; loop that
	// there is no upper bound.
	quantified, loop bool
	from, to         int
	gap              int64 // ns; 0: none
	inner            contiguity
	innerSet         bool
	optional         bool
	zero             bool // optional by times(0, m)
	greedy           bool
	until            *condNode[T]
	within           int64 // ns; 0: none
	withinPrev       int64
	call             string // file and line
}

func (s *stage[T]) negated() bool { return s.how == notNext || s.how == notFollow }

func (s *stage[T]) title() string {
	if s.group != nil {
		return "a group"
	}
	return fmt.Sprintf("stage %q", s.name)
}

// SkipKind says what a match does to others that overlap it.
type SkipKind uint8

const (
	// NoSkip emits all matches.
	NoSkip SkipKind = iota
	// SkipToNext drops matches and runs that start with the same event.
	SkipToNext
	// SkipPastLast drops those that start up to the match's last event.
	SkipPastLast
	// SkipToFirst drops those that start before the first event of a stage.
	SkipToFirst
	// SkipToLast drops those that start before the last event of a stage.
	SkipToLast
)

// Skip is an after-match skip strategy. The zero one is NoSkip. With any other, a
// match is held while a run that began strictly earlier is open.
type Skip struct {
	Kind SkipKind
	// Stage is a top-level stage, for SkipToFirst and SkipToLast.
	Stage string
	// ThrowOnMiss fails the operator when a match lacks the stage, or when skipping
	// would lead to the match's own first event.
	ThrowOnMiss bool
}

// Pattern is a sequence of stages over events of type T. The methods add to it and
// return it; mistakes are kept, and reported together by Compile.
type Pattern[T any] struct {
	stages []*stage[T]
	skip   Skip
	errs   []error
}

// fail notes a mistake of the call under way.
func (p *Pattern[T]) fail(call, what, next string) *Pattern[T] {
	p.errs = append(p.errs, &base.Error{Code: CodePattern, What: what, Where: call, Next: next})
	return p
}

// CodePattern is the code of all mistakes in a pattern.
const CodePattern = "WEIR-0170"

// caller returns file and line of the code that called into this package.
func caller() string {
	var pcs [8]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		if !more || !ownFrame(f.Function) {
			return fmt.Sprintf("%s:%d", f.File, f.Line)
		}
	}
}

// ownFrame says whether a function belongs to this package and not to its tests.
func ownFrame(function string) bool {
	const own = "weir/operators/pattern."
	for i := 0; i+len(own) <= len(function); i++ {
		if function[i:i+len(own)] == own {
			return true
		}
	}
	return false
}

// Begin starts a pattern with a stage; the conditions must all hold.
func Begin[T any](name string, where ...func(T) bool) *Pattern[T] {
	p := &Pattern[T]{}
	return p.add(name, strict, where)
}

// BeginGroup starts a pattern with a group: a sequence that takes quantifiers as a
// whole. The group must not be used elsewhere.
func BeginGroup[T any](g *Pattern[T]) *Pattern[T] { return (&Pattern[T]{}).addGroup(g, strict) }

// Next adds a stage for the very next event.
func (p *Pattern[T]) Next(name string, where ...func(T) bool) *Pattern[T] {
	return p.add(name, strict, where)
}

// FollowedBy adds a stage for a later event; events before it that do not fit are
// dropped.
func (p *Pattern[T]) FollowedBy(name string, where ...func(T) bool) *Pattern[T] {
	return p.add(name, relaxed, where)
}

// FollowedByAny adds a stage for any later event that fits, not only the first.
func (p *Pattern[T]) FollowedByAny(name string, where ...func(T) bool) *Pattern[T] {
	return p.add(name, relaxedAny, where)
}

// NotNext demands that the very next event does not fit.
func (p *Pattern[T]) NotNext(name string, where ...func(T) bool) *Pattern[T] {
	return p.addNot(name, notNext, where)
}

// NotFollowedBy demands that no event fits until the following stage has begun, or,
// as the last stage, until the window ends.
func (p *Pattern[T]) NotFollowedBy(name string, where ...func(T) bool) *Pattern[T] {
	return p.addNot(name, notFollow, where)
}

// NextGroup is Next for a group.
func (p *Pattern[T]) NextGroup(g *Pattern[T]) *Pattern[T] { return p.addGroup(g, strict) }

// FollowedByGroup is FollowedBy for a group.
func (p *Pattern[T]) FollowedByGroup(g *Pattern[T]) *Pattern[T] { return p.addGroup(g, relaxed) }

// FollowedByAnyGroup is FollowedByAny for a group.
func (p *Pattern[T]) FollowedByAnyGroup(g *Pattern[T]) *Pattern[T] {
	return p.addGroup(g, relaxedAny)
}

func (p *Pattern[T]) add(name string, how contiguity, where []func(T) bool) *Pattern[T] {
	s := &stage[T]{name: name, how: how, inner: relaxed, from: 1, to: 1, call: caller()}
	p.stages = append(p.stages, s)
	for _, f := range where {
		p.WhereCond(If(f))
	}
	return p
}

func (p *Pattern[T]) addNot(name string, how contiguity, where []func(T) bool) *Pattern[T] {
	if l := p.last(); l.optional {
		p.fail(caller(), fmt.Sprintf("the NOT stage %q stands directly after an optional stage", name), "put a stage that is not optional between them")
	}
	return p.add(name, how, where)
}

func (p *Pattern[T]) addGroup(g *Pattern[T], how contiguity) *Pattern[T] {
	s := &stage[T]{group: g.stages, how: how, inner: relaxed, from: 1, to: 1, call: caller()}
	p.errs = append(p.errs, g.errs...)
	if g.skip != (Skip{}) {
		p.fail(s.call, "a group has a skip strategy", "give it to the whole pattern")
	}
	p.stages = append(p.stages, s)
	return p
}

// last returns the stage that was added last.
func (p *Pattern[T]) last() *stage[T] { return p.stages[len(p.stages)-1] }

// SkipStrategy sets what a match does to others that overlap it.
func (p *Pattern[T]) SkipStrategy(s Skip) *Pattern[T] {
	p.skip = s
	return p
}

// Within bounds the time between the first and the last event of a match: less
// than d. The smallest of several holds.
func (p *Pattern[T]) Within(d time.Duration) *Pattern[T] {
	if d <= 0 {
		return p.fail(caller(), fmt.Sprintf("Within(%v)", d), "give a positive duration")
	}
	p.last().within = int64(d)
	return p
}

// WithinPrevious bounds the time between the event before and the last stage's: less
// than d.
func (p *Pattern[T]) WithinPrevious(d time.Duration) *Pattern[T] {
	if d <= 0 {
		return p.fail(caller(), fmt.Sprintf("WithinPrevious(%v)", d), "give a positive duration")
	}
	p.last().withinPrev = int64(d)
	return p
}
