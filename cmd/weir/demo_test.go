package main

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// asWeir in the environment makes the test binary the command.
const asWeir = "WEIR_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asWeir) != "" {
		main()
	}
	os.Exit(m.Run())
}

func weirCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asWeir+"=1")
	return cmd
}

func TestDemoOnce(t *testing.T) {
	began := time.Now()
	cmd := weirCommand(t.Context(), "demo", "--once", "--duration", "9s", "--kill-every", "3s", "--seed", "21")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	t.Logf("%v:\n%s", time.Since(began), out)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	if !regexp.MustCompile(`(?m)^proof: [1-9][\d,]* results compared, 0 wrong, 0 missing, 0 duplicated; job killed [1-9]\d* times?, recovery \d+ ms \(median\)$`).Match(out) {
		t.Error("no proof")
	}
	if bytes.ContainsRune(out, '\x1b') {
		t.Error("terminal codes in the output of a pipe")
	}
}

func TestDemoOnceFails(t *testing.T) {
	cmd := weirCommand(t.Context(), "demo", "--once", "--duration", "5s", "--kill-every", "0", "--fault", "twice", "--dir", t.TempDir())
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), ", 1 duplicated;") || !strings.Contains(string(out), "WEIR-0220") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDemoRefusesWrongFlags(t *testing.T) {
	cmd := weirCommand(t.Context(), "demo", "--rate", "-4")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "the rate is -4") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDemoLeavesNoOrphans kills the supervisor without warning.
func TestDemoLeavesNoOrphans(t *testing.T) {
	cmd := weirCommand(t.Context(), "demo", "--kill-every", "0", "--dir", t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(out)
	for s.Scan() && !strings.Contains(s.Text(), "first result") {
	}
	children := childrenOf(t, cmd.Process.Pid)
	if len(children) != 4 {
		t.Errorf("%d child processes", len(children))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, pid := range children {
		for deadline := time.Now().Add(time.Minute); alive(pid); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d outlives the supervisor", pid)
			}
		}
	}
}
