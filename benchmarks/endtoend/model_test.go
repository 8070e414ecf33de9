package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestMain runs the job of the overload in a process of its own.
func TestMain(m *testing.M) {
	if what := os.Getenv(modelChild); what != "" {
		if err := modelChildMain(what); err != nil {
			_, _ = io.WriteString(os.Stderr, err.Error())
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestOverload has events come ten times as fast as the model takes them, for a second:
// each has one result in the end, and the job's memory stays within its budget.
func TestOverload(t *testing.T) {
	if err := overloaded(t.Context(), quiet(t), overload{rate: 3000, model: 300, length: time.Second, quick: 3000, patience: 500 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
}

// TestHang has calls hang and looks at checkpoints and the other sink.
func TestHang(t *testing.T) {
	h := hang{inFlight: 200, subtasks: 1, rate: 1000, interval: 50 * time.Millisecond, watched: time.Second, hangs: time.Minute, answers: time.Millisecond}
	f, err := h.run(t.Context(), lastingDir(t), h.hangs, quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	if f.flying != 200 || f.aborted > 0 || f.restarts > 0 || f.other == 0 {
		t.Errorf("%+v", f)
	}
}

// TestBatching asks in batches, and one at a time.
func TestBatching(t *testing.T) {
	o := quiet(t)
	o.reps, o.scale = 1, 0.1
	if err := modelBatching(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func quiet(t *testing.T) options {
	return options{dir: filepath.Join(lastingDir(t), "run"), logger: slog.New(slog.DiscardHandler)}
}
