package pattern

// always is the condition of edges that take any event. Like all conditions inside
// a group it fails when the group's Until holds.
func (c *compiler[T]) always() int32 { return c.unlessGroupEnds(exprTrue) }

// unlessGroupEnds adds "and not Until" of the group under way.
func (c *compiler[T]) unlessGroupEnds(x int32) int32 {
	if c.group == nil || c.group.until == nil || x == exprFalse {
		return x
	}
	return c.table.and(c.table.not(c.table.add(c.group.until)), x)
}

// take is the condition under which s accepts an event.
func (c *compiler[T]) take(s *stage[T]) int32 { return c.unlessGroupEnds(c.table.add(s.where)) }

// takeUntil is take for a stage with an Until of its own.
func (c *compiler[T]) takeUntil(s *stage[T]) int32 {
	x := c.take(s)
	if s.until == nil || s.group != nil {
		return x
	}
	return c.table.and(c.table.not(c.table.add(s.until)), x)
}

// dropping is the condition under which a contiguity drops an event that s waits
// for; exprFalse if it never does.
func (c *compiler[T]) dropping(s *stage[T], how contiguity) int32 {
	switch how {
	case relaxed:
		return c.unlessGroupEnds(c.table.not(c.table.add(s.where)))
	case relaxedAny:
		return c.unlessGroupEnds(exprTrue)
	}
	return exprFalse
}

// ignoring is the condition under which an event before s is dropped.
func (c *compiler[T]) ignoring(s *stage[T]) int32 { return c.dropping(s, c.contiguityOf(s)) }

func (c *compiler[T]) contiguityOf(s *stage[T]) contiguity {
	switch {
	case !c.head(s):
		return s.how
	case c.firstRound():
		return c.group.how
	}
	return c.group.inner
}

// innerIgnoring is the condition under which an event between two events of s is
// dropped.
func (c *compiler[T]) innerIgnoring(s *stage[T]) int32 {
	how := s.inner
	if c.head(s) && c.opts.flink {
		how = c.group.inner
	}
	x := c.dropping(s, how)
	if s.until == nil || x == exprFalse || s.group != nil {
		return x
	}
	return c.table.and(c.table.not(c.table.add(s.until)), x)
}

// restrict takes the events that a greedy stage wants from the following one.
func (c *compiler[T]) restrict(n *cnode, wanted int32) {
	for i := range n.edges {
		n.edges[i].cond = c.table.and(n.edges[i].cond, c.table.not(wanted))
	}
}

// copyNode makes a copy of a node; edges to itself lead to the copy.
func (c *compiler[T]) copyNode(n *cnode) *cnode {
	cp := c.node(n.name, n.kind, n.stage)
	cp.twin, cp.matures = n.twin, n.matures
	if !c.opts.flink || n.kind == pendingNode {
		cp.prev = n.prev
	}
	for _, e := range n.edges {
		if e.to == n {
			e.to = cp
		}
		cp.edges = append(cp.edges, e)
	}
	return cp
}

// nots lists the NOT stages that hold on from before the stage under way: those
// directly before it, and before optional stages.
func (c *compiler[T]) nots() []*stage[T] {
	var out []*stage[T]
	for i := c.at - 1; i >= 0; i-- {
		s := c.chain[i]
		if !s.optional && s.how != notFollow {
			break
		}
		if s.how == notFollow {
			out = append(out, s)
		}
	}
	return out
}

// addStops makes a node end runs on the NOT stages before it.
func (c *compiler[T]) addStops(n *cnode) {
	for _, s := range c.nots() {
		not := c.take(s)
		n.on(actProceed, c.stop(s.name, not), not)
	}
}

// addLoopStop makes an occurrence after the first end runs on a NOT that follows
// the stage.
func (c *compiler[T]) addLoopStop(n *cnode) {
	if c.next != nil && c.next.how == notFollow {
		not := c.take(c.next)
		n.on(actProceed, c.stop(c.next.name, not), not)
	}
}

// withoutNots returns what follows the stage under way once it has accepted an
// event: NOT stages before it no longer hold then, though they still do when it is
// left out.
func (c *compiler[T]) withoutNots(sink *cnode) *cnode {
	nots := c.nots()
	if len(nots) == 0 || !c.cur().optional {
		return sink
	}
	over := map[string]bool{}
	for _, s := range nots {
		over[s.name] = true
	}
	return c.copyWithout(sink, over)
}

// isOpen says that a node is the end of a loop's body, which has no edges yet: only the
// reference copies it, to a node without any.
func (c *compiler[T]) isOpen(n *cnode) bool {
	return n.kind == normalNode && len(n.edges) == 0 && !c.opts.flink
}

func (c *compiler[T]) copyWithout(n *cnode, over map[string]bool) *cnode {
	if c.full || c.isOpen(n) {
		return n
	}
	cp := c.node(n.name, n.kind, n.stage)
	cp.twin, cp.matures = n.twin, n.matures
	if !c.opts.flink || n.kind == pendingNode {
		cp.prev = n.prev
	}
	for _, e := range n.edges {
		switch {
		case e.act != actProceed:
			if e.to == n {
				e.to = cp
			}
		case e.to.kind == stopNode:
			if over[e.to.name] {
				continue
			}
		default:
			e.to = c.copyWithout(e.to, over)
		}
		cp.edges = append(cp.edges, e)
	}
	return cp
}
