package operators

import (
	"math"

	"github.com/weirflow/weir/internal/base"
)

// advance drives the watermark through the nodes of a chain, in short turns. A
// watermark goes to the edges after the last node is done with it; while one is
// under way a later one waits, and replaces any that waits already.
type advance struct {
	running bool
	target  base.Timestamp // the watermark under way
	waiting base.Timestamp // the next one, or MinTime
	next    int            // index into nodes, counting down; -1: the edges
	sent    base.Timestamp
	ended   bool // End was sent
}

func newAdvance() advance {
	return advance{target: base.MinTime, waiting: base.MinTime, sent: base.MinTime}
}

// TurnNanos bounds one turn of work that can be interrupted.
const TurnNanos = 500_000

// noDeadline lets a turn run until it is done.
const noDeadline = math.MaxInt64

// Watermark tells the chain that no record with a time before w follows.
// Firing goes on in Turn.
func (s *Subtask) Watermark(w base.Timestamp) (err error) {
	if w <= s.adv.sent || w <= s.adv.target && s.adv.running {
		return s.Err()
	}
	if s.adv.running {
		s.adv.waiting = max(s.adv.waiting, w)
		return s.Err()
	}
	s.begin(w)
	_, err = s.Turn()
	return err
}

func (s *Subtask) begin(w base.Timestamp) {
	s.adv.running, s.adv.target, s.adv.next = true, w, len(s.nodes)-1
}

// Turn goes on with the watermark under way, for at most TurnNanos. more says
// that there is more to do.
func (s *Subtask) Turn() (more bool, err error) {
	return s.advanceUntil(s.Env.Clock.Mono() + TurnNanos)
}

// finishAdvance completes all watermarks under way; a barrier waits for it, so
// that no snapshot holds a half-fired window.
func (s *Subtask) finishAdvance() error {
	_, err := s.advanceUntil(noDeadline)
	return err
}

func (s *Subtask) advanceUntil(deadline int64) (more bool, err error) {
	defer s.guard(&err)
	for s.adv.running {
		for s.adv.next >= 0 {
			if n, ok := s.nodes[s.adv.next].(Watermarker); ok {
				if done := n.Advance(s.adv.target, deadline); !done || s.err != nil {
					return true, s.Err()
				}
			}
			s.adv.next--
		}
		s.finishOne()
	}
	return false, s.Err()
}

// finishOne sends the watermark that all nodes are done with and starts the one
// that waits.
func (s *Subtask) finishOne() {
	s.adv.running = false
	s.adv.sent = s.adv.target
	s.Env.Stats.Watermark.Store(s.adv.sent)
	for _, e := range s.edges {
		e.watermark(s.adv.sent)
	}
	if w := s.adv.waiting; w > s.adv.sent {
		s.adv.waiting = base.MinTime
		s.begin(w)
	}
}

// ProcessingTime fires the processing-time timers due at now and returns the
// time of the next one, or base.MaxTime.
func (s *Subtask) ProcessingTime(now base.Timestamp) (next base.Timestamp, err error) {
	defer s.guard(&err)
	next = base.MaxTime
	for i := len(s.nodes) - 1; i >= 0; i-- {
		if n, ok := s.nodes[i].(ProcessingTimer); ok {
			next = min(next, n.ProcessingTime(now))
		}
	}
	return next, s.Err()
}

// End is called when every input has ended: event time goes to the end, then
// processing-time timers fire at once, then the edges learn of it. Barriers
// still pass afterwards.
func (s *Subtask) End() error {
	if s.adv.ended {
		return s.Err()
	}
	if err := s.Watermark(base.MaxTime); err != nil {
		return err
	}
	if err := s.finishAdvance(); err != nil {
		return err
	}
	if _, err := s.ProcessingTime(base.MaxTime); err != nil {
		return err
	}
	s.adv.ended = true
	for _, e := range s.edges {
		e.end()
	}
	return s.Err()
}

// Ended reports that End has passed.
func (s *Subtask) Ended() bool { return s.adv.ended }

// MarkIdle tells the receivers that nothing is expected from this subtask for
// now.
func (s *Subtask) MarkIdle() error {
	if err := s.finishAdvance(); err != nil {
		return err
	}
	for _, e := range s.edges {
		e.markIdle()
	}
	return s.Err()
}
