package weirtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state/blob"
)

// Option is an option of New and Matrix.
type Option func(*config)

// config is made anew for every run, with logs and sinks of its own.
type config struct {
	sources     map[string]feed
	sinks       map[string]output
	parallelism int
	start       time.Time
	encode      bool
	memory      int64
	logger      *slog.Logger
	inOrder     map[string]bool
}

// Source makes the job read records of type T from the test in place of its
// source of that name (within a Scope: the full name). It has the splits given,
// or one, "0".
func Source[T any](name string, splits ...string) Option {
	if len(splits) == 0 {
		splits = []string{"0"}
	}
	return func(c *config) { c.sources[name] = newSourceLog[T](splits) }
}

// SourceDecoder says how a source that Source has replaced, before this option,
// decodes a record that comes back from the dead letters: the raw bytes of a Malformed
// record.
func SourceDecoder[T any](name string, decode func(raw []byte) (T, error)) Option {
	return func(c *config) {
		if l, ok := c.sources[name].(*sourceLog[T]); ok {
			l.decode = decode
		}
	}
}

// Sink makes the job write to the test in place of its sink of that name (within
// a Scope: the full name). It is an exactly-once sink.
func Sink[T any](name string) Option {
	return func(c *config) { c.sinks[name] = newSink[T]() }
}

// Parallelism is that of keyed operators until a Restore says otherwise; 1 if not
// set. Matrix sets its own.
func Parallelism(n int) Option { return func(c *config) { c.parallelism = n } }

// StartAt sets the processing time at which a run starts; 2020-01-01T00:00:00Z if
// not set.
func StartAt(t time.Time) Option { return func(c *config) { c.start = t } }

// Encoded carries every batch between subtasks and every message between tasks
// and coordinator through its encoding, as between processes.
func Encoded() Option { return func(c *config) { c.encode = true } }

// Memory bounds the keyed state in memory in bytes, so that a test can have state
// that is larger; 16 MiB if not set.
func Memory(bytes int64) Option { return func(c *config) { c.memory = bytes } }

// Logger takes the logs of the engine; they are discarded if not set.
func Logger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

const defaultMemory = 16 << 20

// Run is a job under test. It is used by the goroutine of the test.
type Run struct {
	tb   testing.TB
	spec weir.JobSpec
	cfg  config
	bind *weir.Bindings

	clock  *clock.Virtual
	blobs  blob.Store
	ctx    context.Context
	cancel context.CancelFunc
	job    *engine.Job    // nil while the job is down
	due    base.Timestamp // processing time at which the job does something by itself
	seq    int            // number of the last entry of the sources
	ended  bool           // EndOfInput was taken
	done   bool           // the job came to its end
}

// New starts a job for a test. Every source and every sink of the job must be
// replaced, by the options Source and Sink. The job ends with the test.
func New(tb testing.TB, spec weir.JobSpec, opts ...Option) *Run {
	tb.Helper()
	r := newRun(tb, spec, opts)
	if err := r.restore(0); err != nil {
		tb.Fatalf("weirtest: %v", err)
	}
	return r
}

func newRun(tb testing.TB, spec weir.JobSpec, opts []Option) *Run {
	tb.Helper()
	r := &Run{tb: tb, spec: spec, bind: &weir.Bindings{}, blobs: blob.Memory()}
	r.cfg = config{
		sources: map[string]feed{}, sinks: map[string]output{}, parallelism: 1, memory: defaultMemory,
		start: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), inOrder: map[string]bool{},
	}
	for _, o := range opts {
		o(&r.cfg)
	}
	for name, s := range r.cfg.sources {
		s.bind(r.bind, name)
	}
	for name, s := range r.cfg.sinks {
		if err := s.bind(r.bind, name); err != nil {
			tb.Fatalf("weirtest: %v", err)
		}
	}
	r.clock = clock.NewVirtual(r.cfg.start.UnixNano())
	r.ctx, r.cancel = context.WithCancel(context.Background())
	tb.Cleanup(r.close)
	return r
}

func (r *Run) close() {
	if r.job != nil {
		r.job.Kill()
		r.job = nil
	}
	r.cancel()
}

