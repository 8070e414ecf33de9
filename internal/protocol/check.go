package protocol

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weirflow/weir/internal/base"
)

// Check reports what makes the manifest unusable: lists out of order, hash
// ranges that do not partition the hash space, incomplete chains, blocks without
// messages. It is called before a manifest is written and after it is read.
func (m *Manifest) Check() error {
	if m.Epoch == 0 || m.Gen == 0 || m.Job == "" {
		return errors.New("a manifest needs a job, an epoch and a generation")
	}
	if (m.Epoch == 1) != m.Prev.IsZero() {
		return fmt.Errorf("epoch %d with previous record %s", m.Epoch, m.Prev.Short())
	}
	for i := range m.Tasks {
		t := &m.Tasks[i]
		if i > 0 && !m.Tasks[i-1].Task.Less(t.Task) {
			return fmt.Errorf("task %s is out of order", t.Task)
		}
		if err := t.CheckChain(m.Epoch); err != nil {
			return fmt.Errorf("task %s: %w", t.Task, err)
		}
		if err := checkNamed(t.Named); err != nil {
			return fmt.Errorf("task %s: %w", t.Task, err)
		}
	}
	if err := checkRanges(m.Tasks); err != nil {
		return err
	}
	for i := 1; i < len(m.Splits); i++ {
		if a, b := &m.Splits[i-1], &m.Splits[i]; compareSplit(a, b) >= 0 {
			return fmt.Errorf("split %s/%s is out of order", b.Source, b.Split)
		}
	}
	for i := range m.Lanes {
		if i > 0 && !m.Lanes[i-1].Block.Lane.Less(m.Lanes[i].Block.Lane) {
			return fmt.Errorf("lane %s is out of order", m.Lanes[i].Block.Lane)
		}
		if err := m.Lanes[i].check(m.Epoch); err != nil {
			return fmt.Errorf("lane %s: %w", m.Lanes[i].Block.Lane, err)
		}
	}
	return nil
}

func compareSplit(a, b *SplitState) int {
	if c := strings.Compare(a.Source, b.Source); c != 0 {
		return c
	}
	return strings.Compare(a.Split, b.Split)
}

func checkNamed(named []NamedState) error {
	for i := range named {
		if i > 0 && named[i-1].Name >= named[i].Name {
			return fmt.Errorf("snapshot %q is out of order", named[i].Name)
		}
		if len(named[i].Inline) > 0 && uint64(len(named[i].Inline)) != named[i].Size {
			return fmt.Errorf("snapshot %q has %d bytes, want %d", named[i].Name, len(named[i].Inline), named[i].Size)
		}
	}
	return nil
}

// checkRanges verifies that the keyed tasks of each operator own the whole hash
// space once. Tasks are ordered by operator, then index, and ranges rise with
// the index.
func checkRanges(tasks []TaskState) error {
	var op string
	var next uint64 // lowest hash not yet owned; 0 after the last: complete
	open := false
	for i := range tasks {
		t := &tasks[i]
		if !t.Keyed {
			continue
		}
		if !open {
			op, next, open = t.Task.Operator, 0, true
		}
		if t.Task.Operator != op || t.Range.Lo != next || t.Range.Hi < t.Range.Lo {
			return fmt.Errorf("task %s owns %s where %016x of operator %s was next", t.Task, t.Range, next, op)
		}
		next = t.Range.Hi + 1
		open = next != 0
		last := i+1 == len(tasks) || tasks[i+1].Task.Operator != op
		if !open && !last {
			return fmt.Errorf("operator %s has tasks after %s, whose range is the last", op, t.Task)
		}
	}
	if open {
		return fmt.Errorf("no task of operator %s owns %016x and above", op, next)
	}
	return nil
}

func (l *LaneState) check(n base.Epoch) error {
	if slices.Contains(l.Block.Chunks, 0) {
		return errors.New("a chunk has no messages")
	}
	if (l.Pred.Epoch == 0) != l.Pred.IsZero() || l.Pred.IsZero() != (l.Before == 0) {
		return fmt.Errorf("predecessor %d/%d with %d messages before", l.Pred.Epoch, l.Pred.Chunk, l.Before)
	}
	if l.Pred.Epoch >= n || l.Committed > l.Pred.Epoch {
		return fmt.Errorf("predecessor of epoch %d in epoch %d, committed up to %d", l.Pred.Epoch, n, l.Committed)
	}
	return nil
}

