package operators

import (
	"math"

	"github.com/weirflow/weir/internal/base"
)

// advance drives the watermark through the nodes of one stage of a chain, in short
// turns. A watermark goes to the stage's edges after the last node is done with it;
// while one is under way a later one waits, and replaces any that waits already.
//
// A chain is one stage, and has one more behind each Async node; see Branch.
type advance struct {
	nodes   []Node // downstream first
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
	if !s.adv.take(w) {
		return s.Err()
	}
	for _, b := range s.branches {
		b.idle = false
	}
	_, err = s.Turn()
	return err
}

// take begins with a watermark, or lets it wait, and reports whether it began.
func (a *advance) take(w base.Timestamp) bool {
	if w <= a.sent || w <= a.target && a.running {
		return false
	}
	if a.running {
		a.waiting = max(a.waiting, w)
		return false
	}
	a.begin(w)
	return true
}

func (a *advance) begin(w base.Timestamp) {
	a.running, a.target, a.next = true, w, len(a.nodes)-1
}

// Turn goes on with the watermark under way, and with what Async nodes have to do,
// for at most TurnNanos. more says that there is more to do.
func (s *Subtask) Turn() (more bool, err error) {
	deadline := s.Env.Clock.Mono() + TurnNanos
	more, err = s.advanceUntil(&s.adv, deadline)
	if len(s.branches) == 0 || err != nil {
		return more, err
	}
	again, err := s.turnBranches(deadline)
	return more || again, err
}

// finishAdvance completes all watermarks under way; a barrier waits for it, so
// that no snapshot holds a half-fired window. What an Async node holds back stays
// there.
func (s *Subtask) finishAdvance() error {
	err := s.finish(&s.adv)
	for _, b := range s.branches {
		if err == nil {
			err = s.finish(&b.advance)
		}
	}
	return err
}

func (s *Subtask) finish(a *advance) error {
	_, err := s.advanceUntil(a, noDeadline)
	return err
}

func (s *Subtask) advanceUntil(a *advance, deadline int64) (more bool, err error) {
	if !a.running {
		return false, s.Err()
	}
	defer s.guard(&err)
	for a.running {
		for a.next >= 0 {
			if n, ok := a.nodes[a.next].(Watermarker); ok {
				if done := n.Advance(a.target, deadline); !done || s.err != nil {
					return true, s.Err()
				}
			}
			a.next--
		}
		s.finishOne(a)
	}
	return false, s.Err()
}

// finishOne sends the watermark that all nodes are done with and starts the one
// that waits.
func (s *Subtask) finishOne(a *advance) {
	a.running = false
	a.sent = a.target
	s.Env.Stats.Watermark.Store(s.slowest())
	for i, e := range s.edges {
		if s.ownerOf(i) == a {
			e.watermark(a.sent)
		}
	}
	if w := a.waiting; w > a.sent {
		a.waiting = base.MinTime
		a.begin(w)
	}
}

// ProcessingTime fires the processing-time timers due at now and returns the
// time of the next one, or base.MaxTime.
func (s *Subtask) ProcessingTime(now base.Timestamp) (next base.Timestamp, err error) {
	return s.processingTime(s.nodes, now)
}

func (s *Subtask) processingTime(nodes []Node, now base.Timestamp) (next base.Timestamp, err error) {
	defer s.guard(&err)
	next = base.MaxTime
	for i := len(nodes) - 1; i >= 0; i-- {
		if n, ok := nodes[i].(ProcessingTimer); ok {
			next = min(next, n.ProcessingTime(now))
		}
	}
	return next, s.Err()
}

// End is called when every input has ended: event time goes to the end, then
// processing-time timers fire at once, then the edges learn of it. Barriers
// still pass afterwards. Behind an Async node all of that comes, in Turn, when the
// node holds nothing any more.
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
	if err := s.endStage(&s.adv); err != nil || len(s.branches) == 0 {
		return err
	}
	_, err := s.Turn()
	return err
}

// endStage ends a stage through which the last watermark has passed.
func (s *Subtask) endStage(a *advance) error {
	if _, err := s.processingTime(a.nodes, base.MaxTime); err != nil {
		return err
	}
	a.ended = true
	for i, e := range s.edges {
		if s.ownerOf(i) == a {
			e.end()
		}
	}
	return s.Err()
}

// Ended reports that End has passed through the whole chain.
func (s *Subtask) Ended() bool {
	for _, b := range s.branches {
		if !b.ended {
			return false
		}
	}
	return s.adv.ended
}

// MarkIdle tells the receivers that nothing is expected from this subtask for
// now.
func (s *Subtask) MarkIdle() error {
	if err := s.finishAdvance(); err != nil {
		return err
	}
	for i, e := range s.edges {
		if s.ownerOf(i) == &s.adv {
			e.markIdle()
		}
	}
	for _, b := range s.branches {
		b.idle = true
	}
	return s.Err()
}
