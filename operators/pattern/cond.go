package pattern

import (
	"fmt"
	"strings"
)

// Cond is a condition on an event of type T, perhaps in the light of the events
// that the run has accepted. The zero Cond is always true. A Cond that is used in
// several places, in one pattern or in patterns that share a pass, is evaluated
// once per event, so make it once where that helps.
type Cond[T any] struct{ n *condNode[T] }

type condKind uint8

const (
	condSimple condKind = iota
	condPath
	condAgg
	condAnd
	condOr
	condNot
	condConst
)

// condNode is a node of a condition's tree.
type condNode[T any] struct {
	kind condKind
	// key identifies conditions that are equal though made apart; "" for none.
	key  string
	text string
	kids []*condNode[T]
	flag bool // of condConst

	simple func(Moment, *T) bool
	path   func(Path[T], *T) bool
	agg    *aggDecl[T]
	test   func(AggValue, *T) bool
	eq     *eqLeaf[T]
}

// eqLeaf says that a condition is true for one value of a text field: conditions
// on the same field are found by one look-up.
type eqLeaf[T any] struct {
	field string
	get   func(*T) string
	value string
}

// Moment is the time at which a condition looks at an event: nanoseconds since
// 1970.
type Moment struct {
	// Event is the event's timestamp, Processing the clock's time.
	Event, Processing int64
}

// If is a condition on the event alone.
func If[T any](f func(T) bool) Cond[T] {
	return Cond[T]{&condNode[T]{kind: condSimple, text: "func", simple: func(_ Moment, v *T) bool { return f(*v) }}}
}

// IfAt is a condition on the event and the time.
func IfAt[T any](f func(Moment, T) bool) Cond[T] {
	return Cond[T]{&condNode[T]{kind: condSimple, text: "func of time", simple: func(at Moment, v *T) bool { return f(at, *v) }}}
}

// Equal is true for events with that value in a text field. field names what get
// returns: conditions with equal names and values are one condition, and any number
// of conditions on one field cost one look-up per event.
func Equal[T any](field string, get func(T) string, value string) Cond[T] {
	return equal(field, func(v *T) string { return get(*v) }, value)
}

func equal[T any](field string, get func(*T) string, value string) Cond[T] {
	return Cond[T]{&condNode[T]{
		kind: condSimple, key: fmt.Sprintf("eq %q %q", field, value), text: fmt.Sprintf("%s == %q", field, value),
		simple: func(_ Moment, v *T) bool { return get(v) == value },
		eq:     &eqLeaf[T]{field: field, get: get, value: value},
	}}
}

// Iterative is a condition that looks at the accepted events. It is evaluated for
// every run that waits where it is asked; an aggregate's When costs less.
func Iterative[T any](f func(Path[T], T) bool) Cond[T] {
	return Cond[T]{&condNode[T]{kind: condPath, text: "func of path", path: func(p Path[T], v *T) bool { return f(p, *v) }}}
}

// And is true if all conditions are, looked at from left to right until one is not.
func And[T any](cs ...Cond[T]) Cond[T] { return combine(condAnd, " and ", cs) }

// Or is true if one condition is, looked at from left to right.
func Or[T any](cs ...Cond[T]) Cond[T] { return combine(condOr, " or ", cs) }

// Not is true if the condition is not.
func Not[T any](c Cond[T]) Cond[T] {
	n := c.node()
	return Cond[T]{&condNode[T]{kind: condNot, text: "not " + n.text, kids: []*condNode[T]{n}}}
}

// Const is the condition that is always true, or never.
func Const[T any](v bool) Cond[T] {
	return Cond[T]{&condNode[T]{kind: condConst, flag: v, text: fmt.Sprint(v)}}
}

func (c Cond[T]) node() *condNode[T] {
	if c.n == nil {
		return Const[T](true).n
	}
	return c.n
}

// Named gives the condition a name for Explain and traces.
func (c Cond[T]) Named(name string) Cond[T] {
	n := *c.node()
	n.text = name
	if n.key == "" && n.kind <= condAgg {
		// The copy is the same condition.
		n.key = fmt.Sprintf("%p", c.n)
	}
	return Cond[T]{&n}
}

// String renders the condition.
func (c Cond[T]) String() string { return c.node().text }

func combine[T any](kind condKind, op string, cs []Cond[T]) Cond[T] {
	if len(cs) == 1 {
		return cs[0]
	}
	n := &condNode[T]{kind: kind, text: fmt.Sprint(kind == condAnd)}
	if len(cs) == 0 {
		n.kind, n.flag = condConst, kind == condAnd
		return Cond[T]{n}
	}
	texts := make([]string, len(cs))
	for i, c := range cs {
		n.kids = append(n.kids, c.node())
		texts[i] = c.node().text
	}
	n.text = "(" + strings.Join(texts, op) + ")"
	return Cond[T]{n}
}

// Path is the events that a run has accepted, as a condition sees them.
type Path[T any] struct {
	last *link[T]
	prog *Program[T]
}

// Count returns the number of events of a stage.
func (p Path[T]) Count(stage string) int {
	n := 0
	for range p.back(stage) {
		n++
	}
	return n
}

// Events returns the events of a stage in the order in which they were accepted.
// It walks the whole path.
func (p Path[T]) Events(stage string) []T {
	out := make([]T, p.Count(stage))
	i := len(out)
	for v := range p.back(stage) {
		i--
		out[i] = *v
	}
	return out
}

// Last returns the last event of a stage; false if it has none.
func (p Path[T]) Last(stage string) (v T, ok bool) {
	for e := range p.back(stage) {
		return *e, true
	}
	return v, false
}

// First returns the first event of a stage; false if it has none.
func (p Path[T]) First(stage string) (v T, ok bool) {
	for e := range p.back(stage) {
		v, ok = *e, true
	}
	return v, ok
}

// Len returns the number of all events accepted.
func (p Path[T]) Len() int {
	if p.last == nil {
		return 0
	}
	return int(p.last.depth)
}

// back walks a stage's events backwards.
func (p Path[T]) back(stage string) func(func(*T) bool) {
	return func(yield func(*T) bool) {
		for l := p.last; l != nil; l = l.prev {
			if p.prog.stages[l.stage].name == stage && !yield(&l.ev.val) {
				return
			}
		}
	}
}
