package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/natsd"
	"github.com/weirflow/weir/state/blob"
	"github.com/weirflow/weir/window"
)

// event carries the time at which it was due, in nanoseconds since the epoch. The
// generator never slips: event i is due at start + i/rate, whatever the engine does.
type event struct {
	Key uint64
	Due int64
}

// Latencies are counted after this many seconds of warm-up.
const warmUp = 2

// openLoop is a generator of n seconds at a rate whose events know when they are due.
func openLoop(start time.Time, rate float64, seconds int) connectors.Source[event] {
	return generator.New(func(i uint64) event {
		return event{Key: i % 1000, Due: start.UnixNano() + int64(float64(i)/rate*1e9)}
	}, generator.Rate(rate), generator.Count(uint64(rate)*uint64(seconds)), generator.StartAt(start))
}

// engineLatency measures due time to processed, behind a key-by and a keyed window,
// with checkpoints on, and beside it how late a sleeper of 1 ms wakes up.
func engineLatency(ctx context.Context, o options) error {
	const rate, seconds = 10_000, 8
	var engineP99, sleeperP99, engineP50 []float64
	for rep := range o.reps {
		var mu sync.Mutex
		var lats []float64
		start := time.Now().Add(300 * time.Millisecond)
		from := start.Add(warmUp * time.Second).UnixNano()
		spec := weir.NewJob("latency", func(j *weir.Job) {
			in := weir.From(j, "events", openLoop(start, rate, seconds), weir.ProcessingTime[event]())
			by := weir.KeyBy(in, "by-key", func(e event) uint64 { return e.Key })
			counts := weir.Aggregate(by, "count", window.Tumbling(time.Hour), weir.Count[event]())
			weir.To(counts, "counts", memory.NewSink[weir.Windowed[uint64, int64]]().Sink())
			seen := weir.Filter(by.Stream, "seen", func(e event) bool {
				if e.Due >= from {
					d := float64(time.Now().UnixNano()-e.Due) / 1e6
					mu.Lock()
					lats = append(lats, d)
					mu.Unlock()
				}
				return false
			})
			weir.To(seen, "none", memory.NewSink[event]().Sink())
		})
		stop := make(chan struct{})
		late := sleeper(stop)
		if err := runJob(ctx, spec, filepath.Join(o.dir, fmt.Sprint("l", rep)), engine.Options{Logger: o.logger}); err != nil {
			return err
		}
		close(stop)
		sleeperP99 = append(sleeperP99, quantile(<-late, 0.99))
		engineP50, engineP99 = append(engineP50, quantile(lats, 0.5)), append(engineP99, quantile(lats, 0.99))
	}
	fmt.Printf("  engine p50 %.2f ms, p99 %.2f ms; sleeper of 1 ms p99 %.2f ms late (medians of %d)\n",
		median(engineP50), median(engineP99), median(sleeperP99), o.reps)
	over := median(engineP99) - median(sleeperP99)
	judge("p99 above the sleeper's, ms, ≤ 2", over, over <= 2)
	return nil
}

// sleeper sleeps 1 ms at a time and returns how long each took, in ms.
func sleeper(stop <-chan struct{}) <-chan []float64 {
	out := make(chan []float64, 1)
	go func() {
		var v []float64
		for {
			select {
			case <-stop:
				out <- v
				return
			default:
			}
			t := time.Now()
			time.Sleep(time.Millisecond)
			v = append(v, float64(time.Since(t).Nanoseconds())/1e6)
		}
	}()
	return out
}

func runJob(ctx context.Context, spec weir.JobSpec, dir string, opts engine.Options) error {
	plan, err := weir.Compile(spec)
	if err != nil {
		return err
	}
	if opts.Blob, err = blob.NewDir(vfs.Default, filepath.Join(dir, "checkpoints"), "bench"); err != nil {
		return err
	}
	opts.StateDir = filepath.Join(dir, "state")
	job, err := engine.Start(ctx, plan, opts)
	if err != nil {
		return err
	}
	return job.Wait()
}

// visibleLatency measures due time to visible to a plain consumer of the sink's
// stream, exactly once.
func visibleLatency(ctx context.Context, o options) error {
	const rate, seconds = 1_000, 8
	srv, err := natsd.Start(natsd.Defaults(filepath.Join(o.dir, "nats")))
	if err != nil {
		return err
	}
	defer srv.Shutdown()
	nc, err := srv.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		return err
	}
	var p50, p99 []float64
	for rep := range o.reps {
		name := fmt.Sprint("V", rep)
		if _, err := jetstream.Ensure(ctx, nc, jetstream.StreamSpec{Name: name, Subjects: []string{name + ".>"}, MarkerPrefix: "commit" + name}); err != nil {
			return err
		}
		start := time.Now().Add(500 * time.Millisecond)
		spec := weir.NewJob("visible-"+fmt.Sprint(rep), func(j *weir.Job) {
			in := weir.From(j, "events", openLoop(start, rate, seconds), weir.ProcessingTime[event]())
			raw := weir.Map(in, "raw", func(e event) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(e.Due)) })
			weir.To(raw, "out", jetstream.Publish(name, func([]byte) string { return name + ".x" }, jetstream.Raw(), jetstream.MarkerPrefix("commit"+name)))
		})
		lats, err := readWhile(ctx, js, name, rate*seconds, start, func() error {
			return runJob(jetstream.WithProvider(ctx, jetstream.FromConn(nc)), spec, filepath.Join(o.dir, name),
				engine.Options{Interval: 100 * time.Millisecond, Logger: o.logger})
		})
		if err != nil {
			return err
		}
		p50, p99 = append(p50, quantile(lats, 0.5)), append(p99, quantile(lats, 0.99))
	}
	fmt.Printf("  visible p50 %.1f ms, p99 %.1f ms (medians of %d)\n", median(p50), median(p99), o.reps)
	judge("p99, ms, ≤ 250", median(p99), median(p99) <= 250)
	return nil
}

// readWhile consumes n messages of a stream while f runs and returns their
// latencies after the warm-up, in ms.
func readWhile(ctx context.Context, js natsjs.JetStream, stream string, n int, start time.Time, f func() error) ([]float64, error) {
	st, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	c, err := st.OrderedConsumer(ctx, natsjs.OrderedConsumerConfig{FilterSubjects: []string{stream + ".x"}})
	if err != nil {
		return nil, err
	}
	var lats []float64
	var got atomic.Int64
	all := make(chan struct{})
	from := start.Add(warmUp * time.Second).UnixNano()
	cc, err := c.Consume(func(m natsjs.Msg) {
		due := int64(binary.LittleEndian.Uint64(m.Data()))
		if due >= from {
			lats = append(lats, float64(time.Now().UnixNano()-due)/1e6)
		}
		if got.Add(1) == int64(n) {
			close(all)
		}
	})
	if err != nil {
		return nil, err
	}
	defer cc.Stop()
	if err := f(); err != nil {
		return nil, err
	}
	select {
	case <-all:
		return lats, nil
	case <-time.After(10 * time.Second):
		return nil, fmt.Errorf("%d of %d messages are visible", got.Load(), n)
	}
}
