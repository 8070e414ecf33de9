package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// pressure is the scenario of the backpressure measurement. The job counts the
// records of every key and publishes each count. First the target is slowed ten
// times, then comes ten times the input, then the usual one again until the job has
// caught up, and a second more.
type pressure struct {
	rate           float64 // usual input, records per second
	capacity       float64 // of the target, messages per second
	keys           uint64
	memory         int64
	interval       time.Duration
	warm, slow     time.Duration
	overload, tail time.Duration
}

// usualPressure has a target that takes six times the usual input: it cannot keep up
// with ten times that, and needs four fifths of the overload's time to catch up.
func usualPressure(scale float64) pressure {
	d := func(seconds float64) time.Duration { return time.Duration(seconds * scale * 1e9) }
	return pressure{
		rate: 5_000, capacity: 30_000, keys: 500_000, memory: 256 << 20, interval: time.Second,
		warm: d(10), slow: d(30), overload: d(120), tail: time.Second,
	}
}

// phase is what was seen in one phase.
type phase struct {
	name       string
	d          time.Duration
	in, out    uint64
	loads      []engine.Load
	bottleneck string // task
	sink       bool   // it waits for its sink
	committed  int64
	// slowest is the longest time from a checkpoint's trigger to its last commit,
	// gap the longest time without a commit.
	slowest, gap time.Duration
	maxRSS       int64
	maxStaged    int64
	lag          int64 // at the end
}

// outcome is what came of a run.
type outcome struct {
	phases  []phase
	records uint64
	aborted int64
	restart int
	// baseRSS was in use before the job began.
	baseRSS, maxRSS int64
	caughtUp        time.Duration
	exact           error
}

// pressCounter counts the records of a key.
type pressCounter struct {
	weir.NoTimers[uint64, pressed]
	n *state.Value[uint64]
}

func (c *pressCounter) Declare(d *weir.Declarer) { c.n = weir.ValueState[uint64](d, "n") }

func (c *pressCounter) OnRecord(ctx *weir.Context[uint64, pressed], p press) error {
	var n uint64
	c.n.Update(func(v *uint64) { *v++; n = *v })
	ctx.Emit(pressed{Key: p.Key, Count: n, Pad: p.Pad})
	return nil
}

func (p *pressure) spec(src *surge, target *scale) weir.JobSpec {
	return weir.NewJob("pressure", func(j *weir.Job) {
		in := weir.From(j, "in", src, weir.ProcessingTime[press](), weir.Parallelism(surgeSplits))
		by := weir.KeyBy(in, "by-key", func(v press) uint64 { return v.Key })
		weir.To(weir.Process(by, "count", func() weir.KeyedProcess[uint64, press, pressed] { return new(pressCounter) }), "out", target.sink())
	})
}

// run runs the scenario.
func (p *pressure) run(ctx context.Context, dir string, opts engine.Options) (*outcome, error) {
	blobs, err := blob.NewDir(vfs.Default, filepath.Join(dir, "checkpoints"), "bench")
	if err != nil {
		return nil, err
	}
	opts.Blob, opts.StateDir, opts.Memory, opts.Interval = blobs, filepath.Join(dir, "state"), p.memory, p.interval
	src := &surge{start: time.Now().UnixNano(), keys: p.keys, steps: []step{
		{p.rate, p.warm + p.slow}, {10 * p.rate, p.overload}, {p.rate, 0},
	}}
	target := newScale(2, p.capacity, p.keys)
	plan, err := weir.Compile(p.spec(src, target), weir.WithParallelism(2))
	if err != nil {
		return nil, err
	}
	out := &outcome{baseRSS: rss()}
	job, err := engine.Start(ctx, plan, opts)
	if err != nil {
		return nil, err
	}
	defer job.Kill()
	w := &watcher{job: job, src: src, target: target, meter: engine.NewMeter(job), out: out, lastCommit: time.Now()}
	w.watch("usual", p.warm, nil)
	target.slower.Store(10)
	w.watch("target slowed x 10", p.slow/2, nil)
	w.watch("the same, later", p.slow/2, nil) // what may be under way is used up
	target.slower.Store(1)
	w.watch("input x 10", p.overload, nil)
	began := time.Now()
	w.watch("catching up", 10*p.overload+time.Minute, func() bool { return w.lag() < int64(p.rate) })
	out.caughtUp = time.Since(began)
	if l := w.lag(); l >= int64(p.rate) {
		return nil, fmt.Errorf("the job did not catch up: %d records wait", l)
	}
	w.watch("usual again", p.tail, nil)
	out.records = src.due(time.Now().UnixNano())
	src.end.Store(out.records)
	if err := job.Wait(); err != nil {
		return nil, err
	}
	out.aborted = job.Checkpoints().Aborted
	out.restart, _ = job.Restarts()
	out.exact = target.check(src, out.records)
	return out, nil
}

// watcher looks at a running job.
type watcher struct {
	job        *engine.Job
	src        *surge
	target     *scale
	meter      *engine.Meter
	out        *outcome
	epoch      int64
	lastCommit time.Time
}

// lag is how many records are due and not visible.
func (w *watcher) lag() int64 {
	w.target.mu.Lock()
	defer w.target.mu.Unlock()
	return int64(w.src.due(time.Now().UnixNano()) - w.target.total)
}

