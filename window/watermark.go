package window

import (
	"fmt"
	"time"

	"github.com/weirflow/weir/internal/base"
)

// Strategy says how the watermark of a source split follows its records. It is an
// immutable value; make one with BoundedOutOfOrderness, Ascending or
// WallClockBounded. The zero Strategy is Ascending.
type Strategy struct {
	delay   int64
	maxSkew int64
	runsOn  bool
}

// BoundedOutOfOrderness is for records that come at most d of event time after
// records with a later time: W = greatest time - d.
func BoundedOutOfOrderness(d time.Duration) Strategy { return Strategy{delay: int64(d)} }

// Ascending is for records whose times never decrease: W = greatest time. Equal
// times are in order.
func Ascending() Strategy { return Strategy{} }

// WallClockBounded is BoundedOutOfOrderness whose watermark also runs on with the
// wall clock between records. Windows then close although records stop; in
// exchange, which records are late depends on when they arrive, and a replay may
// give another result.
func WallClockBounded(d time.Duration) Strategy { return Strategy{delay: int64(d), runsOn: true} }

// WithMaxSkew returns the strategy with a guard against wrong clocks: a record
// more than d ahead of the wall clock does not move the watermark. 0 is off.
func (s Strategy) WithMaxSkew(d time.Duration) Strategy {
	s.maxSkew = int64(d)
	return s
}

// Delay returns the out-of-orderness bound.
func (s Strategy) Delay() time.Duration { return time.Duration(s.delay) }

// MaxSkew returns the guard's bound, 0 when it is off.
func (s Strategy) MaxSkew() time.Duration { return time.Duration(s.maxSkew) }

// RunsOn reports whether the watermark runs on with the wall clock between records.
func (s Strategy) RunsOn() bool { return s.runsOn }

// IdleAfter returns how long a drained split must have been without records, in
// wall time, before it counts as idle: one second or the out-of-orderness bound,
// whichever is longer.
func (s Strategy) IdleAfter() time.Duration { return max(time.Second, s.Delay()) }

// Validate reports the first mistake as a *base.Error with code WEIR-0141, or nil.
func (s Strategy) Validate() error {
	switch {
	case s.delay < 0 || s.delay > MaxSpan:
		return &base.Error{Code: "WEIR-0141", What: fmt.Sprintf("the out-of-orderness bound is %v", s.Delay()),
			Next: fmt.Sprintf("give 0 to %v", time.Duration(MaxSpan))}
	case s.maxSkew < 0 || s.maxSkew > MaxSpan:
		return &base.Error{Code: "WEIR-0141", What: fmt.Sprintf("the bound for times in the future is %v", s.MaxSkew()),
			Next: fmt.Sprintf("give 0 (off) to %v", time.Duration(MaxSpan))}
	}
	return nil
}

// String renders the strategy for plans and messages.
func (s Strategy) String() string {
	name := "bounded out-of-orderness"
	if s.runsOn {
		name = "wall-clock bounded out-of-orderness"
	} else if s.delay == 0 {
		return "ascending"
	}
	return fmt.Sprintf("%s %v", name, s.Delay())
}

// TrackerState is what a checkpoint keeps of a Tracker: two plain integers.
type TrackerState struct {
	// Watermark is the watermark reached.
	Watermark base.Timestamp
	// Anchor is the wall time up to which Watermark has run on with the wall
	// clock; it has a meaning only for WallClockBounded and only until a restart.
	Anchor base.Timestamp
}

// Tracker makes the watermark of one split. It is not safe for concurrent use.
type Tracker struct {
	strategy Strategy
	state    TrackerState
}

// NewTracker returns a tracker that has seen nothing.
func (s Strategy) NewTracker() Tracker {
	return Tracker{strategy: s, state: TrackerState{Watermark: base.MinTime}}
}

// Restore returns a tracker that goes on from a snapshot, at wall time wall. The
// time between snapshot and restart does not run the watermark on, or every
// record that came during an outage would be late. The strategy may differ from
// the one that made the snapshot; the watermark still never goes back.
func (s Strategy) Restore(st TrackerState, wall base.Timestamp) Tracker {
	st.Anchor = wall
	return Tracker{strategy: s, state: st}
}

// Snapshot returns the state to be kept in a checkpoint.
func (t *Tracker) Snapshot() TrackerState { return t.state }

// Watermark returns the current watermark, base.MinTime before the first record.
func (t *Tracker) Watermark() base.Timestamp { return t.state.Watermark }

// Observe takes in a record with event time ts at wall time wall. It returns false
// when the record is further ahead of the wall clock than the guard allows; it
// then moved nothing and falls under the record policy.
func (t *Tracker) Observe(ts, wall base.Timestamp) bool {
	s := &t.strategy
	if s.maxSkew > 0 && ts > base.AddTime(wall, s.maxSkew) {
		return false
	}
	if s.runsOn {
		t.Advance(wall)
	}
	if w := fromRecord(base.AddTime(ts, -s.delay)); w > t.state.Watermark {
		t.state.Watermark = w
		t.state.Anchor = wall
	}
	return true
}

// Advance tells the tracker the wall time and returns the watermark. It matters
// only to WallClockBounded: the watermark runs on by the wall time since it was
// last set. A wall clock that is set back stops it for a moment and no longer.
func (t *Tracker) Advance(wall base.Timestamp) base.Timestamp {
	st := &t.state
	if !t.strategy.runsOn || st.Watermark == base.MinTime || st.Watermark == base.MaxTime {
		return st.Watermark
	}
	if wall > st.Anchor {
		st.Watermark = fromRecord(base.AddTime(st.Watermark, wall-st.Anchor))
	}
	st.Anchor = wall
	return st.Watermark
}

// End marks the end of input: the watermark becomes base.MaxTime.
func (t *Tracker) End() { t.state.Watermark = base.MaxTime }

// fromRecord keeps a watermark that is derived from a record or a clock below
// base.MaxTime, which only the end of input may reach.
func fromRecord(w base.Timestamp) base.Timestamp { return min(w, base.MaxTime-1) }
