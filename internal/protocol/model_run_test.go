package protocol

import (
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// runMoves lists what a running coordinator can do.
func (m *model) runMoves(w world, i int, c *coordM) {
	j := int(c.gen) - 1
	p := m.pipes.vals[w.pipes[j]]
	try, _ := c.core.Open()
	if c.core.phase == phaseCollecting {
		m.ackMoves(w, i, c, p)
		if c.gaveUp < m.giveUps {
			d := c.clone()
			d.gaveUp++
			m.coordStepOf(w, i, d, Timeout{try}, "gives up a try")
		}
	}
	switch op := c.op.(type) {
	case ClaimEpoch:
		m.claimMoves(w, i, op)
	case ReadFence:
		f := FenceRead{Try: op.Try, Gen: base.Generation(m.stores.vals[w.store].gens)}
		for _, id := range w.coords {
			if id != 0 {
				f.Term++
			}
		}
		m.coordStep(w, i, f, "reads the fence")
	}
	if m.reportCommits && !p.dead {
		for l := range m.lanes {
			if n := p.lanes[l].committed; n > c.core.lanes[l].committed && n <= c.core.tip.Epoch {
				m.coordStep(w, i, LaneCommitted{modelLane(l), n}, "hears of a commit")
			}
		}
	}
	m.deliverMoves(w, i, c, p)
}

// startEpoch starts the next epoch at once: a trigger that is late is an epoch
// that starts late.
func (m *model) startEpoch(c *coordM) {
	if c.stage == stageRun && int(c.core.tip.Epoch) < m.epochs {
		m.carryOut(nil, c, c.core.Step(0, TriggerDue{}))
	}
}

// ackMoves delivers both acks of a try at once: the first of two changes nothing
// that the coordinator does.
func (m *model) ackMoves(w world, i int, c *coordM, p *pipeM) {
	try, _ := c.core.Open()
	for _, s := range p.s.acks {
		for _, k := range p.k.acks {
			if k.try != try || s.try != try && m.mut != mutAnyAck {
				continue
			}
			d := c.clone()
			m.carryOut(&w, d, d.core.Step(0, AckReceived{taskS, c.gen, try, s.ack}))
			m.coordStepOf(w, i, d, AckReceived{taskK, c.gen, try, k.ack}, "gets the acks of a try")
		}
	}
}

// coordStep feeds coordinator i one event.
func (m *model) coordStep(w world, i int, ev Event, what string) {
	m.coordStepOf(w, i, m.coords.vals[w.coords[i]].clone(), ev, what)
}

func (m *model) coordStepOf(w world, i int, d *coordM, ev Event, what string) {
	switch ev.(type) {
	case ClaimResult, FenceRead:
		d.op = nil
	}
	if m.mut == mutMissingIsPred {
		for l := range d.core.lanes {
			d.core.lanes[l].committed = 0
		}
	}
	m.carryOut(&w, d, d.core.Step(0, ev))
	m.startEpoch(d)
	m.move(m.setCoord(w, i, d), "coordinator %d "+what, d.term)
}

// claimMoves lists the outcomes of creating an epoch record.
func (m *model) claimMoves(w world, i int, op ClaimEpoch) {
	s := m.stores.vals[w.store]
	n := int(op.Try.Epoch)
	if s.gens >= int(op.NextGen) {
		// Looking for a newer generation is advice: the claim may have been on
		// its way before that generation was recorded.
		m.coordStep(w, i, ClaimResult{Try: op.Try, Outcome: ClaimStale}, "sees a newer generation before its claim")
	}
	if n <= len(s.epochs) && m.mut != mutPlainPut {
		out := ClaimOther
		if string(s.epochs[n-1]) == string(op.Body) || m.mut == mutLoserContinues {
			out = ClaimIdentical
		}
		m.coordStep(w, i, ClaimResult{Try: op.Try, Outcome: out}, "finds the record there")
		return
	}
	t := *s
	t.epochs = slices.Clone(s.epochs)
	if n <= len(t.epochs) {
		t.epochs[n-1] = op.Body
		if string(s.epochs[n-1]) != string(op.Body) {
			m.failf("I4: the record of epoch %d is overwritten", n)
		}
	} else {
		t.epochs = append(t.epochs, op.Body)
	}
	if n > len(s.epochs)+1 {
		m.failf("I4: epoch %d is claimed, the newest is %d", n, len(s.epochs))
	}
	v := w
	v.store = m.putStore(&t)
	if m.bad == nil {
		m.checkClaim(v, n)
	}
	m.coordStep(v, i, ClaimResult{Try: op.Try, Outcome: ClaimCreated}, "creates the record")
	if m.bad == nil && m.mut != mutPlainPut {
		m.coordStep(v, i, ClaimResult{Try: op.Try, Outcome: ClaimUnknown}, "creates the record, outcome unknown")
	}
}

// deliverMoves delivers coordinator i's orders to the tasks it drives.
func (m *model) deliverMoves(w world, i int, c *coordM, p *pipeM) {
	if p.dead {
		return
	}
	j := int(p.gen) - 1
	if b := c.trigger; b != nil && c.term >= p.s.term && b.Try.Newer(p.s.floor) && len(p.queue) < 2 {
		// How far S has come shows at its barriers only.
		least := min(p.off+1, m.records)
		if m.emptyEpochs {
			least = p.off
		}
		for off := least; off <= m.records; off++ {
			q := p.clone()
			q.s.term, q.off = c.term, off
			if m.align(&q.s, 0, *b) {
				m.applyParticipant(q, &q.s, m.bypass(&q.s, *b), false)
				q.queue = append(q.queue, barrierM{q.off, *b})
			}
			m.move(m.setPipe(w, j, q), "gen %d: S gets trigger %s behind record %d", p.gen, b.Try, off)
		}
	}
	for _, t := range c.aborts {
		if m.abortsToS && c.term >= p.s.term && slices.Contains(p.s.part.held, t) {
			q := p.clone()
			q.s.term = c.term
			m.applyParticipant(q, &q.s, q.s.part.Abort(t), false)
			m.move(m.setPipe(w, j, q), "gen %d: S gives up %s", p.gen, t)
		}
		if c.term >= p.k.term && slices.Contains(p.k.part.held, t) {
			q := p.clone()
			q.k.term = c.term
			m.applyParticipant(q, &q.k, q.k.part.Abort(t), false)
			m.move(m.setPipe(w, j, q), "gen %d: K gives up %s", p.gen, t)
		}
	}
	if n := p.seen[i]; n < len(c.sent) && c.term >= p.k.term {
		q := p.clone()
		q.k.term = c.term
		q.seen[i]++
		m.completeAtK(w, q, c.sent[n])
		m.move(m.setPipe(w, j, q), "gen %d: K hears that %s is durable", p.gen, c.sent[n].try)
	}
}

// completeAtK lets K take the news of a durable epoch.
func (m *model) completeAtK(w world, p *pipeM, s completeM) {
	for _, a := range p.k.part.Complete(s.try) {
		switch a.Kind {
		case StopTask:
			if m.mut == mutAdoptUnheld || m.mut == mutAdoptAny {
				continue
			}
			p.dead = true
			return
		case Confirm:
			for len(p.snaps) > 1 && p.snaps[0].try != s.try {
				p.snaps = p.snaps[1:]
			}
		}
	}
	for i := range s.body.Lanes {
		st := s.body.Lanes[i]
		m.laneStep2(w, p, st.Block.Lane.Lane, BlockClaimed{Claimed{s.try.Epoch, s.body.Manifest, st}})
	}
}

// laneStep2 feeds an event that is no answer: an open batch stays open.
func (m *model) laneStep2(w world, p *pipeM, l int, ev LaneEvent) {
	op := p.ops[l]
	m.laneStep(w, p, l, ev)
	if op != nil {
		p.ops[l] = op
	}
}