// watch observes a phase of a length, or until done.
func (w *watcher) watch(name string, d time.Duration, done func() bool) {
	ph := phase{name: name}
	start := time.Now()
	in, visible := w.counts()
	committed := w.job.Checkpoints().Committed
	w.meter.Read()
	for time.Since(start) < d && (done == nil || !done()) {
		time.Sleep(20 * time.Millisecond)
		w.sample(&ph)
	}
	ph.d = time.Since(start)
	now, v := w.counts()
	ph.in, ph.out = now-in, v-visible
	ph.loads = w.meter.Read()
	ph.bottleneck, ph.sink = w.job.Plan().Bottleneck(ph.loads)
	ph.committed = w.job.Checkpoints().Committed - committed
	ph.lag = w.lag()
	w.out.phases = append(w.out.phases, ph)
	w.out.maxRSS = max(w.out.maxRSS, ph.maxRSS)
}

func (w *watcher) sample(ph *phase) {
	ph.maxRSS = max(ph.maxRSS, rss())
	ph.maxStaged = max(ph.maxStaged, w.job.Staged())
	if f := w.job.Checkpoints(); f.Committed > w.epoch {
		w.epoch, w.lastCommit = f.Committed, time.Now()
		ph.slowest = max(ph.slowest, time.Duration(f.LastNanos))
	}
	ph.gap = max(ph.gap, time.Since(w.lastCommit))
}

// counts returns the records that were read and those that are visible.
func (w *watcher) counts() (in, visible uint64) {
	for _, t := range w.job.Tasks() {
		if t.Task == "in" {
			in += uint64(t.Stats.RecordsIn.Load())
		}
	}
	w.target.mu.Lock()
	defer w.target.mu.Unlock()
	return in, w.target.total
}

// rss returns the resident memory of the process in bytes, 0 where the system does
// not tell.
func rss() int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(data), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}

// longestGap bounds the time without a committed checkpoint.
const longestGap = 10 * time.Second

// judge returns what is not as it should be.
func (o *outcome) judge(p *pressure) error {
	errs := []error{o.exact}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.maxRSS > p.memory {
		bad("%d MiB are resident, the budget is %d", o.maxRSS>>20, p.memory>>20)
	}
	if o.aborted > 0 || o.restart > 0 {
		bad("%d checkpoints were given up, the job restarted %d times", o.aborted, o.restart)
	}
	for i := range o.phases {
		ph := &o.phases[i]
		if ph.gap > longestGap {
			bad("%s: no checkpoint for %v", ph.name, ph.gap)
		}
	}
	if ph := o.phases[2]; ph.bottleneck != "by-key" || !ph.sink {
		bad("%s: the accounting names %q (sink: %v), not the sink's task: %+v", ph.name, ph.bottleneck, ph.sink, ph.loads)
	}
	return errors.Join(errs...)
}

// backpressure runs the scenario at its full length, or -scale of it.
func backpressure(ctx context.Context, o options) error {
	p := usualPressure(o.scale)
	old := debug.SetMemoryLimit(p.memory / 2) // as the command run does
	defer debug.SetMemoryLimit(old)
	out, err := p.run(ctx, o.dir, engine.Options{Logger: o.logger})
	if err != nil {
		return err
	}
	fmt.Printf("  %-20s %7s %9s %9s %9s  %-16s %5s %9s %9s %9s\n", "phase", "s", "in/s", "visible/s", "lag", "bottleneck", "ckpts", "slowest s", "gap s", "RSS MiB")
	for i := range out.phases {
		ph := &out.phases[i]
		secs := ph.d.Seconds()
		name := ph.bottleneck
		if ph.sink {
			name = "sink of " + name
		}
		fmt.Printf("  %-20s %7.1f %9.0f %9.0f %9d  %-16s %5d %9.2f %9.2f %9d\n", ph.name, secs, float64(ph.in)/secs, float64(ph.out)/secs,
			ph.lag, name, ph.committed, ph.slowest.Seconds(), ph.gap.Seconds(), ph.maxRSS>>20)
		fmt.Printf("  %20s %s\n", "", shares(ph.loads))
	}
	fmt.Printf("  %d records; caught up after %.1f s; %d MiB resident before the job, %d MiB at most\n",
		out.records, out.caughtUp.Seconds(), out.baseRSS>>20, out.maxRSS>>20)
	judge("max RSS / memory budget ≤ 1", float64(out.maxRSS)/float64(p.memory), out.maxRSS <= p.memory)
	err = out.judge(&p)
	judge("checkpoints, accounting, answers: mistakes = 0", float64(mistakes(err)), err == nil)
	return err
}

func mistakes(err error) int {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return len(joined.Unwrap())
	}
	return 0
}

func shares(loads []engine.Load) string {
	var b strings.Builder
	for _, l := range loads {
		fmt.Fprintf(&b, "%s#%d busy %.0f %% idle %.0f %% backpressured %.0f %% (sink %.0f %%)   ", l.Task, l.Index, 100*l.Busy, 100*l.Idle, 100*l.Backpressured, 100*l.Sink)
	}
	return b.String()
}
