package weir_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/state/blob"
)

func TestPanicStopsAtTheRecordAndGoesOnWhenMended(t *testing.T) {
	list := entries(2000, 50)
	for _, c := range []struct {
		name  string
		spec  func(l *ledger, broken func(entry)) weir.JobSpec
		parts []string
	}{
		{"beside the source", func(l *ledger, broken func(entry)) weir.JobSpec {
			return bookkeeping(inMemory(list), l, func(e entry) entry { broken(e); return e })
		}, []string{"task in#0", "operator edit"}},
		{"after an emission", func(l *ledger, broken func(entry)) weir.JobSpec {
			return weir.NewJob("books", func(j *weir.Job) {
				in := weir.From(j, "in", inMemory(list), weir.ProcessingTime[entry]())
				each := weir.FlatMap(in, "each", func(e entry, emit func(entry)) { emit(e); broken(e) })
				same := weir.Map(each, "same", func(e entry) entry { return e })
				by := weir.KeyBy(same, "by-key", func(e entry) string { return e.Key })
				weir.To(weir.Process(by, "tally", func() weir.KeyedProcess[string, entry, balance] { return &tally{} }), "out", l.sink())
			})
		}, []string{"task in#0", "operator each"}},
		{"behind an exchange", func(l *ledger, broken func(entry)) weir.JobSpec {
			return weir.NewJob("books", func(j *weir.Job) {
				by := weir.KeyBy(weir.From(j, "in", inMemory(list), weir.ProcessingTime[entry]()), "by-key", func(e entry) string { return e.Key })
				weir.To(weir.Process(by, "tally", func() weir.KeyedProcess[string, entry, balance] {
					return &brittle{broken: broken}
				}), "out", l.sink())
			})
		}, []string{"task by-key#", "operator tally", "key hash"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, blobs := newLedger(), blob.Memory()
			var calls atomic.Int64
			broken := func(e entry) {
				if e.N == 1234 {
					calls.Add(1)
					var m map[string]int
					m[e.Key]++ //lint:ignore SA5000 the panic is what is tested
				}
			}
			o := quickly(blobs)
			o.MaxRestarts = 3
			err := finish(t, launch(t, t.Context(), c.spec(l, broken), o, 2))
			wantError(t, err, "WEIR-0703", append(c.parts, "job books", "WEIR-0701", "assignment to entry in nil map",
				"record 1235 of source in, split 0", "fix the function")...)
			if calls.Load() != 4 {
				t.Errorf("the record was tried %d times, want once and 3 restarts", calls.Load())
			}
			backsOff(t, o.Clock.(*hurry), 3)
			if l.count() >= len(list) {
				t.Error("everything came out")
			}
			// The function is mended.
			if err := finish(t, launch(t, t.Context(), c.spec(l, func(entry) {}), quickly(blobs), 1)); err != nil {
				t.Fatal(err)
			}
			l.exact(t, list)
		})
	}
}

// brittle is tally with a function that may panic.
type brittle struct {
	tally
	broken func(entry)
}

func (f *brittle) OnRecord(c *weir.Context[string, balance], e entry) error {
	f.broken(e)
	return f.tally.OnRecord(c, e)
}

// backsOff fails unless the pauses between restarts double, from half a second and
// within a fifth.
func backsOff(t *testing.T, clk *hurry, n int) {
	t.Helper()
	clk.mu.Lock()
	defer clk.mu.Unlock()
	var pauses []time.Duration
	want := 500 * time.Millisecond
	for _, d := range clk.slept {
		if d >= 450*time.Millisecond && d != time.Second { // the watchdog sleeps 1 s
			pauses = append(pauses, d)
		}
	}
	if len(pauses) != n {
		t.Fatalf("the job paused %v, want %d pauses", pauses, n)
	}
	for _, d := range pauses {
		if d < want-want/10 || d > want+want/10 {
			t.Errorf("the job paused %v", pauses)
		}
		want *= 2
	}
}

func TestPanicThatDoesNotComeBack(t *testing.T) {
	list, l := entries(2000, 50), newLedger()
	var once sync.Once
	job := launch(t, t.Context(), bookkeeping(inMemory(list), l, func(e entry) entry {
		if e.N == 1500 {
			once.Do(func() { panic("a cosmic ray") })
		}
		return e
	}), quickly(blob.Memory()), 2)
	if err := finish(t, job); err != nil {
		t.Fatal(err)
	}
	n, cause := job.Restarts()
	if n != 1 {
		t.Errorf("%d restarts", n)
	}
	wantError(t, cause, "WEIR-0701", "a cosmic ray", "operator edit", "record 1501 of source in, split 0")
	l.exact(t, list)
}

// journal is a log that can be read while it is written.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

func TestWatchdogNamesTheStuckOperator(t *testing.T) {
	list, l, log := entries(2000, 50), newLedger(), new(journal)
	release := make(chan struct{})
	o := quickly(blob.Memory())
	o.StuckAfter = 50 * time.Millisecond
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	job := launch(t, t.Context(), bookkeeping(inMemory(list), l, func(e entry) entry {
		if e.N == 700 {
			dawdle(release)
		}
		return e
	}), o, 2)
	until(t, job, "the watchdog", func() bool { return strings.Contains(log.String(), "stuck") })
	time.Sleep(100 * time.Millisecond) // it must not complain again about the same call
	close(release)
	if err := finish(t, job); err != nil {
		t.Fatal(err)
	}
	var told []string
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "stuck") {
			told = append(told, line)
		}
	}
	if len(told) != 1 {
		t.Fatalf("the watchdog spoke %d times: %s", len(told), told)
	}
	for _, want := range []string{"level=ERROR", "task=in#0", "operator=edit", "dawdle"} {
		if !strings.Contains(told[0], want) {
			t.Errorf("no %s in: %s", want, told[0])
		}
	}
	l.exact(t, list)
	if n, cause := job.Restarts(); n > 0 {
		t.Error(fmt.Errorf("the job restarted: %w", cause))
	}
}

// dawdle is the function that does not return; the watchdog shows its name.
//
//go:noinline
func dawdle(release <-chan struct{}) { <-release }
