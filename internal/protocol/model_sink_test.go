package protocol

import "slices"

// laneStep feeds a lane core and carries its actions out. Reads are answered at
// once: what was read can be old by the time the batch that follows is applied.
func (m *model) laneStep(w world, p *pipeM, l int, ev LaneEvent) {
	if m.mut == mutBlindRetry || m.mut == mutBlindSkip {
		if _, ok := ev.(PublishUnknown); ok {
			ev = m.blind(w, p, l)
		}
	}
	p.ops[l] = nil
	for _, a := range p.lanes[l].Step(ev) {
		switch a := a.(type) {
		case Publish:
			if m.mut == mutFreshExpect {
				a.Expect = m.sinks.vals[w.sink[l]].current()
			}
			a.Tries = 0
			p.ops[l] = &a
		case ReadMarker:
			m.laneStep(w, p, l, m.readMarker(w, p, l))
		case ReadRecord:
			r := RecordRead{}
			if s := m.stores.vals[w.store]; int(a.Epoch) <= len(s.epochs) {
				r = RecordRead{Found: true, Manifest: m.epochRecord(s, a.Epoch).Manifest}
			}
			m.laneStep(w, p, l, r)
		case LaneSuperseded:
			p.dead = true
		case LaneBroken:
			p.dead = true
			m.alarm(w, a.Err)
		}
	}
}

func (m *model) readMarker(w world, p *pipeM, l int) MarkerRead {
	s := m.sinks.vals[w.sink[l]]
	if !s.found && s.lost && m.mut == mutMissingIsPred && p.lanes[l].state == laneReading {
		pred := p.lanes[l].pred()
		p.lanes[l].known = false
		return MarkerRead{Found: true, Marker: Marker{
			Job: modelJob, Lane: modelLane(l), Epoch: pred.Epoch, Chunk: pred.Chunk, Manifest: pred.Manifest,
		}}
	}
	return MarkerRead{Found: s.found, Marker: s.marker, Seq: s.seq}
}

// blind is how the mutants answer an unknown outcome without reading the marker.
func (m *model) blind(w world, p *pipeM, l int) LaneEvent {
	lane, s := p.lanes[l], m.sinks.vals[w.sink[l]]
	if m.mut == mutBlindSkip {
		return PublishOK{s.seq}
	}
	lane.state = laneReading
	pred := lane.pred()
	lane.known = false
	return MarkerRead{Found: !pred.IsZero(), Seq: s.seq, Marker: Marker{
		Job: modelJob, Lane: modelLane(l), Epoch: pred.Epoch, Chunk: pred.Chunk, Manifest: pred.Manifest,
	}}
}

// publishMoves lists the outcomes of an open batch.
func (m *model) publishMoves(w world, i, l int) {
	p := m.pipes.vals[w.pipes[i]]
	op := p.ops[l]
	after, applied := m.apply(w, l, op)
	if m.bad != nil {
		m.move(after, "gen %d: batch %s is stored", p.gen, op.Marker.ID())
		return
	}
	if !applied {
		q := p.clone()
		m.laneStep(w, q, l, PublishConflict{})
		m.move(m.setPipe(w, i, q), "gen %d: batch %s is refused", p.gen, op.Marker.ID())
		return
	}
	q := p.clone()
	m.laneStep(after, q, l, PublishOK{m.sinks.vals[after.sink[l]].seq})
	m.move(m.setPipe(after, i, q), "gen %d: batch %s is stored", p.gen, op.Marker.ID())
	q = p.clone()
	m.laneStep(after, q, l, PublishUnknown{})
	m.move(m.setPipe(after, i, q), "gen %d: batch %s is stored, outcome unknown", p.gen, op.Marker.ID())
	if m.floating && w.floats[l] == 0 {
		late := w
		late.floats[l] = m.putFloat(op)
		q = p.clone()
		m.laneStep(late, q, l, PublishUnknown{})
		m.move(m.setPipe(late, i, q), "gen %d: batch %s is delayed, outcome unknown", p.gen, op.Marker.ID())
	}
}

// floatMoves delivers delayed batches.
func (m *model) floatMoves(w world) {
	for l := range m.lanes {
		if w.floats[l] == 0 {
			continue
		}
		op := m.batches.vals[w.floats[l]]
		after, _ := m.apply(w, l, op)
		after.floats[l] = 0
		m.move(after, "delayed batch %s arrives", op.Marker.ID())
	}
}

// apply lets the sink take a batch: all of it if the marker's sequence is the
// expected one, else nothing.
func (m *model) apply(w world, l int, op *Publish) (world, bool) {
	s := m.sinks.vals[w.sink[l]]
	if op.Expect != s.current() && m.mut != mutNoCAS {
		return w, false
	}
	d := *s
	d.log = append(slices.Clone(s.log), m.blocks[op.Block.SHA][op.First:op.First+uint64(op.Count)]...)
	d.writes++
	d.found, d.marker, d.seq = true, op.Marker, d.writes
	d.marker.Gen = 0 // not part of the decision
	w.sink[l] = m.putSink(&d)
	m.checkLog(w, l)
	return w, true
}

// loseMoves lets the sink lose a marker, where the checkpoints prove that there
// was one, and no batch is under way that expects none: the protocol promises to
// notice that loss, and relies on the broker for the rest.
func (m *model) loseMoves(w world) {
	st := m.stores.vals[w.store]
	if !m.lose || len(st.epochs) == 0 {
		return
	}
	man := m.manifests[m.epochRecord(st, epochOf(len(st.epochs))).Manifest]
	for l := range m.lanes {
		s := m.sinks.vals[w.sink[l]]
		if !s.found || s.lost || m.trueCommitted(man, l) == 0 || m.expectsNone(w, l) {
			continue
		}
		d := *s
		d.found, d.lost, d.marker, d.seq = false, true, Marker{}, 0
		v := w
		v.sink[l] = m.putSink(&d)
		m.move(v, "the sink loses the marker of lane %d", l)
	}
}

// trueCommitted is the lane's Committed as the correct protocol writes it.
func (m *model) trueCommitted(man *Manifest, l int) uint64 {
	if m.mut == mutMissingIsPred {
		return uint64(man.Lanes[l].Pred.Epoch)
	}
	return uint64(man.Lanes[l].Committed)
}

// expectsNone reports whether some process may still believe that the lane never
// had a marker.
func (m *model) expectsNone(w world, l int) bool {
	if w.floats[l] != 0 {
		return true
	}
	for i := range modelGens {
		if w.pipes[i] == 0 {
			continue
		}
		if p := m.pipes.vals[w.pipes[i]]; !p.dead {
			if tip, known := p.lanes[l].Committed(); !known || tip.IsZero() {
				return true
			}
		}
	}
	return false
}
