package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a process with steps.
type process struct {
	cmd   *exec.Cmd
	log   *os.File
	steps safeBuffer // what it prints: where each step is
	done  chan struct{}
	err   error
}

// safeBuffer is a buffer that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// stop lets it make final checkpoints.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(30 * time.Second):
		p.kill()
		return fmt.Errorf("%s did not stop; see %s", strings.Join(p.cmd.Args, " "), p.log.Name())
	}
}

// figures says of each step how often it was started again, and when the process was
// started, from their metrics.
func (p *process) figures(ctx context.Context) (string, error) {
	var out []string
	for line := range strings.Lines(p.steps.String()) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "step" || f[1] == "documents" || f[1] == "prompts" {
			continue
		}
		text, err := get(ctx, f[2]+"/metrics")
		if err != nil {
			return "", fmt.Errorf("step %s: %w", f[1], err)
		}
		out = append(out, fmt.Sprintf("%s %s restarts", f[1], metric(text, "weir_job_restarts_total")))
		if !slices.ContainsFunc(out, func(s string) bool { return strings.HasPrefix(s, "0 ") }) {
			out = append(out, "0 process started at "+startTime(text))
		}
	}
	if len(out) < len(steps()) {
		return "", fmt.Errorf("only some steps run: %v", out)
	}
	slices.Sort(out)
	return strings.TrimPrefix(strings.Join(out, ", "), "0 "), nil
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

// metric is the value of the first series of that name, "none" without one.
func metric(text, name string) string {
	for line := range strings.Lines(text) {
		if series, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && (series == name || strings.HasPrefix(series, name+"{")) {
			return value
		}
	}
	return "none"
}

// startTime is when the process was started, to a hundredth of a second.
func startTime(text string) string {
	s, err := strconv.ParseFloat(metric(text, "process_start_time_seconds"), 64)
	if err != nil {
		return "an unknown time"
	}
	return time.UnixMilli(int64(s * 1000)).UTC().Format("15:04:05.00")
}
