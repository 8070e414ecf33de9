package pattern

import (
	"errors"

	"github.com/weirflow/weir/internal/base"
)

// Compile compiles a pattern. All mistakes of the pattern are reported together,
// as *base.Error with CodePattern joined by errors.Join.
func Compile[T any](p *Pattern[T], opts ...Option) (*Program[T], error) {
	return compileInto(newExprTable[T](), p, opts)
}

func compileInto[T any](t *exprTable[T], p *Pattern[T], opts []Option) (*Program[T], error) {
	c := &compiler[T]{table: t, pat: p, opts: defaults(), used: map[string]bool{}, stops: map[string]*cnode{}, again: map[*stage[T]]bool{}, plainCopy: map[*cnode]*cnode{}, stageOf: map[string]uint16{}}
	for _, o := range opts {
		o(&c.opts)
	}
	c.errs = append(c.errs, p.errs...)
	c.check()
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	prog := c.build()
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return prog, nil
}

// cnode and cedge are node and edge while the graph is built.
type cnode struct {
	kind    nodeKind
	stage   uint16
	name    string
	edges   []cedge
	prev    int64
	matures bool
	twin    bool
	id      int
}

type cedge struct {
	act  action
	cond int32
	to   *cnode
	gap  int64
}

func (n *cnode) on(act action, to *cnode, cond int32) {
	n.edges = append(n.edges, cedge{act: act, to: to, cond: cond})
}

// compiler builds the graph from the last stage to the first, so that every node
// exists before the edges that lead to it.
type compiler[T any] struct {
	table   *exprTable[T]
	pat     *Pattern[T]
	opts    options
	errs    []error
	nodes   []*cnode
	stages  []stageInfo
	stageOf map[string]uint16
	final   *cnode
	window  int64
	full    bool // there are too many nodes: the rest is left out

	chain []*stage[T] // the sequence under way
	at    int         // index of the stage under way
	next  *stage[T]   // the stage after it, also beyond a group
	group *stage[T]   // the group that chain is the body of

	used  map[string]bool   // stages that have a node
	stops map[string]*cnode // the Stop node of every NOT
	again map[*stage[T]]bool
	// plainCopy holds, for a node that a greedy stage restricts, the copy that it
	// leaves to when Until holds.
	plainCopy map[*cnode]*cnode
}

func (c *compiler[T]) fail(s *stage[T], what, next string) {
	c.errs = append(c.errs, &base.Error{Code: CodePattern, What: what, Where: s.call, Next: next})
}

func (c *compiler[T]) cur() *stage[T] { return c.chain[c.at] }

// head says that s is the first stage of a group.
func (c *compiler[T]) head(s *stage[T]) bool { return c.group != nil && c.chain[0] == s }

// firstRound says that the group under way is compiled for its first round.
func (c *compiler[T]) firstRound() bool { return c.group == nil || !c.again[c.group] }

func (c *compiler[T]) build() *Program[T] {
	last := len(c.pat.stages) - 1
	if c.window = c.pat.stages[last].within; !c.opts.flink {
		c.window = smallestWindow(c.pat.stages)
	}
	c.final = c.node("", finalNode, 0)
	c.chain, c.at = c.pat.stages, last
	start := c.sequence(c.final)
	return c.program(start)
}

// smallestWindow is the window of a pattern: the smallest of its stages.
func smallestWindow[T any](chain []*stage[T]) int64 {
	w := int64(0)
	for _, s := range chain {
		if s.within > 0 && (w == 0 || s.within < w) {
			w = s.within
		}
	}
	return w
}

// node makes a node and says whether it is the first of its stage.
func (c *compiler[T]) node(name string, kind nodeKind, stage uint16) *cnode {
	n := &cnode{kind: kind, name: name, stage: stage, id: len(c.nodes)}
	c.nodes = append(c.nodes, n)
	c.full = c.full || len(c.nodes) > 4*maxNodes
	return n
}

// stageNode makes a node of the stage under way.
func (c *compiler[T]) stageNode(kind nodeKind) (n *cnode, fresh bool) {
	name := c.cur().name
	fresh = !c.used[name]
	c.used[name] = true
	return c.node(name, kind, c.stageOf[name]), fresh
}

