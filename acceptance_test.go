package weir_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// The acceptance tests do to a job what goes wrong in the world: bad input, bad
// configuration, damaged checkpoints, full disks, broken functions. Each asserts the
// code of the error and that its text helps, and that nothing is lost: once the
// cause is mended, the job goes on and its output is exact.
//
// They all run one job: it counts the records of every key, and emits the count and
// the sum with every record. The target, a ledger, sees each lost, repeated or
// reordered record and each state that was rolled back, because the counts of a key
// must be 1, 2, 3, … there.

// accPatience bounds waits that end by themselves when all is well.
const accPatience = time.Minute

// entry is the input of the job.
type entry struct {
	Key string
	N   uint64
}

// balance is its output.
type balance struct {
	Key        string
	Count, Sum uint64
}

// account is its state.
type account struct{ Count, Sum uint64 }

// tally counts and sums the entries of a key.
type tally struct {
	weir.NoTimers[string, balance]
	state *state.Value[account]
}

func (f *tally) Declare(d *weir.Declarer) { f.state = weir.ValueState[account](d, "account") }

func (f *tally) OnRecord(c *weir.Context[string, balance], e entry) error {
	var now account
	f.state.Update(func(a *account) {
		a.Count++
		a.Sum += e.N
		now = *a
	})
	c.Emit(balance{Key: c.Key(), Count: now.Count, Sum: now.Sum})
	return nil
}

// bookkeeping is the job; edit changes the entries on their way, nil does not.
func bookkeeping(src connectors.Source[entry], l *ledger, edit func(entry) entry, opts ...weir.FromOption) weir.JobSpec {
	return weir.NewJob("books", func(j *weir.Job) {
		in := weir.From(j, "in", src, weir.ProcessingTime[entry](), opts...)
		if edit != nil {
			in = weir.Map(in, "edit", edit)
		}
		by := weir.KeyBy(in, "by-key", func(e entry) string { return e.Key })
		weir.To(weir.Process(by, "tally", func() weir.KeyedProcess[string, entry, balance] { return new(tally) }), "out", l.sink())
	})
}

// entries returns n entries of some keys.
func entries(n, keys int) []entry {
	out := make([]entry, n)
	for i := range out {
		out[i] = entry{Key: fmt.Sprint("k", i*7919%keys), N: uint64(i)}
	}
	return out
}

// inMemory is a source of entries that ends.
func inMemory(list []entry) *memory.Source[entry] {
	src := memory.NewSource[entry]()
	for _, e := range list {
		src.Append("0", 0, e)
	}
	src.Finish()
	return src
}

// totals is what the job must end up with.
func totals(list []entry) map[string]balance {
	out := map[string]balance{}
	for _, e := range list {
		b := out[e.Key]
		out[e.Key] = balance{Key: e.Key, Count: b.Count + 1, Sum: b.Sum + e.N}
	}
	return out
}

// ledger is an exactly-once target that keeps the last balance of every key, and
// notes what does not continue it.
type ledger struct {
	mu      sync.Mutex
	seq     uint64
	markers map[int]protocol.Marker
	seqs    map[int]uint64
	last    map[string]balance
	written int
	wrong   []string
	// before, when set, decides about each write.
	before func(ctx context.Context) error
}

const ledgerLanes = 2

func newLedger() *ledger {
	return &ledger{markers: map[int]protocol.Marker{}, seqs: map[int]uint64{}, last: map[string]balance{}}
}

// clone returns a copy, without the hook.
func (l *ledger) clone() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &ledger{
		seq: l.seq, markers: maps.Clone(l.markers), seqs: maps.Clone(l.seqs), last: maps.Clone(l.last),
		written: l.written, wrong: append([]string(nil), l.wrong...),
	}
}

func (l *ledger) hook(f func(ctx context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = f
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.written
}

func (l *ledger) sink() connectors.Sink[balance] {
	return connectors.Sink[balance]{Target: l, Encode: func(m *connectors.Message, _ *base.Meta, b *balance) error {
		m.Data = binary.LittleEndian.AppendUint64(m.Data[:0], b.Count)
		m.Data = append(binary.LittleEndian.AppendUint64(m.Data, b.Sum), b.Key...)
		return nil
	}}
}

func (l *ledger) Kind() string            { return "ledger" }
func (l *ledger) Class() connectors.Class { return connectors.ExactlyOnce }
func (l *ledger) Lanes() int              { return ledgerLanes }
func (l *ledger) Close() error            { return nil }

func (l *ledger) OpenLanes(context.Context, connectors.SinkEnv) (connectors.LaneWriter, error) {
	return l, nil
}

func (l *ledger) Limits() connectors.ChunkLimits {
	return connectors.ChunkLimits{MaxMessages: 500, MaxBytes: 1 << 20, MaxMessage: 1 << 16}
}

func (l *ledger) ReadMarker(_ context.Context, lane int) (protocol.Marker, uint64, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.markers[lane], l.seqs[lane], l.seqs[lane] > 0, nil
}

func (l *ledger) PublishChunk(ctx context.Context, lane int, msgs []connectors.Message, m protocol.Marker, expect uint64) (uint64, error) {
	l.mu.Lock()
	before := l.before
	l.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return 0, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seqs[lane] != expect {
		return 0, connectors.ErrConflict
	}
	for i := range msgs {
		d := msgs[i].Data
		b := balance{string(d[16:]), binary.LittleEndian.Uint64(d), binary.LittleEndian.Uint64(d[8:])}
		if was := l.last[b.Key]; b.Count != was.Count+1 || b.Sum < was.Sum {
			l.wrong = append(l.wrong, fmt.Sprintf("%+v follows %+v", b, was))
		}
		l.last[b.Key] = b
	}
	l.written += len(msgs)
	l.seq++
	l.seqs[lane], l.markers[lane] = l.seq, m
	return l.seq, nil
}

// exact fails unless the ledger holds just what the entries make.
func (l *ledger) exact(t testing.TB, list []entry) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) > 0 {
		t.Fatalf("%d records came lost, twice or out of order; the first: %s", len(l.wrong), l.wrong[0])
	}
	if want := totals(list); !maps.Equal(l.last, want) {
		for k, w := range want {
			if l.last[k] != w {
				t.Fatalf("key %s stands at %+v, want %+v", k, l.last[k], w)
			}
		}
		t.Fatalf("there are %d keys, want %d", len(l.last), len(want))
	}
}

