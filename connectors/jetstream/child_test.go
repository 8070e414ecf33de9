package jetstream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// child is a NATS server in a process of its own that can be killed.
type child struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   io.Closer
	url  string
	done bool
}

// startChild starts a server on a directory and port; sync makes it wait for the
// disk. It ends with the test binary however that dies.
func startChild(t testing.TB, dir string, port int, sync bool) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childDir+"="+dir, fmt.Sprint(childPort, "=", port))
	if sync {
		c.cmd.Env = append(c.cmd.Env, "JETSTREAM_TEST_SYNC=1")
	}
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in = in
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server did not start: %v", err)
	}
	c.url = strings.TrimSpace(line)
	return c
}

// kill ends the server as a crash would. It may be called from any goroutine.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	c.in.Close()
	c.done = true
}

// stop ends a server that still runs.
func (c *child) stop() {
	if !c.done {
		c.kill()
	}
}

// freePort returns a port that nobody listens on at the moment.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
