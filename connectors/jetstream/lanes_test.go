package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
)

const testJob = "00000000000000000000000000000001"

func sinkEnv() connectors.SinkEnv {
	return connectors.SinkEnv{Job: testJob, Sink: "out", Clock: clock.Real()}
}

func lanes(t testing.TB, ctx context.Context, opts ...jetstream.SinkOption) connectors.LaneWriter {
	t.Helper()
	w, err := tryLanes(ctx, sinkEnv(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func tryLanes(ctx context.Context, env connectors.SinkEnv, opts ...jetstream.SinkOption) (connectors.LaneWriter, error) {
	s := jetstream.Publish("OUT", func(s string) string { return "out." + s }, append(opts, jetstream.Raw())...)
	return s.Target.(connectors.LaneTarget).OpenLanes(ctx, env)
}

func marker(epoch base.Epoch, chunk, chunks uint32, gen base.Generation, count int) protocol.Marker {
	return protocol.Marker{Job: testJob, Lane: protocol.LaneID{Sink: "out"}, Epoch: epoch, Chunk: chunk, Chunks: chunks, Gen: gen, Count: uint32(count)}
}

func messages(from, n int) []connectors.Message {
	out := make([]connectors.Message, n)
	for i := range out {
		out[i] = connectors.Message{Subject: "out.x", Data: fmt.Append(nil, from+i)}
	}
	return out
}

// readAll reads the data messages of OUT by the source of this package.
func readAll(t testing.TB, ctx context.Context) *drive {
	t.Helper()
	d := open(t, ctx, jetstream.Stream[string]("OUT", jetstream.Raw(), jetstream.UntilNow()), 0, connectors.Position{}).toEnd()
	if d.err != nil {
		t.Fatal(d.err)
	}
	return d
}

func outStream(t testing.TB, ctx context.Context, nc *nats.Conn) {
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "OUT", Subjects: []string{"out.>"}})
}

func TestLaneProtocol(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	outStream(t, ctx, nc)
	w, zombie := lanes(t, ctx), lanes(t, ctx)

	if _, _, found, err := w.ReadMarker(ctx, 0); found || err != nil {
		t.Fatalf("a fresh lane has a marker (error %v)", err)
	}
	seq, err := w.PublishChunk(ctx, 0, messages(0, 999), marker(1, 1, 2, 1, 999), 0)
	if err != nil || seq != 1000 {
		t.Fatalf("sequence %d, error %v", seq, err)
	}
	// The zombie still believes that there is no marker.
	if _, err := zombie.PublishChunk(ctx, 0, messages(0, 999), marker(1, 1, 2, 1, 999), 0); !errors.Is(err, connectors.ErrConflict) {
		t.Fatalf("a zombie got %v", err)
	}
	seq2, err := w.PublishChunk(ctx, 0, messages(999, 1), marker(1, 2, 2, 1, 1), seq)
	if err != nil {
		t.Fatal(err)
	}
	m, got, found, err := zombie.ReadMarker(ctx, 0)
	if err != nil || !found || got != seq2 || m.ID() != marker(1, 2, 2, 1, 1).ID() || m.Count != 1 {
		t.Fatalf("marker %+v at %d, found %v, error %v; want sequence %d", m, got, found, err, seq2)
	}
	if _, err := zombie.PublishChunk(ctx, 0, messages(999, 1), marker(1, 2, 2, 1, 1), seq); !errors.Is(err, connectors.ErrConflict) {
		t.Fatalf("a zombie with a stale marker got %v", err)
	}
	// Another lane does not know of all this.
	if _, err := w.PublishChunk(ctx, 1, messages(1000, 5), marker(1, 1, 1, 1, 5), 0); err != nil {
		t.Fatal(err)
	}
	// A chunk without messages moves the marker alone.
	if _, err := w.PublishChunk(ctx, 0, nil, marker(2, 1, 1, 1, 0), seq2); err != nil {
		t.Fatal(err)
	}
	readAll(t, ctx).want(0, 1005)
	// One marker remains for each lane.
	s, err := js(t, nc).Stream(ctx, "OUT")
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(ctx, natsjs.WithSubjectFilter("weir.OUT.commit.>"))
	if err != nil || len(info.State.Subjects) != 2 {
		t.Fatalf("markers %v, error %v", info.State.Subjects, err)
	}
	for s, n := range info.State.Subjects {
		if n != 1 || !strings.HasPrefix(s, "weir.OUT.commit."+testJob+".out.") {
			t.Fatalf("%d messages on %s", n, s)
		}
	}
}

// TestCrashPoints: every instant of a commit that belongs to the connector is
// there, with what was published before it on its way.
func TestCrashPoints(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	outStream(t, ctx, nc)
	for name, opts := range map[string][]jetstream.SinkOption{"messages": nil, "blocks": {jetstream.Blocks("out.b")}} {
		w := lanes(t, ctx, opts...)
		disarm := crash.Arm()
		_, seq, _, err := w.ReadMarker(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.PublishChunk(ctx, 0, messages(0, 3), marker(1, 1, 1, 1, 3), seq); err != nil {
			t.Fatal(err)
		}
		hits := crash.Hits()
		for _, p := range []string{"commit.before_batch", "commit.mid_batch", "commit.before_marker", "commit.after_marker_unacked"} {
			if hits[p] != 1 {
				t.Errorf("%s: %s was reached %d times", name, p, hits[p])
			}
		}
		disarm()
	}
}

func TestChunkRefused(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	outStream(t, ctx, nc)
	w := lanes(t, ctx)
	big := messages(0, 1)
	big[0].Data = make([]byte, nc.MaxPayload()+1)
	foreign := messages(0, 3)
	foreign[1].Subject = "elsewhere.x"
	wild := messages(0, 1)
	wild[0].Subject = "out.*"
	for name, msgs := range map[string][]connectors.Message{
		"too many": messages(0, 1000), "too large": big, "foreign subject": foreign, "wildcard": wild,
	} {
		if _, err := w.PublishChunk(ctx, 0, msgs, marker(1, 1, 1, 1, len(msgs)), 0); !errors.Is(err, connectors.ErrRejected) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, _, found, err := w.ReadMarker(ctx, 0); found || err != nil {
		t.Fatalf("a refused chunk left a marker (error %v)", err)
	}
	if n := len(readAll(t, ctx).values); n != 0 {
		t.Fatalf("refused chunks left %d messages", n)
	}
	// The limits that are announced are those that work.
	l := w.Limits()
	full := messages(0, 1)
	full[0].Data = make([]byte, l.MaxMessage-len(full[0].Subject))
	if _, err := w.PublishChunk(ctx, 0, full, marker(1, 1, 1, 1, 1), 0); err != nil {
		t.Fatalf("a message of the announced size: %v", err)
	}
}

func TestHeadersPassThrough(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	outStream(t, ctx, nc)
	w := lanes(t, ctx)
	msgs := messages(0, 3)
	msgs[1].Headers = base.Headers{{Name: "traceparent", Value: "00-1"}, {Name: "Nats-TTL", Value: "1s"}, {Name: "a", Value: "x"}, {Name: "a", Value: "y"}}
	if _, err := w.PublishChunk(ctx, 0, msgs, marker(1, 1, 1, 1, 3), 0); err != nil {
		t.Fatal(err)
	}
	d := readAll(t, ctx)
	d.want(0, 3)
	if d.heads[0] != nil || d.heads[2] != nil {
		t.Fatalf("headers %v and %v from nowhere", d.heads[0], d.heads[2])
	}
	if got := fmt.Sprint(*d.heads[1]); got != "[{a x} {a y} {traceparent 00-1}]" {
		t.Fatalf("headers %s", got)
	}
}

func TestStreamPreconditions(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	j := js(t, nc)
	good := natsjs.StreamConfig{Name: "OUT", Subjects: []string{"out.>", "weir.OUT.commit.>"}, AllowAtomicPublish: true, AllowMsgTTL: true, AllowRollup: true}
	for name, c := range map[string]struct {
		change func(*natsjs.StreamConfig)
		says   string
	}{
		"no batches":  {func(c *natsjs.StreamConfig) { c.AllowAtomicPublish = false }, "allow_atomic"},
		"no TTL":      {func(c *natsjs.StreamConfig) { c.AllowMsgTTL = false }, "allow_msg_ttl"},
		"no rollup":   {func(c *natsjs.StreamConfig) { c.AllowRollup = false }, "allow_rollup_hdrs"},
		"memory":      {func(c *natsjs.StreamConfig) { c.Storage = natsjs.MemoryStorage }, "storage on disk"},
		"work queue":  {func(c *natsjs.StreamConfig) { c.Retention = natsjs.WorkQueuePolicy }, "limits retention"},
		"no markers":  {func(c *natsjs.StreamConfig) { c.Subjects = []string{"out.>"} }, "weir.OUT.commit.>"},
		"no stream":   {func(c *natsjs.StreamConfig) { c.Name = "OTHER"; c.Subjects = []string{"x"} }, "no stream"},
		"deny purge":  {func(c *natsjs.StreamConfig) { c.AllowRollup, c.DenyPurge = false, true }, "deny_purge"},
		"async store": {func(c *natsjs.StreamConfig) { c.AllowAtomicPublish, c.PersistMode = false, natsjs.AsyncPersistMode }, "persist_mode"},
	} {
		cfg := good
		c.change(&cfg)
		create(t, ctx, j, cfg)
		_, err := tryLanes(ctx, sinkEnv())
		if base.CodeOf(err) != jetstream.CodeStream || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %s and %q", name, err, jetstream.CodeStream, c.says)
		}
		if err := j.DeleteStream(ctx, cfg.Name); err != nil {
			t.Fatal(err)
		}
	}
	create(t, ctx, j, good)
	env := sinkEnv()
	env.Require.Replicas = 3
	if _, err := tryLanes(ctx, env); base.CodeOf(err) != jetstream.CodeStream || !errors.Is(err, base.ErrFatal) {
		t.Errorf("too few replicas: %v", err)
	}
	lanes(t, ctx)
	// Ensure makes a plain stream fit and is content with it afterwards.
	if err := j.DeleteStream(ctx, "OUT"); err != nil {
		t.Fatal(err)
	}
	create(t, ctx, j, natsjs.StreamConfig{Name: "OUT", Subjects: []string{"out.a"}})
	for range 2 {
		outStream(t, ctx, nc)
		lanes(t, ctx)
	}
}

// create makes a stream whose namesake was deleted a moment ago; the server may
// still be busy with that.
func create(t *testing.T, ctx context.Context, j natsjs.JetStream, c natsjs.StreamConfig) {
	t.Helper()
	for try := 0; ; try++ {
		_, err := j.CreateStream(ctx, c)
		if err == nil {
			return
		}
		if try == 20 {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestMarkerOutlivesMaxAge: without "Nats-TTL: never" the zombie at the end would
// be let in.
func TestMarkerOutlivesMaxAge(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "OUT", Subjects: []string{"out.>"}, MaxAge: time.Second})
	w := lanes(t, ctx)
	seq, err := w.PublishChunk(ctx, 0, messages(0, 10), marker(1, 1, 1, 1, 10), 0)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		info, err := js(t, nc).Stream(ctx, "OUT")
		if err != nil {
			t.Fatal(err)
		}
		if info.CachedInfo().State.Msgs == 1 { // the data is gone
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages left", info.CachedInfo().State.Msgs)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, got, found, err := w.ReadMarker(ctx, 0); !found || got != seq || err != nil {
		t.Fatalf("the marker is gone: found %v at %d, error %v", found, got, err)
	}
	if _, err := w.PublishChunk(ctx, 0, messages(0, 10), marker(1, 1, 1, 1, 10), 0); !errors.Is(err, connectors.ErrConflict) {
		t.Fatalf("a zombie got %v", err)
	}
	if _, err := w.PublishChunk(ctx, 0, messages(10, 10), marker(2, 1, 1, 1, 10), seq); err != nil {
		t.Fatal(err)
	}
}

func TestBlocksRoundTrip(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	outStream(t, ctx, nc)
	w := lanes(t, ctx, jetstream.Blocks("out.block"))
	n := 30_000
	msgs := messages(0, n)
	for i := range msgs {
		msgs[i].Subject = ""
		msgs[i].Data = append(msgs[i].Data, strings.Repeat(" ", 100)...)
	}
	msgs[7].Headers = base.Headers{{Name: "k", Value: "v"}}
	if l := w.Limits(); n > l.MaxMessages {
		t.Fatalf("limits %+v", l)
	}
	if _, err := w.PublishChunk(ctx, 0, msgs, marker(1, 1, 1, 1, n), 0); err != nil {
		t.Fatal(err)
	}
	s, err := js(t, nc).Stream(ctx, "OUT")
	if err != nil {
		t.Fatal(err)
	}
	if stored := s.CachedInfo().State.Msgs; stored < 4 || stored > 6 { // 3.1 MB in blocks of 1 MiB, and the marker
		t.Fatalf("%d messages for %d records", stored, n)
	}
	src := jetstream.Stream[string]("OUT", jetstream.Raw(), jetstream.UntilNow())
	// Read in pieces, closing the reader in the middle of blocks.
	var at connectors.Position
	var all []string
	var pos []uint64
	for {
		d := open(t, ctx, src, 0, at)
		d.until(97, func() bool { return len(d.values) > 7000 })
		if d.err != nil {
			t.Fatal(d.err)
		}
		all, pos, at = append(all, d.values...), append(pos, d.pos...), d.r.Position()
		if len(all) > 7 && len(pos) == len(d.pos) && d.heads[7] == nil {
			t.Fatal("the header is lost")
		}
		_ = d.r.Close()
		if d.end {
			break
		}
	}
	if len(all) != n {
		t.Fatalf("read %d records of %d", len(all), n)
	}
	for i, v := range all {
		if strings.TrimSpace(v) != fmt.Sprint(i) {
			t.Fatalf("record %d is %q", i, v)
		}
		if i > 0 && pos[i] <= pos[i-1] {
			t.Fatalf("position %d after %d", pos[i], pos[i-1])
		}
	}
}
