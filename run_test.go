package weir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/natsd"
	"github.com/weirflow/weir/internal/protocol"
)

// patience bounds waits that end by themselves when all is well.
const patience = time.Minute

// lines is an io.Writer that several goroutines may use and that can be waited on.
type lines struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{}
}

func newLines() *lines { return &lines{changed: make(chan struct{}, 1)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until the text contains want.
func (l *lines) await(t *testing.T, want string) {
	t.Helper()
	limit := time.After(patience)
	for !strings.Contains(l.String(), want) {
		select {
		case <-l.changed:
		case <-limit:
			t.Fatalf("no %q in:\n%s", want, l)
		}
	}
}

// reached is a channel that is closed when n records are published.
func reached(sink *memory.Lanes, n int) <-chan struct{} {
	c := make(chan struct{})
	var once sync.Once
	var count atomic.Int64
	sink.OnPublish(func(a memory.Attempt) memory.Fault {
		if count.Add(int64(a.Messages)) >= int64(n) {
			once.Do(func() { close(c) })
		}
		return memory.Fault{}
	})
	return c
}

// numbers is a job that writes the numbers below n, keyed, to a sink.
func numbers(name string, n uint64, sink connectors.Sink[uint64], opts ...generator.Option) JobSpec {
	return NewJob(name, func(j *Job) {
		src := generator.New(func(i uint64) uint64 { return i }, append([]generator.Option{generator.Count(n), generator.Shards(2)}, opts...)...)
		in := From(j, "numbers", src, ProcessingTime[uint64](), Parallelism(2))
		To(KeyBy(in, "by-number", func(i uint64) uint64 { return i % 100 }).Stream, "out", sink)
	})
}

// eachOnce fails unless got holds the numbers below n, each once.
func eachOnce(t *testing.T, got []uint64, n uint64) {
	t.Helper()
	slices.Sort(got)
	for i, v := range got {
		if v != uint64(i) {
			t.Fatalf("number %d of the sorted output is %d", i, v)
		}
	}
	if uint64(len(got)) != n {
		t.Fatalf("%d numbers came out, want %d", len(got), n)
	}
}

// quick are options with which checkpoints come often.
func quick(t *testing.T) Options {
	return Options{DataDir: filepath.Join(t.TempDir(), "data"), Interval: MinInterval, Parallelism: 2, Memory: 32 << 20}
}

// start runs a job in the background until stop is called, which returns what
// Run did.
func start(t *testing.T, job JobSpec, o Options) (s Started, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	started, done := make(chan Started, 1), make(chan error, 1)
	o.Started = func(s Started) { started <- s }
	go func() { done <- Run(ctx, job, o) }()
	select {
	case s = <-started:
	case err := <-done:
		cancel()
		t.Fatalf("the job did not start: %v", err)
	}
	return s, func() error {
		cancel()
		return <-done
	}
}

func TestRunToTheEndOfInput(t *testing.T) {
	sink := memory.NewSink[uint64]()
	o := quick(t)
	progress := newLines()
	o.Progress = progress
	started := 0
	o.Started = func(s Started) {
		started++
		if s.DataDir != o.DataDir || s.HTTP != "" || s.NATS != "" || s.Resumed {
			t.Errorf("started with %+v", s)
		}
	}
	if err := Run(t.Context(), numbers("end", 5000, sink.Sink()), o); err != nil {
		t.Fatal(err)
	}
	eachOnce(t, sink.Visible(), 5000)
	if started != 1 || !strings.Contains(progress.String(), "end: done; checkpoint ") {
		t.Errorf("started %d times; progress:\n%s", started, progress)
	}
	if _, err := os.Stat(filepath.Join(o.DataDir, natsDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a job that needs no server has one: %v", err)
	}
	// Everything was read: a second run has nothing to do and does it.
	o.Started = func(s Started) {
		if !s.Resumed {
			t.Error("the second run does not know of the first")
		}
	}
	if err := Run(t.Context(), numbers("end", 5000, sink.Sink()), o); err != nil {
		t.Fatal(err)
	}
	eachOnce(t, sink.Visible(), 5000)
}

func TestStopAndGoOnAtAnotherParallelism(t *testing.T) {
	const n = 30_000
	sink := memory.NewSink[uint64]()
	o := quick(t)
	for run := range 3 {
		o.Parallelism = run + 1
		ctx, stop := context.WithCancel(t.Context())
		some := reached(sink.Lanes, 2000)
		go func() {
			<-some
			stop()
		}()
		if err := Run(ctx, numbers("resume", n, sink.Sink(), generator.Rate(20_000)), o); err != nil {
			t.Fatal(err)
		}
		stop()
		got := len(sink.Visible())
		if got < 2000*(run+1) && got < n {
			t.Fatalf("after run %d there are %d numbers", run, got)
		}
		t.Logf("%d numbers after run %d", got, run)
	}
	sink.OnPublish(nil)
	if err := Run(t.Context(), numbers("resume", n, sink.Sink()), o); err != nil {
		t.Fatal(err)
	}
	eachOnce(t, sink.Visible(), n)
}

func TestTwoJobsInOneProcess(t *testing.T) {
	var wg sync.WaitGroup
	for _, name := range []string{"one", "two"} {
		wg.Go(func() {
			sink := memory.NewSink[uint64]()
			o := quick(t)
			o.DataDir = filepath.Join(o.DataDir, name)
			o.Listen = "127.0.0.1:0"
			if err := Run(t.Context(), numbers(name, 3000, sink.Sink()), o); err != nil {
				t.Error(err)
				return
			}
			eachOnce(t, sink.Visible(), 3000)
		})
	}
	wg.Wait()
}

func TestSecondJobOnTheSameDirectory(t *testing.T) {
	sink := memory.NewSink[uint64]()
	o := quick(t)
	_, stop := start(t, numbers("first", 1<<40, sink.Sink(), generator.Rate(1000)), o)
	err := Run(t.Context(), numbers("second", 10, sink.Sink()), o)
	if base.CodeOf(err) != "WEIR-0205" || !strings.Contains(err.Error(), "another job of this process") {
		t.Errorf("the second job ended with %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestOptionsAreCheckedTogetherAndBeforeAnything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	err := Run(t.Context(), NewJob("bad", func(j *Job) {}), Options{
		DataDir: dir, Memory: 1, Interval: time.Microsecond, Retain: -1, StopTimeout: -1, NATSPort: 70_000,
		DropState: []string{"x"}, Listen: "0.0.0.0:0", Parallelism: -1,
	})
	codes := map[string]int{}
	for _, e := range flatten(err) {
		codes[base.CodeOf(e)]++
	}
	if want := map[string]int{codeValue: 6, codeListen: 1, "WEIR-0102": 1}; fmt.Sprint(codes) != fmt.Sprint(want) {
		t.Errorf("codes %v, want %v:\n%v", codes, want, err)
	}
	if err := Run(t.Context(), JobSpec{}, Options{DataDir: dir}); base.CodeOf(err) != "WEIR-0101" {
		t.Errorf("a job of nothing: %v", err)
	}
	job := numbers("fine", 1, memory.NewSink[uint64]().Sink())
	for _, c := range []jetstream.Config{{URL: "nats://127.0.0.1:4222", Cert: "x"}, {URL: "nats://127.0.0.1:4222", Credentials: "/does/not/exist"}} {
		if err := Run(t.Context(), job, Options{DataDir: dir, NATS: c}); base.CodeOf(err) != jetstream.CodeConfig {
			t.Errorf("%v: %v", c, err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a run that did not start left a directory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, job, Options{DataDir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("run under an ended context: %v", err)
	}
}

func TestListenAddresses(t *testing.T) {
	for addr, code := range map[string]string{
		"127.0.0.1:0": "", "localhost:1": "", "[::1]:80": "", "127.8.8.8:1": "", "[::ffff:127.0.0.1]:1": "",
		"0.0.0.0:80": codeListen, ":80": codeListen, "[::]:80": codeListen, "10.0.0.1:80": codeListen, "example.org:80": codeListen,
		"localhost.example.org:80": codeListen, "127.0.0.1": codeValue, "127.0.0.1:http": codeValue, "127.0.0.1:99999": codeValue,
	} {
		if got := base.CodeOf(checkListen(addr, false)); got != code {
			t.Errorf("%s: %q, want %q", addr, got, code)
		}
	}
	if err := checkListen("0.0.0.0:80", true); err != nil {
		t.Error(err)
	}
}

// gate is an exactly-once target that opens, and publishes, only when told to.
type gate struct {
	*memoryLanes
	open, publish chan struct{}
	// tried is closed when something is to be published.
	tried chan struct{}
	once  sync.Once
}

func (g *gate) OpenLanes(ctx context.Context, env connectors.SinkEnv) (connectors.LaneWriter, error) {
	select {
	case <-g.open:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w, err := g.memoryLanes.OpenLanes(ctx, env)
	return &gatedWriter{w, g}, err
}

// memoryLanes has another name than its method Lanes.
type memoryLanes = memory.Lanes

type gatedWriter struct {
	connectors.LaneWriter
	g *gate
}

func (w *gatedWriter) PublishChunk(ctx context.Context, lane int, msgs []connectors.Message, m protocol.Marker, expect uint64) (uint64, error) {
	w.g.once.Do(func() { close(w.g.tried) })
	select {
	case <-w.g.publish:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return w.LaneWriter.PublishChunk(ctx, lane, msgs, m, expect)
}

func newGate() (*gate, connectors.Sink[uint64]) {
	s := memory.NewSink[uint64]()
	g := &gate{memoryLanes: s.Lanes, open: make(chan struct{}), publish: make(chan struct{}), tried: make(chan struct{})}
	return g, connectors.Sink[uint64]{Encode: s.Sink().Encode, Target: g}
}

// get reads a page of the server under test.
func get(t *testing.T, url, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestReadinessMetricsAndHosts(t *testing.T) {
	g, sink := newGate()
	close(g.publish)
	o := quick(t)
	o.Listen, o.Debug = "127.0.0.1:0", true
	s, stop := start(t, numbers("ready", 1<<40, sink, generator.Rate(1000)), o)
	url := s.HTTP
	if code, body := get(t, url+"/readyz", ""); code != http.StatusServiceUnavailable || body != "restoring\n" {
		t.Errorf("before the sink opens: %d %q", code, body)
	}
	if code, _ := get(t, url+"/livez", ""); code != http.StatusOK {
		t.Errorf("livez: %d", code)
	}
	some := reached(g.memoryLanes, 100)
	close(g.open)
	<-some
	if code, body := get(t, url+"/readyz", ""); code != http.StatusOK || body != "running\n" {
		t.Errorf("while it runs: %d %q", code, body)
	}
	_, body := get(t, url+"/metrics", "")
	for _, want := range []string{`weir_operator_records_in_total{job="ready",operator="numbers",subtask="1"}`, `weir_job_state{job="ready",state="running"} 1`, "go_goroutines"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	for host, want := range map[string]int{"localhost": 200, "127.0.0.1:1": 200, "[::1]:9": 200, "evil.example": 421, "localhost.evil.example:80": 421} {
		if code, _ := get(t, url+"/livez", host); code != want {
			t.Errorf("host %s: %d, want %d", host, code, want)
		}
	}
	for path, want := range map[string]int{"/debug/pprof/": 200, "/": 404, "/metrics/x": 404} {
		if code, _ := get(t, url+path, ""); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestHeadersAreBoundedAndProfilesAreForDebug(t *testing.T) {
	g, sink := newGate()
	close(g.open)
	close(g.publish)
	o := quick(t)
	o.Listen = "127.0.0.1:0"
	s, stop := start(t, numbers("headers", 1<<40, sink, generator.Rate(1000)), o)
	url := s.HTTP
	if code, _ := get(t, url+"/debug/pprof/", ""); code != http.StatusNotFound {
		t.Errorf("pprof without Debug: %d", code)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Large", strings.Repeat("x", 64<<10))
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header of 64 KiB: %d", resp.StatusCode)
		}
	}
	second := o
	second.DataDir += "-2"
	second.Listen = strings.TrimPrefix(url, "http://")
	if err := Run(t.Context(), numbers("port", 10, sink), second); base.CodeOf(err) != codeInUse {
		t.Errorf("a port that is in use: %v", err)
	}
	second.listenElse = true
	if err := Run(t.Context(), numbers("port", 10, sink), second); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestStopTimeout stops a job whose sink has begun to publish and never ends: the
// stop cannot succeed, however long it is given.
func TestStopTimeout(t *testing.T) {
	g, sink := newGate()
	close(g.open)
	o := quick(t)
	o.StopTimeout = time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		<-g.tried
		stop()
	}()
	if err := Run(ctx, numbers("slow", 1000, sink), o); base.CodeOf(err) != "WEIR-0714" {
		t.Fatalf("a stop that cannot end: %v", err)
	}
	// Nothing was lost or published twice.
	close(g.publish)
	if err := Run(t.Context(), numbers("slow", 1000, sink), o); err != nil {
		t.Fatal(err)
	}
	if n := len(g.Messages()); n != 1000 {
		t.Fatalf("%d numbers were published", n)
	}
}

func TestEmbeddedServerWithStreams(t *testing.T) {
	o := quick(t)
	o.NATSPort = -1
	var url string
	o.Started = func(s Started) { url = s.NATS }
	sink := jetstream.Publish("OUT", func(i uint64) string { return fmt.Sprint("out.", i%7) }, jetstream.JSON(), jetstream.Lanes(2))
	job := numbers("embedded", 2000, sink).WithStreams(jetstream.StreamSpec{Name: "OUT", Subjects: []string{"out.*"}})
	if err := Run(t.Context(), job, o); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(url, "nats://127.0.0.1:") {
		t.Errorf("the server is at %q", url)
	}
	// A second job reads what the first wrote, from a server that is not embedded.
	s, err := natsd.Start(natsd.Options{Dir: filepath.Join(o.DataDir, natsDir), Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	copied := memory.NewSink[uint64]()
	reader := NewJob("reader", func(j *Job) {
		To(From(j, "in", jetstream.Stream[uint64]("OUT", jetstream.Subject("out.*"), jetstream.JSON(), jetstream.UntilNow()), ProcessingTime[uint64]()), "copy", copied.Sink())
	})
	ro := quick(t)
	ro.NATS = jetstream.Config{URL: s.URL()}
	if err := Run(t.Context(), reader, ro); err != nil {
		t.Fatal(err)
	}
	eachOnce(t, copied.Visible(), 2000)
	// A declared stream is made on another server only when asked for.
	more := numbers("more", 10, jetstream.Publish("MORE", func(uint64) string { return "more.x" })).WithStreams(jetstream.StreamSpec{Name: "MORE", Subjects: []string{"more.*"}})
	ro.DataDir += "-2"
	ro.CreateStreams = true
	if err := Run(t.Context(), more, ro); err != nil {
		t.Fatal(err)
	}
}

func TestUnreachableServer(t *testing.T) {
	s, err := natsd.Start(natsd.Options{Dir: t.TempDir(), Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	url := s.URL()
	s.Shutdown()
	o := quick(t)
	o.NATS = jetstream.Config{URL: url}
	err = Run(t.Context(), numbers("far", 1, memory.NewSink[uint64]().Sink()), o)
	if base.CodeOf(err) != jetstream.CodeDial || exitCode(err) != ExitUnreachable {
		t.Fatalf("an unreachable server: %v, exit code %d", err, exitCode(err))
	}
}
