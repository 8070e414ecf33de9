package task

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirflow/weir/engine/exchange"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state"
)

// snapshot gathers what a task acknowledges for one try. It is touched only on
// the task's goroutine; the writers report through the mailbox.
type snapshot struct {
	try     protocol.Try
	ack     *protocol.Ack
	waiting int // parts under way: keyed state, sink blocks
	failed  error
}

// copyNanos bounds one turn of copying frozen state out.
const copyNanos = 100 * time.Microsecond

// snapshot takes the task's part of the barrier's epoch: no I/O happens here.
func (t *Task) snapshot(b protocol.Barrier) error {
	if t.unanswered(b) {
		t.final = &b
		return nil
	}
	acts := t.part.Barrier(b)
	if err := t.participate(acts, nil); err != nil {
		return err
	}
	if t.frozen { // the previous snapshot is still being copied out
		t.sub.Env.Backend.CopyAll()
		t.frozen = false
	}
	snap, err := t.sub.Snapshot(b)
	if err != nil {
		return err
	}
	s := &snapshot{try: b.Try, ack: &protocol.Ack{State: t.state(snap), Splits: splits(snap.Splits)}}
	t.open = s
	if t.sub.Env.Backend != nil {
		crash.At(crash.SnapBeforeSwap)
		t.sub.Env.Backend.Freeze(b.Try.Epoch)
		crash.At(crash.SnapAfterSwap)
		t.frozen = true
		t.writing = append(t.writing, s)
		s.waiting++
	}
	if len(snap.Lanes) > 0 {
		s.waiting++
		t.Uploads.Go(func() { t.uploadBlocks(s, snap.Lanes) })
	}
	st := t.sub.Env.Stats
	t.moved, t.seen = false, activity(st)
	if b.Trigger.Final != protocol.NotFinal {
		t.halted = true
	}
	t.maybeAck(s)
	return nil
}

// state returns the task's part of the manifest, without the keyed chain.
func (t *Task) state(snap operators.Snapshot) protocol.TaskState {
	st := protocol.TaskState{Task: t.ID, Gen: t.fence.Gen}
	if t.sub.Env.Backend != nil {
		st.Keyed, st.Range = true, t.sub.Env.Range
	}
	for name, b := range snap.Ops {
		st.Named = append(st.Named, protocol.NamedState{Name: name, Size: uint64(len(b)), Inline: b})
	}
	slices.SortFunc(st.Named, func(a, b protocol.NamedState) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return st
}

func splits(in []operators.SplitState) []protocol.SplitState {
	out := make([]protocol.SplitState, 0, len(in))
	for _, s := range in {
		p := protocol.SplitState{
			Source: s.Source, Split: s.Split, Identity: s.Identity, Offset: s.Offset, Finished: s.Done, Watermark: s.Watermark,
		}
		if s.Started {
			p.State = []byte{1}
		}
		out = append(out, p)
	}
	return out
}

// Splits is the inverse: what a manifest says of splits, for a restore.
func Splits(in []protocol.SplitState) []operators.SplitState {
	out := make([]operators.SplitState, 0, len(in))
	for _, s := range in {
		out = append(out, operators.SplitState{
			Source: s.Source, Split: s.Split, Identity: s.Identity, Offset: s.Offset,
			Started: len(s.State) > 0, Done: s.Finished, Watermark: s.Watermark,
		})
	}
	return out
}

// copyTurn goes on copying frozen state out.
func (t *Task) copyTurn() {
	if t.sub.Env.Backend.CopyTurn(copyNanos) {
		t.frozen = false
	}
}

// StateWritten is called by the state's writer when a snapshot is durable or has
// failed; from any goroutine.
func (t *Task) StateWritten(ss state.Snapshot, err error) {
	t.Mailbox.Put(exchange.Message{Kind: exchange.Call, Call: func() {
		// Reports come in the order of the freezes. The epoch would not do: an
		// attempt that was given up may be written when the next one at the same
		// epoch is under way, and its chain lacks what changed in between.
		s := t.writing[0]
		t.writing = t.writing[1:]
		if t.open != s {
			return
		}
		s.ack.State.Objects = ss.Chain
		t.arrived(s, err)
	}})
}

// uploadBlocks stores the sealed sink blocks of an epoch.
func (t *Task) uploadBlocks(s *snapshot, lanes []operators.LaneStage) {
	blocks := make([]protocol.LaneBlock, len(lanes))
	errs := make([]error, len(lanes))
	var wg sync.WaitGroup
	for i, l := range lanes {
		wg.Go(func() { blocks[i], errs[i] = t.uploadBlock(l) })
	}
	wg.Wait()
	crash.At(crash.SinkAfterBlockUpload)
	t.Mailbox.Put(exchange.Message{Kind: exchange.Call, Call: func() {
		if t.open != s {
			return
		}
		s.ack.Lanes = blocks
		t.arrived(s, firstError(errs))
	}})
}

func (t *Task) uploadBlock(l operators.LaneStage) (protocol.LaneBlock, error) {
	chunks, err := operators.ChunkCounts(l.Block)
	if err != nil {
		return protocol.LaneBlock{}, err
	}
	b := protocol.LaneBlock{
		Lane: protocol.LaneID{Sink: l.Sink, Lane: l.Lane}, SHA: protocol.SumSHA(l.Block), Bytes: uint64(len(l.Block)), Chunks: chunks,
	}
	// The upload outlives the task on purpose: an object that nobody names is
	// garbage, a half-stopped upload would be one too.
	if err := t.Blob.Put(context.Background(), protocol.ObjectKey(t.Job, b.SHA), l.Block); err != nil {
		return b, fmt.Errorf("sink %s, lane %d: store the block of the epoch: %w", l.Sink, l.Lane, err)
	}
	t.Staged(b.SHA, l.Block)
	return b, nil
}

// arrived notes that one part of a snapshot is stored, or has failed.
func (t *Task) arrived(s *snapshot, err error) {
	s.waiting--
	if err != nil && s.failed == nil {
		s.failed = err
	}
	t.maybeAck(s)
}

func (t *Task) maybeAck(s *snapshot) {
	if s.waiting > 0 {
		return
	}
	t.open = nil
	m := &protocol.Message{Epoch: s.try.Epoch, Attempt: s.try.Attempt}
	if s.failed != nil {
		m.Kind = protocol.KindDecline
		m.Failure = protocol.FailureOf(s.failed)
	} else {
		m.Kind, m.Ack = protocol.KindAck, s.ack
	}
	crash.At(crash.AckBeforeSend)
	t.report(m)
	crash.At(crash.AckAfterSend)
}

func firstError(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
