package checkpoint

import (
	"slices"
	"sync"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
)

// Stats are the figures of a job's checkpoints. They outlive generations; all
// methods may be called from any goroutine.
type Stats struct {
	mu      sync.Mutex
	s       Figures
	commits []int64 // the last commit times, a ring
	next    int
}

// keptCommits is the number of commit times that CommitQuantile looks at.
const keptCommits = 1024

// CommitQuantile returns the q-quantile (0 to 1) of the times, in nanoseconds, that
// the last epochs took from durable to committed in every lane; 0 if there are none.
func (s *Stats) CommitQuantile(q float64) int64 {
	s.mu.Lock()
	v := slices.Clone(s.commits)
	s.mu.Unlock()
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[min(int(q*float64(len(v))), len(v)-1)]
}

func (s *Stats) commitTook(nanos int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.CommitNanos += nanos
	s.s.Commits[bucketOf(nanos)]++
	if len(s.commits) < keptCommits {
		s.commits = append(s.commits, nanos)
		return
	}
	s.commits[s.next] = nanos
	s.next = (s.next + 1) % keptCommits
}

// Figures is a reading of Stats.
type Figures struct {
	// Started, Durable and Aborted count attempts; Committed counts epochs that
	// every lane has committed.
	Started, Durable, Aborted, Committed int64
	// LastEpoch is the newest committed epoch, and LastNanos how long it took
	// from the trigger to the commit of its last lane.
	LastEpoch base.Epoch
	LastNanos int64
	// LastAt is the wall time of that commit; 0 before the first.
	LastAt base.Timestamp
	// InProgress says that an attempt is under way, and Uncommitted is how many
	// durable epochs wait for a sink.
	InProgress  bool
	Uncommitted int
	// NewBytes is what the newest durable epoch added to the store, FullBytes
	// what it refers to in all.
	NewBytes, FullBytes int64
	// Durations counts commits by duration; the bounds are DurationBounds.
	Durations [len(durationBounds) + 1]int64
	// SumNanos is the sum of all durations.
	SumNanos int64
	// Commits and CommitNanos are the same for the part from durable to the commit of
	// the last lane.
	Commits     [len(durationBounds) + 1]int64
	CommitNanos int64
}

// durationBounds are the upper bounds of the buckets of Figures.Durations, in
// nanoseconds.
var durationBounds = [...]int64{5e6, 10e6, 25e6, 50e6, 100e6, 250e6, 500e6, 1e9, 2.5e9, 5e9, 10e9, 30e9}

// DurationBounds returns the upper bounds of the buckets of Figures.Durations, in
// seconds.
func DurationBounds() []float64 {
	out := make([]float64, len(durationBounds))
	for i, b := range durationBounds {
		out[i] = float64(b) / 1e9
	}
	return out
}

// Read returns the figures as they are now.
func (s *Stats) Read() Figures {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.s
}

func (s *Stats) begin(base.Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Started++
	s.s.InProgress = true
}

func (s *Stats) aborted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Aborted++
	s.s.InProgress = false
}

func (s *Stats) manifest(m *protocol.Manifest, size int) {
	fresh, full := int64(size), int64(size)
	for i := range m.Tasks {
		for _, o := range m.Tasks[i].Objects {
			full += int64(o.Size)
			if o.Epoch == m.Epoch {
				fresh += int64(o.Size)
			}
		}
	}
	for i := range m.Lanes {
		fresh += int64(m.Lanes[i].Block.Bytes)
		full += int64(m.Lanes[i].Block.Bytes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Durable++
	s.s.InProgress = false
	s.s.NewBytes, s.s.FullBytes = fresh, full
}

// deployed notes that a new generation starts: no attempt of it is under way.
func (s *Stats) deployed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.InProgress = false
}

// waiting notes how many durable epochs wait for a sink.
func (s *Stats) waiting(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Uncommitted = n
}

func (s *Stats) committed(n base.Epoch, nanos int64, now base.Timestamp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Committed++
	s.s.LastEpoch, s.s.LastNanos, s.s.LastAt = n, nanos, now
	s.s.SumNanos += nanos
	s.s.Durations[bucketOf(nanos)]++
}

func bucketOf(nanos int64) int {
	i := 0
	for i < len(durationBounds) && nanos > durationBounds[i] {
		i++
	}
	return i
}
