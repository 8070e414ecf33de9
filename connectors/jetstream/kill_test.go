package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
)

// killings is how often the lane test kills the server.
func killings() int32 {
	if testing.Short() {
		return 3
	}
	return 10
}

// storm kills and restarts a server until it is told to stop.
type storm struct {
	dir   string
	port  int
	child *child
	kills atomic.Int32
	// watched is a client that must be back before the next kill, so that slow
	// machines make progress.
	watched atomic.Pointer[nats.Conn]
	stop    chan struct{}
	done    chan struct{}
}

func startStorm(t *testing.T, sync bool, pause func() time.Duration) *storm {
	t.Helper()
	s := &storm{dir: t.TempDir(), port: freePort(t), stop: make(chan struct{}), done: make(chan struct{})}
	s.child = startChild(t, s.dir, s.port, sync)
	go func() {
		defer close(s.done)
		for {
			for nc := s.watched.Load(); nc != nil && nc.Status() != nats.CONNECTED && !nc.IsClosed(); {
				time.Sleep(5 * time.Millisecond)
			}
			select {
			case <-s.stop:
				return
			case <-time.After(pause()):
			}
			s.child.kill()
			s.kills.Add(1)
			s.child = startChild(t, s.dir, s.port, sync)
		}
	}()
	t.Cleanup(func() { s.end(); s.child.stop() })
	return s
}

// end stops the killing; the server is up afterwards.
func (s *storm) end() {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	<-s.done
}

