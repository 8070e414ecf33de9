package pattern

import (
	"fmt"
	"strings"
)

// reserved is a stage name that the reference keeps for itself.
const reserved = "$endState$"

// check looks for the mistakes that are not seen while a pattern is built.
func (c *compiler[T]) check() {
	if len(c.pat.stages) == 0 {
		return
	}
	c.declare(c.pat.stages, true, map[string]*stage[T]{})
	c.windows()
	last := c.pat.stages[len(c.pat.stages)-1]
	if last.how == notFollow && last.withinPrev == 0 && smallestWindow(c.pat.stages) == 0 {
		c.fail(last, fmt.Sprintf("the pattern ends with NotFollowedBy %q and has no window", last.name), "add Within")
	}
	c.checkSkip()
}

// declare numbers the stages of a chain and checks each.
func (c *compiler[T]) declare(chain []*stage[T], top bool, seen map[string]*stage[T]) {
	if chain[0].negated() {
		c.fail(chain[0], "a sequence begins with a NOT stage", "begin with an event")
	}
	for i, s := range chain {
		if s.group != nil {
			if len(s.group) == 0 {
				c.fail(s, "a group is empty", "add stages")
				continue
			}
			c.declare(s.group, false, seen)
			if s.loop && nullable(s.group) {
				c.fail(s, "a group that can be empty stands in a loop", "make a stage of the group not optional")
			}
			continue
		}
		switch old := seen[s.name]; {
		case old != nil:
			c.fail(s, fmt.Sprintf("the stage name %q is used twice, first at %s", s.name, old.call), "names are unique across all groups")
		case s.name == "" || s.name == reserved || strings.Contains(s.name, ":"):
			c.fail(s, fmt.Sprintf("the stage name %q is not allowed", s.name), "choose another one, without a colon")
		}
		seen[s.name] = s
		c.stageOf[s.name] = uint16(len(c.stages))
		c.stages = append(c.stages, stageInfo{name: s.name, not: s.negated(), top: top})
		c.checkNots(chain, i)
	}
	if len(c.stages) > maxStages {
		c.fail(chain[0], fmt.Sprintf("the pattern has more than %d stages", maxStages), "split it")
	}
}

// maxStages and maxNodes bound a pattern.
const (
	maxStages = 1 << 12
	maxNodes  = 1 << 15
)

// checkNots refuses what no automaton can be built for.
func (c *compiler[T]) checkNots(chain []*stage[T], i int) {
	s := chain[i]
	if s.greedy && s.until != nil && s.optional && i > 0 {
		for j := i - 1; j >= 0 && (chain[j].optional || chain[j].how == notFollow); j-- {
			if chain[j].how == notFollow {
				c.fail(s, fmt.Sprintf("NotFollowedBy %q stands before the optional greedy loop %q with Until", chain[j].name, s.name), "drop Greedy, Optional or Until")
				return
			}
		}
	}
}

// nullable says that a sequence can be satisfied by no event.
func nullable[T any](chain []*stage[T]) bool {
	for _, s := range chain {
		if !s.optional && !s.negated() && (s.group == nil || !nullable(s.group)) {
			return false
		}
	}
	return true
}

// windows checks where windows are declared.
func (c *compiler[T]) windows() {
	var walk func(chain []*stage[T], top bool)
	walk = func(chain []*stage[T], top bool) {
		for i, s := range chain {
			if !c.opts.flink {
				c.windowPlace(s, top, i == len(chain)-1)
			}
			if w, most := s.step(), smallestWindow(c.pat.stages); w > most && most > 0 {
				c.fail(s, s.title()+" has a window between neighbours that is larger than the pattern's", "make it smaller")
			}
			walk(s.group, false)
		}
	}
	walk(c.pat.stages, true)
}

// windowPlace refuses windows where they would have no effect.
func (c *compiler[T]) windowPlace(s *stage[T], top, last bool) {
	switch {
	case s.within > 0 && !top:
		c.fail(s, s.title()+" has Within inside a group", "give it to the whole pattern, or use WithinPrevious")
	case s.withinPrev > 0 && s.group != nil:
		c.fail(s, "a group has WithinPrevious", "give it to the first stage of the group")
	case s.gap > 0 && s.group != nil:
		c.fail(s, "a group has a gap", "give WithinPrevious to the first stage of the group")
	case s.withinPrev > 0 && s.how == notFollow && !(top && last):
		c.fail(s, fmt.Sprintf("NotFollowedBy %q has WithinPrevious and is not last", s.name), "give it to the following stage")
	}
}

func (c *compiler[T]) checkSkip() {
	s := c.pat.skip
	if s.Kind != SkipToFirst && s.Kind != SkipToLast {
		return
	}
	if i, ok := c.stageOf[s.Stage]; !ok || !c.stages[i].top {
		c.fail(c.pat.stages[0], fmt.Sprintf("the skip strategy names %q, which is no top-level stage", s.Stage), "name a stage outside all groups")
	}
}
