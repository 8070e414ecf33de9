package operators

import "github.com/weirflow/weir/internal/base"

// Async is a Node whose records leave it later than they came, when something
// outside of the subtask has answered. It holds watermarks back: one goes on when
// everything that came before it has been emitted. The goroutines that bring answers
// call Env.Wake, and Turn follows. Barriers pass it: what it holds is state.
type Async interface {
	Watermarker
	// Turn emits what can be and goes on with what waits. It stops at the deadline
	// (monotonic nanoseconds) and returns true then.
	Turn(deadline int64) (again bool)
	// Passed returns the latest watermark before which everything has been emitted.
	Passed() base.Timestamp
	// Pending returns how many records the node holds.
	Pending() int
	// Full says that no more input should come for now. What comes all the same, up
	// to the credit of the inputs, the node takes.
	Full() bool
	// Busy says that something outside has yet to answer, or that Turn has not seen
	// the answer. It may be called from any goroutine.
	Busy() bool
}

// Confirmer is a Node that acts when an epoch is durable.
type Confirmer interface {
	Node
	Confirm(n base.Epoch)
}

// branch is the stage of a chain behind an Async node, whose event time is behind
// that of the stage before.
type branch struct {
	advance
	node   Async
	parent *branch // nil: the first stage
	idle   bool    // MarkIdle is to be sent when the node holds nothing
}

// Branch adds an Async node: build makes what the node hands on to, and then the
// node.
func Branch[N Async](s *Subtask, build func() N) N {
	b := &branch{advance: newAdvance()}
	outer, stage := s.branch, s.stage
	b.parent = outer
	s.branches = append(s.branches, b) // upstream first
	from := len(s.edges)
	s.branch, s.stage = b, &b.advance
	n := build()
	s.branch, s.stage = outer, stage
	b.node = n
	for i := from; i < len(s.edges); i++ {
		for len(s.owners) <= i {
			s.owners = append(s.owners, nil)
		}
		if s.owners[i] == nil {
			s.owners[i] = &b.advance
		}
	}
	s.Add(n)
	return n
}

// ownerOf returns the stage whose event time goes to an edge.
func (s *Subtask) ownerOf(edge int) *advance {
	if edge < len(s.owners) && s.owners[edge] != nil {
		return s.owners[edge]
	}
	return &s.adv
}

// slowest returns the watermark of the stage that is furthest behind.
func (s *Subtask) slowest() base.Timestamp {
	w := s.adv.sent
	for _, b := range s.branches {
		w = min(w, b.sent)
	}
	return w
}

// turnBranches lets the Async nodes take a turn, and brings the event time that they
// let pass through what is behind them.
func (s *Subtask) turnBranches(deadline int64) (more bool, err error) {
	for _, b := range s.branches {
		again, err := s.turnNode(b, deadline)
		if err != nil {
			return true, err
		}
		moving, err := s.pass(b, deadline)
		if err != nil {
			return true, err
		}
		more = more || again || moving
	}
	return more, nil
}

func (s *Subtask) turnNode(b *branch, deadline int64) (again bool, err error) {
	defer s.guard(&err)
	again = b.node.Turn(deadline)
	s.cur = nil
	return again, s.Err()
}

// pass takes the watermark that a node lets pass on through what is behind it, and the
// ends of the input and of its activity, once the node holds nothing.
func (s *Subtask) pass(b *branch, deadline int64) (more bool, err error) {
	b.take(b.node.Passed())
	if more, err = s.advanceUntil(&b.advance, deadline); more || err != nil {
		return more, err
	}
	if b.node.Pending() > 0 {
		return false, nil
	}
	ended, idle := s.adv.ended, false
	if b.parent != nil {
		ended, idle = b.parent.ended, b.parent.idle
	}
	if ended && !b.ended && b.sent == base.MaxTime {
		return false, s.endStage(&b.advance)
	}
	if b.idle && !idle {
		b.idle = false
		for i, e := range s.edges {
			if s.ownerOf(i) == &b.advance {
				e.markIdle()
			}
		}
	}
	return false, s.Err()
}

// Release sends a watermark on that an Async node lets pass, between two records.
func (s *Subtask) Release(n Async) {
	for _, b := range s.branches {
		if b.node == n {
			_, err := s.pass(b, noDeadline)
			s.Fail(err)
		}
	}
}

// HasAsync says that the chain has Async nodes.
func (s *Subtask) HasAsync() bool { return len(s.branches) > 0 }

// Full says that an Async node wants no more input for now.
func (s *Subtask) Full() bool {
	for _, b := range s.branches {
		if b.node.Full() {
			return true
		}
	}
	return false
}

// Busy says that an Async node waits for something outside of the subtask. It may
// be called from any goroutine once the chain is built.
func (s *Subtask) Busy() bool {
	for _, b := range s.branches {
		if b.node.Busy() {
			return true
		}
	}
	return false
}

// Register registers an operator of another package for the attribution of errors
// and panics, and returns its number for InHand.
func (s *Subtask) Register(uid string) int32 { return s.operator(uid) }

// InHand says that an operator works on a record; m may be nil.
func (s *Subtask) InHand(op int32, m *base.Meta) { s.at, s.cur = op, m }

// Restored returns the epoch that the subtask started from; 0 for none.
func (s *Subtask) Restored() base.Epoch { return s.restored }
