package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/fakemodel"
	"github.com/weirflow/weir/internal/natsd"
	"github.com/weirflow/weir/operators/model"
)

// modelChild is the environment variable that makes this program the job of the
// overload measurement.
const modelChild = "WEIR_BENCH_MODEL_CHILD"

// overload is the scenario: events come faster than the model takes them, then none
// come until all are answered.
type overload struct {
	rate   float64 // of events, per second
	model  float64 // what the model takes, per second
	length time.Duration
	// quick is what the model takes once patience is over; 0: the same for ever.
	quick    float64
	patience time.Duration
}

func modelOverload(ctx context.Context, o options) error {
	return overloaded(ctx, o, overload{rate: 10_000, model: 1000, length: scaled(30*time.Second, o.scale)})
}

// modelFlood is the same at ten times the rate. The rest would take the model most of
// an hour, so it becomes quicker when it has been seen for a while that nothing grows.
func modelFlood(ctx context.Context, o options) error {
	return overloaded(ctx, o, overload{
		rate: 100_000, model: 1000, length: scaled(30*time.Second, o.scale), quick: 30_000, patience: scaled(time.Minute, o.scale),
	})
}

func scaled(d time.Duration, scale float64) time.Duration { return time.Duration(float64(d) * scale) }

// overloadJob is what the child is told.
type overloadJob struct{ NATS, Model, Dir string }

// overloadMemory is the job's budget in bytes; as for the command run, half of it is
// the limit of the garbage collector.
const overloadMemory = 128 << 20

// modelChildMain is the job in a process of its own; it runs until its input closes,
// and prints its lag every 100 ms.
func modelChildMain(text string) error {
	var what overloadJob
	if err := json.Unmarshal([]byte(text), &what); err != nil {
		return err
	}
	debug.SetMemoryLimit(overloadMemory / 2)
	nc, err := nats.Connect(what.NATS)
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx := jetstream.WithProvider(context.Background(), jetstream.FromConn(nc))
	job, err := startJob(ctx, overloadSpec(what.Model), what.Dir, engine.Options{JournalDir: filepath.Join(what.Dir, "journal"), Memory: overloadMemory})
	if err != nil {
		return err
	}
	closed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(closed)
	}()
	for {
		select {
		case <-job.Done():
			return job.Wait()
		case <-closed:
			stop, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			return job.Stop(stop)
		case <-time.After(100 * time.Millisecond):
		}
		lag, failures := int64(0), int64(0)
		for _, t := range job.Tasks() {
			if t.Task == "events" {
				lag += t.Stats.Lag.Load()
			}
			for _, f := range t.Stats.Figures.List() {
				if f.Name == "model_failed_total" {
					failures += f.Value()
				}
			}
		}
		restarts, _ := job.Restarts()
		fmt.Println(lag, restarts, failures)
	}
}

// overloadSpec asks about each event and publishes the results exactly once.
func overloadSpec(url string) weir.JobSpec {
	return weir.NewJob("overload", func(j *weir.Job) {
		raw := weir.From(j, "events", jetstream.Stream[[]byte]("IN", jetstream.Raw(), jetstream.Subject("in.>")), weir.ProcessingTime[[]byte]())
		in := weir.Map(raw, "event", func(b []byte) event { return event{Key: binary.LittleEndian.Uint64(b)} })
		by := weir.KeyBy(in, "by-key", func(e event) uint64 { return e.Key })
		asked := weir.Infer(by, "score", func(model.Env) (model.Client[event, float64], error) { return oipClient(url) },
			func(e event) event { return e },
			func(e event, r model.Result[float64]) []byte { return binary.LittleEndian.AppendUint64(nil, e.Key) },
			weir.DropFailures(), weir.CallsInFlight(512), weir.CallDeadline(2*time.Minute),
			weir.Batches(model.Batching{Goal: 500 * time.Millisecond, MaxBatch: 64, InFlight: 2}))
		weir.To(asked, "out", jetstream.Publish("OUT", func([]byte) string { return "out.x" }, jetstream.Raw(), jetstream.MarkerPrefix("commit")))
	})
}

func modelAt(perSecond float64) fakemodel.Script {
	return fakemodel.Script{
		Rules:  []fakemodel.Rule{{Latency: &fakemodel.Latency{PerItem: 1000 / perSecond}}},
		Limits: []fakemodel.Limit{{Concurrency: 1}},
	}
}

