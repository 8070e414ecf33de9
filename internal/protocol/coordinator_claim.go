package protocol

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weirflow/weir/internal/base"
)

// writeManifest puts the acks together (C8). They are all of one try, so the
// manifest is a consistent cut; what is checked here are invariants.
func (c *Coordinator) writeManifest(now int64) []Action {
	m, err := c.buildManifest()
	if err == nil {
		err = m.Check()
	}
	if err == nil && c.prev != nil {
		err = m.CheckNext(c.prev, c.tip.Manifest)
	}
	if err != nil {
		return c.broken(err)
	}
	body, err := m.Encode()
	if err != nil {
		return c.abort(now, c.try, "manifest: "+err.Error())
	}
	c.phase, c.manifest, c.manifestSHA = phaseWriting, m, SumSHA(body)
	return []Action{WriteManifest{c.try, ManifestKey(c.cfg.Job, c.try, c.cfg.Gen), body, c.manifestSHA, m}}
}

func (c *Coordinator) buildManifest() (*Manifest, error) {
	m := &Manifest{
		Job: c.cfg.Job, Epoch: c.try.Epoch, Attempt: c.try.Attempt, Term: c.cfg.Term, Gen: c.cfg.Gen,
		PlanHash: c.cfg.PlanHash, Prev: c.tipSHA, Final: c.final,
		Control: slices.Clone(c.control[:c.controls]), Schemas: c.cfg.Schemas,
	}
	for i := range c.lanes {
		l := &c.lanes[i]
		m.Lanes = append(m.Lanes, LaneState{
			Block: LaneBlock{Lane: l.id}, Pred: l.tip, Before: l.total, Committed: l.committed,
		})
	}
	for i, a := range c.acks {
		id := c.cfg.Tasks[i].Task
		if a.State.Task != id || a.State.Gen != c.cfg.Tasks[i].Gen {
			return nil, fmt.Errorf("the ack of task %s describes task %s of generation %d", id, a.State.Task, a.State.Gen)
		}
		m.Tasks = append(m.Tasks, a.State)
		m.Splits = append(m.Splits, a.Splits...)
		for _, b := range a.Lanes {
			j, ok := slices.BinarySearchFunc(m.Lanes, b.Lane, func(l LaneState, id LaneID) int {
				if l.Block.Lane == id {
					return 0
				}
				return order(l.Block.Lane.Less(id))
			})
			if !ok || !m.Lanes[j].Block.Empty() || b.Empty() {
				return nil, fmt.Errorf("task %s acknowledged an unexpected block of lane %s", id, b.Lane)
			}
			m.Lanes[j].Block = b
		}
	}
	slices.SortFunc(m.Splits, func(a, b SplitState) int { return compareSplit(&a, &b) })
	return m, nil
}

func (c *Coordinator) onManifest(now int64, ev ManifestWritten) []Action {
	if c.phase != phaseWriting || ev.Try != c.try {
		return nil
	}
	if ev.Err != nil {
		return c.abort(now, c.try, "the manifest could not be written: "+ev.Err.Error())
	}
	c.record = EpochRecord{
		Job: c.cfg.Job, Epoch: c.try.Epoch, Gen: c.cfg.Gen, Attempt: c.try.Attempt,
		Manifest: c.manifestSHA, Prev: c.tipSHA,
	}
	body, err := c.record.Encode()
	if err != nil {
		return c.abort(now, c.try, err.Error())
	}
	c.phase, c.recordBody = phaseClaiming, body
	return c.again()
}

// again issues the pending claim or fence read. Repeating a claim is safe: the
// bytes are the same, so it finds its own record if an earlier try made it.
func (c *Coordinator) again() []Action {
	c.retry = false
	if c.phase == phaseVerifying {
		return []Action{ReadFence{c.try}}
	}
	return []Action{ClaimEpoch{c.try, EpochKey(c.cfg.Job, c.try.Epoch), c.recordBody, c.cfg.Gen + 1}}
}

