package main

import (
	"os"
	"testing"
	"time"

	"github.com/weirflow/weir/engine"
)

// TestBackpressure is the scenario in seconds: a target slowed ten times, then ten
// times the input.
func TestBackpressure(t *testing.T) {
	p := pressure{
		rate: 20_000, capacity: 120_000, keys: 20_000, memory: 128 << 20, interval: 100 * time.Millisecond,
		warm: 500 * time.Millisecond, slow: 6 * time.Second, overload: time.Second, tail: 200 * time.Millisecond,
	}
	out, err := p.run(t.Context(), lastingDir(t), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := out.judge(&p); err != nil {
		t.Error(err)
	}
	for i := range out.phases {
		ph := &out.phases[i]
		t.Logf("%s: %v, %d in, %d visible, %d wait; %q (sink: %v); %d checkpoints, slowest %v; %d MiB; %s",
			ph.name, ph.d, ph.in, ph.out, ph.lag, ph.bottleneck, ph.sink, ph.committed, ph.slowest, ph.maxRSS>>20, shares(ph.loads))
	}
}

// lastingDir is t.TempDir for a job that is killed: an upload that was under way
// then may still end, and keeps a directory from being removed for a moment.
func lastingDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "backpressure")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 100 {
			if err = os.RemoveAll(dir); err == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Error(err)
	})
	return dir
}