// overloadSeen is what the parent sees of the child.
type overloadSeen struct {
	lag, restarts, failures atomic.Int64
	rss                     []int64 // every 50 ms
	maxLag                  int64
	taken                   time.Duration // from the last event to the last result
	sent                    time.Duration
	results                 uint64
}

func overloaded(ctx context.Context, o options, w overload) error {
	opts := natsd.Defaults(filepath.Join(o.dir, "nats"))
	// The log of events is not what is measured: a write is not synced, and survives the
	// process alone.
	opts.Port, opts.SyncAlways = -1, false
	srv, err := natsd.Start(opts)
	if err != nil {
		return err
	}
	defer srv.Shutdown()
	nc, err := srv.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	fake, err := fakemodel.Start(fakemodel.Options{MaxCalls: 1, MaxKeys: 1, Script: modelAt(w.model)})
	if err != nil {
		return err
	}
	defer fake.Close(context.WithoutCancel(ctx))
	for _, s := range []jetstream.StreamSpec{{Name: "IN", Subjects: []string{"in.>"}}, {Name: "OUT", Subjects: []string{"out.>"}, MarkerPrefix: "commit"}} {
		if _, err := jetstream.Ensure(ctx, nc, s); err != nil {
			return err
		}
	}
	what, err := json.Marshal(overloadJob{NATS: srv.URL(), Model: fake.URL(), Dir: filepath.Join(o.dir, "job")})
	if err != nil {
		return err
	}
	seen := &overloadSeen{}
	c, err := startChild(ctx, string(what), seen)
	if err != nil {
		return err
	}
	n, err := seen.watch(ctx, nc, fake, w, c)
	if cerr := c.stop(); cerr != nil {
		return fmt.Errorf("the job: %w", cerr)
	}
	if err != nil {
		return err
	}
	return seen.judge(ctx, nc, w, n)
}

// child is the process of the job.
type child struct {
	cmd   *exec.Cmd
	in    io.Closer
	errs  strings.Builder
	ended chan struct{} // its output has ended
}

// startChild runs the job and keeps its lag up to date.
func startChild(ctx context.Context, what string, seen *overloadSeen) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, exe), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), modelChild+"="+what)
	c.cmd.Stderr = &c.errs
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			var lag, restarts, failures int64
			if _, err := fmt.Sscan(s.Text(), &lag, &restarts, &failures); err == nil {
				seen.lag.Store(lag)
				seen.restarts.Store(restarts)
				seen.failures.Store(failures)
			}
		}
	}()
	return c, nil
}

// stop ends the job with a last checkpoint.
func (c *child) stop() error {
	_ = c.in.Close()
	<-c.ended
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, c.errs.String())
	}
	return nil
}

// watch has events come, waits until as many results are there, and returns how many.
func (s *overloadSeen) watch(ctx context.Context, nc *nats.Conn, fake *fakemodel.Server, w overload, c *child) (uint64, error) {
	js, err := natsjs.New(nc)
	if err != nil {
		return 0, err
	}
	results := func() (uint64, error) {
		st, err := js.Stream(ctx, "OUT")
		if err != nil {
			return 0, err
		}
		info, err := st.Info(ctx, natsjs.WithSubjectFilter("out.>"))
		if err != nil {
			return 0, err
		}
		return info.State.Subjects["out.x"], nil
	}
	n := uint64(w.rate * w.length.Seconds())
	failed := make(chan error, 1)
	start := time.Now()
	go func() { failed <- push(nc, n, w.rate, start) }()
	var last time.Time
	quick := w.quick == 0
	for {
		time.Sleep(50 * time.Millisecond)
		s.rss = append(s.rss, rssOf(c.cmd.Process.Pid))
		s.maxLag = max(s.maxLag, s.lag.Load())
		select {
		case err := <-failed:
			if err != nil {
				return 0, err
			}
			s.sent, last = time.Since(start), time.Now()
		case <-c.ended:
			return 0, errors.New("it has ended")
		default:
		}
		if last.IsZero() {
			continue
		}
		if !quick && time.Since(last) > w.patience {
			quick = true
			if err := fake.SetScript(modelAt(w.quick)); err != nil {
				return 0, err
			}
		}
		if s.results, err = results(); err != nil {
			return 0, err
		}
		if s.results >= n && s.lag.Load() == 0 {
			s.taken = time.Since(last)
			return n, nil
		}
		if time.Since(last) > 3*time.Duration(float64(n)/w.model*1e9)+time.Minute {
			return 0, fmt.Errorf("%d of %d events have a result and %d none for good, the lag is %d", s.results, n, s.failures.Load(), s.lag.Load())
		}
	}
}

