package jetstream_test

import (
	"bytes"
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
	"github.com/weirflow/weir/internal/codec"
)

// wantFatal fails unless err stops the job with a code and a cause.
func wantFatal(t *testing.T, err error, code string, cause error, says string) {
	t.Helper()
	if base.CodeOf(err) != code || !errors.Is(err, base.ErrFatal) || cause != nil && !errors.Is(err, cause) || !strings.Contains(err.Error(), says) {
		t.Fatalf("got %v, want %s with %q", err, code, says)
	}
}

func TestGapAtOpen(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}, MaxMsgs: 100})
	publish(t, ctx, nc, "S", 0, 50, subject("s"))
	src := jetstream.Stream[string]("S", jetstream.Raw())
	d := open(t, ctx, src, 0, connectors.Position{}).read(10)
	at := d.r.Position()
	at.Offset = 10
	_ = d.r.Close()
	publish(t, ctx, nc, "S", 50, 150, subject("s")) // the first is now sequence 101
	_, err := tryOpen(t, ctx, src, 0, at)
	wantFatal(t, err, jetstream.CodeGap, connectors.ErrPositionLost, "needs sequence 11 and the first message is 101")

	d = open(t, ctx, jetstream.Stream[string]("S", jetstream.Raw(), jetstream.OnGap(jetstream.Skip)), 0, at).read(100)
	d.want(100, 200)
	if n := d.r.(interface{ Skipped() uint64 }).Skipped(); n != 90 {
		t.Fatalf("skipped %d sequences, want 90", n)
	}
	// A fresh split starts at what there is.
	open(t, ctx, src, 0, connectors.Position{}).read(100).want(100, 200)
	// The exact edge is no gap.
	at.Offset = 100
	open(t, ctx, src, 0, at).read(100).want(100, 200)
}

// TestGapWhileReading: retention overtakes a reader that does not poll, so the next
// record that the server delivers lies behind a hole.
func TestGapWhileReading(t *testing.T) {
	for _, filter := range []string{"", "s"} {
		for _, policy := range []jetstream.GapPolicy{jetstream.Fail, jetstream.Skip} {
			t.Run(fmt.Sprintf("filter %q policy %d", filter, policy), func(t *testing.T) {
				_, nc := serve(t)
				ctx := testContext(t, nc)
				ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s", "x"}, MaxMsgs: 2000})
				src := jetstream.Stream[string]("S", jetstream.Raw(), jetstream.Subject(filter), jetstream.Buffer(64), jetstream.OnGap(policy))
				publish(t, ctx, nc, "S", 0, 1000, subject("s"))
				d := open(t, ctx, src, 0, connectors.Position{}).read(1)
				publish(t, ctx, nc, "S", 1000, 5000, subject("s"))
				if policy == jetstream.Fail {
					d.toEnd()
					wantFatal(t, d.err, jetstream.CodeGap, connectors.ErrPositionLost, "the first message is 4001")
					d.want(0, len(d.values)) // and nothing from behind the hole
					if len(d.values) > 1000 {
						t.Fatalf("read %d records", len(d.values))
					}
					return
				}
				d.until(256, func() bool { return len(d.values) > 0 && d.values[len(d.values)-1] == "5999" })
				if d.err != nil {
					t.Fatal(d.err)
				}
				if n := d.r.(interface{ Skipped() uint64 }).Skipped(); n != 6000-uint64(len(d.values)) {
					t.Fatalf("skipped %d sequences, read %d of 6000", n, len(d.values))
				}
			})
		}
	}
}

// TestGapByAge: what a reader had not fetched yet grows too old.
func TestGapByAge(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}, MaxAge: time.Second})
	publish(t, ctx, nc, "S", 0, 1000, subject("s"))
	d := open(t, ctx, jetstream.Stream[string]("S", jetstream.Raw(), jetstream.Buffer(64)), 0, connectors.Position{}).read(1)
	for {
		info, err := js(t, nc).Stream(ctx, "S")
		if err != nil {
			t.Fatal(err)
		}
		if info.CachedInfo().State.Msgs == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	publish(t, ctx, nc, "S", 1000, 10, subject("s"))
	d.toEnd()
	wantFatal(t, d.err, jetstream.CodeGap, connectors.ErrPositionLost, "the first message is 1001")
	d.want(0, len(d.values))
}