// sequence compiles the chain up to c.at in front of sink and returns its head.
func (c *compiler[T]) sequence(sink *cnode) *cnode {
	for {
		s := c.cur()
		switch {
		case s.how == notFollow && c.at > 0:
			sink = c.trailingNot(sink)
		case s.how == notNext && c.at > 0:
			sink = c.notNext(sink)
		default:
			sink = c.stage(sink)
		}
		if c.at == 0 || c.full {
			return sink
		}
		c.next = s
		c.at--
		// The reference learns of windows on its way, and inside groups never of the
		// last stage's.
		if w := c.cur().within; c.opts.flink && w > 0 && (c.window == 0 || w < c.window) {
			c.window = w
		}
	}
}

// trailingNot makes the node of a NotFollowedBy at the end, which waits for the
// window. Before other stages a NotFollowedBy is edges of what is around it.
func (c *compiler[T]) trailingNot(sink *cnode) *cnode {
	s := c.cur()
	if sink.kind != finalNode || c.window == 0 && s.withinPrev == 0 {
		return sink
	}
	n, _ := c.stageNode(pendingNode)
	n.prev, n.matures = s.withinPrev, true
	not := c.take(s)
	n.on(actProceed, c.stop(s.name, not), not)
	n.on(actIgnore, n, c.table.not(not))
	return n
}

func (c *compiler[T]) notNext(sink *cnode) *cnode {
	s := c.cur()
	n, _ := c.stageNode(normalNode)
	n.prev = s.withinPrev
	not := c.take(s)
	act := actProceed
	if sink.kind == finalNode {
		act = actIgnore // so that the match needs an event
	}
	n.on(act, sink, c.table.not(not))
	n.on(actProceed, c.stop(s.name, not), not)
	return n
}

func (c *compiler[T]) stop(name string, _ int32) *cnode {
	n, ok := c.stops[name]
	if !ok {
		n = c.node(name, stopNode, c.stageOf[name])
		c.stops[name] = n
	}
	return n
}

// stage compiles the stage or group under way.
func (c *compiler[T]) stage(sink *cnode) *cnode {
	s := c.cur()
	var n *cnode
	switch {
	case s.loop:
		c.again[s] = true
		loop := c.loop(c.withoutNots(sink))
		c.again[s] = false
		n = c.times(loop, sink)
	case s.quantified:
		n = c.times(sink, sink)
	default:
		n = c.single(sink, sink, c.take(s), c.ignoring(s), s.optional, s.withinPrev, false)
	}
	c.addStops(n)
	return n
}

// times compiles the occurrences 1 … to of a stage; sink is what follows the last,
// exit what follows the stage.
func (c *compiler[T]) times(sink, exit *cnode) *cnode {
	s := c.cur()
	take, ignoring := c.takeUntil(s), c.innerIgnoring(s)
	c.again[s] = true
	if s.greedy && s.from != s.to {
		c.restrict(exit, take)
	}
	for range s.to - s.from {
		if c.full {
			return sink
		}
		sink = c.single(sink, exit, take, ignoring, true, s.step(), true)
		c.addLoopStop(sink)
	}
	for range s.from - 1 {
		if c.full {
			return sink
		}
		sink = c.single(sink, nil, take, ignoring, false, s.step(), true)
		c.addLoopStop(sink)
	}
	c.again[s] = false
	prev := int64(0)
	if !c.opts.flink {
		prev = s.withinPrev
	}
	return c.single(sink, exit, take, c.ignoring(s), s.optional, prev, false)
}

// step is the bound on the time between two events of a stage.
func (s *stage[T]) step() int64 {
	switch {
	case s.gap == 0:
		return s.withinPrev
	case s.withinPrev == 0:
		return s.gap
	}
	return min(s.gap, s.withinPrev)
}

