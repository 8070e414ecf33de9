package jetstream_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/natsd"
)

// Run these with a fixed count, such as -benchtime 200000x: an operation is one
// record of 100 bytes.

func benchServer(b *testing.B) (context.Context, *nats.Conn) {
	b.Helper()
	s, err := natsd.Start(natsd.Options{Dir: b.TempDir(), Port: -1, SyncAlways: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Shutdown)
	nc, err := jetstream.Dial(jetstream.Config{URL: s.URL()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	b.Cleanup(cancel)
	return jetstream.WithProvider(ctx, jetstream.FromConn(nc)), nc
}

var benchBody = bytes.Repeat([]byte("x"), 100)

func fill(b *testing.B, ctx context.Context, nc *nats.Conn) {
	ensure(b, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}})
	p := jetstream.NewBatchPublisher(nc, "S")
	for range b.N {
		if err := p.Add(ctx, "s", benchBody, nil); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkBatchPublisher(b *testing.B) {
	ctx, nc := benchServer(b)
	fill(b, ctx, nc)
}

func BenchmarkSource(b *testing.B) {
	ctx, nc := benchServer(b)
	fill(b, ctx, nc)
	b.ResetTimer()
	benchRead(b, ctx, b.N, "S")
}

func benchRead(b *testing.B, ctx context.Context, n int, stream string) {
	src := jetstream.Stream[string](stream, jetstream.Raw())
	splits, err := src.Splits(ctx)
	if err != nil {
		b.Fatal(err)
	}
	wake := make(chan struct{}, 1)
	r, err := src.Open(ctx, splits[0], connectors.Position{}, readerEnv(wake))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	var recs connectors.Records[string]
	for got := 0; got < n; {
		recs.Reset()
		p, err := r.Poll(&recs, 256)
		if err != nil {
			b.Fatal(err)
		}
		if got += len(recs.Values); !p.More && got < n {
			<-wake
		}
	}
}

// BenchmarkBareConsume is the loop to compare BenchmarkSource with.
func BenchmarkBareConsume(b *testing.B) {
	ctx, nc := benchServer(b)
	fill(b, ctx, nc)
	b.ResetTimer()
	j, err := natsjs.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	con, err := j.CreateConsumer(ctx, "S", natsjs.ConsumerConfig{AckPolicy: natsjs.AckNonePolicy, MemoryStorage: true})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	n := 0
	cc, err := con.Consume(func(natsjs.Msg) {
		if n++; n == b.N {
			close(done)
		}
	}, natsjs.PullMaxMessages(2000))
	if err != nil {
		b.Fatal(err)
	}
	<-done
	cc.Stop()
}

func BenchmarkLanes(b *testing.B) {
	for _, c := range []struct {
		name  string
		chunk int
		opts  []jetstream.SinkOption
	}{
		{"messages", 999, nil},
		{"blocks", 40_000, []jetstream.SinkOption{jetstream.Blocks("out.block")}},
	} {
		b.Run(c.name, func(b *testing.B) {
			ctx, nc := benchServer(b)
			outStream(b, ctx, nc)
			w := lanes(b, ctx, c.opts...)
			msgs := make([]connectors.Message, c.chunk)
			for i := range msgs {
				msgs[i] = connectors.Message{Subject: "out.x", Data: benchBody}
			}
			b.ResetTimer()
			var seq uint64
			var err error
			for done, e := 0, base.Epoch(1); done < b.N; e++ {
				n := min(c.chunk, b.N-done)
				if seq, err = w.PublishChunk(ctx, 0, msgs[:n], marker(e, 1, 1, 1, n), seq); err != nil {
					b.Fatal(err)
				}
				done += n
			}
			b.StopTimer()
			if c.name == "blocks" {
				began := time.Now()
				benchRead(b, ctx, b.N, "OUT")
				b.ReportMetric(float64(time.Since(began).Nanoseconds())/float64(b.N), "read-ns/op")
			}
		})
	}
}

func BenchmarkImmediate(b *testing.B) {
	s, err := natsd.Start(natsd.Options{Dir: b.TempDir(), Port: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Shutdown()
	nc, err := jetstream.Dial(jetstream.Config{URL: s.URL()})
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	ctx := testContext(b, nc)
	outStream(b, ctx, nc)
	sink := jetstream.Publish("OUT", func(string) string { return "out.x" }, jetstream.Raw(), jetstream.Immediate())
	w, err := sink.Target.(connectors.DirectTarget).OpenWriter(ctx, sinkEnv(), 0)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	msgs := make([]connectors.Message, 256)
	for i := range msgs {
		msgs[i] = connectors.Message{Subject: "out.x", Data: benchBody, Headers: base.Headers{{Name: connectors.OriginHeader, Value: fmt.Sprint(i)}}}
	}
	b.ResetTimer()
	for done := 0; done < b.N; done += len(msgs) {
		if err := w.Write(ctx, msgs[:min(len(msgs), b.N-done)]); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Flush(ctx); err != nil {
		b.Fatal(err)
	}
}
