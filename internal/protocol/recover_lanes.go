package protocol

import "github.com/weirflow/weir/internal/base"

// laneWalk follows one lane's chain of predecessors from the newest epoch down
// to the marker that stands in the sink.
type laneWalk struct {
	id     LaneID
	read   bool
	tries  int
	marker MarkerID
	seq    uint64
	// cursor is the marker to be explained next: once it equals the sink's,
	// everything above it is what is left to commit. Its epoch's manifest is
	// needed unless the walk is over.
	cursor MarkerID
	over   bool
	replay []Claimed // descending
}

func (r *Recovery) onMarker(ev LaneMarkerRead) []RecoveryAction {
	for i := range r.lanes {
		l := &r.lanes[i]
		if l.id != ev.Lane || l.read {
			continue
		}
		if ev.Err != nil {
			l.tries++
			return []RecoveryAction{ReadLaneMarker{l.id, l.tries}}
		}
		if ev.Found {
			if ev.Marker.Job != r.cfg.Job || ev.Marker.Lane != l.id {
				return r.laneBroken(l.id, "the marker belongs to lane %s of job %s", ev.Marker.Lane, ev.Marker.Job)
			}
			l.marker, l.seq = ev.Marker.ID(), ev.Seq
		}
		l.read = true
		r.markers--
	}
	if r.markers > 0 {
		return nil
	}
	r.marked = true
	r.phase, r.at = recoverProbe, max(r.tip+1, r.cfg.Floor)
	return r.ask()
}

// plan starts the walks of all lanes (R5).
func (r *Recovery) plan() []RecoveryAction {
	for i := range r.lanes {
		l := &r.lanes[i]
		if l.marker.Epoch > r.tip {
			return r.laneBroken(l.id, "the sink is ahead of the checkpoint store: the marker is %s, the newest epoch is %d", l.marker, r.tip)
		}
	}
	for i := range r.lanes {
		if acts := r.startWalk(&r.lanes[i]); acts != nil {
			return acts
		}
	}
	r.at = r.tip
	return r.walk()
}

// startWalk sets the lane's cursor from the newest manifest.
func (r *Recovery) startWalk(l *laneWalk) []RecoveryAction {
	l.cursor, l.over, l.replay = MarkerID{}, false, nil
	if r.manifest != nil {
		for i := range r.manifest.Lanes {
			s := &r.manifest.Lanes[i]
			if s.Block.Lane != l.id {
				continue
			}
			if l.marker.Epoch < s.Committed {
				return r.laneBroken(l.id, "the marker is %s, but epoch %d was committed: the sink lost it", l.marker, s.Committed)
			}
			l.cursor, _ = s.End(r.tip, r.known[r.tip].record.Manifest)
		}
	}
	return r.settle(l)
}

// settle ends the walk when the cursor has reached the sink's marker, and judges
// markers that are not on the lane's chain.
func (r *Recovery) settle(l *laneWalk) []RecoveryAction {
	switch {
	case l.cursor == l.marker:
		l.over = true
	case l.cursor.Epoch < l.marker.Epoch:
		return r.laneBroken(l.id, "marker %s is foreign: the lane has no records in that epoch", l.marker)
	case l.cursor.Epoch == l.marker.Epoch && l.cursor.Manifest != l.marker.Manifest:
		return r.laneBroken(l.id, "marker %s is foreign: epoch %d has manifest %s", l.marker, l.cursor.Epoch, l.cursor.Manifest.Short())
	case l.cursor.Epoch == l.marker.Epoch && l.cursor.Chunk < l.marker.Chunk:
		return r.laneBroken(l.id, "marker %s is foreign: epoch %d has %d chunks", l.marker, l.cursor.Epoch, l.cursor.Chunk)
	}
	return nil
}

// walk handles the manifest of epoch at for the lanes that need it, and goes on
// downward to the next epoch that one needs. Records are read one by one, so
// that the chain down to there is verified.
func (r *Recovery) walk() []RecoveryAction {
	var need base.Epoch
	var waits *laneWalk
	for i := range r.lanes {
		if l := &r.lanes[i]; !l.over && l.cursor.Epoch > need {
			need, waits = l.cursor.Epoch, l
		}
	}
	if waits == nil {
		return r.done()
	}
	if need < r.cfg.Floor {
		return r.laneBroken(waits.id, "the marker is %s, but every epoch below the floor %d was committed: the sink lost it", waits.marker, r.cfg.Floor)
	}
	for r.at > need {
		r.at--
		if _, ok := r.known[r.at]; !ok {
			r.phase = recoverRecord
			return r.ask()
		}
	}
	if r.at == r.tip {
		return r.descend(r.manifest)
	}
	r.phase = recoverManifest
	return r.ask()
}

// descend applies the manifest of epoch at to the lanes whose cursor is there.
func (r *Recovery) descend(m *Manifest) []RecoveryAction {
	sum := r.known[r.at].record.Manifest
	for i := range r.lanes {
		l := &r.lanes[i]
		if l.over || l.cursor.Epoch != r.at {
			continue
		}
		found := false
		for j := range m.Lanes {
			s := &m.Lanes[j]
			if end, _ := s.End(r.at, sum); s.Block.Lane == l.id && end == l.cursor {
				found = true
				l.replay = append(l.replay, Claimed{r.at, sum, *s})
				l.cursor = s.Pred
			}
		}
		if !found {
			return r.storeBroken("the manifest is not the one that later ones continue", nil)
		}
		if l.marker.Epoch == r.at { // some chunks of this block are committed
			l.over = true
			continue
		}
		if acts := r.settle(l); acts != nil {
			return acts
		}
	}
	return r.walk()
}

// done puts the plan together.
func (r *Recovery) done() []RecoveryAction {
	r.phase = recoverOver
	p := RecoveryPlan{}
	if r.manifest != nil {
		p.Start = Start{Record: r.known[r.tip].record, RecordSHA: r.known[r.tip].sum, Manifest: r.manifest}
	}
	low := r.tip + 1
	for i := range r.lanes {
		l := &r.lanes[i]
		p.Lanes = append(p.Lanes, RecoveredLane{
			Lane: l.id, Replay: len(l.replay),
			Start: LaneStart{Restored: r.tip, Known: true, Marker: l.marker, Seq: l.seq},
		})
		if n := len(l.replay); n > 0 {
			low = min(low, l.replay[n-1].Epoch)
		}
	}
	for n := low; n <= r.tip; n++ {
		u := Uncommitted{Try: r.known[n].record.Try(), Complete: Complete{Manifest: r.known[n].record.Manifest}}
		for i := range r.lanes {
			for _, b := range r.lanes[i].replay {
				if b.Epoch == n {
					u.Complete.Lanes = append(u.Complete.Lanes, b.State)
				}
			}
		}
		if len(u.Complete.Lanes) > 0 {
			p.Start.Uncommitted = append(p.Start.Uncommitted, u)
		}
	}
	return []RecoveryAction{RecoveryDone{p}}
}
