package conformance_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/conformance"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/natsd"
)

// stream makes an empty stream on a server of its own.
func stream(t testing.TB, name string, subjects ...string) (context.Context, *nats.Conn) {
	t.Helper()
	s, err := natsd.Start(natsd.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	if _, err := jetstream.Ensure(ctx, nc, jetstream.StreamSpec{Name: name, Subjects: subjects}); err != nil {
		t.Fatal(err)
	}
	return jetstream.WithProvider(ctx, jetstream.FromConn(nc)), nc
}

func publish(t testing.TB, ctx context.Context, nc *nats.Conn, bodies ...string) {
	t.Helper()
	p := jetstream.NewBatchPublisher(nc, "IN")
	for _, b := range bodies {
		if err := p.Add(ctx, "in.x", []byte(b), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestJetStreamSource(t *testing.T) {
	conformance.Source(t, func(t testing.TB) conformance.SourceFixture[string] {
		ctx, nc := stream(t, "IN", "in.>")
		src := jetstream.Stream[string]("IN", jetstream.Raw())
		splits, err := src.Splits(ctx)
		if err != nil {
			t.Fatal(err)
		}
		f := conformance.SourceFixture[string]{Source: src, Context: ctx, Want: map[string][]conformance.Item[string]{}}
		var bodies []string
		for i := range 30 {
			bodies = append(bodies, fmt.Sprint("body ", i))
			f.Want[splits[0].ID] = append(f.Want[splits[0].ID], conformance.Item[string]{Value: bodies[i]})
		}
		publish(t, ctx, nc, bodies...)
		f.Append = func(string) conformance.Item[string] {
			publish(t, ctx, nc, "late")
			return conformance.Item[string]{Value: "late"}
		}
		js, err := natsjs.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		f.Recreate = func(string) {
			if err := js.DeleteStream(ctx, "IN"); err != nil {
				t.Fatal(err)
			}
			if _, err := jetstream.Ensure(ctx, nc, jetstream.StreamSpec{Name: "IN", Subjects: []string{"in.>"}}); err != nil {
				t.Fatal(err)
			}
			publish(t, ctx, nc, bodies...)
		}
		f.LoseHead = func(_ string, n int) {
			s, err := js.Stream(ctx, "IN")
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Purge(ctx, natsjs.WithPurgeSequence(uint64(n)+1)); err != nil {
				t.Fatal(err)
			}
		}
		return f
	})
}

func sinkFixture(opts ...jetstream.SinkOption) func(testing.TB) conformance.SinkFixture {
	return func(t testing.TB) conformance.SinkFixture {
		ctx, nc := stream(t, "OUT", "out.>")
		target := func() connectors.Target {
			return jetstream.Publish("OUT", func(string) string { return "out.x" }, append(opts, jetstream.Raw())...).Target
		}
		js, err := natsjs.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		return conformance.SinkFixture{
			Target: target(), Reopen: target, Context: ctx,
			Subject: func(int) string { return "out.x" },
			Read:    func(t testing.TB) [][]byte { return stored(t, ctx, js) },
		}
	}
}

// stored reads what the stream holds on the subject of the sink, until the server
// has nothing more to deliver. The counts that a server reports would not do: they
// move while a batch is being stored, which its messages do not.
func stored(t testing.TB, ctx context.Context, js natsjs.JetStream) [][]byte {
	c, err := js.OrderedConsumer(ctx, "OUT", natsjs.OrderedConsumerConfig{FilterSubjects: []string{"out.x"}})
	if err != nil {
		t.Errorf("consumer: %v", err)
		return nil
	}
	var out [][]byte
	for {
		batch, err := c.FetchNoWait(1000)
		if err != nil {
			t.Errorf("read: %v", err)
			return out
		}
		before := len(out)
		for m := range batch.Messages() {
			out = append(out, m.Data())
		}
		if err := batch.Error(); err != nil {
			t.Errorf("read: %v", err)
			return out
		}
		if len(out) == before {
			return out
		}
	}
}

func TestJetStreamSinks(t *testing.T) {
	t.Run("lanes", func(t *testing.T) { conformance.Sink(t, sinkFixture()) })
	t.Run("immediate", func(t *testing.T) { conformance.Sink(t, sinkFixture(jetstream.Immediate())) })
}
