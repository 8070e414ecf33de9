package weir

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/internal/natsd"
)

// TestMain is, in a child process, the main function of a binary with jobs.
func TestMain(m *testing.M) {
	if os.Getenv("WEIR_TEST_MAIN") != "" {
		Main(childJobs()...)
	}
	os.Exit(m.Run())
}

// childTotal is how many numbers the job "slow" writes in its life.
const childTotal = 1 << 40

func childJobs() []JobSpec {
	out := jetstream.Publish("OUT", func(uint64) string { return "out.x" }, jetstream.JSON(), jetstream.Lanes(1))
	stream := jetstream.StreamSpec{Name: "OUT", Subjects: []string{"out.*"}}
	g, stuck := newGate()
	close(g.open)
	return []JobSpec{
		numbers("short", 1000, memory.NewSink[uint64]().Sink()),
		numbers("slow", childTotal, out, generator.Rate(2000)).WithStreams(stream),
		numbers("stuck", childTotal, stuck, generator.Rate(2000)),
		NewJob("panics", func(*Job) { panic("in a build function") }),
		NewJob("mistaken", func(j *Job) {
			in := From(j, "in", planSource(), ProcessingTime[planEvent]())
			To(Filter(in, "In Valid", func(planEvent) bool { return true }), "out", memory.NewSink[planEvent]().Sink())
			To(in, "in", memory.NewSink[planEvent]().Sink())
		}),
		numbers("fails", 1000, stuck).WithStreams(jetstream.StreamSpec{Name: "no good", Subjects: []string{"x"}}),
	}
}

// child is a process of the binary.
type child struct {
	cmd  *exec.Cmd
	err  *lines
	out  bytes.Buffer
	done bool
}

func startChild(t *testing.T, args ...string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(exe, args...), err: newLines()}
	c.cmd.Env = append(os.Environ(), "WEIR_TEST_MAIN=1")
	c.cmd.Stderr, c.cmd.Stdout = c.err, &c.out
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !c.done {
			_ = c.cmd.Process.Kill()
			_ = c.cmd.Wait()
		}
	})
	return c
}

// signal sends a signal.
func (c *child) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// exit waits for the end and returns the exit code.
func (c *child) exit(t *testing.T) int {
	t.Helper()
	err := c.cmd.Wait()
	c.done = true
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}