// retryLater repeats the pending store access after the delay. Once a claim was
// sent an attempt is never given up: the record may appear at any time.
func (c *Coordinator) retryLater(now int64, what string, err error) []Action {
	c.failures++
	var acts []Action
	if c.failures%c.cfg.AlarmAfter == 0 {
		acts = append(acts, Alarm{c.failures, fmt.Sprintf("%s: %v", what, err)})
	}
	if c.cfg.RetryDelay == 0 {
		return append(acts, c.again()...)
	}
	c.retry, c.retryAt = true, base.AddTime(now, c.cfg.RetryDelay)
	return acts
}

func (c *Coordinator) onClaim(now int64, ev ClaimResult) []Action {
	if c.phase != phaseClaiming || ev.Try != c.try || c.retry {
		return nil
	}
	switch ev.Outcome {
	case ClaimCreated, ClaimIdentical:
		c.phase = phaseVerifying
		return c.again()
	case ClaimOther:
		return c.superseded("another attempt at epoch %d is durable", c.try.Epoch)
	case ClaimStale:
		return c.superseded("generation %d or a later one was deployed", c.cfg.Gen+1)
	}
	return c.retryLater(now, "the epoch record could not be written", ev.Err)
}

func (c *Coordinator) onFence(now int64, ev FenceRead) []Action {
	if c.phase != phaseVerifying || ev.Try != c.try || c.retry {
		return nil
	}
	switch {
	case ev.Err != nil:
		return c.retryLater(now, "the fence could not be read", ev.Err)
	case ev.Floor > c.try.Epoch:
		return c.superseded("epoch %d is below the published floor %d", c.try.Epoch, ev.Floor)
	case ev.Gen > c.cfg.Gen:
		return c.superseded("generation %d was deployed", ev.Gen)
	case ev.Term > c.cfg.Term:
		c.stopped = true
		return []Action{Resign{ev.Term}}
	}
	return c.durable()
}

// durable takes the news that the open attempt is the checkpoint (C10).
func (c *Coordinator) durable() []Action {
	n := c.try.Epoch
	body := &Complete{Manifest: c.manifestSHA, Final: c.final}
	for i := range c.lanes {
		l, s := &c.lanes[i], &c.manifest.Lanes[i]
		l.tip, l.total = s.End(n, c.manifestSHA)
		if !s.Block.Empty() {
			l.pending = append(l.pending, n)
			body.Lanes = append(body.Lanes, *s)
		}
	}
	c.tip, c.tipSHA, c.prev = c.record, SumSHA(c.recordBody), c.manifest
	c.control = slices.Delete(c.control, 0, c.controls)
	c.finalDurable = c.final != NotFinal
	c.phase, c.manifest, c.recordBody, c.failures = phaseIdle, nil, nil, 0
	clear(c.acks)
	return c.finishRun(c.sendComplete(nil, c.record.Try(), body))
}

func (c *Coordinator) onLaneCommitted(ev LaneCommitted) []Action {
	i := slices.IndexFunc(c.lanes, func(l laneTrack) bool { return l.id == ev.Lane })
	if i < 0 || ev.Epoch > c.tip.Epoch {
		return nil
	}
	l := &c.lanes[i]
	for len(l.pending) > 0 && l.pending[0] <= ev.Epoch {
		l.committed = l.pending[0]
		l.pending = slices.Delete(l.pending, 0, 1)
	}
	return c.finishRun(nil)
}

// finishRun marks epochs that every lane has committed, and ends the run when
// the final epoch is one of them.
func (c *Coordinator) finishRun(acts []Action) []Action {
	for n := c.committedThrough(); c.doneThrough < n; {
		c.doneThrough++
		acts = append(acts, MarkDone{c.doneThrough, DoneKey(c.cfg.Job, c.doneThrough)})
	}
	if c.finalDurable && !c.endSent && c.doneThrough == c.tip.Epoch {
		c.endSent = true
		acts = append(acts, FinalDone{c.tip.Epoch})
	}
	return acts
}

// Waiting names the lanes that hold up the oldest uncommitted epoch, for people;
// "" when none does.
func (c *Coordinator) Waiting() string {
	oldest := c.committedThrough() + 1
	var names []string
	for i := range c.lanes {
		if p := c.lanes[i].pending; len(p) > 0 && p[0] == oldest {
			names = append(names, c.lanes[i].id.String())
		}
	}
	return strings.Join(names, ", ")
}
