package jetstream_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/natsd"
)

// childDir names the variable that makes the test binary a NATS server: a child
// that a test kills.
const (
	childDir  = "JETSTREAM_TEST_DIR"
	childPort = "JETSTREAM_TEST_PORT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		o := natsd.Options{Dir: dir, Port: -1, SyncAlways: os.Getenv("JETSTREAM_TEST_SYNC") == "1"}
		_, _ = fmt.Sscan(os.Getenv(childPort), &o.Port)
		if err := natsd.Serve(context.Background(), o, os.Stdout, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// serve starts a server in this process and connects to it.
func serve(t testing.TB) (*natsd.Server, *nats.Conn) {
	t.Helper()
	s, err := natsd.Start(natsd.Options{Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return s, nc
}

func testContext(t testing.TB, nc *nats.Conn) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return jetstream.WithProvider(ctx, jetstream.FromConn(nc))
}

func js(t testing.TB, nc *nats.Conn) natsjs.JetStream {
	t.Helper()
	j, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func ensure(t testing.TB, ctx context.Context, nc *nats.Conn, spec jetstream.StreamSpec) {
	t.Helper()
	if _, err := jetstream.Ensure(ctx, nc, spec); err != nil {
		t.Fatal(err)
	}
}

// publish stores "0", "1", … "n-1" as bodies, on the subject that f gives.
func publish(t testing.TB, ctx context.Context, nc *nats.Conn, stream string, from, n int, f func(int) string) {
	t.Helper()
	p := jetstream.NewBatchPublisher(nc, stream)
	for i := from; i < from+n; i++ {
		if err := p.Add(ctx, f(i), fmt.Append(nil, i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func subject(s string) func(int) string { return func(int) string { return s } }

// drive owns a reader of strings as an engine's task would.
type drive struct {
	t    testing.TB
	r    connectors.Reader[string]
	wake chan struct{}
	recs connectors.Records[string]
	// all that was read
	values []string
	pos    []uint64
	bad    []connectors.BadRecord
	heads  []*base.Headers
	end    bool
	err    error
}

func readerEnv(wake chan struct{}) connectors.ReaderEnv {
	return connectors.ReaderEnv{Clock: clock.Real(), Limits: connectors.DefaultLimits, Wake: func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}}
}

func open(t testing.TB, ctx context.Context, src connectors.Source[string], split int, after connectors.Position) *drive {
	t.Helper()
	d, err := tryOpen(t, ctx, src, split, after)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func tryOpen(t testing.TB, ctx context.Context, src connectors.Source[string], split int, after connectors.Position) (*drive, error) {
	t.Helper()
	splits, err := src.Splits(ctx)
	if err != nil {
		return nil, err
	}
	d := &drive{t: t, wake: make(chan struct{}, 1)}
	d.r, err = src.Open(ctx, splits[split], after, readerEnv(d.wake))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = d.r.Close() })
	return d, nil
}

// until polls, at most most records at a time, until stop says so, the end is
// reached or an error; it fails the test when nothing comes for long.
func (d *drive) until(most int, stop func() bool) *drive {
	d.t.Helper()
	patience := time.NewTimer(20 * time.Second)
	defer patience.Stop()
	for !stop() {
		d.recs.Reset()
		p, err := d.r.Poll(&d.recs, most)
		if n := len(d.recs.Values) + len(d.recs.Bad); n > most {
			d.t.Fatalf("%d records of at most %d", n, most)
		}
		d.values = append(d.values, d.recs.Values...)
		d.pos = append(d.pos, d.recs.Pos...)
		for i := range d.recs.Values {
			var h *base.Headers
			if len(d.recs.Headers) > 0 {
				h = d.recs.Headers[i]
			}
			d.heads = append(d.heads, h)
		}
		d.bad = append(d.bad, d.recs.Bad...)
		if d.end, d.err = p.End, err; d.end || err != nil {
			return d
		}
		if len(d.recs.Values)+len(d.recs.Bad) > 0 {
			patience.Reset(20 * time.Second)
		}
		if p.More || stop() {
			continue
		}
		select {
		case <-d.wake:
		case <-patience.C:
			d.t.Fatalf("nothing comes after %d records, position %+v", len(d.values), d.r.Position())
		}
	}
	return d
}

func (d *drive) read(n int) *drive {
	d.t.Helper()
	d.until(256, func() bool { return len(d.values) >= n })
	if d.err != nil {
		d.t.Fatal(d.err)
	}
	return d
}

// toEnd reads until the source ends or fails.
func (d *drive) toEnd() *drive {
	d.t.Helper()
	return d.until(256, func() bool { return false })
}

// want fails unless exactly the values from, …, to-1 were read, in order.
func (d *drive) want(from, to int) {
	d.t.Helper()
	if len(d.values) != to-from {
		d.t.Fatalf("read %d records, want %d (error %v)", len(d.values), to-from, d.err)
	}
	for i, v := range d.values {
		if v != fmt.Sprint(from+i) {
			d.t.Fatalf("record %d is %q, want %d", i, v, from+i)
		}
	}
}
