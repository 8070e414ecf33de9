package memory

import (
	"context"
	"slices"
	"sync"

	"github.com/weirflow/weir/connectors"
)

// Direct is an at-least-once target in memory. Written messages are visible at
// once, but not safe before a flush of their writer; see Crash. It is safe for
// concurrent use.
type Direct struct {
	mu    sync.Mutex
	log   []directEntry
	fault func(flush bool, messages int) error
}

type directEntry struct {
	connectors.Message
	writer *directWriter // nil once flushed
}

// NewDirectTarget returns an empty at-least-once target.
func NewDirectTarget() *Direct { return &Direct{} }

// Kind implements connectors.Target.
func (d *Direct) Kind() string { return "memory" }

// Class implements connectors.Target.
func (d *Direct) Class() connectors.Class { return connectors.AtLeastOnce }

// OpenWriter implements connectors.DirectTarget.
func (d *Direct) OpenWriter(context.Context, connectors.SinkEnv, int) (connectors.Writer, error) {
	return &directWriter{d}, nil
}

// OnWrite sets what decides whether a Write of some messages, or a Flush, fails;
// nil ends it. A Write that fails has written nothing.
func (d *Direct) OnWrite(f func(flush bool, messages int) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

// Crash loses the messages that no Flush covers, as a target does whose machine
// loses its power.
func (d *Direct) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = slices.DeleteFunc(d.log, func(e directEntry) bool { return e.writer != nil })
}

// Messages returns what a reader sees, in the order of the writes.
func (d *Direct) Messages() []connectors.Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]connectors.Message, len(d.log))
	for i := range d.log {
		out[i] = d.log[i].Message
	}
	return out
}

type directWriter struct{ d *Direct }

// Write implements connectors.Writer.
func (w *directWriter) Write(ctx context.Context, msgs []connectors.Message) error {
	if err := w.hit(ctx, false, len(msgs)); err != nil {
		return err
	}
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	for i := range msgs {
		w.d.log = append(w.d.log, directEntry{copyMessage(&msgs[i]), w})
	}
	return nil
}

// Flush implements connectors.Writer.
func (w *directWriter) Flush(ctx context.Context) error {
	if err := w.hit(ctx, true, 0); err != nil {
		return err
	}
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	for i := range w.d.log {
		if w.d.log[i].writer == w {
			w.d.log[i].writer = nil
		}
	}
	return nil
}

func (w *directWriter) hit(ctx context.Context, flush bool, messages int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.d.mu.Lock()
	f := w.d.fault
	w.d.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(flush, messages)
}

// Close implements connectors.Writer. What was not flushed stays unsafe.
func (w *directWriter) Close() error { return nil }
