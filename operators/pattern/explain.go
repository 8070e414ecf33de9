package pattern

import (
	"fmt"
	"strings"
	"time"
)

var (
	kindNames = [...]string{"", "end", "stop", "pending"}
	actNames  = [...]string{"take", "ignore", "proceed"}
)

// place names a node for people.
func (p *Program[T]) place(n uint16) string {
	node := &p.nodes[n]
	if node.kind == finalNode {
		return fmt.Sprintf("#%d end", n)
	}
	s := fmt.Sprintf("#%d", n)
	if len(p.stages) > 0 && p.stages[node.stage].name != "" {
		s += " " + p.stages[node.stage].name
	}
	if node.kind != normalNode {
		s += " " + kindNames[node.kind]
	}
	return s
}

// Explain describes a program: its windows, how its runs grow, what is likely not
// what was meant, and the nodes and edges of its automaton.
func Explain[T any](p *Program[T]) string {
	var b strings.Builder
	mode := "default"
	if p.opts.flink {
		mode = "FlinkCompat"
	}
	fmt.Fprintf(&b, "mode: %s\nskip: %s\n", mode, p.skip)
	if p.window > 0 {
		fmt.Fprintf(&b, "window: %v from first to last event\n", time.Duration(p.window))
	} else {
		b.WriteString("window: none\n")
	}
	fmt.Fprintf(&b, "open runs: %v\nlimits per key: %d runs, %d buffered events, %d events in a run; then %v\n", p.growth, p.opts.limits.Runs, p.opts.limits.Buffered, p.opts.limits.Length, p.opts.limits.Overflow)
	for _, w := range p.warns {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	for i := range p.nodes {
		n := &p.nodes[i]
		fmt.Fprintf(&b, "%s", p.place(uint16(i)))
		if uint16(i) == p.start {
			b.WriteString(" (start)")
		}
		if n.prev > 0 {
			fmt.Fprintf(&b, ", %v after the last event", time.Duration(n.prev))
		}
		if n.matures {
			b.WriteString(", complete when the window ends")
		}
		b.WriteString("\n")
		for _, e := range n.edges {
			fmt.Fprintf(&b, "  %-7s → %-14s if %s%s\n", actNames[e.act], p.place(e.to), p.table.text(e.cond), gapText(e.gap))
		}
	}
	return b.String()
}

func gapText(gap int64) string {
	if gap == 0 {
		return ""
	}
	return fmt.Sprintf(", within %v of the last event", time.Duration(gap))
}

// Mermaid renders the automaton as a mermaid flowchart. Edges that end a run at a NOT
// are dotted.
func Mermaid[T any](p *Program[T]) string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for i := range p.nodes {
		label := strings.ReplaceAll(p.place(uint16(i)), `"`, "'")
		if p.nodes[i].kind == finalNode {
			fmt.Fprintf(&b, "  n%d(((\"%s\")))\n", i, label)
		} else {
			fmt.Fprintf(&b, "  n%d[\"%s\"]\n", i, label)
		}
	}
	for i := range p.nodes {
		for _, e := range p.nodes[i].edges {
			arrow := "-->"
			if p.nodes[e.to].kind == stopNode {
				arrow = "-.->"
			}
			label := strings.ReplaceAll(actNames[e.act]+": "+p.table.text(e.cond)+gapText(e.gap), `"`, "'")
			fmt.Fprintf(&b, "  n%d %s|\"%s\"| n%d\n", i, arrow, label, e.to)
		}
	}
	return b.String()
}

// String renders the strategy.
func (s Skip) String() string {
	name := [...]string{"no skip", "to next", "past last event", "to first of", "to last of"}[s.Kind]
	if s.Kind >= SkipToFirst {
		name += fmt.Sprintf(" %q", s.Stage)
	}
	if s.ThrowOnMiss {
		name += ", or fail"
	}
	return name
}

// String renders the policy.
func (o Overflow) String() string {
	return [...]string{"the newest are dropped", "the oldest are dropped", "the key is dropped", "the operator fails"}[o]
}