// TestInteriorDeletesAreNoGap: what a filter leaves out, rolled-up markers and
// deleted messages are holes in the sequence that lose nothing.
func TestInteriorDeletesAreNoGap(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "OUT", Subjects: []string{"out.>"}, MaxMsgs: 100_000})
	w := lanes(t, ctx)
	var seq uint64
	var err error
	for i := range 50 {
		if seq, err = w.PublishChunk(ctx, 0, messages(10*i, 10), marker(base.Epoch(i+1), 1, 1, 1, 10), seq); err != nil {
			t.Fatal(err)
		}
	}
	d := readAll(t, ctx)
	d.want(0, 500)
	if p := d.r.Position(); p.Offset != 550 {
		t.Fatalf("position %+v, want the last marker's sequence 550", p)
	}
	// An idle filter moves on with the stream, so that retention does not look
	// like loss later.
	idle := open(t, ctx, jetstream.Stream[string]("OUT", jetstream.Raw(), jetstream.Subject("out.none")), 0, connectors.Position{})
	idle.until(10, func() bool { return idle.r.Position().Offset >= 550 })
}

func TestStreamCreatedAgain(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	spec := jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}}
	ensure(t, ctx, nc, spec)
	publish(t, ctx, nc, "S", 0, 10, subject("s"))
	src := jetstream.Stream[string]("S", jetstream.Raw())
	live := open(t, ctx, src, 0, connectors.Position{}).read(10)
	at := live.r.Position()
	if err := js(t, nc).DeleteStream(ctx, "S"); err != nil {
		t.Fatal(err)
	}
	ensure(t, ctx, nc, spec)
	publish(t, ctx, nc, "S", 0, 20, subject("s"))
	live.toEnd() // the reader that was open notices
	wantFatal(t, live.err, jetstream.CodeIdentity, connectors.ErrIdentity, "was created at")
	_, err := tryOpen(t, ctx, src, 0, at)
	wantFatal(t, err, jetstream.CodeIdentity, connectors.ErrIdentity, "was created at")
}

func TestLostEndAtOpen(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}})
	publish(t, ctx, nc, "S", 0, 10, subject("s"))
	src := jetstream.Stream[string]("S", jetstream.Raw())
	d := open(t, ctx, src, 0, connectors.Position{})
	at := d.r.Position()
	at.Offset = 11
	_, err := tryOpen(t, ctx, src, 0, at)
	wantFatal(t, err, jetstream.CodeLostEnd, connectors.ErrPositionLost, "ends at sequence 10 and was read up to 11")
}

