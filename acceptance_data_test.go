package weir_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/natsd"
	"github.com/weirflow/weir/state/blob"
)

// broker starts a NATS server inside the process.
func broker(t *testing.T) (context.Context, *nats.Conn) {
	t.Helper()
	srv, err := natsd.Start(natsd.Options{Dir: t.TempDir(), MaxPayload: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	nc, err := srv.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return jetstream.WithProvider(context.Background(), jetstream.FromConn(nc)), nc
}

// store makes a stream of messages.
func store(t *testing.T, ctx context.Context, nc *nats.Conn, name string, msgs [][]byte) {
	t.Helper()
	if _, err := jetstream.Ensure(ctx, nc, jetstream.StreamSpec{Name: name, Subjects: []string{name + ".>"}}); err != nil {
		t.Fatal(err)
	}
	for _, m := range msgs {
		if err := nc.Publish(name+".x", m); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// asJSON encodes entries.
func asJSON(t *testing.T, list []entry) [][]byte {
	t.Helper()
	out := make([][]byte, len(list))
	for i := range list {
		b, err := json.Marshal(list[i])
		if err != nil {
			t.Fatal(err)
		}
		out[i] = b
	}
	return out
}

func TestBadRecords(t *testing.T) {
	ctx, nc := broker(t)
	good := entries(400, 20)
	const at = 57 // the bad record comes before good[at] and has the sequence at+1
	for _, c := range []struct {
		name, body string
		parts      []string
	}{
		{"malformed", `{"Key":"k1","N":`, []string{"WEIR-0601", "JSON"}},
		{"mismatched", `{"Key":"k1","N":"many"}`, []string{"WEIR-0603", "N"}},
		{"oversized", `{"Key":"k1","N":1,"Pad":"` + strings.Repeat("x", 500) + `"}`, []string{"WEIR-0602", "527 bytes", "limit of 300", "MaxRecord"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream := strings.ToUpper(c.name)
			msgs := asJSON(t, good)
			msgs = append(msgs[:at:at], append([][]byte{[]byte(c.body)}, msgs[at:]...)...)
			store(t, ctx, nc, stream, msgs)
			src := jetstream.Stream[entry](stream, jetstream.JSON())
			l, blobs := newLedger(), blob.Memory()

			// By default the job fails at the record, again and again, and stops.
			job := launch(t, ctx, bookkeeping(src, l, nil, weir.MaxRecord(300)), quickly(blobs), 2)
			err := finish(t, job)
			wantError(t, err, "WEIR-0703", append(c.parts,
				"job books", "WEIR-0605", "task in#0", "source in", "split "+stream, fmt.Sprintf("record %d", at+1), "OnError(Skip)", "goes on from its last checkpoint")...)
			if n, _ := job.Restarts(); n != 3 {
				t.Errorf("the job failed %d times, want 3 with 2 restarts allowed", n)
			}

			// With Skip the same data directory goes on: the record is counted, all
			// others are exact.
			job = launch(t, ctx, bookkeeping(src, l, nil, weir.MaxRecord(300), weir.OnError(weir.Skip)), quickly(blobs), 2)
			until(t, job, "all records", func() bool { return l.count() == len(good) })
			if n := badRecords(job); n != 1 {
				t.Errorf("%d bad records are counted", n)
			}
			if err := job.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.exact(t, good)
		})
	}
}

// loaded is a record with room for bombs.
type loaded struct {
	Key  string
	N    uint64
	List []int64
	Tags map[string]int64
	Deep [][]int64
}

// The three MessagePack bombs: a few bytes that stand for a container of hundreds of
// millions, of pairs, and nesting that overflows the stack of a recursive decoder.
// Each is tried as the record, as a field that it fits, and as an unknown field.
func bombs() map[string][]byte {
	out := map[string][]byte{}
	for name, b := range map[string][]byte{
		"List": {0xdd, 0x0b, 0xeb, 0xc2, 0x00},
		"Tags": {0xdf, 0x02, 0xfa, 0xf0, 0x80},
		"Deep": bytes.Repeat([]byte{0x91}, 3_000_000),
	} {
		field := func(f string) []byte { return append(append([]byte{0x81, 0xa0 | byte(len(f))}, f...), b...) }
		out[name+" as the record"] = b
		out[name+" in its field"] = field(name)
		out[name+" in an unknown field"] = field("what")
	}
	return out
}

func TestMessagePackBombs(t *testing.T) {
	ctx, nc := broker(t)
	good := entries(300, 20)
	var msgs [][]byte
	rest := bombs()
	for i, e := range good {
		b := []byte{0x82, 0xa3, 'K', 'e', 'y', 0xa0 | byte(len(e.Key))}
		b = append(append(b, e.Key...), 0xa1, 'N', 0xcd, byte(e.N>>8), byte(e.N))
		if i%20 == 10 {
			for name, bomb := range rest {
				msgs = append(msgs, bomb)
				delete(rest, name)
				break
			}
		}
		msgs = append(msgs, b)
	}
	if len(rest) > 0 {
		t.Fatalf("%d bombs are left", len(rest))
	}
	store(t, ctx, nc, "BOMBS", msgs)
	l := newLedger()
	spec := weir.NewJob("books", func(j *weir.Job) {
		src := jetstream.Stream[loaded]("BOMBS", jetstream.MsgPack())
		in := weir.From(j, "in", src, weir.ProcessingTime[loaded](), weir.OnError(weir.Skip), weir.MaxRecord(8<<20))
		plain := weir.Map(in, "plain", func(v loaded) entry { return entry{v.Key, v.N} })
		by := weir.KeyBy(plain, "by-key", func(e entry) string { return e.Key })
		weir.To(weir.Process(by, "tally", func() weir.KeyedProcess[string, entry, balance] { return new(tally) }), "out", l.sink())
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	job := launch(t, ctx, spec, quickly(blob.Memory()), 2)
	until(t, job, "all records", func() bool { return l.count() == len(good) })
	runtime.ReadMemStats(&after)
	if n := badRecords(job); n != int64(len(bombs())) {
		t.Errorf("%d bad records are counted, want %d", n, len(bombs()))
	}
	// Everything that was allocated, not only what was in use at once: the server,
	// which is in this process, the messages, the job. One bomb alone takes 2.5 GB.
	if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 300 {
		t.Errorf("the job allocated %d MiB", mib)
	}
	if err := job.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, cause := job.Restarts(); n != 0 {
		t.Errorf("%d restarts: %v", n, cause)
	}
	l.exact(t, good)
}

func TestRefusedRecord(t *testing.T) {
	list := entries(300, 20)
	build := func(l *ledger, refuse bool, opts ...weir.TryOption) weir.JobSpec {
		return weir.NewJob("books", func(j *weir.Job) {
			in := weir.From(j, "in", inMemory(list), weir.ProcessingTime[entry]())
			ok := weir.TryMap(in, "audit", func(e entry) (entry, error) {
				if refuse && e.N == 123 {
					return e, fmt.Errorf("entry %d does not balance", e.N)
				}
				return e, nil
			}, opts...)
			by := weir.KeyBy(ok, "by-key", func(e entry) string { return e.Key })
			weir.To(weir.Process(by, "tally", func() weir.KeyedProcess[string, entry, balance] { return new(tally) }), "out", l.sink())
		})
	}
	l, blobs := newLedger(), blob.Memory()
	err := finish(t, launch(t, t.Context(), build(l, true), quickly(blobs), 1))
	wantError(t, err, "WEIR-0703", "WEIR-0702", "operator audit", "record 124 of source in, split 0", "entry 123 does not balance", "OnError(Skip)")
	if base.CodeOf(err) != "WEIR-0703" {
		t.Errorf("the first code is %s", base.CodeOf(err))
	}
	if err := finish(t, launch(t, t.Context(), build(l, false), quickly(blobs), 1)); err != nil {
		t.Fatal(err)
	}
	l.exact(t, list)

	l = newLedger()
	if err := finish(t, launch(t, t.Context(), build(l, true, weir.OnError(weir.Skip)), quickly(blob.Memory()), 1)); err != nil {
		t.Fatal(err)
	}
	l.exact(t, append(list[:123:123], list[124:]...))
}
