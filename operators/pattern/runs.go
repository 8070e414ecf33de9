package pattern

import (
	"fmt"
	"strings"
)

// Partial is an open run, or a match that is held back, for people to look at.
type Partial[T any] struct {
	Pattern string
	// Found is what the run has accepted; At is the time of its last event.
	Found Match[T]
	// Waits says what the run waits for.
	Waits string
	// Ends is when the window ends it; ok is false if none does.
	Ends int64
	Ok   bool
	Held bool
}

// Runs lists the open runs of a key by start, then its held matches.
func (m *Matcher[T]) Runs(k *Key[T]) []Partial[T] {
	runs := k.heap
	if !m.p.exact() {
		runs = k.sorted()
	}
	var out []Partial[T]
	for i := range runs {
		r := &runs[i]
		if r.path == nil {
			continue
		}
		at := m.p.expiry(r)
		out = append(out, Partial[T]{Found: m.p.materialize(r.path, r.last(), false), Waits: m.p.waits(r.node), Ends: at, Ok: at != never})
	}
	for i := range k.done {
		r := &k.done[i]
		out = append(out, Partial[T]{Found: m.p.materialize(r.path, r.last(), false), Waits: "an open run that began earlier", Held: true})
	}
	return out
}

// Runs lists the open runs of a key in all patterns.
func (s *Set[T]) Runs(k *SetKey[T]) []Partial[T] {
	s.refresh(k)
	var out []Partial[T]
	for _, m := range s.members {
		key := s.view(k, m)
		if key == nil {
			continue
		}
		for _, p := range m.m.Runs(key) {
			p.Pattern = m.id
			out = append(out, p)
		}
	}
	return out
}

// waits says what lets a run leave a node, and what ends it there.
func (p *Program[T]) waits(n uint16) string {
	var takes, stops []string
	seen := map[string]bool{}
	var walk func(n uint16)
	walk = func(n uint16) {
		for _, e := range p.nodes[n].edges {
			text := ""
			switch {
			case e.act == actTake:
				text = fmt.Sprintf("%s (%s)", p.stages[p.nodes[n].stage].name, p.table.text(e.cond))
			case e.act == actProceed && p.nodes[e.to].kind == stopNode:
				text = "not " + p.stages[p.nodes[e.to].stage].name
			case e.act == actProceed:
				walk(e.to)
			case p.nodes[e.to].kind == finalNode:
				text = "any event with " + p.table.text(e.cond)
			}
			switch {
			case text == "" || seen[text]:
			case e.act == actProceed:
				stops = append(stops, text)
			default:
				takes = append(takes, text)
			}
			seen[text] = true
		}
	}
	walk(n)
	if p.nodes[n].matures {
		takes = append(takes, "the end of the window")
	}
	s := strings.Join(takes, " or ")
	if len(stops) > 0 {
		s += ", while " + strings.Join(stops, " and ")
	}
	return s
}

// Traced says what an event does to one run.
type Traced[T any] struct {
	// Found is what the run had accepted; it has no stages for the run that would
	// begin with the event.
	Found Match[T]
	Waits string
	// What happens: one line for each branch, such as "taken into b", "dropped; waits
	// on", or why the run ends.
	Steps []string
}

// Trace tells, without changing the key, what an event at time ts would do to each of
// its runs, and whether it would begin one: why a match came, or did not. Windows that
// end before ts are taken account of.
func (m *Matcher[T]) Trace(k *Key[T], ts, processing int64, v *T) []Traced[T] {
	m.eval.begin(v, Moment{Event: ts, Processing: processing})
	m.id = eventID{ts: ts}
	var out []Traced[T]
	runs := k.heap
	if !m.p.exact() {
		runs = k.sorted()
	}
	for i := range runs {
		r := &runs[i]
		if r.path == nil {
			continue
		}
		t := Traced[T]{Found: m.p.materialize(r.path, r.last(), false), Waits: m.p.waits(r.node)}
		if at := m.p.expiry(r); at <= ts {
			t.Steps = []string{fmt.Sprintf("ended by its window at %d, before the event", at)}
		} else {
			t.Steps = m.explain(r.node, r)
		}
		out = append(out, t)
	}
	return append(out, Traced[T]{Waits: m.p.waits(m.p.start), Steps: m.explain(m.p.start, nil)})
}

// explain renders a decision.
func (m *Matcher[T]) explain(n uint16, r *run[T]) []string {
	d := m.decide(n, r)
	var steps []string
	for _, o := range m.arena[d.lo:d.hi] {
		switch to := &m.p.nodes[o.to]; {
		case o.act == actTake && to.kind == finalNode:
			steps = append(steps, "taken into "+m.p.stages[o.stage].name+": a match")
		case o.act == actTake && o.ahead:
			steps = append(steps, "taken into "+m.p.stages[o.stage].name+": a match, and goes on")
		case d.stop:
		case o.act == actTake:
			steps = append(steps, "taken into "+m.p.stages[o.stage].name)
		case r == nil:
		case to.kind == finalNode:
			steps = append(steps, "completes a match")
		default:
			steps = append(steps, "dropped; waits on")
		}
	}
	switch {
	case d.stop:
		steps = append(steps, "ended by a NOT stage: "+m.p.waits(n))
	case len(steps) == 0 && r == nil:
		steps = append(steps, "begins no run")
	case len(steps) == 0:
		steps = append(steps, "ended: the event neither fits nor may be dropped")
	}
	return steps
}
