package jetstream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

type order struct {
	ID    string `json:"id"`
	Price int    `json:"price"`
}

func TestEncode(t *testing.T) {
	h := base.Headers{{Name: "k", Value: "v"}}
	for name, c := range map[string]struct {
		opts    []jetstream.SinkOption
		subject string
		data    string
	}{
		"msgpack": {nil, "orders.7", "\x82\xa2ID\xa17\xa5Price\x05"},
		"json":    {[]jetstream.SinkOption{jetstream.JSON()}, "orders.7", `{"id":"7","price":5}`},
		"csv":     {[]jetstream.SinkOption{jetstream.CSV()}, "orders.7", "7,5"},
		"blocks":  {[]jetstream.SinkOption{jetstream.JSON(), jetstream.Blocks("orders.all")}, "", `{"id":"7","price":5}`},
	} {
		s := jetstream.Publish("ORDERS", func(o order) string { return "orders." + o.ID }, c.opts...)
		msg := connectors.Message{Subject: "stale", Data: []byte("stale"), Headers: base.Headers{{Name: "stale"}}}
		if err := s.Encode(&msg, &base.Meta{Headers: &h}, &order{"7", 5}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if msg.Subject != c.subject || string(msg.Data) != c.data || fmt.Sprint(msg.Headers) != "[{k v}]" {
			t.Errorf("%s: got %q %q %v", name, msg.Subject, msg.Data, msg.Headers)
		}
		if err := s.Encode(&msg, &base.Meta{}, &order{"7", 5}); err != nil || len(msg.Headers) != 0 {
			t.Errorf("%s: headers %v of the record before (error %v)", name, msg.Headers, err)
		}
	}
	s := jetstream.Publish("ORDERS", func(o order) string { return "orders." + o.ID })
	for _, id := range []string{"", "a b", "*", "a..b"} {
		if err := s.Encode(&connectors.Message{}, &base.Meta{}, &order{ID: id}); base.CodeOf(err) != jetstream.CodeSubject {
			t.Errorf("subject with %q: got %v", id, err)
		}
	}
}

func TestSinkOptions(t *testing.T) {
	f := func(order) string { return "x" }
	for name, c := range map[string]struct {
		sink connectors.Sink[order]
		says string
	}{
		"no stream":  {jetstream.Publish("", f), "names no stream"},
		"no subject": {jetstream.Publish[order]("S", nil), "no subject function"},
		"no lanes":   {jetstream.Publish("S", f, jetstream.Lanes(0)), "1 to 64 lanes"},
		"window":     {jetstream.Publish("S", f, jetstream.Immediate(), jetstream.Window(5000)), "1 to 4096"},
		"both":       {jetstream.Publish("S", f, jetstream.Immediate(), jetstream.Blocks("x")), "exclude"},
		"wildcard":   {jetstream.Publish("S", f, jetstream.MarkerPrefix("a.*")), "wildcard"},
		"raw":        {jetstream.Publish("S", f, jetstream.Raw()), "[]byte or string"},
	} {
		err := c.sink.Target.(interface{ BuildError() error }).BuildError()
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %q", name, err, c.says)
		}
	}
	good := jetstream.Publish("S", f, jetstream.Lanes(7), jetstream.Format[order](jsonOrders(t)))
	if err := good.Target.(interface{ BuildError() error }).BuildError(); err != nil {
		t.Fatal(err)
	}
	if l := good.Target.(connectors.LaneTarget); l.Lanes() != 7 || l.Class() != connectors.ExactlyOnce || l.Kind() != "jetstream" {
		t.Fatalf("target %+v", l)
	}
	if d := jetstream.Publish("S", f, jetstream.Immediate()).Target.(connectors.DirectTarget); d.Class() != connectors.AtLeastOnce {
		t.Fatal("an immediate sink promises too much")
	}
}

func jsonOrders(t *testing.T) codec.Format[order] {
	f, err := codec.JSON[order](codec.JSONOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestImmediate(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	outStream(t, ctx, nc)
	sink := jetstream.Publish("OUT", func(s string) string { return "out." + s }, jetstream.Raw(), jetstream.Immediate(), jetstream.Window(100))
	w, err := sink.Target.(connectors.DirectTarget).OpenWriter(ctx, sinkEnv(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if most := int64(sink.Target.(connectors.Bounded).MaxMessage()); most < 1000 || most >= nc.MaxPayload() {
		t.Errorf("the largest message has %d bytes, and the server takes %d", most, nc.MaxPayload())
	}
	msgs := messages(0, 1000)
	if err := w.Write(ctx, msgs); err != nil {
		t.Fatal(err)
	}
	for i := range msgs { // the writer took them over
		copy(msgs[i].Data, "????")
	}
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	readAll(t, ctx).want(0, 1000)
	big := messages(0, 1)
	big[0].Data = make([]byte, nc.MaxPayload()+1)
	if err := errors.Join(w.Write(ctx, big), w.Flush(ctx)); !errors.Is(err, connectors.ErrRejected) {
		t.Fatalf("an oversized message: %v", err)
	}
	foreign := messages(0, 1)
	foreign[0].Subject = "elsewhere"
	if err := w.Write(ctx, foreign); base.CodeOf(err) != jetstream.CodeSubject {
		t.Fatalf("a foreign subject: %v", err)
	}
}

func TestBatchPublisher(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}})
	publish(t, ctx, nc, "S", 0, 2500, subject("s"))
	checkStored(t, ctx, nc, "S", "s", 2500)
	p := jetstream.NewBatchPublisher(nc, "S")
	if err := p.Add(ctx, "s s", nil, nil); base.CodeOf(err) != jetstream.CodeSubject {
		t.Fatalf("a bad subject: %v", err)
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatalf("an empty flush: %v", err)
	}
	if err := p.Add(ctx, "s", make([]byte, nc.MaxPayload()+1), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(ctx); base.CodeOf(err) != jetstream.CodePublish {
		t.Fatalf("an oversized message: %v", err)
	}
	// The refused batch is gone and the publisher goes on.
	if err := p.Add(ctx, "s", []byte("2500"), base.Headers{{Name: "k", Value: "v"}}); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if n, seq := p.Stored(); n != 1 || seq != 2501 {
		t.Fatalf("stored %d up to %d", n, seq)
	}
	checkStored(t, ctx, nc, "S", "s", 2501)
}

func TestCreate(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	spec := jetstream.Create(jetstream.StreamSpec{Subjects: []string{"out.>"}})
	w := lanes(t, ctx, spec, jetstream.MarkerPrefix("marks.here"))
	if _, err := w.PublishChunk(ctx, 0, messages(0, 3), marker(1, 1, 1, 1, 3), 0); err != nil {
		t.Fatal(err)
	}
	d := open(t, ctx, jetstream.Stream[string]("OUT", jetstream.Raw(), spec, jetstream.UntilNow()), 0, connectors.Position{}).toEnd()
	d.want(0, 3) // the marker is known by its header
	if _, err := jetstream.Stream[string]("NEW", jetstream.Raw(), jetstream.Create(jetstream.StreamSpec{Subjects: []string{"new"}})).Splits(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := jetstream.Stream[string]("X", jetstream.Create(jetstream.StreamSpec{Name: "Y"})).Splits(ctx); base.CodeOf(err) != jetstream.CodeSource {
		t.Fatalf("two names: %v", err)
	}
}
