package weir_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/window"
)

func TestWrongOptions(t *testing.T) {
	spec := func() weir.JobSpec { return bookkeeping(inMemory(nil), newLedger(), nil) }
	for name, c := range map[string]struct {
		job   weir.JobSpec
		set   func(*weir.Options)
		code  string
		parts []string
	}{
		"memory":       {spec(), func(o *weir.Options) { o.Memory = 1 << 20 }, "WEIR-0202", []string{"memory budget is 1 MiB", "at least 16 MiB"}},
		"negative":     {spec(), func(o *weir.Options) { o.Memory = -1 }, "WEIR-0202", []string{"memory budget is -1 B", "at least 16 MiB"}},
		"interval":     {spec(), func(o *weir.Options) { o.Interval = time.Millisecond }, "WEIR-0202", []string{"interval is 1ms", "at least 10ms"}},
		"past":         {spec(), func(o *weir.Options) { o.Interval = -time.Second }, "WEIR-0202", []string{"interval is -1s"}},
		"parallelism":  {spec(), func(o *weir.Options) { o.Parallelism = -2 }, "WEIR-0102", []string{"parallelism is -2", "1 to 1024"}},
		"too parallel": {spec(), func(o *weir.Options) { o.Parallelism = 5000 }, "WEIR-0102", []string{"parallelism is 5000", "1 to 1024"}},
		"retain":       {spec(), func(o *weir.Options) { o.Retain = -1 }, "WEIR-0202", []string{"-1 checkpoints", "1 or more"}},
		"stop timeout": {spec(), func(o *weir.Options) { o.StopTimeout = -1 }, "WEIR-0202", []string{"stop timeout", "positive"}},
		"port":         {spec(), func(o *weir.Options) { o.NATSPort = 70000 }, "WEIR-0202", []string{"70000", "1 to 65535"}},
		"drop state":   {spec(), func(o *weir.Options) { o.DropState = []string{"tally"} }, "WEIR-0202", []string{`"tally"`, "operator/state"}},
		"open listen":  {spec(), func(o *weir.Options) { o.Listen = "0.0.0.0:0" }, "WEIR-0206", []string{"0.0.0.0"}},
		"no host":      {spec(), func(o *weir.Options) { o.NATS = jetstream.Config{URL: "nats://"} }, "WEIR-0813", []string{"nats://host:port"}},
		"build": {weir.NewJob("books", func(j *weir.Job) {
			in := weir.From(j, "in", inMemory(nil), weir.BoundedOutOfOrderness[entry](-time.Second, nil), weir.MaxRecord(-1))
			by := weir.KeyBy(in, "by-key", func(e entry) string { return e.Key }, weir.Parallelism(0))
			sums := weir.Aggregate(by, "Sums", window.Tumbling(-time.Minute), weir.Count[entry]())
			weir.To(sums, "out", memory.NewSink[weir.Windowed[string, int64]]().Sink())
		}), func(*weir.Options) {}, "WEIR-0111", []string{
			"WEIR-0112", "largest record has -1 bytes", "WEIR-0102", "key-by by-key: the parallelism is 0", "WEIR-0101", `"Sums"`, "WEIR-0122",
			"acceptance_config_test.go:",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := weir.Options{DataDir: filepath.Join(t.TempDir(), "data")}
			c.set(&o)
			err := weir.Run(t.Context(), c.job, o)
			e := find(err, c.code)
			if e == nil || e.What == "" {
				t.Fatalf("no %s: %v", c.code, err)
			}
			for _, p := range c.parts {
				if !strings.Contains(err.Error(), p) {
					t.Errorf("%q is not mentioned in: %v", p, err)
				}
			}
			if _, err := os.Stat(o.DataDir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the data directory was made: %v", err)
			}
		})
	}
}