// CheckChain reports what is missing in the task's chain of objects as of epoch
// n. For every hash that the task owns, the objects that cover it must be one
// base (or a first delta that starts from an empty table) followed by deltas,
// each starting at the barrier where the one before ended. A chain may be empty,
// and after a change of parallelism different parts of the range may have
// different chains.
func (t *TaskState) CheckChain(n base.Epoch) error {
	if !t.Keyed && t.Range != (base.HashRange{}) {
		return fmt.Errorf("it owns %s but is not keyed", t.Range)
	}
	cuts := []uint64{t.Range.Lo}
	for i := range t.Objects {
		o := &t.Objects[i]
		if err := o.check(n); err != nil {
			return fmt.Errorf("object %d: %w", i, err)
		}
		if o.Range.Lo > t.Range.Lo && t.Range.Contains(o.Range.Lo) {
			cuts = append(cuts, o.Range.Lo)
		}
		if o.Range.Hi < t.Range.Hi && t.Range.Contains(o.Range.Hi+1) {
			cuts = append(cuts, o.Range.Hi+1)
		}
	}
	slices.Sort(cuts)
	for _, h := range slices.Compact(cuts) {
		if err := t.checkAt(h); err != nil {
			return err
		}
	}
	return nil
}

// checkAt verifies the chain of one hash.
func (t *TaskState) checkAt(h uint64) error {
	var last *ObjectRef
	for i := range t.Objects {
		o := &t.Objects[i]
		if !o.Range.Contains(h) {
			continue
		}
		switch {
		case last == nil && o.Since != 0:
			return fmt.Errorf("hash %016x: the chain starts at barrier %d; its base is missing", h, o.Since)
		case last == nil:
		case o.Kind == KindBase:
			if last.Kind != KindBase || last.Epoch != o.Epoch {
				return fmt.Errorf("hash %016x: a base of epoch %d follows other objects", h, o.Epoch)
			}
		case o.Since != last.Epoch:
			return fmt.Errorf("hash %016x: a delta is missing between barriers %d and %d", h, last.Epoch, o.Since)
		}
		last = o
	}
	return nil
}

func (o *ObjectRef) check(n base.Epoch) error {
	switch {
	case o.Kind != KindBase && o.Kind != KindDelta:
		return fmt.Errorf("unknown kind %d", o.Kind)
	case o.SHA.IsZero():
		return errors.New("it has no sum")
	case o.Range.Hi < o.Range.Lo:
		return fmt.Errorf("empty range %s", o.Range)
	case o.Epoch == 0 || o.Epoch > n:
		return fmt.Errorf("barrier %d in epoch %d", o.Epoch, n)
	// A delta may begin at the barrier of its own epoch: that of an attempt which
	// was given up after its objects were written.
	case o.Kind == KindBase && o.Since != 0, o.Since > o.Epoch:
		return fmt.Errorf("from barrier %d to %d", o.Since, o.Epoch)
	case len(o.Inline) > 0 && uint64(len(o.Inline)) != o.Size:
		return fmt.Errorf("%d bytes inline, want %d", len(o.Inline), o.Size)
	}
	return nil
}

// CheckNext reports why m cannot follow prev, the manifest of the epoch before:
// a source went back, a split or lane was lost, a lane's chain has a gap. prevSHA
// is the sum of the encoded prev.
func (m *Manifest) CheckNext(prev *Manifest, prevSHA SHA) error {
	if m.Epoch != prev.Epoch+1 || m.Gen < prev.Gen {
		return fmt.Errorf("epoch %d of generation %d follows epoch %d of generation %d", m.Epoch, m.Gen, prev.Epoch, prev.Gen)
	}
	for i := range prev.Splits {
		p := &prev.Splits[i]
		j, ok := slices.BinarySearchFunc(m.Splits, p, func(s SplitState, p *SplitState) int { return compareSplit(&s, p) })
		switch {
		case !ok && !p.Finished:
			return fmt.Errorf("split %s/%s is gone", p.Source, p.Split)
		case ok && m.Splits[j].Identity == p.Identity && m.Splits[j].Offset < p.Offset:
			return fmt.Errorf("split %s/%s went back from %d to %d", p.Source, p.Split, p.Offset, m.Splits[j].Offset)
		}
	}
	for i := range prev.Lanes {
		p := &prev.Lanes[i]
		j, ok := slices.BinarySearchFunc(m.Lanes, p.Block.Lane, func(l LaneState, id LaneID) int {
			switch {
			case l.Block.Lane.Less(id):
				return -1
			case id.Less(l.Block.Lane):
				return 1
			}
			return 0
		})
		if !ok {
			continue // a sink that was removed from the job; recovery committed its lanes
		}
		end, total := p.End(prev.Epoch, prevSHA)
		if m.Lanes[j].Pred != end || m.Lanes[j].Before != total {
			return fmt.Errorf("lane %s continues after %v, but stands at %v", p.Block.Lane, m.Lanes[j].Pred, end)
		}
	}
	return nil
}