// Feed takes steps; records and watermarks among them go to the source of that
// name. The test fails at once when a step does.
func Feed(r *Run, source string, steps ...Step) {
	r.tb.Helper()
	r.Do(Into(source, steps...))
}

// Do takes steps. Records and watermarks go to the source that Into names, or to
// the only one. The test fails at once when a step does, as when the job fails.
func (r *Run) Do(steps ...Step) {
	r.tb.Helper()
	if err := r.Try(steps...); err != nil {
		r.tb.Fatalf("weirtest: %v", err)
	}
}

// Try is Do for steps that may fail: it returns the error, such as that of the
// job. A job that failed is down, and Restore starts it again.
func (r *Run) Try(steps ...Step) error {
	for _, s := range steps {
		if err := r.take(s, "", ""); err != nil {
			return err
		}
	}
	return nil
}

// take takes one step.
func (r *Run) take(s Step, source, split string) error {
	if r.done {
		return errors.New("the input has ended and the job with it; nothing can follow")
	}
	switch s := s.(type) {
	case intoStep:
		for _, inner := range s.steps {
			if err := r.take(inner, s.source, s.split); err != nil {
				return err
			}
		}
		return nil
	case recordStep, watermarkStep:
		return r.feed(source, split, []Step{s})
	case togetherStep:
		return r.feed(source, split, s.steps)
	case endStep:
		return r.end()
	case checkpointStep:
		return r.checkpoint()
	case crashStep:
		return r.crash(s.inCommit)
	case restoreStep:
		return r.restore(s.parallelism)
	case clockStep:
		return r.advance(s.d)
	}
	return fmt.Errorf("unknown step %T", s)
}

// feed hands records and watermarks to a source as one entry.
func (r *Run) feed(source, split string, steps []Step) error {
	if r.ended {
		return errors.New("the input has ended; nothing can follow but Restore")
	}
	if len(steps) > operators.MaxBatch {
		return fmt.Errorf("a source hands over at most %d records together, not %d", operators.MaxBatch, len(steps))
	}
	if source == "" && len(r.cfg.sources) == 1 {
		for name := range r.cfg.sources {
			source = name
		}
	}
	f := r.cfg.sources[source]
	if f == nil {
		return fmt.Errorf("no source %q is bound; the run has %v", source, slices.Sorted(maps.Keys(r.cfg.sources)))
	}
	if split == "" {
		split = f.splitNames()[0]
	}
	r.seq++
	if err := f.add(split, r.seq, steps); err != nil {
		return fmt.Errorf("source %s: %w", source, err)
	}
	if r.job == nil {
		return nil
	}
	return r.release(r.seq)
}

// end ends all splits of all sources, one after another.
func (r *Run) end() error {
	if r.ended {
		return errors.New("the input has ended before")
	}
	r.ended = true
	first := r.seq + 1
	for _, name := range slices.Sorted(maps.Keys(r.cfg.sources)) {
		f := r.cfg.sources[name]
		for _, split := range f.splitNames() {
			r.seq++
			if err := f.end(split, r.seq); err != nil {
				return fmt.Errorf("source %s: %w", name, err)
			}
		}
	}
	for seq := first; seq <= r.seq && r.job != nil; seq++ {
		if err := r.release(seq); err != nil {
			return err
		}
	}
	return nil
}

// release lets the sources hand over the entries up to seq and waits until
// nothing more comes of it.
func (r *Run) release(seq int) error {
	ready := false
	for _, f := range r.cfg.sources {
		ready = f.release(seq) || ready
	}
	if r.ended && seq == r.seq {
		return r.finish()
	}
	if !ready {
		return nil
	}
	return r.settle()
}

// settle waits until the job has done everything that the steps so far lead to.
func (r *Run) settle() error {
	for _, f := range r.cfg.sources {
		for f.behind() {
			select {
			case <-r.job.Done():
				return r.failed(r.job.Wait())
			default:
				runtime.Gosched()
			}
		}
	}
	due, err := r.job.Settle(r.ctx)
	if err != nil {
		return r.failed(err)
	}
	r.due = due
	return nil
}

// finish waits for the end of a job whose input has ended.
func (r *Run) finish() error {
	err := r.job.Wait()
	if err != nil {
		return r.failed(err)
	}
	r.job, r.done = nil, true
	return nil
}