// checkpoints waits until the process has committed n checkpoints.
func (c *child) checkpoints(t *testing.T, n int) {
	t.Helper()
	c.err.await(t, "Ctrl-C makes")
	_, url, _ := strings.Cut(c.err.String(), "  metrics  ")
	url, _, _ = strings.Cut(url, "\n")
	limit := time.Now().Add(patience)
	for {
		_, text := get(t, url, "")
		_, count, _ := strings.Cut(text, "weir_checkpoint_duration_seconds_count{job=\"slow\"} ")
		count, _, _ = strings.Cut(count, "\n")
		if got, err := strconv.Atoi(count); err != nil {
			t.Fatalf("no count of checkpoints in:\n%s", text)
		} else if got >= n {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%s checkpoints of %d:\n%s", count, n, c.err)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestSignalsStopWithAFinalCheckpoint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	args := []string{"run", "slow", "--data-dir", dir, "--checkpoint-interval", "20ms", "--listen", "127.0.0.1:0", "--log-level", "info"}
	for i, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		c := startChild(t, args...)
		want := "(new)"
		if i > 0 {
			want = "goes on from its last checkpoint"
		}
		c.err.await(t, want)
		c.checkpoints(t, 3)
		second := startChild(t, args...)
		if code := second.exit(t); code != ExitFailed {
			t.Errorf("exit code of a second process: %d", code)
		}
		for _, want := range []string{"error WEIR-0205: process " + strconv.Itoa(c.cmd.Process.Pid) + " uses", "where  " + dir, "next   stop that process"} {
			if !strings.Contains(second.err.String(), want) {
				t.Errorf("a second process says nothing of %q:\n%s", want, second.err)
			}
		}
		c.signal(t, s)
		if code := c.exit(t); code != ExitOK {
			t.Fatalf("exit code %d:\n%s", code, c.err)
		}
		if text := c.err.String(); !strings.Contains(text, "slow: stopping with a final checkpoint\nslow: done") {
			t.Errorf("it stopped with:\n%s", text)
		}
	}
	written(t, dir)
}

// written fails unless the stream holds the numbers of both splits without gaps
// and repetitions.
func written(t *testing.T, dir string) {
	t.Helper()
	s, err := natsd.Start(natsd.Options{Dir: filepath.Join(dir, natsDir), Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	sink := memory.NewSink[uint64]()
	o := quick(t)
	o.NATS = jetstream.Config{URL: s.URL()}
	job := NewJob("reader", func(j *Job) {
		To(From(j, "in", jetstream.Stream[uint64]("OUT", jetstream.JSON(), jetstream.UntilNow()), ProcessingTime[uint64]()), "out", sink.Sink())
	})
	if err := Run(t.Context(), job, o); err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	var highest [2]uint64
	for _, v := range sink.Visible() {
		if seen[v] {
			t.Fatalf("number %d is there twice", v)
		}
		seen[v] = true
		highest[v%2] = max(highest[v%2], v)
	}
	for parity, high := range highest {
		for v := uint64(parity); v <= high; v += 2 {
			if !seen[v] {
				t.Fatalf("number %d is missing below %d", v, high)
			}
		}
	}
	t.Logf("%d numbers, each once", len(seen))
}

func TestKilledProcessGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for i := range 3 {
		c := startChild(t, "run", "slow", "--data-dir", dir, "--checkpoint-interval", "20ms", "--parallelism", strconv.Itoa(i%2+1), "--listen", "127.0.0.1:0")
		c.checkpoints(t, 5)
		if i == 2 {
			c.signal(t, os.Interrupt)
		} else {
			c.signal(t, os.Kill)
		}
		if code := c.exit(t); (code == ExitOK) != (i == 2) {
			t.Fatalf("exit code %d in run %d:\n%s", code, i, c.err)
		}
	}
	written(t, dir)
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	c := startChild(t, "run", "stuck", "--data-dir", filepath.Join(t.TempDir(), "data"), "--stop-timeout", "1h", "--listen", "")
	c.err.await(t, "Ctrl-C makes")
	c.signal(t, os.Interrupt)
	c.err.await(t, "stuck: stopping with a final checkpoint")
	c.signal(t, os.Interrupt)
	if code := c.exit(t); code != ExitFailed {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(c.err.String(), "second signal: exit without a final checkpoint") {
		t.Errorf("it ended with:\n%s", c.err)
	}
}

func TestCommandLineErrors(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for _, c := range []struct {
		args []string
		code int
		want []string // in the error output
	}{
		{[]string{"rnu"}, 2, []string{"error WEIR-0201: unknown command \"rnu\"", "did you mean run?", "--help"}},
		{[]string{"checkpoint", "lss"}, 2, []string{"error WEIR-0201: unknown command \"checkpoint lss\"", "did you mean ls?"}},
		{[]string{"run", "short", "--data-dri", "x"}, 2, []string{"error WEIR-0201: unknown flag \"--data-dri\"", "did you mean --data-dir?"}},
		{[]string{"run", "-x"}, 2, []string{"unknown flag \"-x\"", "run --help"}},
		{[]string{"run"}, 2, []string{"error WEIR-0203: which job?", "this binary has short, slow, "}},
		{[]string{"run", "shirt"}, 2, []string{"error WEIR-0203: there is no job \"shirt\"", "short"}},
		{[]string{"run", "short", "slow"}, 2, []string{"error WEIR-0201: \"slow\" is one argument too many", "run [JOB]"}},
		{[]string{"run", "short", "--data-dir"}, 2, []string{"error WEIR-0201: flag needs an argument: --data-dir"}},
		{[]string{"run", "short", "--memory", "512"}, 2, []string{"error WEIR-0202: the size \"512\" has no unit", "flag --memory", "512MiB"}},
		{[]string{"run", "short", "--memory", "1KiB"}, 2, []string{"error WEIR-0202: the memory budget is 1 KiB", "16 MiB"}},
		{[]string{"run", "short", "--parallelism", "many"}, 2, []string{"error WEIR-0202: \"many\" is not a value", "flag --parallelism"}},
		{[]string{"run", "short", "--parallelism", "0"}, 2, []string{"error WEIR-0202", "1 to 1024"}},
		{[]string{"run", "short", "--parallelism", "1025"}, 1, []string{"error WEIR-0102: the parallelism is 1025"}},
		{[]string{"run", "short", "--checkpoint-interval", "1us"}, 2, []string{"error WEIR-0202", "10ms"}},
		{[]string{"run", "short", "--retain", "0"}, 2, []string{"error WEIR-0202"}},
		{[]string{"run", "short", "--log", "xml"}, 2, []string{"error WEIR-0202: \"xml\" is not one of its values", "text, json"}},
		{[]string{"run", "short", "--listen", "0.0.0.0:8080"}, 2, []string{"error WEIR-0206", "--insecure-listen"}},
		{[]string{"run", "short", "--drop-state", "x"}, 2, []string{"error WEIR-0202: \"x\" does not name a state", "operator/state"}},
		{[]string{"run", "short", "--nats-creds", "x"}, 2, []string{"error WEIR-0202", "add --nats URL"}},
		{[]string{"run", "short", "--nats", "nats://127.0.0.1:4222", "--nats-port", "4222"}, 2, []string{"error WEIR-0202", "--nats-port"}},
		{[]string{"run", "short", "--nats", "nats://user:hush@[bad", "--nats-port", "1"}, 2, []string{"error WEIR-0202"}},
		{[]string{"run", "short", "--nats", "nats://127.0.0.1:4222", "--nats-creds", "/does/not/exist"}, 2, []string{"error WEIR-0813", "/does/not/exist"}},
		{[]string{"run", "short", "--nats", "nats://user:hush@127.0.0.1:1"}, 3, []string{"error WEIR-0811: no connection to NATS", "***@127.0.0.1:1"}},
		{[]string{"plan", "short", "--format", "svg"}, 2, []string{"error WEIR-0202", "ascii, mermaid, json"}},
		{[]string{"run", "mistaken"}, 1, []string{"error WEIR-0101", "error WEIR-0105", "main_child_test.go:"}},
		{[]string{"run", "panics"}, 1, []string{"error WEIR-0713: the program panicked: in a build function", "--debug"}},
		{[]string{"checkpoint", "ls", "short"}, 1, []string{"error WEIR-0208: there are no checkpoints", "--data-dir"}},
		{[]string{"checkpoint", "describe", "short", "../x"}, 2, []string{"error WEIR-0202: \"../x\" is not the number of a checkpoint"}},
		{[]string{"checkpoint", "ls", "../../etc"}, 2, []string{"error WEIR-0203: \"../../etc\" does not name a job"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			args := c.args
			if args[0] == "run" && len(args) > 1 && !strings.Contains(strings.Join(args, " "), "data-d") {
				args = append(args[:len(args):len(args)], "--data-dir", data)
			}
			p := startChild(t, args...)
			if code := p.exit(t); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			text := p.err.String()
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in:\n%s", want, text)
				}
			}
			for _, never := range []string{"goroutine ", ".go:1 ", "hush"} {
				if strings.Contains(text, never) {
					t.Errorf("%q in:\n%s", never, text)
				}
			}
		})
	}
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a command line that is wrong made a directory: %v", err)
	}
}

func TestDebugShowsTheTrace(t *testing.T) {
	c := startChild(t, "run", "panics", "--debug")
	if code := c.exit(t); code != ExitFailed || !strings.Contains(c.err.String(), "goroutine ") {
		t.Errorf("exit code %d:\n%s", code, c.err)
	}
}

func TestJSONLogsStandAlone(t *testing.T) {
	c := startChild(t, "run", "short", "--data-dir", filepath.Join(t.TempDir(), "data"), "--log", "json")
	if code := c.exit(t); code != ExitOK {
		t.Fatalf("exit code %d:\n%s", code, c.err)
	}
	text := c.err.String()
	if !strings.Contains(text, `"msg":"job started"`) {
		t.Errorf("no start in the log:\n%s", text)
	}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("a line that is not JSON: %s", line)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "--json"}} {
		c := startChild(t, args...)
		if code := c.exit(t); code != ExitOK || !strings.Contains(c.out.String(), "go1.") {
			t.Errorf("%v: exit code %d: %s", args, code, &c.out)
		}
	}
}
