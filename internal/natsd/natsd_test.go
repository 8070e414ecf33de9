package natsd_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/natsd"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("NATSD_TEST_DIR"); dir != "" {
		o := natsd.Defaults(dir)
		o.Port = -1
		if err := natsd.Serve(context.Background(), o, os.Stdout, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func start(t *testing.T, o natsd.Options) *natsd.Server {
	t.Helper()
	s, err := natsd.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

// put stores one message in stream S, which it creates when absent.
func put(t *testing.T, nc *nats.Conn) *jetstream.PubAck {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	ack, err := js.Publish(ctx, "s", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	return ack
}

func TestInProcessOnlyAndRestartKeepsTheStream(t *testing.T) {
	dir := t.TempDir()
	for want := range uint64(3) {
		began := time.Now()
		s := start(t, natsd.Defaults(dir))
		t.Logf("ready after %v", time.Since(began))
		if s.URL() != "" {
			t.Fatalf("a server without a port has URL %q", s.URL())
		}
		nc, err := s.Connect()
		if err != nil {
			t.Fatal(err)
		}
		if ack := put(t, nc); ack.Sequence != want+1 {
			t.Fatalf("sequence %d after %d starts", ack.Sequence, want+1)
		}
		nc.Close()
		s.Shutdown()
	}
}

func TestListensOnLoopbackOnly(t *testing.T) {
	o := natsd.Defaults(t.TempDir())
	o.Port = -1
	s := start(t, o)
	if !strings.HasPrefix(s.URL(), "nats://127.0.0.1:") {
		t.Fatalf("URL %q", s.URL())
	}
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	put(t, nc)
}

func TestErrors(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	held := t.TempDir()
	start(t, natsd.Defaults(held))
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o    natsd.Options
		code string
		says string
	}{
		"port in use":  {natsd.Options{Dir: t.TempDir(), Port: busy.Addr().(*net.TCPAddr).Port}, natsd.CodePort, "in use"},
		"locked":       {natsd.Options{Dir: held}, natsd.CodeLocked, fmt.Sprint("process ", os.Getpid())},
		"not a dir":    {natsd.Options{Dir: file}, natsd.CodeDir, "not a directory"},
		"no dir":       {natsd.Options{}, natsd.CodeDir, "no directory"},
		"below a file": {natsd.Options{Dir: filepath.Join(file, "x")}, natsd.CodeDir, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := natsd.Start(c.o)
			if err == nil {
				s.Shutdown()
				t.Fatal("started")
			}
			if base.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want code %s and %q", err, c.code, c.says)
			}
		})
	}
	// A refused start leaves the directory free.
	dir := t.TempDir()
	if _, err := natsd.Start(natsd.Options{Dir: dir, Port: busy.Addr().(*net.TCPAddr).Port}); err == nil {
		t.Fatal("started on a busy port")
	}
	start(t, natsd.Defaults(dir))
}

// TestChild runs Serve in a process of its own, kills it, and starts it again on
// the same directory; then its parent "dies" by closing the pipe.
func TestChild(t *testing.T) {
	dir := t.TempDir()
	for i := range uint64(3) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "NATSD_TEST_DIR="+dir)
		cmd.Stderr = os.Stderr
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
		url, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect(strings.TrimSpace(url))
		if err != nil {
			t.Fatal(err)
		}
		if ack := put(t, nc); ack.Sequence != i+1 {
			t.Fatalf("sequence %d after %d starts", ack.Sequence, i+1)
		}
		nc.Close()
		if i < 2 {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			continue
		}
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("the child did not end cleanly with its parent: %v", err)
		}
	}
}
