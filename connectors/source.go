// Package connectors holds the contracts of sources and sinks. A connector
// implements them in a package of its own below this one; the engine reaches it
// only through the operators that drive these contracts.
package connectors

import (
	"context"
	"errors"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
)

// Split is a part of a source that is read in order by one reader: a stream and
// subject filter, a file, a generator shard.
type Split struct {
	// ID is stable over the life of the job and unique in its source.
	ID string
	// Identity tells two incarnations of the same ID apart, for example the
	// creation time of a stream; "" when there is nothing to tell.
	Identity string
}

// Position says how far a split was read. The zero Position means that the
// split was never opened; the source then starts where its configuration says.
type Position struct {
	// Started is set from the first Open on, so that "start at latest" is
	// decided once and not again after a restore.
	Started bool
	// Offset is the position of the last record handed over, or of the record
	// before the first one to hand over.
	Offset uint64
	// Identity is the identity of the split that was read.
	Identity string
	// Done is set when the split reached its bounded end.
	Done bool
}

// ReaderEnv is what a source gives its readers to work with.
type ReaderEnv struct {
	// Wake may be called from any goroutine, at any time, any number of times:
	// it makes the owner call Poll again soon. It never blocks.
	Wake func()
	// Clock is the job's clock.
	Clock clock.Clock
	// Limits bounds one record; a larger one becomes a BadRecord.
	Limits Limits
}

// Limits bounds what one record may cost before it is decoded.
type Limits struct {
	// MaxRecord is the largest raw record in bytes.
	MaxRecord int
	// MaxDepth is the deepest nesting of a decoded structure.
	MaxDepth int
	// MaxElems is the largest number of elements in a decoded structure.
	MaxElems int
}

// DefaultLimits: 1 MiB, depth 32, a million elements.
var DefaultLimits = Limits{MaxRecord: 1 << 20, MaxDepth: 32, MaxElems: 1_000_000}

// Records is a run of records from one split, in the order of the split. The
// slices are parallel; Headers is nil when no record has any.
type Records[T any] struct {
	Values []T
	// Times holds the source's own timestamp of each record in nanoseconds, or
	// 0. A watermark strategy may use it or take the time from the value.
	Times []base.Timestamp
	// Pos holds the position of each record in its split.
	Pos     []uint64
	Headers []*base.Headers
	// Bad holds the records that could not be decoded, in order of position.
	Bad []BadRecord
	// Marks are watermarks that the source itself knows, in order; most sources
	// have none and leave them to the watermark strategy.
	Marks []Mark
}

// Mark says that after the first After records of the run no record with an
// event time before Watermark follows in the split.
type Mark struct {
	After     int
	Watermark base.Timestamp
}

// Reset empties the run and keeps its memory.
func (r *Records[T]) Reset() {
	clear(r.Values)
	clear(r.Headers)
	r.Values, r.Times, r.Pos, r.Headers = r.Values[:0], r.Times[:0], r.Pos[:0], r.Headers[:0]
	r.Bad, r.Marks = r.Bad[:0], r.Marks[:0]
}

// Append adds one record. A nil headers costs nothing until the first record
// that has some.
func (r *Records[T]) Append(v T, t base.Timestamp, pos uint64, headers *base.Headers) {
	if headers != nil || len(r.Headers) > 0 {
		for len(r.Headers) < len(r.Values) {
			r.Headers = append(r.Headers, nil)
		}
		r.Headers = append(r.Headers, headers)
	}
	r.Values = append(r.Values, v)
	r.Times = append(r.Times, t)
	r.Pos = append(r.Pos, pos)
}

// BadRecord is a record that a source read but could not decode. The source
// operator applies the record policy to it: fail, skip and count, dead letter.
type BadRecord struct {
	Pos uint64
	// Raw is the record as read, cut to at most the record limit; Size is the length
	// in bytes that it had, 0 when it was not cut.
	Raw  []byte
	Size int
	// Time and Headers are those that Records would hold, where the source knows
	// them.
	Time    base.Timestamp
	Headers *base.Headers
	Err     error
}

// Poll says what a reader knows after a call of Poll.
type Poll struct {
	// More: records are ready now; call again without waiting.
	More bool
	// Due is the wall-clock time in nanoseconds at which more may be ready; 0
	// means that only Wake announces it.
	Due base.Timestamp
	// End: the bounded end of the split is reached, and nothing follows.
	End bool
}

// Source produces records of type T. Its methods may be called from several
// goroutines.
type Source[T any] interface {
	// Kind names the connector, such as "jetstream", for plans and metrics.
	Kind() string
	// Splits lists the splits as they are now, sorted by ID.
	Splits(ctx context.Context) ([]Split, error)
	// Open starts to read a split after the given position. It fails with
	// ErrPositionLost (wrapped in a *base.Error that says which record was
	// wanted and which is the first) when the records after it are gone, and
	// with ErrIdentity when the split is another incarnation.
	Open(ctx context.Context, s Split, after Position, env ReaderEnv) (Reader[T], error)
}

// Reader reads one split. It is owned by one goroutine.
type Reader[T any] interface {
	// Poll appends at most max records to dst and never waits for new ones. A
	// record must not be appended before all records with lower positions. An
	// error ends the reader; the task then restarts from the last checkpoint.
	Poll(dst *Records[T], max int) (Poll, error)
	// Position returns the position after all records handed over so far.
	Position() Position
	// Lag returns how many records are known to wait, or -1 when unknown.
	Lag() int64
	// Close releases the reader. It may be called while Wake runs.
	Close() error
}

// Redecoder is implemented by sources that can decode a record which they read before
// and could not decode then: by their format as it is now.
type Redecoder[T any] interface {
	// Redecode decodes the Raw of a BadRecord into v. It may be called from several
	// goroutines.
	Redecode(raw []byte, limits Limits, v *T) error
}

// Errors of sources. All stop the job: going on would lose records.
var (
	// ErrPositionLost: the record after the stored position no longer exists
	// (retention passed it, or the log lost its end).
	ErrPositionLost = errors.New("the stored position is no longer readable")
	// ErrIdentity: the split was deleted and created again.
	ErrIdentity = errors.New("the split is not the one that was read before")
)

// RecordPolicy says what happens to a record that cannot be processed.
type RecordPolicy uint8

const (
	// FailOnBad fails the task; the job restarts and stops at the same record
	// again until its restart budget is spent. The default.
	FailOnBad RecordPolicy = iota
	// SkipBad counts the record and goes on.
	SkipBad
	// DeadLetterBad counts the record, sends it to the dead letters of the job, and
	// goes on.
	DeadLetterBad
)

// Timeless is implemented by sources whose records do not follow the wall clock,
// such as files and generators: no record of theirs counts as too far ahead.
type Timeless interface{ Timeless() }
