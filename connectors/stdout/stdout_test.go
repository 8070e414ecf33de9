package stdout_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/conformance"
	"github.com/weirflow/weir/connectors/stdout"
	"github.com/weirflow/weir/internal/base"
)

// output is a writer that can be read while it is written.
type output struct {
	mu  sync.Mutex
	buf []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = append(o.buf, p...)
	return len(p), nil
}

func (o *output) lines() [][]byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := bytes.Split(bytes.Clone(o.buf), []byte("\n"))
	return lines[:len(lines)-1]
}

func TestConformance(t *testing.T) {
	conformance.Sink(t, func(testing.TB) conformance.SinkFixture {
		out := &output{}
		return conformance.SinkFixture{
			Target: stdout.PrintTo[int](out).Target,
			Read:   func(testing.TB) [][]byte { return out.lines() },
		}
	})
}

func TestPrint(t *testing.T) {
	var out bytes.Buffer
	s := stdout.PrintTo[map[string]string](&out)
	var m connectors.Message
	v := map[string]string{"a<b": "line\nbreak"}
	if err := s.Encode(&m, &base.Meta{}, &v); err != nil {
		t.Fatal(err)
	}
	w, err := s.Target.(connectors.DirectTarget).OpenWriter(t.Context(), connectors.SinkEnv{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(t.Context(), []connectors.Message{m, m}); err != nil {
		t.Fatal(err)
	}
	const line = `{"a<b":"line\nbreak"}` + "\n"
	if out.String() != line+line {
		t.Fatalf("printed %q", out.String())
	}
}

func TestClosedPipe(t *testing.T) {
	r, pw := io.Pipe()
	r.Close()
	w, err := stdout.PrintTo[int](pw).Target.(connectors.DirectTarget).OpenWriter(t.Context(), connectors.SinkEnv{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = w.Write(t.Context(), []connectors.Message{{Data: []byte("1")}})
	if base.CodeOf(err) != "WEIR-0530" || !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("got %v", err)
	}
}

func TestNoJSONForm(t *testing.T) {
	s := stdout.PrintTo[chan int](io.Discard)
	if s.Target.(connectors.BuildChecker).BuildError() == nil {
		t.Error("a channel is no build error")
	}
	if _, err := s.Target.(connectors.DirectTarget).OpenWriter(t.Context(), connectors.SinkEnv{}, 0); err == nil {
		t.Error("a channel can be printed")
	}
}
