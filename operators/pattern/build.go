package pattern

import (
	"fmt"
	"time"
)

// Where adds a condition on the event to the last stage; all of a stage must hold.
func (p *Pattern[T]) Where(f func(T) bool) *Pattern[T] { return p.WhereCond(If(f)) }

// IterativeWhere is Where for a condition that looks at the accepted events.
func (p *Pattern[T]) IterativeWhere(f func(Path[T], T) bool) *Pattern[T] {
	return p.WhereCond(Iterative(f))
}

// WhereCond is Where for any condition.
func (p *Pattern[T]) WhereCond(c Cond[T]) *Pattern[T] {
	return p.cond("Where", c, func(old Cond[T]) Cond[T] { return And(old, c) })
}

// Or adds an alternative to all conditions that the last stage has so far.
func (p *Pattern[T]) Or(f func(T) bool) *Pattern[T] { return p.OrCond(If(f)) }

// OrCond is Or for any condition.
func (p *Pattern[T]) OrCond(c Cond[T]) *Pattern[T] {
	return p.cond("Or", c, func(old Cond[T]) Cond[T] { return Or(old, c) })
}

func (p *Pattern[T]) cond(call string, c Cond[T], join func(Cond[T]) Cond[T]) *Pattern[T] {
	s := p.last()
	switch {
	case s.group != nil:
		return p.fail(caller(), call+" on a group", "give the condition to the stages of the group")
	case s.where == nil:
		s.where = c.node()
	default:
		s.where = join(Cond[T]{s.where}).n
	}
	return p
}

// quantify notes a quantifier of the last stage.
func (p *Pattern[T]) quantify(call string, from, to int, loop bool) *Pattern[T] {
	s := p.last()
	switch {
	case s.negated():
		return p.fail(caller(), fmt.Sprintf("%s on the NOT stage %q", call, s.name), "NOT stages take no quantifier")
	case s.quantified:
		return p.fail(caller(), fmt.Sprintf("%s: %s has a quantifier already", call, s.title()), "keep one of them")
	case from < 0 || to < from || to < 1:
		return p.fail(caller(), call+": no such number of events", "give positive numbers in ascending order")
	}
	s.quantified, s.loop, s.from, s.to = true, loop, max(from, 1), max(to, 1)
	if from == 0 {
		if s.optional {
			p.fail(caller(), fmt.Sprintf("%s: %s is optional already", call, s.title()), "drop Optional")
		}
		s.optional, s.zero = true, true
	}
	return p
}

// Times makes the last stage, or group, take exactly n events, or rounds.
func (p *Pattern[T]) Times(n int) *Pattern[T] {
	return p.quantify(fmt.Sprintf("Times(%d)", n), unlessZero(n), n, false)
}

// TimesRange makes it take from to to events; from 0 makes it optional.
func (p *Pattern[T]) TimesRange(from, to int) *Pattern[T] {
	return p.quantify(fmt.Sprintf("TimesRange(%d, %d)", from, to), from, to, false)
}

// TimesOrMore makes it take n events or more.
func (p *Pattern[T]) TimesOrMore(n int) *Pattern[T] {
	return p.quantify(fmt.Sprintf("TimesOrMore(%d)", n), unlessZero(n), n, true)
}

// OneOrMore makes it take one event or more.
func (p *Pattern[T]) OneOrMore() *Pattern[T] { return p.quantify("OneOrMore", 1, 1, true) }

// unlessZero makes 0, which only a range may start from, an error.
func unlessZero(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// Gap bounds the time between successive events of the last stage, which must have
// a quantifier: less than d.
func (p *Pattern[T]) Gap(d time.Duration) *Pattern[T] {
	s := p.last()
	if !s.quantified || d <= 0 {
		return p.fail(caller(), fmt.Sprintf("Gap(%v) on %s", d, s.title()), "give a positive duration, after a quantifier")
	}
	s.gap = int64(d)
	return p
}

// Optional lets the last stage, or group, be absent.
func (p *Pattern[T]) Optional() *Pattern[T] {
	s := p.last()
	switch n := len(p.stages); {
	case s.negated():
		return p.fail(caller(), fmt.Sprintf("Optional on the NOT stage %q", s.name), "NOT stages take no quantifier")
	case s.optional:
		return p.fail(caller(), s.title()+" is optional already", "drop one of them")
	case n > 1 && p.stages[n-2].greedy:
		return p.fail(caller(), s.title()+" is optional directly after a greedy stage", "make one of them plain")
	}
	s.optional = true
	return p
}

// Greedy makes the last stage take all events that fit it: the following stage gets
// none of them, and cannot drop one either.
func (p *Pattern[T]) Greedy() *Pattern[T] {
	s := p.last()
	switch {
	case s.negated() || s.group != nil || !s.quantified:
		return p.fail(caller(), "Greedy on "+s.title(), "it needs a stage with a quantifier")
	case s.inner == relaxedAny:
		return p.fail(caller(), "Greedy together with AllowCombinations on "+s.title(), "keep one of them")
	}
	s.greedy = true
	return p
}

// Consecutive demands that the events of the last stage follow each other directly.
func (p *Pattern[T]) Consecutive() *Pattern[T] { return p.within1("Consecutive", strict) }

// AllowCombinations lets the last stage drop events that fit it.
func (p *Pattern[T]) AllowCombinations() *Pattern[T] {
	return p.within1("AllowCombinations", relaxedAny)
}

// within1 sets the contiguity between the events of one stage.
func (p *Pattern[T]) within1(call string, c contiguity) *Pattern[T] {
	s := p.last()
	switch {
	case !s.quantified:
		return p.fail(caller(), call+" on "+s.title()+" without a quantifier", "give it a quantifier first")
	case s.innerSet:
		return p.fail(caller(), call+": the contiguity of "+s.title()+" is set already", "keep one of Consecutive and AllowCombinations")
	case s.greedy && c == relaxedAny:
		return p.fail(caller(), "Greedy together with AllowCombinations on "+s.title(), "keep one of them")
	}
	s.inner, s.innerSet = c, true
	return p
}

// Until ends the last stage, which must be a loop, at an event for which f holds.
func (p *Pattern[T]) Until(f func(T) bool) *Pattern[T] { return p.UntilCond(If(f)) }

// UntilCond is Until for any condition.
func (p *Pattern[T]) UntilCond(c Cond[T]) *Pattern[T] {
	s := p.last()
	switch {
	case !s.loop:
		return p.fail(caller(), "Until on "+s.title()+", which is no loop", "it needs OneOrMore or TimesOrMore")
	case s.until != nil:
		return p.fail(caller(), "Until twice on "+s.title(), "join the conditions by Or")
	}
	s.until = c.node()
	return p
}
