package weir

import (
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/operators"
)

// Policy says what happens to a record that cannot be processed.
type Policy = operators.ErrorPolicy

const (
	// Fail stops the task at the record; the job restarts and, if the record
	// fails again and again, stops. The default.
	Fail = connectors.FailOnBad
	// Skip counts the record in weir_operator_bad_records_total and goes on.
	Skip = connectors.SkipBad
	// DeadLetter counts the record, sends it to the job's dead letters, exactly once,
	// and goes on. The job needs DeadLetters then.
	DeadLetter = connectors.DeadLetterBad
)

// TryOption is an option of TryMap, Map, Filter and FlatMap.
type TryOption interface{ try(*tryOptions) }

type tryOptions struct{ policy Policy }

// KeyOption is an option of KeyBy.
type KeyOption interface{ key(*keyOptions) }

type keyOptions struct{ parallelism int }

// FromOption is an option of From.
type FromOption interface{ from(*fromOptions) }

type fromOptions struct {
	parallelism int
	onBad       Policy
	onFuture    Policy
	maxAhead    time.Duration
	limits      connectors.Limits
	everyRecord bool
}

// SinkOption is an option of To.
type SinkOption interface{ sink(*sinkOptions) }

type sinkOptions struct{ require connectors.Class }

// ErrorOption is what OnError returns: an option of From, of TryMap, Map, Filter and
// FlatMap, and of Process and Infer.
type ErrorOption struct{ policy Policy }

func (o ErrorOption) try(t *tryOptions)   { t.policy = o.policy }
func (o ErrorOption) from(f *fromOptions) { f.onBad = o.policy }

// OnError sets what happens to records that the function refuses (TryMap, Process),
// that cannot be decoded (From), or whose call has failed for good (Infer). With a
// policy other than Fail a panic of the function (From: of that of the event time) is
// an error of the record in hand; it is recovered, and a dead letter has its stack. What
// a call emits is handed on when it has not failed.
//
// A function must not change what it is given through pointers, slices and maps in it: a
// dead letter holds the record as the function left it.
func OnError(p Policy) ErrorOption { return ErrorOption{p} }

// ParallelismOption is what Parallelism returns: an option of From and KeyBy.
type ParallelismOption int

func (o ParallelismOption) key(k *keyOptions)   { k.parallelism = int(o) }
func (o ParallelismOption) from(f *fromOptions) { f.parallelism = int(o) }

// Parallelism sets the number of subtasks. A source uses at most one per split.
func Parallelism(n int) ParallelismOption { return ParallelismOption(n) }

type fromOption func(*fromOptions)

func (o fromOption) from(f *fromOptions) { o(f) }

// MaxAhead sets how far a record's event time may be ahead of the wall clock (24
// hours if not set, 0 for no bound) and what happens to records further ahead. They
// never move the watermark. A record that comes back from the dead letters is let pass.
func MaxAhead(d time.Duration, p Policy) FromOption {
	return fromOption(func(f *fromOptions) { f.maxAhead, f.onFuture = d, p })
}

// MaxRecord sets the largest raw record in bytes; 1 MiB if not set.
func MaxRecord(bytes int) FromOption {
	return fromOption(func(f *fromOptions) { f.limits.MaxRecord = bytes })
}

// WatermarkEveryRecord moves event time after every record instead of once per
// run of records. Which records count as late then does not depend on how they
// arrive; it costs throughput.
func WatermarkEveryRecord() FromOption {
	return fromOption(func(f *fromOptions) { f.everyRecord = true })
}

type requireOption struct{}

func (requireOption) sink(s *sinkOptions) { s.require = connectors.ExactlyOnce }

// RequireExactlyOnce makes it a build error to give the sink a target that is
// not exactly-once.
func RequireExactlyOnce() SinkOption { return requireOption{} }
