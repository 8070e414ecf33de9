package window

import (
	"time"

	"github.com/weirflow/weir/internal/base"
)

// CombinerInput is the state of one input of a Combiner, in plain values.
type CombinerInput struct {
	// Watermark is the highest watermark the input has sent.
	Watermark base.Timestamp
	// Idle is set while the input has no records to wait for.
	Idle bool
}

// Combiner derives one watermark from those of several inputs: the minimum over
// the inputs that are active, never going back. An idle input holds nothing up;
// when it re-enters with an older watermark the combined one stays where it is.
//
// An input that has reached base.MaxTime has ended and is left out of the
// minimum, so that the end of one input does not flush windows that an idle input
// may still fill. When every input that has not ended is idle, the combined
// watermark is the highest of theirs: the result then does not depend on the
// order in which they fell idle. It is base.MaxTime only when all have ended.
//
// It is not safe for concurrent use.
type Combiner struct {
	inputs []CombinerInput
	out    base.Timestamp
}

// NewCombiner returns a combiner of n inputs, all active at base.MinTime. Without
// inputs the watermark is base.MaxTime from the start.
func NewCombiner(n int) *Combiner {
	c := &Combiner{inputs: make([]CombinerInput, n), out: base.MinTime}
	for i := range c.inputs {
		c.inputs[i].Watermark = base.MinTime
	}
	c.combine()
	return c
}

// RestoreCombiner returns a combiner that goes on from a snapshot: the combined
// watermark and the inputs, which it copies.
func RestoreCombiner(out base.Timestamp, inputs []CombinerInput) *Combiner {
	c := &Combiner{inputs: append([]CombinerInput(nil), inputs...), out: out}
	c.combine()
	return c
}

// Snapshot returns the combined watermark and a copy of the inputs.
func (c *Combiner) Snapshot() (out base.Timestamp, inputs []CombinerInput) {
	return c.out, append([]CombinerInput(nil), c.inputs...)
}

// Update takes in watermark w of input i and makes the input active. It returns
// the combined watermark and whether that moved.
func (c *Combiner) Update(i int, w base.Timestamp) (base.Timestamp, bool) {
	in := &c.inputs[i]
	in.Watermark = max(in.Watermark, w)
	in.Idle = false
	return c.combine()
}

// SetIdle marks input i as idle or active. It returns the combined watermark and
// whether that moved.
func (c *Combiner) SetIdle(i int, idle bool) (base.Timestamp, bool) {
	c.inputs[i].Idle = idle
	return c.combine()
}

// Watermark returns the combined watermark.
func (c *Combiner) Watermark() base.Timestamp { return c.out }

// Idle reports whether the combination is idle: no input is active, and at least
// one has not ended.
func (c *Combiner) Idle() bool {
	open := false
	for i := range c.inputs {
		if c.inputs[i].Watermark == base.MaxTime {
			continue
		}
		if !c.inputs[i].Idle {
			return false
		}
		open = true
	}
	return open
}

func (c *Combiner) combine() (base.Timestamp, bool) {
	lowest, highest := base.MaxTime, base.MinTime
	active, open := false, false
	for i := range c.inputs {
		in := &c.inputs[i]
		if in.Watermark == base.MaxTime {
			continue
		}
		open = true
		highest = max(highest, in.Watermark)
		if !in.Idle {
			active = true
			lowest = min(lowest, in.Watermark)
		}
	}
	w := lowest // base.MaxTime when all have ended
	if open && !active {
		w = highest
	}
	if w <= c.out {
		return c.out, false
	}
	c.out = w
	return w, true
}

// Idleness decides when a split is idle: it is drained, that is, its reader has
// nothing more at hand, and no record came for a while. It is not safe for
// concurrent use.
type Idleness struct {
	after int64
	since base.Timestamp
}

// NewIdleness returns the idleness of a split that is opened at wall time wall and
// counts as idle after the given wall time without records (Strategy.IdleAfter).
func NewIdleness(after time.Duration, wall base.Timestamp) Idleness {
	return Idleness{after: int64(after), since: wall}
}

// Record notes that records were at hand at wall time wall.
func (d *Idleness) Record(wall base.Timestamp) { d.since = max(d.since, wall) }

// Idle reports whether a drained split is idle at wall time wall.
func (d *Idleness) Idle(wall base.Timestamp) bool { return wall >= d.IdleAt() }

// IdleAt returns the wall time at which a split that stays drained becomes idle.
func (d *Idleness) IdleAt() base.Timestamp { return base.AddTime(d.since, d.after) }
