package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"sync"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/fakemodel"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/oip"
)

// The fake model of the batching measurement takes modelBase and modelEach for each
// call of a batch, and works on modelSlots batches at a time.
const (
	modelBase  = 5 * time.Millisecond
	modelEach  = 200 * time.Microsecond
	modelSlots = 4
	modelGoal  = 50 * time.Millisecond
	// modelFaster is how many times the rate without batches is offered with them.
	modelFaster = 3.2
)

// scored is a result of the batching measurement.
type scored struct {
	Due   int64
	Score float64
}

// slots is the model in this process.
type slots struct{ free chan struct{} }

func newSlots() *slots { return &slots{make(chan struct{}, modelSlots)} }

// Invoke implements model.Client.
func (s *slots) Invoke(ctx context.Context, calls []model.Call[event]) ([]model.Result[float64], error) {
	select {
	case s.free <- struct{}{}:
	case <-ctx.Done():
		return nil, &model.Failure{Kind: model.Unavailable, What: "no slot", Cause: ctx.Err()}
	}
	defer func() { <-s.free }()
	time.Sleep(modelBase + time.Duration(len(calls))*modelEach)
	out := make([]model.Result[float64], len(calls))
	for i := range calls {
		out[i].Out = float64(calls[i].In.Key)
	}
	return out, nil
}

// oipClient asks the fake server by the Open Inference Protocol.
func oipClient(url string) (model.Client[event, float64], error) {
	return oip.New(
		oip.Endpoint{URL: url, Model: "bench", Access: model.Access{Allow: []string{"loopback"}, Timeout: 2 * time.Minute}},
		oip.Codec[event, float64]{
			Inputs: []oip.Column[event]{oip.Scalar("key", func(e *event) float64 { return float64(e.Key) })},
			Decode: func(row *oip.Row) (float64, error) { return row.Float("score"), nil },
		})
}

// modelKind is a way to reach the model.
type modelKind struct {
	name   string
	client func(model.Env) (model.Client[event, float64], error)
}

