package natsd_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/weirflow/weir/internal/natsd"
)

func TestLazyStartsOnceAndOnlyWhenAsked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nats")
	starts := 0
	l := natsd.NewLazy(natsd.Defaults(dir), func(*natsd.Server) { starts++ })
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatalf("the directory exists before the first connection: %v", err)
	}
	var wg sync.WaitGroup
	conns := make([]*nats.Conn, 4)
	for i := range conns {
		wg.Go(func() { conns[i], _ = l.Conn(t.Context()) })
	}
	wg.Wait()
	for _, nc := range conns {
		if nc == nil || nc != conns[0] {
			t.Fatalf("connections %v", conns)
		}
	}
	if starts != 1 || !conns[0].IsConnected() {
		t.Fatalf("%d starts, connected %v", starts, conns[0].IsConnected())
	}
	l.Shutdown()
	if _, err := l.Conn(t.Context()); err == nil {
		t.Fatal("a server that was shut down gave a connection")
	}
	idle := natsd.NewLazy(natsd.Defaults(filepath.Join(t.TempDir(), "n")), nil)
	idle.Shutdown()
}