func TestWrongCommandLine(t *testing.T) {
	for _, c := range []struct {
		args  string
		parts []string
	}{
		{"run --paralellism 2", []string{"WEIR-0201", `unknown flag "--paralellism"`, "did you mean --parallelism?"}},
		{"run --memroy=1GiB", []string{"WEIR-0201", "did you mean --memory?"}},
		{"run -x", []string{"WEIR-0201", `unknown flag "-x"`, "--help"}},
		{"rnu", []string{"WEIR-0201", `unknown command "rnu"`, "did you mean run?"}},
		{"run books twice", []string{"WEIR-0201", `"twice" is one argument too many`}},
		{"run bokos", []string{"WEIR-0203", `no job "bokos"`, "this binary has books"}},
		{"run --memory 512", []string{"WEIR-0202", `"512" has no unit`, "512MiB"}},
		{"run --memory 12XB", []string{"WEIR-0202", `unit "XB"`, "MiB"}},
		{"run --memory lots", []string{"WEIR-0202", "does not begin with a number"}},
		{"run --memory 1MiB", []string{"WEIR-0202", "--memory", "at least 16 MiB"}},
		{"run --memory 99999999TiB", []string{"WEIR-0202", "too large"}},
		{"run --checkpoint-interval 5", []string{"WEIR-0202", "--checkpoint-interval", `"5"`, "missing unit"}},
		{"run --checkpoint-interval 1ms", []string{"WEIR-0202", "--checkpoint-interval", "at least 10ms"}},
		{"run --checkpoint-interval -3s", []string{"WEIR-0202", "-3s"}},
		{"run --stop-timeout 0s", []string{"WEIR-0202", "--stop-timeout", "positive"}},
		{"run --parallelism many", []string{"WEIR-0202", "--parallelism", `"many"`}},
		{"run --parallelism 0", []string{"WEIR-0202", "--parallelism", "1 to 1024"}},
		{"run --retain 0", []string{"WEIR-0202", "--retain", "1 or more"}},
		{"run --drop-state tally", []string{"WEIR-0202", "operator/state"}},
		{"run --listen 0.0.0.0:0", []string{"WEIR-0206", "0.0.0.0"}},
		{"run --log yaml", []string{"WEIR-0202", "--log", "text, json"}},
		{"run --nats-creds file", []string{"WEIR-0202", "--nats", "no server"}},
		{"checkpoint verify --epoch x", []string{"WEIR-0201"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			root := weir.NewCommand(bookkeeping(inMemory(nil), newLedger(), nil))
			var out bytes.Buffer
			root.SetErr(&out)
			root.SetOut(&out)
			root.SetArgs(strings.Fields(c.args))
			if code := weir.Execute(root); code != weir.ExitUsage {
				t.Errorf("the exit code is %d, want %d", code, weir.ExitUsage)
			}
			for _, p := range append(c.parts, "error WEIR-", "next") {
				if !strings.Contains(out.String(), p) {
					t.Errorf("no %q in:\n%s", p, out.String())
				}
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("it left something behind: %v, %v", left, err)
			}
		})
	}
}

// holderDir makes the test binary the process that holds a data directory.
const holderDir = "WEIR_ACCEPTANCE_HOLDER"

const heldEntries = 5000

// TestHolder is no test: it is the first process of TestSecondProcess. It runs the
// job, and says how that went.
func TestHolder(t *testing.T) {
	dir := os.Getenv(holderDir)
	if dir == "" {
		t.Skip("runs as a child of TestSecondProcess only")
	}
	list, l := entries(heldEntries, 50), newLedger()
	o := weir.Options{DataDir: dir, Interval: 20 * time.Millisecond, Started: func(weir.Started) { fmt.Println("\nstarted") }}
	ctx, stop := context.WithCancel(t.Context())
	go func() { // the parent has seen what it wanted: no need to dawdle
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	// The first part takes as long as the parent needs, the rest follows at once.
	if err := weir.Run(ctx, bookkeeping(generated(list, generator.Rate(1000)), l, nil), o); err != nil {
		t.Fatal(err)
	}
	if err := weir.Run(t.Context(), bookkeeping(generated(list), l, nil), o); err != nil {
		t.Fatal(err)
	}
	l.exact(t, list)
	fmt.Println("\nexact")
}

func TestSecondProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestHolder$")
	cmd.Env = append(os.Environ(), holderDir+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	waitFor := func(want string) {
		t.Helper()
		var seen []string
		for lines.Scan() {
			if lines.Text() == want {
				return
			}
			seen = append(seen, lines.Text())
		}
		t.Fatalf("the first process never said %q, but %q", want, seen)
	}
	waitFor("started")
	job := bookkeeping(inMemory(entries(10, 1)), newLedger(), nil)
	err = weir.Run(t.Context(), job, weir.Options{DataDir: dir})
	wantError(t, err, "WEIR-0205", "process "+strconv.Itoa(cmd.Process.Pid), dir)

	// The same on the command line.
	root := weir.NewCommand(job)
	var text bytes.Buffer
	root.SetErr(&text)
	root.SetOut(&text)
	root.SetArgs([]string{"run", "--data-dir", dir, "--listen", "", "--nats-port", "0"})
	if code := weir.Execute(root); code != weir.ExitFailed || !strings.Contains(text.String(), "process "+strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("exit code %d, %s", code, text.String())
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor("exact")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}
