package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/clock"
)

// Log reads and extends streams for tools, outside of a job.
type Log struct{ nc *nats.Conn }

// NewLog returns the streams of a server.
func NewLog(nc *nats.Conn) *Log { return &Log{nc} }

// Exists reports whether the server has a stream.
func (l *Log) Exists(ctx context.Context, stream string) (bool, error) {
	js, err := natsjs.New(l.nc)
	if err != nil {
		return false, err
	}
	_, err = js.Stream(ctx, stream)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stream %s: %w", stream, err)
	}
	return true, nil
}

// Read calls f with the records that a stream has now, in its order: blocks unpacked,
// commit markers left out. pos is that of a source. It stops at the first error.
func (l *Log) Read(ctx context.Context, stream string, limits connectors.Limits, f func(pos uint64, data []byte) error) error {
	ctx = WithProvider(ctx, FromConn(l.nc))
	src := Stream[[]byte](stream, Raw(), UntilNow())
	splits, err := src.Splits(ctx)
	if err != nil {
		return err
	}
	wake := make(chan struct{}, 1)
	env := connectors.ReaderEnv{Clock: clock.Real(), Limits: limits, Wake: func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}}
	for _, s := range splits {
		r, err := src.Open(ctx, s, connectors.Position{}, env)
		if err == nil {
			err = errors.Join(drain(ctx, r, wake, f), r.Close())
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", stream, err)
		}
	}
	return nil
}

// drainBatch is how many records are read at once.
const drainBatch = 256

// drain reads a split to its end.
func drain(ctx context.Context, r connectors.Reader[[]byte], wake <-chan struct{}, f func(uint64, []byte) error) error {
	var recs connectors.Records[[]byte]
	for {
		recs.Reset()
		p, err := r.Poll(&recs, drainBatch)
		if err != nil {
			return err
		}
		for i, data := range recs.Values {
			if err := f(recs.Pos[i], data); err != nil {
				return err
			}
		}
		if p.End {
			return nil
		}
		if p.More || len(recs.Values) > 0 {
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Append adds a message to the stream of its subject, if the last message on that
// subject has the sequence last (0: there is none), and returns the new one's. An error
// that wraps connectors.ErrConflict says that it has not.
func (l *Log) Append(ctx context.Context, subject string, data []byte, last uint64) (seq uint64, err error) {
	js, err := natsjs.New(l.nc)
	if err != nil {
		return 0, err
	}
	ack, err := js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, natsjs.WithExpectLastSequencePerSubject(last))
	if api, ok := errors.AsType[*natsjs.APIError](err); ok && api.ErrorCode == natsjs.JSErrCodeStreamWrongLastSequence {
		return 0, fmt.Errorf("%w: %w", connectors.ErrConflict, err)
	}
	if err != nil {
		return 0, fmt.Errorf("subject %s: %w", subject, err)
	}
	return ack.Sequence, nil
}
