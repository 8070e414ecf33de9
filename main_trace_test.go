package weir

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/natsd"
)

// traceAt is when the events of these tests were made.
var traceAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func mustNext(t testing.TB, e Event, typ string, after time.Duration, payload any) Event {
	t.Helper()
	n, err := e.Next(typ, time.UnixMilli(e.At).Add(after), payload)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// traceServer has the events of 50 chains: on subjects by correlation, in a stream that
// has to be read whole, in blocks of MessagePack, and a dead letter.
func traceServer(t *testing.T) string {
	srv, err := natsd.Start(natsd.Options{Dir: t.TempDir(), Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	nc, err := srv.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	for _, s := range []jetstream.StreamSpec{
		{Name: "ASKED", Subjects: []string{"t.asked.*"}}, {Name: "ALL", Subjects: []string{"all"}}, {Name: "DEAD", Subjects: []string{"dead"}},
		{Name: "DEEP", Subjects: []string{"deep.>"}}, {Name: "EMPTY", Subjects: []string{"empty"}}, {Name: "OTHER", Subjects: []string{"other"}},
	} {
		if _, err := jetstream.Ensure(t.Context(), nc, s); err != nil {
			t.Fatal(err)
		}
	}
	send := func(subject string, body []byte, err error) {
		t.Helper()
		if err == nil {
			_, err = nc.Request(subject, body, 5*time.Second)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	sendJSON := func(subject string, v any) {
		body, err := json.Marshal(v)
		send(subject, body, err)
	}
	send("other", []byte("c-7 is mentioned here, and this is no event"), nil)
	deep, err := NewEvent("asked", "deep-1", "k", traceAt, 1)
	if err != nil {
		t.Fatal(err)
	}
	sendJSON(deep.Subject("deep.a.b.c.d.e"), deep) // deeper than subjects are looked for
	var blocks []Event
	for i := range 50 {
		asked, err := NewEvent("asked", fmt.Sprintf("c-%d", i), "k", traceAt, map[string]int{"n": i})
		if err != nil {
			t.Fatal(err)
		}
		retry := mustNext(t, asked, RetryRequestedType, time.Second, RetryRequested{Step: "think", Attempt: 2, NotBefore: asked.At + 2000, Why: "503\n\x1b[31m", Event: asked})
		thought := mustNext(t, retry, "thought", 2*time.Second, i)
		thought.Attempt = 2
		failed := mustNext(t, thought, StepFailedType, time.Second, StepFailed{Step: "tell", Attempts: 1, Kind: "permanent", Why: "no channel", Event: thought})
		sendJSON("all", failed) // before its cause
		sendJSON("all", thought)
		sendJSON(asked.Subject("t"), asked)
		blocks = append(blocks, retry)
		raw, err := msgpack.Marshal(struct{ Query Attempt }{Attempt{thought, 1, thought.ID}})
		if err != nil {
			t.Fatal(err)
		}
		letter, err := msgpack.Marshal(&DeadLetterRecord{ID: fmt.Sprint("letter-", i), Job: "j", Operator: "op", Code: "WEIR-1", Error: "WEIR-1: bad", Refused: traceAt.Add(10 * time.Second), Raw: raw})
		send("dead", letter, err)
	}
	writeBlocks(t, nc, blocks)
	return srv.URL()
}

// writeBlocks writes events as a job does with the option Blocks.
func writeBlocks(t *testing.T, nc *nats.Conn, events []Event) {
	t.Helper()
	o := quick(t)
	o.NATS = jetstream.Config{Conn: nc}
	err := Run(t.Context(), NewJob("blocks", func(j *Job) {
		src := generator.New(func(i uint64) Event { return events[i] }, generator.Count(uint64(len(events))))
		To(From(j, "in", src, ProcessingTime[Event]()), "out", jetstream.Publish[Event]("BLOCKS", nil, jetstream.Blocks("blocks"),
			jetstream.Create(jetstream.StreamSpec{Subjects: []string{"blocks.*"}})))
	}), o)
	if err != nil {
		t.Fatal(err)
	}
}

func TestTrace(t *testing.T) {
	url := traceServer(t)
	code, out, errs := command("trace", "c-7", "--nats", url)
	if code != ExitOK {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var lines []string
	for line := range strings.Lines(out) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"chain c-7: 5 events in 10.000 s, from 2026-01-02T03:04:05Z",
		"1 retry requested, 1 step given up, 1 dead letter",
		"",
		"# made after its cause cause attempt event stream",
		"1 03:04:05.000 1 asked ASKED 8",
		"2 03:04:06.000 1.000 s 1 1 retry-requested BLOCKS 1 think: attempt 2 not before 03:04:07.000, because of: 503 [31m",
		"3 03:04:08.000 2.000 s 2 2 thought ALL 16",
		"4 03:04:09.000 1.000 s 3 1 step-failed ALL 15 tell: given up after attempt 1 (permanent): no channel",
		"5 03:04:15.000 7.000 s 3 0 dead-letter DEAD 8 op of job j refused a record: WEIR-1: bad",
	}
	if len(lines) != len(want) {
		t.Fatalf("got\n%s", out)
	}
	for i, line := range lines {
		if line != want[i] {
			t.Errorf("line %d:\n%s\nwant\n%s", i+1, line, want[i])
		}
	}
	for _, c := range []struct {
		args []string
		code int
		want string // in the output or the error
	}{
		{[]string{"c-7", "--json"}, ExitOK, `"causation_id": "`},
		{[]string{"c-7", "--payload"}, ExitOK, `{"n":7}`},
		{[]string{"c-7", "--streams", "ASKED"}, ExitOK, "1 event in 0.000 s"},
		{[]string{"c-7", "--streams", "ALL"}, ExitOK, "not found"},
		{[]string{"c-7", "--limit", "2"}, ExitOK, "there may be more events"},
		{[]string{"deep-1"}, ExitOK, "1 event in 0.000 s"},
		{[]string{"c-77"}, ExitFailed, "error WEIR-0230: no event has the correlation ID \"c-77\""},
		{[]string{"c-77"}, ExitFailed, "streams: ALL, ASKED, BLOCKS, DEAD, DEEP, EMPTY, OTHER"},
		{[]string{"c 7.*"}, ExitFailed, "WEIR-0230"},
		{[]string{"c-7", "--streams", "NONE"}, ExitFailed, "there is no stream \"NONE\""},
		{[]string{"c-7", "--limit", "0"}, ExitUsage, "flag --limit"},
		{nil, ExitUsage, "which chain?"},
	} {
		code, out, errs := command(append([]string{"trace", "--nats", url}, c.args...)...)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("%v: exit code %d, want %d and %q in\n%s%s", c.args, code, c.code, c.want, out, errs)
		}
	}
	if code, _, errs := command("trace", "c-7", "--nats", "nats://127.0.0.1:1"); code != ExitUnreachable {
		t.Errorf("exit code %d without a server: %s", code, errs)
	}
}

// TestTraceOrder: whatever the order in which events are found, each comes behind its
// cause, none is lost, and events that cause each other do no harm.
func TestTraceOrder(t *testing.T) {
	const seed = 3
	rnd := rand.New(rand.NewPCG(seed, 0))
	for round := range 500 {
		n := 1 + rnd.IntN(30)
		found := make([]TracedEvent, n)
		for i := range found {
			found[i].Event = Event{ID: fmt.Sprint("e", i), At: int64(rnd.IntN(20))}
			if i > 0 && rnd.IntN(8) > 0 {
				found[i].Causation = fmt.Sprint("e", rnd.IntN(i))
			}
			if i > 0 && rnd.IntN(10) == 0 {
				found[i].ID, found[i].Causation = found[i-1].ID, found[i-1].Causation // written twice
			}
		}
		circle := rnd.IntN(4) == 0
		if circle {
			found[0].Causation = found[n-1].ID
		}
		rnd.Shuffle(n, func(i, j int) { found[i], found[j] = found[j], found[i] })
		out := inOrder(found)
		if len(out) != n {
			t.Fatalf("seed %d, round %d: %d events of %d", seed, round, len(out), n)
		}
		for i, e := range out {
			if e.Cause >= i || e.Cause >= 0 && out[e.Cause].ID != e.Causation {
				t.Fatalf("seed %d, round %d: event %d has the cause %d", seed, round, i, e.Cause)
			}
			if e.Cause < 0 && !circle {
				for _, x := range out {
					if x.ID == e.Causation {
						t.Fatalf("seed %d, round %d: event %s comes before its cause", seed, round, e.ID)
					}
				}
			}
		}
	}
}
