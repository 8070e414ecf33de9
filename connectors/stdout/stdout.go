// Package stdout prints records as JSON, one per line, for people and for pipes.
// It is an at-least-once sink: after a failure lines may come again.
package stdout

import (
	"context"
	"io"
	"os"
	"sync"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

// maxLine bounds an encoded record, in bytes.
const maxLine = 64 << 20

// Print is a sink that prints records to standard output.
func Print[T any]() connectors.Sink[T] { return PrintTo[T](os.Stdout) }

// PrintTo is a sink that prints records to w. A Write of w gets whole lines, and
// only one Write runs at a time; a flush hands nothing further on, because lines
// are not held back. A T that has no JSON form is a build error.
func PrintTo[T any](w io.Writer) connectors.Sink[T] {
	f, err := codec.JSON[T](codec.JSONOptions{Limits: codec.Limits{MaxRecord: maxLine, Elems: maxLine}})
	t := &target{w: w, err: err}
	encode := func(msg *connectors.Message, _ *base.Meta, v *T) error {
		if t.err != nil {
			return base.Fatal(t.err)
		}
		var err error
		msg.Subject, msg.Headers = "", nil
		msg.Data, err = f.Encode(msg.Data[:0], v)
		return err
	}
	return connectors.Sink[T]{Encode: encode, Target: t}
}

// target is one output that all subtasks share.
type target struct {
	err error

	mu  sync.Mutex // guards w and buf
	w   io.Writer
	buf []byte
}

// Kind implements connectors.Target.
func (t *target) Kind() string { return "stdout" }

// Class implements connectors.Target.
func (t *target) Class() connectors.Class { return connectors.AtLeastOnce }

// BuildError implements connectors.BuildChecker.
func (t *target) BuildError() error { return t.err }

// OpenWriter implements connectors.DirectTarget.
func (t *target) OpenWriter(context.Context, connectors.SinkEnv, int) (connectors.Writer, error) {
	if t.err != nil {
		return nil, base.Fatal(t.err)
	}
	return writer{t}, nil
}

type writer struct{ t *target }

// Write implements connectors.Writer.
func (w writer) Write(ctx context.Context, msgs []connectors.Message) error {
	if err := ctx.Err(); err != nil || len(msgs) == 0 {
		return err
	}
	t := w.t
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = t.buf[:0]
	for i := range msgs {
		t.buf = append(append(t.buf, msgs[i].Data...), '\n')
	}
	if _, err := t.w.Write(t.buf); err != nil {
		return &base.Error{Code: "WEIR-0530", What: "a record could not be printed", Next: "check what the output is piped into", Cause: err}
	}
	return nil
}

// Flush implements connectors.Writer.
func (w writer) Flush(ctx context.Context) error { return ctx.Err() }

// Close implements connectors.Writer. The output stays open: it is the caller's.
func (w writer) Close() error { return nil }
