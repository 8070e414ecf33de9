package storefront

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// event is what a child process says or does.
type event struct {
	from *process
	line []byte // from its standard output
	// exited says that the process is gone, err why unless it ended well.
	exited bool
	err    error
}

// process is a child. It is used by the supervisor's goroutine.
type process struct {
	role    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	log     string
	running bool
	killed  bool // by the supervisor
	mayEnd  bool // it was asked to, or ends by itself when it is done
	err     error
}

// spawn starts a child. Its events go to events; nobody need take them once done
// is closed.
func spawn(argv []string, role, dir string, events chan<- event, done <-chan struct{}) (*process, error) {
	p := &process{role: role, log: filepath.Join(dir, role+".log"), running: true}
	argv = append(argv[:len(argv):len(argv)], role)
	p.cmd = exec.Command(argv[0], argv[1:]...)
	isolate(p.cmd)
	stderr, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	p.cmd.Stderr = stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("the %s process does not start: %w", role, err)
	}
	go p.listen(out, events, done)
	return p, nil
}

// maxLine bounds a line of a child.
const maxLine = 1 << 20

func (p *process) listen(out io.Reader, events chan<- event, done <-chan struct{}) {
	tell := func(e event) {
		select {
		case events <- e:
		case <-done:
		}
	}
	s := bufio.NewScanner(out)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		tell(event{from: p, line: []byte(s.Text())})
	}
	_, _ = io.Copy(io.Discard, out) // a line that is too long must not stop the child
	tell(event{from: p, exited: true, err: errors.Join(p.cmd.Wait(), s.Err())})
}

// send writes a line to the child. A child that is dying does not take it, which
// shows in its exit.
func (p *process) send(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs
	}
	_, _ = p.in.Write(append(b, '\n'))
}

// kill ends the child by SIGKILL.
func (p *process) kill() {
	p.killed = true
	_ = p.cmd.Process.Kill() // it may be gone already
}

// logTail bounds how much of a child's log is shown, in bytes.
const logTail = 2000

// failure describes a child that ended by itself, with the end of its log.
func (p *process) failure() error {
	cause := p.err
	if cause == nil {
		cause = errors.New("exit status 0")
	}
	text := ""
	if b, err := os.ReadFile(p.log); err == nil {
		text = strings.TrimSpace(string(b[max(0, len(b)-logTail):]))
	}
	if text != "" {
		cause = fmt.Errorf("%w; the end of its log:\n%s", cause, text)
	}
	return fmt.Errorf("the %s process ended by itself: %w", p.role, cause)
}

// reap kills the children that still run and waits for the end of all.
func reap(all []*process, events <-chan event) {
	for _, p := range all {
		if p.running {
			p.kill()
		}
	}
	limit := time.After(10 * time.Second)
	for _, p := range all {
		for p.running {
			select {
			case e := <-events:
				if e.exited {
					e.from.running = false
				}
			case <-limit:
				return
			}
		}
	}
}