// push publishes events at a rate, by an open loop: each is a message of its own, and
// of every so many, one asks to be acknowledged, so that the server is never far behind.
// What is lost has no result in the end.
func push(nc *nats.Conn, n uint64, rate float64, start time.Time) error {
	const each, outstanding = 64, 64
	js, err := natsjs.New(nc, natsjs.WithPublishAsyncMaxPending(outstanding))
	if err != nil {
		return err
	}
	acks := make(chan natsjs.PubAckFuture, outstanding)
	ended := make(chan error, 1)
	go func() {
		var err error
		for a := range acks {
			select {
			case <-a.Ok():
			case e := <-a.Err():
				err = errors.Join(err, e)
			}
		}
		ended <- err
	}()
	publish := func(i uint64) error {
		data := make([]byte, 100)
		binary.LittleEndian.PutUint64(data, i)
		if i%each > 0 && i < n-1 {
			return nc.Publish("in.x", data)
		}
		a, err := js.PublishAsync("in.x", data, natsjs.WithStallWait(time.Minute))
		if err == nil {
			acks <- a
		}
		return err
	}
	for i := uint64(0); i < n && err == nil; i++ {
		if ahead := time.Duration(float64(i)/rate*1e9) - time.Since(start); ahead > time.Millisecond {
			time.Sleep(ahead)
		}
		err = publish(i)
	}
	close(acks)
	return errors.Join(err, <-ended)
}

// rssOf is the resident memory of a process in bytes; 0 where that is not told.
func rssOf(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(data), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}

// judge checks that every event has one result, and prints the figures.
func (s *overloadSeen) judge(ctx context.Context, nc *nats.Conn, w overload, n uint64) error {
	lost, again, err := missing(ctx, nc, n)
	if err != nil {
		return err
	}
	fmt.Printf("  %d events in %.1f s (%.0f/s), the model takes %.0f/s; the last result %.1f s after the last event; lag at most %d, at the end %d\n",
		n, s.sent.Seconds(), float64(n)/s.sent.Seconds(), w.model, s.taken.Seconds(), s.maxLag, s.lag.Load())
	if w.quick > 0 {
		fmt.Printf("  %.0f s after the last event the model was made to take %.0f/s\n", w.patience.Seconds(), w.quick)
	}
	judge("events without a result or with two", float64(lost+again), lost+again == 0)
	if lost+again > 0 {
		return fmt.Errorf("%d events have no result, %d have more than one", lost, again)
	}
	judge("restarts and calls that failed", float64(s.restarts.Load()+s.failures.Load()), s.restarts.Load()+s.failures.Load() == 0)
	quarter := len(s.rss) / 4
	early, late := slices.Max(s.rss[:quarter+1]), slices.Max(s.rss[quarter:])
	fmt.Printf("  resident memory of the job at most: %d MiB in the first quarter of the time, %d MiB in the rest\n", early>>20, late>>20)
	judge("most resident memory / limit of 128 MiB ≤ 1", float64(max(early, late))/overloadMemory, max(early, late) <= overloadMemory)
	return nil
}

// missing reads all results and counts the events that have none, and the results
// beyond the first of an event.
func missing(ctx context.Context, nc *nats.Conn, n uint64) (lost, again uint64, err error) {
	js, err := natsjs.New(nc)
	if err != nil {
		return 0, 0, err
	}
	st, err := js.Stream(ctx, "OUT")
	if err != nil {
		return 0, 0, err
	}
	c, err := st.OrderedConsumer(ctx, natsjs.OrderedConsumerConfig{FilterSubjects: []string{"out.x"}})
	if err != nil {
		return 0, 0, err
	}
	info, err := st.Info(ctx, natsjs.WithSubjectFilter("out.x"))
	if err != nil {
		return 0, 0, err
	}
	it, err := c.Messages(natsjs.PullMaxMessages(2000))
	if err != nil {
		return 0, 0, err
	}
	defer it.Stop()
	have := make([]bool, n)
	for range info.State.Subjects["out.x"] {
		m, err := it.Next()
		if err != nil {
			return 0, 0, err
		}
		switch k := binary.LittleEndian.Uint64(m.Data()); {
		case k >= n || have[k]:
			again++
		default:
			have[k] = true
		}
	}
	for _, ok := range have {
		if !ok {
			lost++
		}
	}
	return lost, again, nil
}