// modelBatching compares a job that asks the model about one record at a time with one
// that lets the operator make batches, against a latency goal.
func modelBatching(ctx context.Context, o options) error {
	server, err := fakemodel.Start(fakemodel.Options{MaxCalls: 1, MaxKeys: 1, Script: fakemodel.Script{
		Rules:  []fakemodel.Rule{{Latency: &fakemodel.Latency{Base: ms(modelBase), PerItem: ms(modelEach)}}},
		Limits: []fakemodel.Limit{{Concurrency: modelSlots}},
	}})
	if err != nil {
		return err
	}
	defer server.Close(context.WithoutCancel(ctx))
	inner := newSlots()
	kinds := []modelKind{
		{"in this process", func(model.Env) (model.Client[event, float64], error) { return inner, nil }},
		{"server over loopback", func(model.Env) (model.Client[event, float64], error) { return oipClient(server.URL()) }},
	}
	fmt.Printf("  the model takes %v + %v for each call, %d at a time; goal %v\n", modelBase, modelEach, modelSlots, modelGoal)
	for _, k := range kinds {
		if err := batchingOf(ctx, o, k); err != nil {
			return err
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

func batchingOf(ctx context.Context, o options, k modelKind) error {
	var single, full, open, p50, p99 []float64
	for rep := range o.reps {
		dir := filepath.Join(o.dir, fmt.Sprintf("%.2s-%d", k.name, rep))
		one, err := modelRun{kind: k, seconds: 3 * o.scale, opts: []weir.InferOption{weir.CallsInFlight(modelSlots)}}.run(ctx, dir+"a", o)
		if err != nil {
			return err
		}
		batches := []weir.InferOption{
			weir.CallsInFlight(4096), weir.Batches(model.Batching{Goal: modelGoal, MaxBatch: 256, InFlight: modelSlots}),
		}
		all, err := modelRun{kind: k, seconds: 3 * o.scale, opts: batches}.run(ctx, dir+"b", o)
		if err != nil {
			return err
		}
		at, err := modelRun{kind: k, seconds: 6 * o.scale, rate: modelFaster * one.rate, opts: batches}.run(ctx, dir+"c", o)
		if err != nil {
			return err
		}
		single, full = append(single, one.rate), append(full, all.rate)
		open = append(open, at.rate/one.rate)
		p50, p99 = append(p50, at.p50), append(p99, at.p99)
	}
	fmt.Printf("  %s: one at a time %.0f records/s; batches, as fast as it goes %.0f/s (x %.1f); medians of %d\n",
		k.name, median(single), median(full), median(full)/median(single), o.reps)
	fmt.Printf("  %s: at %.1f times the rate of one at a time: p50 %.1f ms, p99 %.1f ms from due to result\n", k.name, modelFaster, median(p50), median(p99))
	judge(k.name+": rate kept / one at a time ≥ 3", median(open), median(open) >= 3)
	judge(k.name+": p99 / goal ≤ 1", median(p99)/ms(modelGoal), median(p99) <= ms(modelGoal))
	return nil
}

// modelRun is a job with a model for some seconds: flat out, or at a rate.
type modelRun struct {
	kind    modelKind
	seconds float64
	rate    float64
	opts    []weir.InferOption
}

// modelFigures are what came of it: results per second, and latencies from when a
// record was due to its result, in ms.
type modelFigures struct{ rate, p50, p99 float64 }

// run runs the job; the first third of the time is a warm-up.
func (m modelRun) run(ctx context.Context, dir string, o options) (modelFigures, error) {
	length := time.Duration(m.seconds * float64(time.Second))
	start := time.Now().Add(200 * time.Millisecond)
	from, to := start.Add(length/3), start.Add(length)
	src := []generator.Option{generator.StartAt(start)}
	if m.rate > 0 {
		src = append(src, generator.Rate(m.rate))
	}
	var mu sync.Mutex
	var lats []float64
	n := 0
	spec := weir.NewJob("model", func(j *weir.Job) {
		in := weir.From(j, "events", generator.New(func(i uint64) event {
			e := event{Key: i % 1000, Due: start.UnixNano()}
			if m.rate > 0 {
				e.Due += int64(float64(i) / m.rate * 1e9)
			}
			return e
		}, src...), weir.ProcessingTime[event]())
		by := weir.KeyBy(in, "by-key", func(e event) uint64 { return e.Key })
		asked := weir.Infer(by, "score", m.kind.client, func(e event) event { return e },
			func(e event, r model.Result[float64]) scored { return scored{e.Due, r.Out} }, append(m.opts, weir.DropFailures())...)
		seen := weir.Filter(asked, "seen", func(s scored) bool {
			now := time.Now()
			if now.After(from) && now.Before(to) {
				mu.Lock()
				n++
				lats = append(lats, float64(now.UnixNano()-s.Due)/1e6)
				mu.Unlock()
			}
			return false
		})
		weir.To(seen, "none", memory.NewSink[scored]().Sink())
	})
	if err := runFor(ctx, spec, dir, to, engine.Options{Logger: o.logger, JournalDir: filepath.Join(dir, "journal")}); err != nil {
		return modelFigures{}, err
	}
	mu.Lock()
	defer mu.Unlock()
	if n == 0 {
		return modelFigures{p50: math.Inf(1), p99: math.Inf(1)}, nil
	}
	return modelFigures{rate: float64(n) / to.Sub(from).Seconds(), p50: quantile(lats, 0.5), p99: quantile(lats, 0.99)}, nil
}

// runFor runs a job without an end until a time.
func runFor(ctx context.Context, spec weir.JobSpec, dir string, to time.Time, opts engine.Options) error {
	job, err := startJob(ctx, spec, dir, opts)
	if err != nil {
		return err
	}
	time.Sleep(time.Until(to))
	job.Kill()
	if restarts, err := job.Restarts(); restarts > 0 {
		return fmt.Errorf("the job restarted %d times: %w", restarts, err)
	}
	return nil
}
