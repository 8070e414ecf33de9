package storefront_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/storefront"
	"github.com/weirflow/weir/internal/storefront/script"
)

// TestMain makes the test binary a child of the demo when it is asked to.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "storefront-child" {
		if err := storefront.Child(os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func childCommand() []string { return []string{os.Args[0], "storefront-child"} }

// output collects lines that several goroutines may look at.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func options(t *testing.T, out io.Writer) storefront.Options {
	return storefront.Options{
		Script: script.Config{Seed: 11, Rate: 500, Speed: 240}, Once: 5 * time.Second, Dir: t.TempDir(),
		Interval: storefront.DefaultInterval, Parallelism: 2, Command: childCommand(), Out: out, Began: time.Now(),
	}
}

// proofLine is the last line of a demo: results, wrong, missing, duplicated, kills.
var proofLine = regexp.MustCompile(`(?m)^proof: ([\d,]+) results compared, (\d+) wrong, (\d+) missing, (\d+) duplicated; job killed (\d+) times?`)

func proofOf(t *testing.T, out string) []string {
	t.Helper()
	m := proofLine.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("there is no proof in:\n%s", out)
	}
	return m[1:]
}

func TestDemoIsRightThroughKills(t *testing.T) {
	var out output
	o := options(t, &out)
	o.Once, o.KillEvery = 8*time.Second, 1500*time.Millisecond
	err := storefront.Run(t.Context(), o)
	t.Logf("seed %d:\n%s", o.Script.Seed, out.String())
	if err != nil {
		t.Fatal(err)
	}
	p := proofOf(t, out.String())
	if p[0] == "0" || p[1] != "0" || p[2] != "0" || p[3] != "0" || p[4] == "0" {
		t.Errorf("proof: %v", p)
	}
}

func TestDemoFindsFaults(t *testing.T) {
	for fault, at := range map[string]int{"altered": 1, "lost": 2, "twice": 3} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			var out output
			o := options(t, &out)
			o.Fault = fault
			err := storefront.Run(t.Context(), o)
			if base.CodeOf(err) != storefront.CodeDiffers {
				t.Errorf("error %v", err)
			}
			if p := proofOf(t, out.String()); p[at] != "1" {
				t.Errorf("proof: %v", p)
			}
		})
	}
}

func TestDemoShowsWhatAtLeastOnceMeans(t *testing.T) {
	var out output
	o := options(t, &out)
	o.Script.Speed = 60 // the sinks wait for a sync per result
	o.Once, o.KillEvery, o.AtLeastOnce = 7*time.Second, 1500*time.Millisecond, true
	// The last checkpoint before a kill is then surely behind what was published.
	o.Interval = 2 * time.Second
	err := storefront.Run(t.Context(), o)
	if base.CodeOf(err) != storefront.CodeDiffers {
		t.Errorf("error %v\n%s", err, out.String())
	}
	if p := proofOf(t, out.String()); p[1] != "0" || p[2] != "0" || p[3] == "0" {
		t.Errorf("proof: %v\n%s", p, out.String())
	}
}

func TestDemoStopsInOrderAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	for run := range 2 {
		var out output
		o := options(t, &out)
		o.Dir, o.Once, o.KillEvery = dir, 0, 0
		ctx, cancel := context.WithCancel(t.Context())
		go func() { // Ctrl-C once something was compared
			for ctx.Err() == nil && !strings.Contains(out.String(), "results compared") {
				time.Sleep(20 * time.Millisecond)
			}
			cancel()
		}()
		if err := storefront.Run(ctx, o); err != nil {
			t.Fatalf("run %d: %v\n%s", run, err, out.String())
		}
		cancel()
		proofOf(t, out.String())
	}
	var out output
	o := options(t, &out)
	o.Dir, o.Script.Seed = dir, 12
	if err := storefront.Run(t.Context(), o); base.CodeOf(err) != storefront.CodeOptions || !errors.Is(err, script.ErrOther) {
		t.Errorf("another seed in the same directory: %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*storefront.Options){
		"rate":        func(o *storefront.Options) { o.Script.Rate = 0 },
		"speed":       func(o *storefront.Options) { o.Script.Speed = -1 },
		"kills":       func(o *storefront.Options) { o.KillEvery = time.Millisecond },
		"duration":    func(o *storefront.Options) { o.Once = time.Second },
		"interval":    func(o *storefront.Options) { o.Interval = 0 },
		"parallelism": func(o *storefront.Options) { o.Parallelism = 0 },
		"fault":       func(o *storefront.Options) { o.Fault = "none such" },
	} {
		o := options(t, io.Discard)
		change(&o)
		if err := storefront.Run(t.Context(), o); base.CodeOf(err) != storefront.CodeOptions {
			t.Errorf("%s: %v", name, err)
		}
	}
}