// failed notes that the job is down.
func (r *Run) failed(err error) error {
	r.job.Kill()
	r.job = nil
	if err == nil {
		err = errors.New("it ended before its input did")
	}
	return fmt.Errorf("the job failed: %w", err)
}

func (r *Run) checkpoint() error {
	if r.job == nil {
		return errors.New("a checkpoint needs a job that runs; take the step Restore first")
	}
	if err := r.job.Checkpoint(r.ctx); err != nil {
		return r.failed(err)
	}
	// The tasks have yet to hear of it.
	return r.settle()
}

func (r *Run) crash(inCommit bool) error {
	if r.job == nil {
		return errors.New("the job is down already")
	}
	if inCommit {
		if err := r.startCommit(); err != nil {
			return err
		}
	}
	r.job.Kill()
	r.job = nil
	for _, s := range r.cfg.sinks {
		s.onPublish(nil)
	}
	return nil
}

// startCommit makes a checkpoint and returns when the first write of its output
// has reached a sink; no other will succeed.
func (r *Run) startCommit() error {
	var writes atomic.Int32
	reached := make(chan struct{})
	for _, s := range r.cfg.sinks {
		s.onPublish(func(memory.Attempt) memory.Fault {
			if writes.Add(1) > 1 {
				return memory.Fault{Outcome: memory.LostWrite}
			}
			close(reached)
			return memory.Fault{Outcome: memory.LostAck}
		})
	}
	ended := make(chan error, 1)
	go func() { ended <- r.job.Checkpoint(r.ctx) }()
	select {
	case <-reached:
		return nil
	case err := <-ended:
		if err != nil {
			return r.failed(err)
		}
		return nil
	}
}

// restore starts the job, from its last checkpoint if there is one, and hands
// over again what that does not cover.
func (r *Run) restore(parallelism int) error {
	if r.job != nil {
		return errors.New("the job runs; take the step Crash first")
	}
	if parallelism != 0 {
		r.cfg.parallelism = parallelism
	}
	plan, err := weir.Compile(r.spec, weir.WithParallelism(r.cfg.parallelism), weir.WithBindings(r.bind))
	if err != nil {
		return err
	}
	if err := r.checkBound(plan); err != nil {
		return err
	}
	for _, f := range r.cfg.sources {
		f.release(0)
	}
	r.job, err = engine.Start(r.ctx, plan, engine.Options{
		Clock: r.clock, Logger: r.cfg.logger, Blob: r.blobs, FS: vfs.NewMem(), StateDir: "state",
		Memory: r.cfg.memory, Manual: true, MaxRestarts: -1, Encode: r.cfg.encode, Holder: "weirtest",
	})
	if err != nil {
		r.job = nil
		return fmt.Errorf("the job does not start: %w", err)
	}
	if err := r.settle(); err != nil {
		return err
	}
	for seq := 1; seq <= r.seq; seq++ {
		if err := r.release(seq); err != nil {
			return err
		}
	}
	return nil
}

// checkBound refuses a job that reads or writes something real.
func (r *Run) checkBound(plan *engine.Plan) error {
	for _, o := range plan.Operators {
		switch {
		case o.Kind == "from" && r.cfg.sources[o.UID] == nil:
			return fmt.Errorf("source %s (%s) would read its real input; give the option Source[…](%q)", o.UID, o.Where, o.UID)
		case o.Kind == "to" && r.cfg.sinks[o.UID] == nil:
			return fmt.Errorf("sink %s (%s) would write its real output; give the option Sink[…](%q)", o.UID, o.Where, o.UID)
		}
	}
	return nil
}

// advance moves the clock from timer to timer.
func (r *Run) advance(d time.Duration) error {
	if r.job == nil {
		r.clock.Advance(d)
		return nil
	}
	target := base.AddTime(r.clock.Now(), int64(d))
	for {
		r.clock.AdvanceTo(min(max(r.due, r.clock.Now()+1), target))
		if err := r.settle(); err != nil {
			return err
		}
		if r.clock.Now() >= target {
			return nil
		}
	}
}

// Now returns the processing time of the run.
func (r *Run) Now() time.Time { return time.Unix(0, r.clock.Now()).UTC() }
