package torture

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// The variables that tell a process what it was started for.
const (
	roleEnv = "WEIR_TORTURE_ROLE"
	argsEnv = "WEIR_TORTURE_ARGS"
)

// proc is a child process.
type proc struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	// lines receives the child's standard output line by line, and is closed at
	// its end.
	lines chan string
	done  chan struct{}
	err   error // of Wait, valid after done
}

// spawn starts this binary in a role. Its standard error is appended to a log
// file. The child ends when this process does, however it dies: it watches its
// standard input.
func spawn(dir, role string, args any, env ...string) (*proc, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, role+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &proc{name: role, cmd: exec.Command(exe), lines: make(chan string, 64), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), append(env, roleEnv+"="+role, argsEnv+"="+string(text), "GOTRACEBACK=all")...)
	p.cmd.Stderr = log
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.watch(out)
	return p, nil
}

func (p *proc) watch(out io.Reader) {
	for s := bufio.NewScanner(out); s.Scan(); {
		p.lines <- s.Text()
	}
	close(p.lines)
	p.err = p.cmd.Wait()
	close(p.done)
}

// running says that the process has not ended.
func (p *proc) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process like kill -9 and waits for its end.
func (p *proc) kill() {
	_ = p.cmd.Process.Kill()
	p.wait()
}

// dump ends a Go process that is stuck and leaves the stacks of its goroutines in
// its log.
func (p *proc) dump() {
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	timer := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	p.wait()
}

// wait discards output until the process has ended.
func (p *proc) wait() {
	for {
		select {
		case <-p.lines:
		case <-p.done:
			return
		}
	}
}

// terminate asks the process to end and waits for that.
func (p *proc) terminate(limit time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && p.running() {
		return err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s ended badly: %w", p.name, p.err)
		}
		return nil
	case <-timer.C:
		p.kill()
		return fmt.Errorf("%s did not end within %v", p.name, limit)
	}
}

// killed says that the process was ended by SIGKILL.
func (p *proc) killed() bool {
	ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL
}

// exitCode returns the exit code; -1 after a signal.
func (p *proc) exitCode() int { return p.cmd.ProcessState.ExitCode() }

// line waits for the next line of output.
func (p *proc) line(limit time.Duration) (string, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case s, ok := <-p.lines:
		if !ok {
			return "", fmt.Errorf("%s ended before it was ready; see %s.log", p.name, p.name)
		}
		return s, nil
	case <-timer.C:
		return "", fmt.Errorf("%s is not ready after %v", p.name, limit)
	}
}

// tail returns the end of a child's log.
func tail(dir, role string) string {
	b, err := os.ReadFile(filepath.Join(dir, role+".log"))
	if err != nil {
		return err.Error()
	}
	const most = 2000
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return string(b)
}

// errUsage says that a child was started by hand.
var errUsage = errors.New(roleEnv + " is set to a role that does not exist")
