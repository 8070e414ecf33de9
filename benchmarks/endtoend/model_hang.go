package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/state/blob"
)

// hanging is a model each of whose calls takes a time, whatever that is.
type hanging struct {
	takes  time.Duration
	flying atomic.Int64
}

// Invoke implements model.Client.
func (h *hanging) Invoke(ctx context.Context, calls []model.Call[event]) ([]model.Result[float64], error) {
	h.flying.Add(int64(len(calls)))
	defer h.flying.Add(-int64(len(calls)))
	t := time.NewTimer(h.takes)
	defer t.Stop()
	select {
	case <-t.C:
		return make([]model.Result[float64], len(calls)), nil
	case <-ctx.Done():
		return nil, &model.Failure{Kind: model.Unknown, What: "no answer", Cause: ctx.Err()}
	}
}

// hang is the scenario of calls that hang: a job with a model, and besides it a
// source and a sink that have nothing to do with the model.
type hang struct {
	inFlight, subtasks int
	rate               float64 // of each of the two sources
	interval           time.Duration
	watched            time.Duration
	hangs, answers     time.Duration // how long a call takes in the two runs
}

func usualHang(scale float64) hang {
	return hang{
		inFlight: 1000, subtasks: 2, rate: 5000, interval: 200 * time.Millisecond,
		watched: time.Duration(20 * scale * float64(time.Second)), hangs: time.Minute, answers: 2 * time.Millisecond,
	}
}

// hangFigures are what was seen in a run while inFlight calls were under way, or in
// the same time with answers.
type hangFigures struct {
	median, slowest float64 // of the checkpoints' durations, in ms
	checkpoints     int
	flying          int64 // least calls under way at once
	other           int   // records that the other sink committed
	aborted         int64
	restarts        int
}

func (h hang) run(ctx context.Context, dir string, takes time.Duration, o options) (f hangFigures, err error) {
	client := &hanging{takes: takes}
	ticks := memory.NewSink[int]()
	spec := weir.NewJob("hang", func(j *weir.Job) {
		in := weir.From(j, "events", generator.New(func(i uint64) event { return event{Key: i % 1000} }, generator.Rate(h.rate)), weir.ProcessingTime[event]())
		by := weir.KeyBy(in, "by-key", func(e event) uint64 { return e.Key }, weir.Parallelism(h.subtasks))
		asked := weir.Infer(by, "score", func(model.Env) (model.Client[event, float64], error) { return client, nil },
			func(e event) event { return e }, func(e event, r model.Result[float64]) scored { return scored{e.Due, r.Out} },
			weir.DropFailures(), weir.CallsInFlight(h.inFlight/h.subtasks), weir.CallDeadline(time.Hour))
		weir.To(weir.Filter(asked, "none", func(scored) bool { return false }), "scores", memory.NewSink[scored]().Sink())
		tick := weir.From(j, "ticks", generator.New(func(i uint64) int { return int(i) }, generator.Rate(h.rate)), weir.ProcessingTime[int]())
		weir.To(tick, "ticked", ticks.Sink())
	})
	job, err := startJob(ctx, spec, dir, engine.Options{Logger: o.logger, JournalDir: filepath.Join(dir, "journal"), Interval: h.interval})
	if err != nil {
		return f, err
	}
	defer job.Kill()
	full := func() bool { return client.flying.Load() >= int64(h.inFlight) }
	for limit := time.Now().Add(30 * time.Second); takes >= h.hangs && !full(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			return f, fmt.Errorf("%d calls are under way, not %d", client.flying.Load(), h.inFlight)
		}
	}
	time.Sleep(5 * h.interval)
	before, last := len(ticks.Visible()), job.Checkpoints().LastEpoch
	f.flying = client.flying.Load()
	var took []float64
	for start := time.Now(); time.Since(start) < h.watched; time.Sleep(5 * time.Millisecond) {
		if c := job.Checkpoints(); c.LastEpoch > last {
			last = c.LastEpoch
			took = append(took, float64(c.LastNanos)/1e6)
		}
		f.flying = min(f.flying, client.flying.Load())
	}
	f.other = len(ticks.Visible()) - before
	f.aborted = job.Checkpoints().Aborted
	f.restarts, _ = job.Restarts()
	if f.checkpoints = len(took); f.checkpoints == 0 {
		return f, fmt.Errorf("no checkpoint in %v", h.watched)
	}
	f.median, f.slowest = quantile(took, 0.5), quantile(took, 1)
	return f, nil
}

// startJob starts a job with its state in a directory.
func startJob(ctx context.Context, spec weir.JobSpec, dir string, opts engine.Options) (*engine.Job, error) {
	plan, err := weir.Compile(spec)
	if err != nil {
		return nil, err
	}
	if opts.Blob, err = blob.NewDir(vfs.Default, filepath.Join(dir, "checkpoints"), "bench"); err != nil {
		return nil, err
	}
	opts.StateDir = filepath.Join(dir, "state")
	return engine.Start(ctx, plan, opts)
}

// modelHang compares the checkpoints of a job whose calls hang with those of the same
// job whose calls are answered.
func modelHang(ctx context.Context, o options) error {
	h := usualHang(o.scale)
	var usual, hung, usualMost, hungMost []float64
	var last hangFigures
	other := 1.0
	for rep := range o.reps {
		a, err := h.run(ctx, filepath.Join(o.dir, fmt.Sprint("a", rep)), h.answers, o)
		if err != nil {
			return err
		}
		b, err := h.run(ctx, filepath.Join(o.dir, fmt.Sprint("b", rep)), h.hangs, o)
		if err != nil {
			return err
		}
		if b.aborted+int64(b.restarts) > 0 || b.flying < int64(h.inFlight) {
			return fmt.Errorf("%d checkpoints were given up, %d restarts, %d calls under way", b.aborted, b.restarts, b.flying)
		}
		usual, usualMost = append(usual, a.median), append(usualMost, a.slowest)
		hung, hungMost = append(hung, b.median), append(hungMost, b.slowest)
		other = min(other, float64(b.other)/float64(a.other))
		last = b
	}
	fmt.Printf("  %d calls hang for %v: a checkpoint takes %.1f ms (median), %.1f ms (slowest of about %d); with answers in %v %.1f and %.1f ms; medians of %d\n",
		last.flying, h.hangs, median(hung), median(hungMost), last.checkpoints, h.answers, median(usual), median(usualMost), o.reps)
	judge("checkpoint while calls hang / usual ≤ 2", median(hung)/median(usual), median(hung) <= 2*median(usual))
	judge("records that another sink commits while calls hang / usual ≥ 0.95", other, other >= 0.95)
	return nil
}
