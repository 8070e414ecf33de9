package memory_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/protocol"
)

type pair struct {
	K string
	N int
}

func encode(t *testing.T, s connectors.Sink[pair], p pair, h *base.Headers) connectors.Message {
	t.Helper()
	var m connectors.Message
	if err := s.Encode(&m, &base.Meta{Headers: h}, &p); err != nil {
		t.Fatal(err)
	}
	return m
}

func marker(lane int, epoch base.Epoch, n int) protocol.Marker {
	return protocol.Marker{Job: "j", Lane: protocol.LaneID{Sink: "s", Lane: lane}, Epoch: epoch, Chunk: 1, Chunks: 1, Count: uint32(n)}
}

func TestSinkFaults(t *testing.T) {
	s := memory.NewSink[pair](memory.WithLanes(2))
	v := clock.NewVirtual(0)
	w, err := s.OpenLanes(t.Context(), connectors.SinkEnv{Job: "j", Sink: "s", Clock: v})
	if err != nil {
		t.Fatal(err)
	}
	head := &base.Headers{{Name: "a", Value: "b"}}
	one := []connectors.Message{encode(t, s.Sink(), pair{"x", 1}, head)}
	var next memory.Fault
	s.OnPublish(func(memory.Attempt) memory.Fault { return next })

	next = memory.Fault{Outcome: memory.LostWrite}
	_, lost := w.PublishChunk(t.Context(), 0, one, marker(0, 1, 1), 0)
	if lost == nil || len(s.Visible()) != 0 {
		t.Fatalf("lost write: %v, %v", lost, s.Visible())
	}
	next = memory.Fault{Outcome: memory.LostAck}
	if _, err := w.PublishChunk(t.Context(), 0, one, marker(0, 1, 1), 0); err == nil || err.Error() != lost.Error() {
		t.Fatalf("the two unknown outcomes can be told apart: %v, %v", err, lost)
	}
	if got := s.Visible(); !slices.Equal(got, []pair{{"x", 1}}) || s.Messages()[0].Headers.Get("a") != "b" {
		t.Fatalf("visible %v", got)
	}
	next = memory.Fault{Outcome: memory.Refused}
	if _, err := w.PublishChunk(t.Context(), 1, one, marker(1, 1, 1), 0); !errors.Is(err, connectors.ErrRejected) {
		t.Fatalf("refused: %v", err)
	}

	next = memory.Fault{Delay: time.Second}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := w.PublishChunk(ctx, 1, one, marker(1, 1, 1), 0); done <- err }()
	v.BlockUntil(1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || len(s.Visible()) != 1 {
		t.Fatalf("cancelled: %v", err)
	}
	for name, m := range map[string]protocol.Marker{"count": marker(1, 1, 2), "lane": marker(0, 1, 1)} {
		if _, err := w.PublishChunk(t.Context(), 1, one, m, 0); !errors.Is(err, connectors.ErrRejected) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
}

func TestDirectCrash(t *testing.T) {
	s := memory.NewDirect[pair]()
	a, _ := s.OpenWriter(t.Context(), connectors.SinkEnv{}, 0)
	b, _ := s.OpenWriter(t.Context(), connectors.SinkEnv{}, 1)
	write := func(w connectors.Writer, n int) {
		t.Helper()
		if err := w.Write(t.Context(), []connectors.Message{encode(t, s.Sink(), pair{"k", n}, nil)}); err != nil {
			t.Fatal(err)
		}
	}
	write(a, 1)
	write(b, 2)
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(a, 3)
	if got := s.Visible(); len(got) != 3 {
		t.Fatalf("visible %v", got)
	}
	s.Crash()
	if got := s.Visible(); !slices.Equal(got, []pair{{"k", 1}}) {
		t.Fatalf("after the crash %v", got)
	}
	boom := errors.New("boom")
	s.OnWrite(func(flush bool, n int) error {
		if flush {
			return boom
		}
		return nil
	})
	write(b, 4)
	if err := b.Flush(t.Context()); !errors.Is(err, boom) {
		t.Fatal(err)
	}
}

func TestBuildErrors(t *testing.T) {
	if err := memory.NewSink[chan int]().BuildError(); err == nil {
		t.Error("a channel was accepted")
	}
	if err := memory.NewSink[int](memory.WithLanes(0)).BuildError(); base.CodeOf(err) != "WEIR-0540" {
		t.Errorf("no lanes: %v", err)
	}
}

func TestMarksStandWhereTheyWereAdded(t *testing.T) {
	s := memory.NewSource[int]()
	s.Mark("0", 1)
	s.Append("0", 5, 10)
	s.Mark("0", 2)
	s.Mark("0", 3)
	s.Append("0", 6, 11)
	read := func(after connectors.Position, max int) (connectors.Records[int], connectors.Position) {
		r, err := s.Open(t.Context(), connectors.Split{ID: "0"}, after, connectors.ReaderEnv{})
		if err != nil {
			t.Fatal(err)
		}
		var recs connectors.Records[int]
		if _, err := r.Poll(&recs, max); err != nil {
			t.Fatal(err)
		}
		return recs, r.Position()
	}
	recs, pos := read(connectors.Position{}, 1)
	if want := []connectors.Mark{{After: 0, Watermark: 1}, {After: 1, Watermark: 2}, {After: 1, Watermark: 3}}; !slices.Equal(recs.Marks, want) {
		t.Fatalf("marks %v", recs.Marks)
	}
	recs, _ = read(pos, 10)
	if want := []connectors.Mark{{After: 0, Watermark: 2}, {After: 0, Watermark: 3}}; !slices.Equal(recs.Marks, want) || recs.Values[0] != 11 {
		t.Fatalf("after resuming: marks %v values %v", recs.Marks, recs.Values)
	}
}