func TestBadRecords(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}})
	bodies := []string{`"a"`, `{`, `"b"`, `"` + strings.Repeat("x", 2000) + `"`, `7`, ``, `"c"`, strings.Repeat("[", 100)}
	p := jetstream.NewBatchPublisher(nc, "S")
	for _, b := range bodies {
		if err := p.Add(ctx, "s", []byte(b), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	src := jetstream.Stream[string]("S", jetstream.JSON(), jetstream.UntilNow())
	splits, err := src.Splits(ctx)
	if err != nil {
		t.Fatal(err)
	}
	d := &drive{t: t, wake: make(chan struct{}, 1)}
	env := readerEnv(d.wake)
	env.Limits.MaxRecord = 1000
	if d.r, err = src.Open(ctx, splits[0], connectors.Position{}, env); err != nil {
		t.Fatal(err)
	}
	defer d.r.Close()
	d.until(3, func() bool { return false })
	if fmt.Sprint(d.values) != "[a b c]" || fmt.Sprint(d.pos) != "[1 3 7]" {
		t.Fatalf("values %v at %v, error %v", d.values, d.pos, d.err)
	}
	want := map[uint64]string{2: codec.CodeMalformed, 4: codec.CodeLimit, 5: codec.CodeMismatch, 6: codec.CodeMalformed, 8: codec.CodeLimit}
	if len(d.bad) != len(want) {
		t.Fatalf("%d bad records, want %d", len(d.bad), len(want))
	}
	for _, b := range d.bad {
		if base.CodeOf(b.Err) != want[b.Pos] {
			t.Errorf("record %d: %v, want %s", b.Pos, b.Err, want[b.Pos])
		}
		if raw := []byte(bodies[b.Pos-1]); !bytes.Equal(b.Raw, raw[:min(len(raw), 1000)]) {
			t.Errorf("record %d: raw %d bytes", b.Pos, len(b.Raw))
		}
	}
	if p := d.r.Position(); !p.Done || p.Offset != uint64(len(bodies)) {
		t.Fatalf("position %+v", p)
	}
}

func TestDamagedBlockIsABadRecord(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}})
	j := js(t, nc)
	for _, body := range []string{"no block", "WBK\x01\xff\xff\xff\xff\x00\x00\x00\x00", ""} {
		if _, err := j.PublishMsg(ctx, &nats.Msg{Subject: "s", Data: []byte(body), Header: nats.Header{"Weir-Block": {"1"}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Publish(ctx, "s", []byte("fine")); err != nil {
		t.Fatal(err)
	}
	d := open(t, ctx, jetstream.Stream[string]("S", jetstream.Raw(), jetstream.UntilNow()), 0, connectors.Position{}).toEnd()
	if len(d.bad) != 3 || len(d.values) != 1 || d.values[0] != "fine" {
		t.Fatalf("%d bad, values %v", len(d.bad), d.values)
	}
}

// TestLargeMessages: messages near the largest size pass, and memory is bounded by
// the pull requests, not by the number of messages asked for.
func TestLargeMessages(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}})
	body := bytes.Repeat([]byte("x"), int(nc.MaxPayload())-600)
	p := jetstream.NewBatchPublisher(nc, "S")
	for range 40 {
		if err := p.Add(ctx, "s", body, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	d := open(t, ctx, jetstream.Stream[string]("S", jetstream.Raw()), 0, connectors.Position{}).read(1)
	time.Sleep(300 * time.Millisecond) // it fetches ahead as far as it may
	if lag := d.r.Lag(); lag < 30 {
		t.Fatalf("lag %d", lag)
	}
	if q := jetstream.QueuedBytes(d.r); q > 16<<20 {
		t.Fatalf("%d bytes queued", q)
	}
	d.read(40)
	if len(d.bad) > 0 {
		t.Fatal(d.bad[0].Err)
	}
}

func TestConfigurationErrors(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}})
	if _, err := js(t, nc).CreateStream(ctx, natsjs.StreamConfig{Name: "Q", Subjects: []string{"q"}, Retention: natsjs.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		src  connectors.Source[string]
		code string
		says string
	}{
		"no name":        {jetstream.Stream[string](""), jetstream.CodeSource, "names no stream"},
		"no stream":      {jetstream.Stream[string]("NONE"), jetstream.CodeSource, `no stream "NONE"`},
		"bad name":       {jetstream.Stream[string]("a b"), jetstream.CodeSource, "cannot be named"},
		"bad filter":     {jetstream.Stream[string]("S", jetstream.Subject("a..b")), jetstream.CodeSource, "empty part"},
		"no mapping":     {jetstream.Stream[string]("S", jetstream.Partitions(4)), jetstream.CodeFilter, "no subject mapping"},
		"no mark":        {jetstream.Stream[string]("S", jetstream.Partitions(4), jetstream.Subject("s.>")), jetstream.CodeSource, "{partition} once"},
		"work queue":     {jetstream.Stream[string]("Q"), jetstream.CodeSource, "WorkQueue retention"},
		"start too late": {jetstream.Stream[string]("S", jetstream.FromSequence(2)), jetstream.CodeSource, "the stream ends at 0"},
		"raw type":       {jetstream.Stream[string]("S", jetstream.Format[int](nil)), codec.CodeFormat, "another type"},
		"no server":      {jetstream.Stream[string]("S", jetstream.On(jetstream.Config{URL: "nats://user:secret@127.0.0.1:1"})), jetstream.CodeDial, "***@127.0.0.1:1"},
	} {
		_, err := tryOpen(t, ctx, c.src, 0, connectors.Position{})
		if base.CodeOf(err) != c.code || !strings.Contains(fmt.Sprint(err), c.says) || strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%s: got %v, want %s and %q", name, err, c.code, c.says)
		}
	}
	if _, err := jetstream.Stream[string]("S").Splits(t.Context()); base.CodeOf(err) != jetstream.CodeNoConn {
		t.Errorf("without a provider: %v", err)
	}
}

// TestOwnConnection: a connector with a server of its own opens it when needed and
// closes it with its last reader.
func TestOwnConnection(t *testing.T) {
	dir := t.TempDir()
	port := freePort(t)
	c := startChild(t, dir, port, false)
	defer c.stop()
	nc, err := jetstream.Dial(jetstream.Config{URL: c.url})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ctx := testContext(t, nil) // the job itself has none
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}})
	publish(t, ctx, nc, "S", 0, 10, subject("s"))
	src := jetstream.Stream[string]("S", jetstream.Raw(), jetstream.On(jetstream.Config{URL: c.url, Name: "own"}))
	a, b := open(t, ctx, src, 0, connectors.Position{}), open(t, ctx, src, 0, connectors.Position{})
	a.read(10)
	_ = a.r.Close()
	_ = a.r.Close() // twice does no harm
	b.read(10).want(0, 10)
}