// connected waits until the client has noticed that the server is up.
func connected(t *testing.T, nc *nats.Conn) {
	t.Helper()
	for range 1000 {
		if nc.Status() == nats.CONNECTED {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the client does not reconnect")
}

func dial(t testing.TB, port int) *nats.Conn {
	t.Helper()
	nc, err := jetstream.Dial(jetstream.Config{URL: fmt.Sprint("nats://127.0.0.1:", port)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// committer drives one lane as the engine does: it ties each chunk to the marker
// before it, and reads the marker when the outcome is unknown.
type committer struct {
	w       connectors.LaneWriter
	seq     uint64
	unknown map[string]int
}

func (c *committer) commit(ctx context.Context, msgs []connectors.Message, m protocol.Marker) error {
	for {
		seq, err := c.w.PublishChunk(ctx, 0, msgs, m, c.seq)
		if err == nil {
			c.seq = seq
			return nil
		}
		if errors.Is(err, connectors.ErrRejected) || ctx.Err() != nil {
			return err
		}
		for {
			have, at, found, rerr := c.w.ReadMarker(ctx, 0)
			if rerr != nil {
				if ctx.Err() != nil {
					return rerr
				}
				time.Sleep(5 * time.Millisecond)
				continue
			}
			switch {
			case found && have.ID() == m.ID():
				c.unknown["was committed"]++
				c.seq = at
				return nil
			case !found && c.seq == 0, found && at == c.seq:
				c.unknown["was not"]++
			default:
				return fmt.Errorf("marker %+v at %d, expected it at %d: %w", have, at, c.seq, err)
			}
			break
		}
	}
}

// TestKilledServerLanes: a committer through kill -9 of the server in the middle of
// batches, beside zombies that replay old chunks with the expectation of their
// time. Nothing is lost, doubled, torn or reordered.
func TestKilledServerLanes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := startStorm(t, seed%2 == 0, func() time.Duration { return time.Duration(50+rand.IntN(250)) * time.Millisecond })
	nc := dial(t, s.port)
	s.watched.Store(nc)
	ctx := testContext(t, nc)
	for jetstreamEnsure(ctx, nc) != nil {
		time.Sleep(10 * time.Millisecond)
	}
	c := &committer{w: openThrough(t, ctx), unknown: map[string]int{}}

	type old struct {
		msgs   []connectors.Message
		m      protocol.Marker
		expect uint64
	}
	var mu sync.Mutex
	var past []old
	zctx, stopZombie := context.WithCancel(ctx)
	var zombies sync.WaitGroup
	var refused atomic.Int32
	zombies.Go(func() {
		znc := dial(t, s.port)
		zw := openThrough(t, testContext(t, znc))
		for i := 0; zctx.Err() == nil; i++ {
			mu.Lock()
			var o old
			if len(past) > 0 {
				o = past[i%len(past)]
			}
			mu.Unlock()
			if o.msgs == nil {
				time.Sleep(time.Millisecond)
				continue
			}
			_, err := zw.PublishChunk(zctx, 0, o.msgs, o.m, o.expect)
			if err == nil {
				t.Errorf("a zombie's chunk %d was stored with the expectation %d", o.m.Epoch, o.expect)
				return
			}
			if errors.Is(err, connectors.ErrConflict) {
				refused.Add(1)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	next, epoch := 0, base.Epoch(0)
	for s.kills.Load() < killings() || refused.Load() == 0 {
		n := 1 + rng.IntN(999)
		epoch++
		o := old{messages(next, n), marker(epoch, 1, 1, 1, n), c.seq}
		if err := c.commit(ctx, o.msgs, o.m); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		past = append(past, o)
		mu.Unlock()
		next += n
	}
	stopZombie()
	zombies.Wait()
	s.end()
	t.Logf("%d messages in %d chunks, %d kills, unknown outcomes %v, zombie refused %d times", next, epoch, s.kills.Load(), c.unknown, refused.Load())
	checkStored(t, ctx, nc, "OUT", "out.>", next)
}

func jetstreamEnsure(ctx context.Context, nc *nats.Conn) error {
	_, err := jetstream.Ensure(ctx, nc, jetstream.StreamSpec{Name: "OUT", Subjects: []string{"out.>"}})
	return err
}

// openThrough opens a lane writer on a server that may be down at the moment.
func openThrough(t testing.TB, ctx context.Context) connectors.LaneWriter {
	t.Helper()
	for {
		w, err := tryLanes(ctx, sinkEnv())
		if err == nil {
			t.Cleanup(func() { _ = w.Close() })
			return w
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// checkStored reads a stream by the client's own ordered consumer and fails unless
// it holds exactly "0" to "n-1", in order, on subjects that match the filter.
func checkStored(t *testing.T, ctx context.Context, nc *nats.Conn, stream, filter string, n int) {
	t.Helper()
	connected(t, nc)
	con, err := js(t, nc).OrderedConsumer(ctx, stream, natsjs.OrderedConsumerConfig{FilterSubjects: []string{filter}})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < n; {
		batch, err := con.Fetch(1000, natsjs.FetchMaxWait(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for m := range batch.Messages() {
			got++
			if string(m.Data()) != fmt.Sprint(i) {
				t.Fatalf("message %d is %q", i, m.Data())
			}
			i++
		}
		if got == 0 {
			t.Fatalf("the stream ends after %d messages of %d", i, n)
		}
	}
	info, err := js(t, nc).Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	subjects, err := info.Info(ctx, natsjs.WithSubjectFilter(filter))
	if err != nil {
		t.Fatal(err)
	}
	var total uint64
	for _, k := range subjects.State.Subjects {
		total += k
	}
	if total != uint64(n) {
		t.Fatalf("the stream holds %d messages, want %d", total, n)
	}
}

// TestKilledServerSource: a reader and a batch publisher through kill -9 of the
// server. What is read is what was published, without loss or repetition.
func TestKilledServerSource(t *testing.T) {
	s := startStorm(t, false, func() time.Duration { return time.Duration(100+rand.IntN(300)) * time.Millisecond })
	nc := dial(t, s.port)
	s.watched.Store(nc)
	ctx := testContext(t, nc)
	spec := jetstream.StreamSpec{Name: "S", Subjects: []string{"s.*"}}
	for {
		if _, err := jetstream.Ensure(ctx, nc, spec); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	// The producer goes on until the server was killed often enough, in runs of 500,
	// and names each run's end: how long that takes is up to the machine.
	const atLeast, kills = 5_000, 3
	runs := make(chan int, 10_000)
	var producer sync.WaitGroup
	producer.Go(func() {
		defer close(runs)
		p := jetstream.NewBatchPublisher(nc, "S")
		n := 0
		for ; n < atLeast || s.kills.Load() < kills; n++ {
			if err := p.Add(ctx, fmt.Sprint("s.", n%2), fmt.Append(nil, n), nil); err != nil {
				t.Error(err)
				return
			}
			if n%500 == 499 {
				if err := p.Flush(ctx); err != nil {
					t.Error(err)
					return
				}
				runs <- n + 1
				time.Sleep(15 * time.Millisecond)
			}
		}
		if err := p.Flush(ctx); err != nil {
			t.Error(err)
			return
		}
		runs <- n
		if stored, _ := p.Stored(); stored != uint64(n) {
			t.Errorf("stored %d of %d", stored, n)
		}
	})
	src := jetstream.Stream[string]("S", jetstream.Raw())
	var d *drive
	for d == nil {
		var err error
		if d, err = tryOpen(t, ctx, src, 0, connectors.Position{}); err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
	n := 0
	for n = range runs {
		d.read(n)
	}
	d.want(0, n)
	producer.Wait()
	s.end()
	t.Logf("%d kills, %d records", s.kills.Load(), n)
	checkStored(t, ctx, nc, "S", "s.*", n)
}

// TestKilledServerImmediate: everything arrives, and without the repetitions it is
// in order.
func TestKilledServerImmediate(t *testing.T) {
	s := startStorm(t, false, func() time.Duration { return 200 * time.Millisecond })
	nc := dial(t, s.port)
	s.watched.Store(nc)
	ctx := testContext(t, nc)
	for jetstreamEnsure(ctx, nc) != nil {
		time.Sleep(10 * time.Millisecond)
	}
	sink := jetstream.Publish("OUT", func(string) string { return "out.x" }, jetstream.Raw(), jetstream.Immediate())
	var w connectors.Writer
	for w == nil {
		var err error
		if w, err = sink.Target.(connectors.DirectTarget).OpenWriter(ctx, sinkEnv(), 0); err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
	n := 0
	for ; n < 4_000 || s.kills.Load() < 2; n += 100 {
		i := n
		msgs := messages(i, 100)
		for k := range msgs {
			o := base.Origin{Split: 1, Pos: uint64(i + k)}
			msgs[k].Headers = base.Headers{{Name: connectors.OriginHeader, Value: o.String()}}
		}
		if err := w.Write(ctx, msgs); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			if err := w.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	s.end()
	connected(t, nc)
	d := readAll(t, ctx)
	next, repeated := 0, 0
	for i, v := range d.values {
		var k int
		_, _ = fmt.Sscan(v, &k)
		if got, want := d.heads[i].Get(connectors.OriginHeader), (base.Origin{Split: 1, Pos: uint64(k)}).String(); got != want {
			t.Fatalf("record %s has origin %q", v, got)
		}
		switch {
		case k == next:
			next++
		case k < next:
			repeated++
		default:
			t.Fatalf("record %d came before %d", k, next)
		}
	}
	t.Logf("%d kills, %d records, %d repetitions", s.kills.Load(), n, repeated)
	if next != n {
		t.Fatalf("%d of %d records", next, n)
	}
}

// TestServerLosesItsEnd: the server comes back with an older copy of its disk, as
// after a power cut without sync. A reader that had read further stops, also when
// new messages have taken the lost sequences meanwhile.
func TestServerLosesItsEnd(t *testing.T) {
	for _, refilled := range []bool{false, true} {
		t.Run(fmt.Sprint("refilled ", refilled), func(t *testing.T) {
			dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy")
			port := freePort(t)
			c := startChild(t, dir, port, true)
			nc := dial(t, port)
			ctx := testContext(t, nc)
			ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}})
			publish(t, ctx, nc, "S", 0, 10, subject("s"))
			c.kill()
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			c = startChild(t, dir, port, true)
			publish(t, ctx, nc, "S", 10, 10, subject("s"))
			d := open(t, ctx, jetstream.Stream[string]("S", jetstream.Raw()), 0, connectors.Position{}).read(20)
			c.kill()
			if refilled {
				// Another publisher is faster than the reader's reconnect: it uses the
				// server while that listens elsewhere.
				other := freePort(t)
				c = startChild(t, copied, other, true)
				publish(t, ctx, dial(t, other), "S", 100, 30, subject("s"))
				c.kill()
			}
			c = startChild(t, copied, port, true)
			defer c.stop()
			d.toEnd()
			wantFatal(t, d.err, jetstream.CodeLostEnd, connectors.ErrPositionLost, "lost messages that it had acknowledged")
			d.want(0, 20)
		})
	}
}