// hurry is the real clock, except that it sleeps a hundredth: so back-off does not
// take the time of the test. It notes the sleeps.
type hurry struct {
	clock.Clock
	mu    sync.Mutex
	slept []time.Duration
}

func newHurry() *hurry { return &hurry{Clock: clock.Real()} }

func (h *hurry) Sleep(ctx context.Context, d time.Duration) error {
	h.mu.Lock()
	h.slept = append(h.slept, d)
	h.mu.Unlock()
	return h.Clock.Sleep(ctx, d/100)
}

func accLogger() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	return slog.New(slog.DiscardHandler)
}

// quickly are options for a short run on a checkpoint store.
func quickly(store blob.Store) engine.Options {
	return engine.Options{
		Blob: store, FS: vfs.NewMem(), StateDir: "state", Memory: 16 << 20, Interval: 20 * time.Millisecond,
		MaxRestarts: 2, Clock: newHurry(), Logger: accLogger(),
	}
}

// launch starts a job that ends with the test.
func launch(t testing.TB, ctx context.Context, spec weir.JobSpec, opts engine.Options, parallelism int) *engine.Job {
	t.Helper()
	plan, err := weir.Compile(spec, weir.WithParallelism(parallelism))
	if err != nil {
		t.Fatal(err)
	}
	job, err := engine.Start(ctx, plan, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(job.Kill)
	return job
}

// finish waits for the end of a job.
func finish(t testing.TB, job *engine.Job) error {
	t.Helper()
	select {
	case <-job.Done():
		return job.Wait()
	case <-time.After(accPatience):
		n, cause := job.Restarts()
		t.Fatalf("the job does not end; %d restarts, the last because of: %v", n, cause)
		return nil
	}
}

// until waits for a condition while the job runs.
func until(t testing.TB, job *engine.Job, what string, cond func() bool) {
	t.Helper()
	limit := time.After(accPatience)
	for !cond() {
		select {
		case <-time.After(time.Millisecond):
		case <-job.Done():
			t.Fatalf("the job ended before %s: %v", what, job.Wait())
		case <-limit:
			n, cause := job.Restarts()
			t.Fatalf("waited in vain for %s; %+v; %d restarts, the last because of: %v", what, job.Checkpoints(), n, cause)
		}
	}
}

// wantError fails unless err carries the code, says what happened, where and what
// to do next, and mentions all the parts.
func wantError(t testing.TB, err error, code string, parts ...string) {
	t.Helper()
	e := find(err, code)
	if e == nil {
		t.Fatalf("the error has no code %s: %v", code, err)
	}
	if e.What == "" || e.Where == "" || e.Next == "" {
		t.Errorf("the error does not say what, where and what next: %#v", e)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q is not mentioned in: %v", p, err)
		}
	}
}

// find returns the error of that code in err's tree, or nil.
func find(err error, code string) *weir.Error {
	if e, ok := err.(*weir.Error); ok && e.Code == code {
		return e
	}
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		return find(u.Unwrap(), code)
	case interface{ Unwrap() []error }:
		for _, e := range u.Unwrap() {
			if f := find(e, code); f != nil {
				return f
			}
		}
	}
	return nil
}

// badRecords adds up what the tasks of a running job counted.
func badRecords(job *engine.Job) (n int64) {
	for _, t := range job.Tasks() {
		n += t.Stats.BadRecords.Load()
	}
	return n
}

func TestLedgerSeesWhatIsWrong(t *testing.T) {
	msg := func(b balance) []connectors.Message {
		var m connectors.Message
		if err := newLedger().sink().Encode(&m, nil, &b); err != nil {
			t.Fatal(err)
		}
		return []connectors.Message{m}
	}
	for name, list := range map[string][]balance{
		"lost":         {{"a", 1, 5}, {"a", 3, 9}},
		"twice":        {{"a", 1, 5}, {"a", 1, 5}},
		"out of order": {{"a", 2, 9}, {"a", 1, 5}},
	} {
		l := newLedger()
		seq := uint64(0)
		for _, b := range list {
			var err error
			if seq, err = l.PublishChunk(t.Context(), 0, msg(b), protocol.Marker{}, seq); err != nil {
				t.Fatal(err)
			}
		}
		if len(l.wrong) == 0 {
			t.Errorf("%s: the ledger sees nothing wrong", name)
		}
		if _, err := l.PublishChunk(t.Context(), 0, msg(balance{"b", 1, 1}), protocol.Marker{}, seq-1); !errors.Is(err, connectors.ErrConflict) {
			t.Errorf("a write with an old marker: %v", err)
		}
	}
}
