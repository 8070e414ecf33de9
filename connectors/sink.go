package connectors

import (
	"context"
	"errors"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/protocol"
)

// Class is the delivery guarantee of a sink.
type Class uint8

const (
	// AtLeastOnce: after a failure records may appear again, with the same origin.
	AtLeastOnce Class = iota
	// ExactlyOnce: data and commit marker become visible in one atomic write.
	ExactlyOnce
)

// String returns the name used in plans: "at-least-once", "exactly-once".
func (c Class) String() string {
	if c == ExactlyOnce {
		return "exactly-once"
	}
	return "at-least-once"
}

// Message is an encoded record on its way out.
type Message struct {
	// Subject is where the message goes: a subject, a file name, "" for none.
	Subject string
	// Data is the encoded value.
	Data []byte
	// Headers travel with the message where the target supports it.
	Headers base.Headers
}

// Sink turns records of type T into messages for a target.
type Sink[T any] struct {
	// Encode fills msg from the record. It may reuse msg.Data's memory. It must
	// be a pure function of its input and safe for concurrent use.
	Encode func(msg *Message, m *base.Meta, v *T) error
	// Target receives the messages.
	Target Target
}

// Target is a place that takes messages. It is either a LaneTarget or a
// DirectTarget.
type Target interface {
	// Kind names the connector, for plans and metrics.
	Kind() string
	// Class is the guarantee it gives.
	Class() Class
}

// LaneTarget is an exactly-once target (class A): messages of an epoch are
// staged in blocks, one per lane, and committed after the epoch is durable.
type LaneTarget interface {
	Target
	// Lanes is the number of lanes, fixed for the life of the job: >= 1.
	Lanes() int
	// OpenLanes checks the preconditions of the target and returns a writer.
	OpenLanes(ctx context.Context, env SinkEnv) (LaneWriter, error)
}

// SinkEnv is what a target gets to work with.
type SinkEnv struct {
	// Job is the job's UID as 32 hexadecimal digits; Sink the operator's UID.
	Job, Sink string
	Clock     clock.Clock
	// Require is the durability grade asked for, such as the least number of
	// replicas; the zero value asks for nothing.
	Require Durability
}

// Durability is what a job requires of the stores it writes to.
type Durability struct {
	// Replicas is the least number of replicas of a stream.
	Replicas int
}

// ChunkLimits bounds one atomic write.
type ChunkLimits struct {
	// MaxMessages in one chunk, the marker not counted.
	MaxMessages int
	// MaxBytes of messages in one chunk.
	MaxBytes int
	// MaxMessage is the largest single message in bytes; a larger one is refused
	// when it is staged.
	MaxMessage int
}

// LaneWriter publishes chunks of lanes. Different lanes may be used from
// different goroutines at once; one lane only from one.
type LaneWriter interface {
	Limits() ChunkLimits
	// ReadMarker returns the lane's last marker and its sequence, read from the
	// leader. found is false when the lane has none.
	ReadMarker(ctx context.Context, lane int) (m protocol.Marker, seq uint64, found bool, err error)
	// PublishChunk writes the messages and the marker in one atomic write, if the
	// sequence of the lane's last marker is still expect (0: there is none). It
	// returns the sequence of the new marker. ErrConflict says that it was not;
	// any other error leaves the outcome unknown, unless it wraps ErrRejected.
	PublishChunk(ctx context.Context, lane int, msgs []Message, m protocol.Marker, expect uint64) (seq uint64, err error)
	Close() error
}

// DirectTarget is an at-least-once target: messages are written as they come
// and flushed at every barrier.
type DirectTarget interface {
	Target
	OpenWriter(ctx context.Context, env SinkEnv, subtask int) (Writer, error)
}

// Bounded is implemented by direct targets whose messages have a largest size.
type Bounded interface {
	// MaxMessage returns the largest message in bytes, as Message.Size counts them; 0
	// where it is not known, as before the first writer is open. It is safe for
	// concurrent use.
	MaxMessage() int
}

// Writer writes messages of one subtask. It is owned by one goroutine.
type Writer interface {
	// Write takes the messages over before it returns; it may block for
	// backpressure. Each message carries its origin header (see OriginHeader).
	Write(ctx context.Context, msgs []Message) error
	// Flush returns when all messages written before are durable at the target.
	Flush(ctx context.Context) error
	Close() error
}

// OriginHeader is the header that identifies a record's origin, so that a
// reader of an at-least-once target can recognise duplicates.
const OriginHeader = "Weir-Origin"

// Errors of sinks.
var (
	// ErrConflict: another marker was written since; the compare-and-set failed.
	ErrConflict = errors.New("the lane's marker is not the expected one")
	// ErrRejected: the target refused the write and stored nothing.
	ErrRejected = errors.New("the target refused the write")
)