// single compiles one occurrence. bound limits the wait for it; inner says that it
// is not the first.
func (c *compiler[T]) single(sink, exit *cnode, take, ignoring int32, optional bool, bound int64, inner bool) *cnode {
	s := c.cur()
	if s.group != nil {
		return c.body(sink, exit, optional)
	}
	n, fresh := c.stageNode(normalNode)
	guard := c.bound(n, bound, optional, fresh)
	after := c.withoutNots(sink)
	n.edges = append(n.edges, cedge{act: actTake, to: after, cond: take, gap: guard})
	if optional {
		c.leave(n, exit)
	}
	if ignoring == exprFalse {
		return n
	}
	wait := n
	if optional || c.headsOptional(s) {
		wait, _ = c.stageNode(normalNode)
		wait.twin = true
		wait.on(actTake, after, take)
		wait.on(actIgnore, wait, ignoring)
		if !c.opts.flink {
			wait.prev = bound
		}
		c.addStops(wait)
	}
	n.edges = append(n.edges, cedge{act: actIgnore, to: wait, cond: ignoring, gap: guard})
	return n
}

// bound limits the wait in a node: by its end if nothing else can happen there, and
// else by a guard, which is returned, of the edges that the limit is for. The
// reference does it its own way.
func (c *compiler[T]) bound(n *cnode, bound int64, optional, fresh bool) (guard int64) {
	s := c.cur()
	switch {
	case c.opts.flink && s.quantified:
		if s.gap > 0 && !fresh {
			n.prev = s.gap
		}
	case c.opts.flink || !optional:
		n.prev = bound
	default:
		guard = bound
	}
	return guard
}

// leave lets an optional occurrence be left out.
func (c *compiler[T]) leave(n, exit *cnode) {
	s := c.cur()
	if s.greedy && s.until != nil && c.plainCopy[exit] != nil {
		u := c.table.add(s.until)
		n.on(actProceed, c.plainCopy[exit], c.table.and(c.always(), u))
		n.on(actProceed, exit, c.table.and(c.always(), c.table.not(u)))
		return
	}
	n.on(actProceed, exit, c.always())
}

// headsOptional says that s is the first stage of an optional group's first round.
func (c *compiler[T]) headsOptional(s *stage[T]) bool {
	return c.head(s) && c.firstRound() && c.group.optional
}

// body compiles one round of a group.
func (c *compiler[T]) body(sink, exit *cnode, optional bool) *cnode {
	always := c.always()
	n := c.inside(func() *cnode { return c.sequence(sink) })
	if optional {
		n.on(actProceed, exit, always)
	}
	return n
}

// inside runs f with the group under way as its surroundings.
func (c *compiler[T]) inside(f func() *cnode) *cnode {
	chain, at, next, group := c.chain, c.at, c.next, c.group
	c.group = c.cur()
	c.chain, c.at = c.group.group, len(c.group.group)-1
	n := f()
	c.chain, c.at, c.next, c.group = chain, at, next, group
	return n
}

// loop compiles the part of a loop that repeats.
func (c *compiler[T]) loop(exit *cnode) *cnode {
	s := c.cur()
	if s.group != nil {
		always := c.always()
		end := c.node("", normalNode, 0)
		n := c.inside(func() *cnode { return c.sequence(end) })
		n.on(actProceed, exit, always)
		end.on(actProceed, n, always)
		return n
	}
	take, ignoring := c.takeUntil(s), c.innerIgnoring(s)
	n, fresh := c.stageNode(normalNode)
	guard := c.bound(n, s.step(), exit.kind != finalNode, fresh)
	if s.greedy {
		if s.until != nil {
			u := c.table.add(s.until)
			c.plainCopy[exit] = c.copyNode(exit)
			n.on(actProceed, c.plainCopy[exit], c.table.and(c.always(), u))
			n.on(actProceed, exit, c.table.and(c.always(), c.table.not(u)))
		} else {
			n.on(actProceed, exit, c.always())
		}
		c.restrict(exit, c.take(s))
	} else {
		n.on(actProceed, exit, c.always())
	}
	n.edges = append(n.edges, cedge{act: actTake, to: n, cond: take, gap: guard})
	c.addLoopStop(n)
	if ignoring == exprFalse {
		return n
	}
	wait, _ := c.stageNode(normalNode)
	wait.twin = true
	if !c.opts.flink {
		wait.prev = s.step()
	}
	wait.on(actTake, n, take)
	wait.on(actIgnore, wait, ignoring)
	n.edges = append(n.edges, cedge{act: actIgnore, to: wait, cond: ignoring, gap: guard})
	c.addLoopStop(wait)
	return n
}
