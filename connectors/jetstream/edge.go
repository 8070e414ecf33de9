package jetstream

import (
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	// verifyEvery bounds how often records that are held back are checked.
	verifyEvery = 5 * time.Millisecond
	// edgeMsgs is how near the old end of a stream, in messages, a limit by size
	// makes jumps risky at least.
	edgeMsgs = 1024
)

// edge knows where the old end of a stream is and what moves it. A jump in the
// sequence is either a message that was never meant for the reader or one that
// retention removed; only the position of the old end at a later time tells.
type edge struct {
	mu          sync.Mutex
	first, last uint64
	maxAge      time.Duration
	bySize      bool
}

func (e *edge) learn(info *natsjs.StreamInfo) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.first, e.last = info.State.FirstSeq, info.State.LastSeq
	e.maxAge = info.Config.MaxAge
	e.bySize = info.Config.MaxMsgs > 0 || info.Config.MaxBytes > 0
}

// risky reports whether retention may have passed pred, which was stored (or seen)
// at a time: by age when that is nearly over, by size when pred is among the oldest
// messages. What neither covers, such as a purge, is found by the check that
// follows within a second.
func (e *edge) risky(pred uint64, stored int64, now func() int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.maxAge > 0 && now()-stored > int64(e.maxAge-e.maxAge/8) {
		return true
	}
	if !e.bySize {
		return false
	}
	margin := uint64(edgeMsgs)
	if e.last > e.first {
		margin = max(margin, (e.last-e.first)/8)
	}
	return pred < e.first+margin
}

// tick does what is due every second: the check of jumps that were not held back,
// and the end of a source that ends at a time.
func (s *session) tick() error {
	s.mu.Lock()
	jumped, hasEnd := s.jumped, s.hasEnd
	s.mu.Unlock()
	if s.until.kind == untilTime && !hasEnd && s.env.Clock.Now() >= s.until.time.UnixNano() {
		if err := s.findEnd(); err != nil {
			return err
		}
	}
	if !jumped {
		return nil
	}
	return s.verify()
}

// findEnd fixes the end of a source that ends at a time, once the server's clock
// has passed it: everything stored from now on is later.
func (s *session) findEnd() error {
	info, err := streamInfo(s.ctx, s.nc, s.stream)
	if err != nil || info.TimeStamp.Before(s.until.time) {
		return err
	}
	s.mu.Lock()
	s.end, s.hasEnd = info.State.LastSeq, true
	s.hungry = false
	s.mu.Unlock()
	s.wake()
	return nil
}

// verifyHeld checks what is held back, if anything is, but not too often.
func (s *session) verifyHeld() error {
	s.mu.Lock()
	holding := s.holding
	s.mu.Unlock()
	if !holding {
		return nil
	}
	if wait := int64(verifyEvery) - (s.env.Clock.Mono() - s.checked); s.checked != 0 && wait > 0 {
		if err := s.env.Clock.Sleep(s.ctx, time.Duration(wait)); err != nil {
			return err
		}
	}
	return s.verify()
}

// verify asks where the old end is now. If it is not behind the first jump, then
// no message was missing when those before this call arrived.
func (s *session) verify() error {
	s.mu.Lock()
	pred, upto := s.pred, s.put
	s.jumped = false
	s.mu.Unlock()
	info, err := streamInfo(s.ctx, s.nc, s.stream)
	if err == nil {
		s.watch.learn(info)
		s.checked = s.env.Clock.Mono()
		if first := info.State.FirstSeq; first > pred+1 {
			err = s.gap(pred, first)
		}
	}
	s.mu.Lock()
	if err != nil {
		s.jumped, s.pred = true, pred
		s.mu.Unlock()
		return err
	}
	// Jumps that arrived in the meantime are checked in their turn.
	s.holding = s.holding && s.jumped
	wake := false
	if s.holding {
		s.free = max(s.free, upto)
		wake = s.wakeLocked()
		s.poke()
	} else {
		wake = s.releaseLocked()
	}
	s.mu.Unlock()
	if wake {
		s.wake()
	}
	return nil
}
