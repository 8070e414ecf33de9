package base

import "sync/atomic"

// TaskStats are the counters of one subtask. The subtask adds to them once per
// batch or turn; anybody may read them. engine/metrics exposes them.
type TaskStats struct {
	RecordsIn, RecordsOut          atomic.Int64
	BadRecords, LateRecords        atomic.Int64
	NoWindowRecords, FutureRecords atomic.Int64
	TimersFired                    atomic.Int64
	// AsyncOut counts the records that left operators which wait for something
	// outside, such as models.
	AsyncOut atomic.Int64
	// Watermark is the event-time watermark of the subtask.
	Watermark atomic.Int64
	// BusyNanos, IdleNanos and BackpressuredNanos add up to the run time.
	BusyNanos, IdleNanos, BackpressuredNanos atomic.Int64
	// SinkNanos is the part of BackpressuredNanos that the subtask waited for the
	// target of one of its sinks to commit.
	SinkNanos atomic.Int64
	// Lag is the number of records known to wait in the sources; -1: unknown.
	Lag atomic.Int64
	// TurnStart is the monotonic time at which the running turn began, or 0
	// between turns; the watchdog reads it.
	TurnStart atomic.Int64
	// Operator is the index of the operator that runs in the chain.
	Operator atomic.Int32
	// Figures are those that the operators of the chain have of their own.
	Figures Figures
}
