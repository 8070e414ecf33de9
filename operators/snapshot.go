package operators

import (
	"fmt"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
)

// SplitState says how far a source split was read and how far its event time
// had come.
type SplitState struct {
	// Source is the source operator's UID, Split the split's ID.
	Source, Split, Identity string
	Offset                  uint64
	Started, Done           bool
	// Watermark of the split.
	Watermark base.Timestamp
}

// LaneStage is the sealed block of one lane of a sink, staged by one subtask.
type LaneStage struct {
	Sink  string
	Lane  int
	Block []byte
	// Count is the number of messages in the block.
	Count int
}

// Snapshot is what a subtask contributes to an epoch besides its keyed state.
type Snapshot struct {
	// Ops holds the operators' own state by UID.
	Ops    map[string][]byte
	Splits []SplitState
	Lanes  []LaneStage
}

// Restore is what a subtask starts from. The zero value is a fresh start.
type Restore struct {
	Epoch base.Epoch
	// Ops holds the snapshots of all subtasks of the previous deployment, by
	// operator UID.
	Ops map[string][][]byte
	// Splits holds the state of every split of every source.
	Splits []SplitState
}

// Find returns the state of a split of a source.
func (r *Restore) Find(source, split string) (SplitState, bool) {
	for _, s := range r.Splits {
		if s.Source == source && s.Split == split {
			return s, true
		}
	}
	return SplitState{}, false
}

// Snapshot takes the subtask's part of the barrier's epoch and sends the barrier on. It does
// no I/O, except that at-least-once sinks flush. Keyed state is frozen by the
// caller, right after.
func (s *Subtask) Snapshot(bar protocol.Barrier) (snap Snapshot, err error) {
	defer s.guard(&err)
	if err := s.finishAdvance(); err != nil {
		return snap, err
	}
	snap.Ops = map[string][]byte{}
	for i := len(s.nodes) - 1; i >= 0; i-- {
		node := s.nodes[i]
		if b, ok := node.(Barrierer); ok {
			if err := b.Barrier(bar.Try.Epoch); err != nil {
				return snap, fmt.Errorf("operator %s: barrier of epoch %d: %w", node.UID(), bar.Try.Epoch, err)
			}
		}
		if sn, ok := node.(Snapshotter); ok {
			if b := sn.Snapshot(); b != nil {
				snap.Ops[node.UID()] = b
			}
		}
		if st, ok := node.(stager); ok {
			snap.Lanes = append(snap.Lanes, st.seal(bar.Try)...)
		}
	}
	if s.src != nil {
		snap.Splits = s.src.states()
	}
	for _, e := range s.edges {
		e.barrier(bar)
	}
	return snap, s.Err()
}

// stager is a sink that stages messages by lane until the barrier.
type stager interface {
	Node
	// seal closes the blocks of the epoch that ends and keeps them until the try
	// is confirmed or given up.
	seal(t protocol.Try) []LaneStage
	// giveUp puts the messages sealed for a try in front of the open blocks.
	giveUp(t protocol.Try) error
	// confirm forgets what was sealed up to a try.
	confirm(t protocol.Try)
}

// GiveUp takes back a snapshot whose attempt was aborted: what was staged for it
// belongs to the next one.
func (s *Subtask) GiveUp(t protocol.Try) error {
	for _, n := range s.nodes {
		if st, ok := n.(stager); ok {
			if err := st.giveUp(t); err != nil {
				return fmt.Errorf("operator %s: take back epoch %v: %w", n.UID(), t, err)
			}
		}
	}
	return nil
}

// Confirm says that a try is durable.
func (s *Subtask) Confirm(t protocol.Try) {
	for _, n := range s.nodes {
		if st, ok := n.(stager); ok {
			st.confirm(t)
		}
		if c, ok := n.(Confirmer); ok {
			c.Confirm(t.Epoch)
		}
	}
}
