package protocol

import (
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// stageM is what a coordinator is busy with.
type stageM uint8

const (
	stageAskS    stageM = iota + 1 // take-over: ask S, then K, then probe
	stageAskK                      //
	stageClaim                     // claim a generation
	stageProbe                     // R3: find the newest epoch
	stageMarkers                   // R4, R5: read markers, plan, deploy or adopt
	stageRun
	stageOver
)

// completeM is a Complete that was sent.
type completeM struct {
	try  Try
	body *Complete
}

// coordM is the coordinator of one term.
type coordM struct {
	term     base.Term
	stage    stageM
	gen      base.Generation // asked, claimed or driven
	adopting bool
	reports  []TaskReport
	rec      *Recovery // R3 is done, markers are to be read
	ask      []RecoveryAction
	core     *Coordinator
	op       Action // open store access
	trigger  *Barrier
	aborts   []Try
	sent     []completeM
	gaveUp   int
}

func (m *model) putCoord(c *coordM) uint32 {
	k := m.key()
	k.n(uint64(c.term), uint64(c.stage), uint64(c.gen), uint64(c.gaveUp), uint64(len(c.reports)))
	k.flag(c.adopting)
	for _, r := range c.reports {
		k.n(uint64(r.Gen), uint64(r.Status.Confirmed), uint64(len(r.Status.Held)))
		for _, t := range r.Status.Held {
			k.try(t)
		}
	}
	if c.rec != nil {
		k.n(uint64(c.rec.tip), uint64(c.rec.phase))
		k.sum(c.rec.known[c.rec.tip].sum)
	}
	k.flag(c.core != nil)
	if c.core != nil {
		c.core.dump(k)
	}
	k.flag(c.op != nil)
	if c.trigger != nil {
		k.try(c.trigger.Try)
	}
	k.n(uint64(len(c.aborts)))
	for _, t := range c.aborts {
		k.try(t)
	}
	k.n(uint64(len(c.sent)))
	for _, s := range c.sent {
		k.try(s.try)
		k.sum(s.body.Manifest)
		k.n(uint64(len(s.body.Lanes)))
		for i := range s.body.Lanes {
			k.n(uint64(s.body.Lanes[i].Block.Lane.Lane))
		}
	}
	return m.coords.put(k.b, c)
}

func (c *coordM) clone() *coordM {
	d := *c
	if c.core != nil {
		d.core = c.core.clone()
	}
	d.aborts, d.sent, d.reports = slices.Clone(c.aborts), slices.Clone(c.sent), slices.Clone(c.reports)
	return &d
}

func (m *model) setCoord(w world, i int, c *coordM) world {
	if c.stage == stageClaim && m.stores.vals[w.store].gens >= m.gens {
		c.stage = stageOver
	}
	if c.stage == stageClaim || c.stage == stageOver {
		c = &coordM{term: c.term, stage: c.stage}
	}
	w.coords[i] = m.putCoord(c)
	return w
}

// startMoves lets the next term begin, while all earlier coordinators live on.
func (m *model) startMoves(w world) {
	i := slices.Index(w.coords[:], 0)
	if i < 0 || i >= m.terms {
		return
	}
	c := &coordM{term: base.Term(i + 1), stage: stageClaim}
	if g := m.stores.vals[w.store].gens; m.adopt && g > 0 {
		c.stage, c.adopting, c.gen = stageAskS, true, base.Generation(g)
		if m.mut == mutAdoptAny {
			c.gen = 1
		}
	}
	v := m.setCoord(w, i, c)
	if c.stage == stageClaim && v.coords[i] != 0 {
		m.claimGen(v, i, m.coords.vals[v.coords[i]]) // starting alone changes nothing
		return
	}
	m.move(v, "coordinator %d starts", c.term)
}

// claimGen claims the next generation.
func (m *model) claimGen(w world, i int, c *coordM) {
	s := m.stores.vals[w.store]
	if s.gens >= m.gens {
		return
	}
	d, t := c.clone(), *s
	t.gens++
	d.gen, d.stage, d.adopting = base.Generation(t.gens), stageProbe, false
	v := w
	v.store = m.putStore(&t)
	m.move(m.setCoord(v, i, d), "coordinator %d claims generation %d", c.term, t.gens)
}

// coordMoves lists what coordinator i can do next.
func (m *model) coordMoves(w world, i int) {
	c := m.coords.vals[w.coords[i]]
	switch c.stage {
	case stageAskS, stageAskK:
		m.askMove(w, i, c.clone())
	case stageClaim:
		m.claimGen(w, i, c)
	case stageProbe:
		d := c.clone()
		m.probe(w, d)
		if m.atomicRecovery {
			m.finishRecovery(w, i, d)
		} else {
			m.move(m.setCoord(w, i, d), "coordinator %d finds epoch %d", c.term, d.rec.tip)
		}
	case stageMarkers:
		m.finishRecovery(w, i, c.clone())
	case stageRun:
		m.runMoves(w, i, c)
	}
}

// askMove asks S, then K; each refuses lower terms from then on.
func (m *model) askMove(w world, i int, c *coordM) {
	j := int(c.gen) - 1
	if w.pipes[j] == 0 {
		c.stage = stageClaim // claimed but not deployed: nobody answers
		m.move(m.setCoord(w, i, c), "coordinator %d gets no answer", c.term)
		return
	}
	p := m.pipes.vals[w.pipes[j]].clone()
	t, id := &p.s, taskS
	if c.stage == stageAskK {
		t, id = &p.k, taskK
	}
	if p.dead || t.term > c.term {
		c.stage = stageClaim
		m.move(m.setCoord(w, i, c), "coordinator %d gets no answer", c.term)
		return
	}
	t.term = c.term
	held, confirmed := t.part.Status()
	c.reports = append(c.reports, TaskReport{id, p.gen, Status{Held: held, Confirmed: confirmed}})
	c.stage++
	if c.stage > stageAskK {
		c.stage = stageProbe
	}
	m.move(m.setPipe(m.setCoord(w, i, c), j, p), "coordinator %d asks %s of generation %d", c.term, id, c.gen)
}

// probe runs the recovery core until it asks for markers.
func (m *model) probe(w world, c *coordM) {
	var lanes []LaneID
	for l := range m.lanes {
		lanes = append(lanes, modelLane(l))
	}
	c.rec, c.ask = NewRecovery(RecoveryConfig{Job: modelJob, Gen: c.gen, Lanes: lanes})
	for {
		switch c.ask[0].(type) {
		case ReadLaneMarker, RecoverySuperseded:
			c.stage = stageMarkers
			return
		}
		c.ask = c.rec.Step(m.answer(w, c, c.ask[0]))
	}
}

func (m *model) answer(w world, c *coordM, q RecoveryAction) RecoveryEvent {
	s := m.stores.vals[w.store]
	switch q := q.(type) {
	case ReadEpoch:
		if int(q.Epoch) > len(s.epochs) {
			return EpochRead{Epoch: q.Epoch}
		}
		return EpochRead{Epoch: q.Epoch, Found: true, Body: s.epochs[q.Epoch-1]}
	case ReadManifest:
		return ManifestRead{Epoch: q.Epoch, Found: true, Body: m.bodies[c.rec.known[q.Epoch].record.Manifest]}
	case ReadLaneMarker:
		v := m.sinks.vals[w.sink[q.Lane.Lane]]
		return LaneMarkerRead{q.Lane, MarkerRead{Found: v.found, Marker: v.marker, Seq: v.seq}}
	}
	return nil
}

// finishRecovery reads the markers and deploys or adopts.
func (m *model) finishRecovery(w world, i int, c *coordM) {
	plan, err := m.recoverPlan(w, c)
	c.rec, c.ask = nil, nil
	switch {
	case err != nil:
		m.alarm(w, err)
		c.stage = stageOver
		m.move(m.setCoord(w, i, c), "coordinator %d stops for good", c.term)
		return
	case plan == nil:
		c.stage, c.adopting, c.reports = stageClaim, false, nil
		m.move(m.setCoord(w, i, c), "coordinator %d is superseded", c.term)
		return
	}
	m.mutatePlan(w, c.gen, plan)
	if c.adopting {
		m.adoptMove(w, i, c, plan)
		return
	}
	p := m.deploy(c.gen, c.term, plan)
	m.run(c, &plan.Start)
	v := m.setCoord(w, i, c)
	m.move(m.setPipe(v, int(c.gen)-1, p), "coordinator %d deploys generation %d from epoch %d", c.term, c.gen, plan.Start.Record.Epoch)
}

func (m *model) recoverPlan(w world, c *coordM) (*RecoveryPlan, error) {
	// The core is consumed here; worlds that share it must not see it change.
	m.probeAgain(w, c)
	for len(c.ask) > 0 {
		q := c.ask[0]
		switch a := q.(type) {
		case RecoveryDone:
			return &a.Plan, nil
		case RecoverySuperseded:
			return nil, nil
		case RecoveryFailed:
			return nil, a.Err
		}
		c.ask = append(c.ask[1:len(c.ask):len(c.ask)], c.rec.Step(m.answer(w, c, q))...)
	}
	m.failf("recovery asks nothing and has no result")
	return &RecoveryPlan{}, nil
}

// probeAgain replaces the recovery core by a copy that has seen the same epochs.
func (m *model) probeAgain(w world, c *coordM) {
	seen := *m.stores.vals[w.store]
	seen.epochs = seen.epochs[:c.rec.tip]
	past := w
	past.store = m.putStore(&seen)
	m.probe(past, c)
}

func (m *model) adoptMove(w world, i int, c *coordM, plan *RecoveryPlan) {
	gens := base.Generation(m.stores.vals[w.store].gens)
	f := AdoptionFacts{
		Gen: GenRecord{Job: modelJob, Gen: gens, Tasks: []Placement{{Task: taskS, Gen: gens}, {Task: taskK, Gen: gens}}},
		Tip: plan.Start.Record, Reports: c.reports,
	}
	switch m.mut {
	case mutAdoptAny:
		f.Gen.Gen = gens
		for j := range f.Gen.Tasks {
			f.Gen.Tasks[j].Gen = c.gen
		}
		fallthrough
	case mutAdoptUnheld:
		for j := range f.Reports {
			f.Reports[j].Status.Held = append(slices.Clone(f.Reports[j].Status.Held), f.Tip.Try())
		}
	}
	a, err := Adopt(f)
	if err != nil {
		m.alarm(w, err)
		c.stage = stageClaim
		m.move(m.setCoord(w, i, c), "coordinator %d does not adopt: %v", c.term, err)
		return
	}
	plan.Start.Abort = a.Abort
	m.run(c, &plan.Start)
	m.move(m.setCoord(w, i, c), "coordinator %d adopts generation %d at epoch %d", c.term, c.gen, plan.Start.Record.Epoch)
}

// run starts the coordinator core.
func (m *model) run(c *coordM, start *Start) {
	cfg := CoordinatorConfig{
		Job: modelJob, Term: c.term, Gen: c.gen, MaxUncommitted: m.maxUncommitted,
		Tasks: []TaskSlot{{taskS, c.gen, true}, {taskK, c.gen, false}},
	}
	for l := range m.lanes {
		cfg.Lanes = append(cfg.Lanes, modelLane(l))
	}
	c.stage, c.trigger, c.aborts, c.sent, c.op, c.reports, c.adopting = stageRun, nil, nil, nil, nil, nil, false
	var acts []Action
	c.core, acts = NewCoordinator(cfg, *start, 0)
	m.carryOut(nil, c, acts)
	m.startEpoch(c)
}

// carryOut does what a coordinator core ordered, except store accesses, which
// stay open. w is nil where no store access can be among the actions.
func (m *model) carryOut(w *world, c *coordM, acts []Action) {
	for _, a := range acts {
		switch a := a.(type) {
		case SendTrigger:
			c.trigger = &Barrier{a.Msg.Try(), *a.Msg.Trigger}
		case AbortAttempt:
			c.aborts = append(c.aborts, a.Msg.Try())
		case SendComplete:
			if m.mut != mutCommitFirst || !slices.ContainsFunc(c.sent, func(s completeM) bool { return s.try == a.Msg.Try() }) {
				c.sent = append(c.sent, completeM{a.Msg.Try(), a.Msg.Complete})
			}
		case WriteManifest:
			m.writeManifest(w, c, a)
			m.carryOut(w, c, c.core.Step(0, ManifestWritten{Try: a.Try}))
		case ClaimEpoch, ReadFence:
			c.op = a
		case StopGeneration:
			if a.Reason == Broken {
				m.failf("the coordinator stops: %v", a.Err)
			}
			c.stage = stageClaim
		case Resign:
			c.stage = stageOver
		}
	}
}

func (m *model) writeManifest(w *world, c *coordM, a WriteManifest) {
	m.bodies[a.SHA], m.manifests[a.SHA] = a.Body, a.Manifest
	if m.mut == mutRestoreStaged {
		s := *m.stores.vals[w.store]
		if s.staged.IsZero() || m.manifests[s.staged].Epoch <= a.Manifest.Epoch {
			s.staged = a.SHA
		}
		w.store = m.putStore(&s)
	}
	if m.mut == mutCommitFirst {
		body := &Complete{Manifest: a.SHA}
		for _, l := range a.Manifest.Lanes {
			if !l.Block.Empty() {
				body.Lanes = append(body.Lanes, l)
			}
		}
		c.sent = append(c.sent, completeM{a.Try, body})
	}
}
