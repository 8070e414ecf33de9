package protocol

import (
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// taskM is what S and K have in common.
type taskM struct {
	term  base.Term
	floor Try // of the task's aligner
	part  *Participant
	acks  []ackM
}

// ackM is an ack that was sent; it can be delivered at any time, any number of
// times. digest stands for its content.
type ackM struct {
	try    Try
	ack    *Ack
	digest SHA
}

// snapM is a held snapshot of K: where it was taken and its chain.
type snapM struct {
	try   Try
	pos   int
	chain []ObjectRef
}

// barrierM is a barrier in the channel, behind record pos.
type barrierM struct {
	pos int
	b   Barrier
}

// pipeM is one generation's tasks.
type pipeM struct {
	gen   base.Generation
	s, k  taskM
	off   int // S: records emitted up to its newest barrier
	queue []barrierM
	state []byte // K: generation that processed each record
	snaps []snapM
	lanes []*Lane
	ops   []*Publish // open batches, parallel to lanes
	seen  [modelTerms]int
	dead  bool
}

func (m *model) putPipe(p *pipeM) uint32 {
	k := m.key()
	k.n(uint64(p.gen), uint64(p.off), uint64(len(p.queue)))
	k.flag(p.dead)
	for _, q := range p.queue {
		k.n(uint64(q.pos))
		k.try(q.b.Try)
	}
	k.n(uint64(len(p.state)))
	k.b = append(k.b, p.state...)
	k.n(uint64(len(p.snaps)))
	for _, s := range p.snaps {
		k.try(s.try)
		k.n(uint64(s.pos), uint64(len(s.chain)))
		for i := range s.chain {
			k.sum(s.chain[i].SHA)
		}
	}
	for _, t := range []*taskM{&p.s, &p.k} {
		k.n(uint64(t.term))
		k.try(t.floor)
		t.part.dump(k)
		k.n(uint64(len(t.acks)))
		for _, a := range t.acks {
			k.try(a.try)
			k.sum(a.digest)
		}
	}
	for i, l := range p.lanes {
		l.dump(k)
		if p.ops[i] != nil {
			k.n(p.ops[i].Expect + 1)
		} else {
			k.n(0)
		}
	}
	for _, n := range p.seen {
		k.n(uint64(n))
	}
	return m.pipes.put(k.b, p)
}

func (p *pipeM) clone() *pipeM {
	d := *p
	d.s.part, d.k.part = p.s.part.clone(), p.k.part.clone()
	d.s.acks, d.k.acks = slices.Clone(p.s.acks), slices.Clone(p.k.acks)
	d.queue, d.state, d.snaps = slices.Clone(p.queue), slices.Clone(p.state), slices.Clone(p.snaps)
	d.lanes, d.ops = slices.Clone(p.lanes), slices.Clone(p.ops)
	for i, l := range d.lanes {
		d.lanes[i] = l.clone()
	}
	return &d
}

// deploy makes the tasks of a generation, restored from the plan.
func (m *model) deploy(g base.Generation, t base.Term, plan *RecoveryPlan) *pipeM {
	p := &pipeM{gen: g}
	from := plan.Start.Record.Try()
	snap := snapM{try: from}
	if man := plan.Start.Manifest; man != nil {
		p.off = int(man.Splits[0].Offset)
		for i := range man.Tasks {
			if man.Tasks[i].Task == taskK {
				snap.chain = man.Tasks[i].Objects
			}
		}
		p.state = m.fold(snap.chain)
		if len(p.state) != p.off {
			m.failf("I6: restored state holds %d records, the source stands at %d", len(p.state), p.off)
			return p
		}
	}
	snap.pos = p.off
	p.snaps = []snapM{snap}
	p.s = taskM{term: t, floor: from, part: NewParticipant(from)}
	p.k = taskM{term: t, floor: from, part: NewParticipant(from)}
	for l := range m.lanes {
		p.lanes = append(p.lanes, NewLane(modelJob, modelLane(l), g, plan.Lanes[l].Start))
	}
	p.ops = make([]*Publish, m.lanes)
	return p
}

// fold applies a chain of base and deltas to an empty table. An object's content
// is its first record, counted from 0, and one generation per record.
func (m *model) fold(chain []ObjectRef) []byte {
	var state []byte
	for i := range chain {
		c := m.objects[chain[i].SHA]
		if chain[i].Kind == KindBase {
			state = nil
		}
		for len(state) < int(c[0]) {
			state = append(state, 0) // a hole: the delta with it is missing
		}
		state = append(state[:c[0]], c[1:]...)
	}
	return state
}

// object stores content under its sum.
func (m *model) object(content []byte) SHA {
	sum := SumSHA(content)
	m.objects[sum] = content
	return sum
}

// pipeMoves lists what a generation's tasks can do next on their own.
func (m *model) pipeMoves(w world, i int) {
	p := m.pipes.vals[w.pipes[i]]
	if p.dead {
		return
	}
	if len(p.queue) > 0 {
		for _, base := range m.baseChoices() {
			q := p.clone()
			m.barrierAtK(q, base)
			m.move(m.setPipe(w, i, q), "gen %d: K takes barrier %s (base %v)", p.gen, p.queue[0].b.Try, base)
		}
	}
	for l, op := range p.ops {
		if op != nil {
			m.publishMoves(w, i, l)
		}
	}
}

func (m *model) baseChoices() []bool {
	if m.bases {
		return []bool{false, true}
	}
	return []bool{false}
}

func (m *model) setPipe(w world, i int, p *pipeM) world {
	if p.dead {
		p = &pipeM{gen: p.gen, dead: true}
		p.s.part, p.k.part = &Participant{}, &Participant{}
	}
	w.pipes[i] = m.putPipe(p)
	return w
}

// barrierAtK lets K process the records in front of the barrier at the head of
// the channel and take it. Processing them earlier would change nothing that
// anyone can see.
func (m *model) barrierAtK(p *pipeM, cutBase bool) {
	b, pos := p.queue[0].b, p.queue[0].pos
	p.queue = slices.Delete(p.queue, 0, 1)
	if m.mut == mutOvertake {
		pos--
	}
	for len(p.state) < pos {
		p.state = append(p.state, byte(p.gen))
	}
	if !m.align(&p.k, 1, b) {
		return
	}
	m.applyParticipant(p, &p.k, m.bypass(&p.k, b), cutBase)
}

// align runs the task's aligner and reports whether the snapshot is due.
func (m *model) align(t *taskM, inputs int, b Barrier) bool {
	a := NewAligner(inputs, t.floor)
	for _, act := range a.Barrier(0, b, nil) {
		if act.Kind == AlignSnapshot {
			t.floor = b.Try
			return true
		}
	}
	return false
}

// bypass turns off the participant's check of the attempt it continues from, for
// the mutants that adopt without checking.
func (m *model) bypass(t *taskM, b Barrier) []ParticipantAction {
	if m.mut != mutAdoptUnheld && m.mut != mutAdoptAny {
		return t.part.Barrier(b)
	}
	if b.Try.Epoch <= t.part.confirmed {
		return nil
	}
	acts := t.part.giveUp(func(h Try) bool { return h.Epoch >= b.Try.Epoch })
	t.part.held = append(t.part.held, b.Try)
	return append(acts, ParticipantAction{Kind: TakeSnapshot, Try: b.Try})
}

// applyParticipant carries out what a participant ordered.
func (m *model) applyParticipant(p *pipeM, t *taskM, acts []ParticipantAction, cutBase bool) {
	for _, a := range acts {
		switch a.Kind {
		case FoldBack:
			if t == &p.k && m.mut != mutNoFoldBack {
				p.snaps = slices.DeleteFunc(p.snaps, func(s snapM) bool { return s.try == a.Try })
			}
		case TakeSnapshot:
			if t == &p.k {
				m.snapshotK(p, a.Try, cutBase)
			} else {
				m.snapshotS(p, a.Try)
			}
		case StopTask:
			p.dead = true
		}
	}
}

func (m *model) snapshotS(p *pipeM, try Try) {
	ack := &Ack{
		State:  TaskState{Task: taskS, Gen: p.gen},
		Splits: []SplitState{{Source: "s", Split: "0", Identity: "1", Offset: uint64(p.off)}},
	}
	p.s.acks = append(p.s.acks, m.ack(try, ack, []byte{'s', byte(p.off)}))
}

// snapshotK seals the lane blocks of the records since the last held snapshot
// and adds their entries to the chain.
func (m *model) snapshotK(p *pipeM, try Try, cutBase bool) {
	prev, pos := p.snaps[len(p.snaps)-1], len(p.state)
	chain := slices.Clone(prev.chain)
	if m.mut == mutDropDelta && len(chain) > 1 {
		chain = chain[:len(chain)-1]
	}
	var since base.Epoch
	if n := len(chain); n > 0 {
		since = chain[n-1].Epoch
	}
	switch content := append([]byte{byte(prev.pos)}, p.state[prev.pos:pos]...); {
	case cutBase:
		all := append([]byte{0}, p.state...)
		chain = []ObjectRef{{Kind: KindBase, SHA: m.object(all), Size: uint64(len(all)), Range: base.FullRange, Epoch: try.Epoch}}
	case pos > prev.pos && since < try.Epoch:
		chain = append(chain, ObjectRef{
			Kind: KindDelta, SHA: m.object(content), Size: uint64(len(content)), Range: base.FullRange, Since: since, Epoch: try.Epoch,
		})
	}
	ack := &Ack{State: TaskState{Task: taskK, Gen: p.gen, Keyed: true, Range: base.FullRange, Objects: chain}}
	digest := []byte{'k', byte(pos)}
	for i := range chain {
		digest = append(digest, chain[i].SHA[:]...)
	}
	for l := range m.lanes {
		if b, ok := m.seal(p.state, prev.pos, pos, l); ok {
			ack.Lanes = append(ack.Lanes, b)
			digest = append(digest, b.SHA[:]...)
		}
	}
	p.snaps = append(p.snaps, snapM{try, pos, chain})
	p.k.acks = append(p.k.acks, m.ack(try, ack, digest))
}

func (m *model) ack(try Try, ack *Ack, content []byte) ackM {
	m.kb.acks[ack] = SumSHA(content)
	return ackM{try, ack, m.kb.acks[ack]}
}

// outputs returns what lane l publishes for the records after from up to to.
func (m *model) outputs(state []byte, from, to, l int) []uint16 {
	var out []uint16
	for r := from; r < to; r++ {
		if r%m.lanes == l {
			out = append(out, record(r+1, state[r]))
		}
	}
	return out
}

func (m *model) seal(state []byte, from, to, l int) (LaneBlock, bool) {
	out := m.outputs(state, from, to, l)
	if len(out) == 0 {
		return LaneBlock{}, false
	}
	sum := SumSHA(fmt.Append(nil, out))
	m.blocks[sum] = out
	b := LaneBlock{Lane: modelLane(l), SHA: sum, Bytes: uint64(len(out))}
	for n := len(out); n > 0; n -= m.chunk {
		b.Chunks = append(b.Chunks, uint32(min(n, m.chunk)))
	}
	return b, true
}
