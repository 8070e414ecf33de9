package guard

import (
	"sync"
	"time"
)

// share bounds extra calls to a share of the calls of a window, and a few more.
type share struct {
	ratio, min float64

	mu    sync.Mutex
	calls window
	extra window
}

func newShare(ratio float64, min int, period time.Duration, now int64) *share {
	return &share{ratio: ratio, min: float64(min), calls: newWindow(period, now), extra: newWindow(period, now)}
}

// called counts n calls.
func (s *share) called(now int64, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls.add(now, float64(n))
}

// take says whether n extra calls are within the share, and counts them if so.
func (s *share) take(now int64, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.extra.total(now)+float64(n) > s.ratio*s.calls.total(now)+s.min {
		return false
	}
	s.extra.add(now, float64(n))
	return true
}
