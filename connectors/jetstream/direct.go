package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

const (
	// maxWindow is the largest number of messages without acknowledgement. Larger
	// windows are slower: the server's queue grows and nothing else.
	maxWindow = 4096
	// ackTimeout bounds the wait for one acknowledgement.
	ackTimeout = 10 * time.Second
	// resendTries and resendWait bound how often a window is sent again.
	resendTries = 20
	resendWait  = 250 * time.Millisecond
)

// directTarget is the at-least-once target: one stream.
type directTarget struct {
	*target
}

// Class implements connectors.Target.
func (directTarget) Class() connectors.Class { return connectors.AtLeastOnce }

// MaxMessage implements connectors.Bounded.
func (t directTarget) MaxMessage() int { return int(t.largest.Load()) }

// OpenWriter implements connectors.DirectTarget.
func (t directTarget) OpenWriter(ctx context.Context, env connectors.SinkEnv, _ int) (connectors.Writer, error) {
	nc, release, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	w := &directWriter{target: t.target, nc: nc, env: env, release: release}
	if err := w.check(ctx); err != nil {
		release()
		return nil, err
	}
	return w, nil
}

// sent is a message without acknowledgement.
type sent struct {
	msg    *nats.Msg
	future natsjs.PubAckFuture
}

// directWriter keeps a window of messages that wait for their acknowledgement, in
// order. When one fails, the window is sent again from there: some records may
// then appear twice, but none before one that came earlier. For that a window uses
// one connection: what the old connection lost must not be overtaken on the new one.
// (Only a connection that is lost and made anew within the few instructions between
// the look at it and the client's write goes unnoticed.)
type directWriter struct {
	*target
	nc      *nats.Conn
	js      natsjs.JetStream
	env     connectors.SinkEnv
	pending []sent
	// connection is how often the connection had been made anew when the first
	// message of the window was sent, broken that a later one was not sent for it.
	connection uint64
	broken     bool
	release    func()
}

// errOtherConnection is why a message waits for those before it to settle.
var errOtherConnection = errors.New("the connection was lost with messages under way")

func (w *directWriter) check(ctx context.Context) error {
	info, err := streamInfo(ctx, w.nc, w.stream)
	if err != nil {
		return streamError(CodeSink, w.stream, err)
	}
	if r := w.env.Require.Replicas; info.Config.Replicas < r {
		return base.Fatal(&base.Error{Code: CodeStream, Where: "stream " + w.stream,
			What: fmt.Sprintf("the stream has %d replicas and the job requires %d", info.Config.Replicas, r),
			Next: "raise the stream's replicas, or lower what the job requires"})
	}
	if info.Config.NoAck {
		return base.Fatal(&base.Error{Code: CodeStream, What: "the stream does not acknowledge messages (no_ack)", Where: "stream " + w.stream,
			Next: "allow acknowledgements"})
	}
	subjects := info.Config.Subjects
	w.space.Store(&subjects)
	w.largest.Store(int64(w.chunkLimits(int(w.nc.MaxPayload()), int(info.Config.MaxMsgSize)).MaxMessage))
	w.js, err = natsjs.New(w.nc, natsjs.WithPublishAsyncMaxPending(2*maxWindow), natsjs.WithPublishAsyncTimeout(ackTimeout))
	return err
}

// Write implements connectors.Writer. It blocks while the window is full.
func (w *directWriter) Write(ctx context.Context, msgs []connectors.Message) error {
	for i := range msgs {
		m := &msgs[i]
		if err := w.checkSubject(m.Subject); err != nil {
			return err
		}
		for len(w.pending) >= w.window || w.broken && len(w.pending) > 0 {
			if err := w.settle(ctx); err != nil {
				return err
			}
		}
		// The message waits for its acknowledgement, so it needs data of its own.
		out := &nats.Msg{Subject: m.Subject, Data: append([]byte(nil), m.Data...)}
		out.Header = nats.Header{hdrExpectName: {w.stream}}
		addHeaders(out.Header, m.Headers)
		s := sent{msg: out}
		w.publish(&s, len(w.pending) == 0)
		w.pending = append(w.pending, s)
	}
	return nil
}

// publish sends one message, the first of a window or another. A failure shows when
// the message settles; nothing is sent behind it.
func (w *directWriter) publish(s *sent, first bool) {
	now := w.nc.Stats().Reconnects
	if first {
		w.connection, w.broken = now, false
	}
	if w.broken = w.broken || now != w.connection; w.broken {
		s.future = failed{errOtherConnection}
		return
	}
	// The client gives a message a reply subject only once.
	out := *s.msg
	f, err := w.js.PublishMsgAsync(&out)
	if err != nil {
		s.future, w.broken = failed{err}, true
		return
	}
	s.future = f
}

// settle waits for the oldest message and, when it failed, sends the window again.
func (w *directWriter) settle(ctx context.Context) error {
	err := w.await(ctx, w.pending[0].future)
	for try := 0; err != nil; {
		if ctx.Err() != nil {
			return err
		}
		// An outage may last: it holds the job up and does not use up the tries.
		if w.nc.Status() == nats.CONNECTED {
			try++
		}
		if permanent(err) || try == resendTries || w.nc.IsClosed() {
			return w.refused(err)
		}
		// Everything behind must be settled first: a message that is still on its
		// way could otherwise land between the repeated ones.
		for i := range w.pending[1:] {
			_ = w.await(ctx, w.pending[i+1].future)
		}
		if err := w.env.Clock.Sleep(ctx, resendWait); err != nil {
			return err
		}
		for i := range w.pending {
			w.publish(&w.pending[i], i == 0)
		}
		err = w.await(ctx, w.pending[0].future)
	}
	w.pending[0] = sent{}
	if w.pending = w.pending[1:]; len(w.pending) == 0 {
		w.pending = nil // lets go of the memory of past windows
	}
	return nil
}

func (w *directWriter) await(ctx context.Context, f natsjs.PubAckFuture) error {
	select {
	case <-f.Ok():
		return nil
	case err := <-f.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// permanent reports whether a message would be refused again.
func permanent(err error) bool {
	if e, ok := errors.AsType[*natsjs.APIError](err); ok {
		return errors.Is(classify(e), errDefinite) && !errors.Is(classify(e), errTransient) && !strings.Contains(e.Description, "maximum ")
	}
	return errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadSubject) || errors.Is(err, nats.ErrBadHeaderMsg)
}

func (w *directWriter) refused(err error) error {
	if !permanent(err) {
		return fmt.Errorf("publish to stream %s: %w", w.stream, err)
	}
	return errors.Join(&base.Error{Code: CodePublish, What: "the server refuses a message", Where: "subject " + quote(w.pending[0].msg.Subject), Cause: err,
		Next: "correct the record or the stream's limits"}, connectors.ErrRejected)
}

// Flush implements connectors.Writer.
func (w *directWriter) Flush(ctx context.Context) error {
	for len(w.pending) > 0 {
		if err := w.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Close implements connectors.Writer. It does not wait for acknowledgements.
func (w *directWriter) Close() error {
	w.pending = nil
	if w.js != nil {
		w.js.CleanupPublisher()
	}
	w.release()
	return nil
}

// failed is the future of a message that was never sent.
type failed struct{ err error }

// Ok implements natsjs.PubAckFuture: it never delivers.
func (failed) Ok() <-chan *natsjs.PubAck { return nil }

// Err implements natsjs.PubAckFuture.
func (f failed) Err() <-chan error {
	c := make(chan error, 1)
	c <- f.err
	return c
}

// Msg implements natsjs.PubAckFuture.
func (failed) Msg() *nats.Msg { return nil }
