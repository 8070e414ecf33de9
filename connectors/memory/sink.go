package memory

import (
	"fmt"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

// Sink collects the records of a job exactly once. Records are encoded as
// MessagePack on their way, as they would be for a real target.
type Sink[T any] struct {
	*Lanes
	format codec.Format[T]
}

// NewSink returns an empty exactly-once sink. A T that MessagePack cannot hold is
// reported by BuildError.
func NewSink[T any](opts ...LaneOption) *Sink[T] {
	s := &Sink[T]{Lanes: NewLanes(opts...)}
	var err error
	if s.format, err = sinkFormat[T](); s.err == nil {
		s.err = err
	}
	return s
}

// sinkFormat is MessagePack without a record limit: the target has its own.
func sinkFormat[T any]() (codec.Format[T], error) {
	return codec.MsgPack[T](codec.Limits{MaxRecord: 1 << 30, Elems: 1 << 30})
}

// Sink returns what a job writes to.
func (s *Sink[T]) Sink() connectors.Sink[T] {
	return connectors.Sink[T]{Encode: encoder(s.format, s.err), Target: s.Lanes}
}

// Visible returns the records that a reader of the target sees, in the order in
// which they were committed. It panics when a message cannot be decoded, which
// only a broken engine brings about.
func (s *Sink[T]) Visible() []T {
	msgs := s.Messages()
	out := make([]T, len(msgs))
	for i := range msgs {
		decode(s.format, msgs[i].Data, &out[i])
	}
	return out
}

// DirectSink collects the records of a job at least once.
type DirectSink[T any] struct {
	*Direct
	format codec.Format[T]
	err    error
}

// NewDirect returns an empty at-least-once sink.
func NewDirect[T any]() *DirectSink[T] {
	s := &DirectSink[T]{Direct: NewDirectTarget()}
	s.format, s.err = sinkFormat[T]()
	return s
}

// BuildError implements connectors.BuildChecker.
func (s *DirectSink[T]) BuildError() error { return s.err }

// Sink returns what a job writes to.
func (s *DirectSink[T]) Sink() connectors.Sink[T] {
	return connectors.Sink[T]{Encode: encoder(s.format, s.err), Target: s}
}

// Visible returns the records that were written, duplicates included, in the
// order of the writes. It panics as Sink.Visible does.
func (s *DirectSink[T]) Visible() []T {
	msgs := s.Messages()
	out := make([]T, len(msgs))
	for i := range msgs {
		decode(s.format, msgs[i].Data, &out[i])
	}
	return out
}

// encoder returns the Encode of a sink; headers of the record travel along.
func encoder[T any](f codec.Format[T], broken error) func(*connectors.Message, *base.Meta, *T) error {
	return func(msg *connectors.Message, m *base.Meta, v *T) (err error) {
		if broken != nil {
			return base.Fatal(broken)
		}
		msg.Subject, msg.Headers = "", nil
		if m.Headers != nil {
			msg.Headers = *m.Headers
		}
		msg.Data, err = f.Encode(msg.Data[:0], v)
		return err
	}
}

func decode[T any](f codec.Format[T], data []byte, v *T) {
	if err := f.Decode(data, v); err != nil {
		panic(fmt.Sprintf("memory: a committed message is damaged: %v", err))
	}
}
