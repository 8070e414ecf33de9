package weirtest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/weirtest"
)

type click struct {
	User string
	N    int
	At   int64 // milliseconds
}

func clickTime(c click) time.Time { return time.UnixMilli(c.At) }

// real stands for what a job reads and writes in production; no test may reach it.
type real[T any] struct{ connectors.Source[T] }

func (real[T]) Kind() string { return "real" }

type realTarget struct{}

func (realTarget) Kind() string            { return "real" }
func (realTarget) Class() connectors.Class { return connectors.AtLeastOnce }

func realSink[T any]() connectors.Sink[T] {
	return connectors.Sink[T]{Target: realTarget{}, Encode: func(*connectors.Message, *base.Meta, *T) error {
		return errors.New("a test wrote real output")
	}}
}

func echo() weir.JobSpec {
	return weir.NewJob("echo", func(j *weir.Job) {
		in := weir.From(j, "clicks", real[click]{}, weir.BoundedOutOfOrderness(time.Second, clickTime))
		keyed := weir.KeyBy(in, "by-user", func(c click) string { return c.User })
		weir.To(weir.Map(keyed.Stream, "same", func(c click) click { return c }), "out", realSink[click]())
	})
}

func clicks(n int) (steps []weirtest.Step, all []click) {
	for i := range n {
		c := click{User: fmt.Sprint("u", i%7), N: i, At: int64(i) * 100}
		all = append(all, c)
		steps = append(steps, weirtest.Value(c))
	}
	return steps, all
}

func sorted(cs []click) []click {
	cs = slices.Clone(cs)
	slices.SortFunc(cs, func(a, b click) int { return a.N - b.N })
	return cs
}

func TestOutputAppearsWithItsCheckpoint(t *testing.T) {
	run := weirtest.New(t, echo(), weirtest.Source[click]("clicks"), weirtest.Sink[click]("out"), logs())
	steps, all := clicks(10)
	weirtest.Feed(run, "clicks", steps[:4]...)
	if got := weirtest.Collect[click](run, "out"); len(got) != 0 {
		t.Fatalf("%d records are visible before the first checkpoint", len(got))
	}
	run.Do(weirtest.Checkpoint())
	if got := weirtest.Collect[click](run, "out"); !slices.Equal(sorted(got), all[:4]) {
		t.Fatalf("after the checkpoint: %v", got)
	}
	run.Do(steps[4:7]...)
	run.Do(weirtest.Crash())
	run.Do(steps[7]) // arrives while the job is down
	run.Do(weirtest.Restore(3))
	run.Do(steps[8:]...)
	if got := weirtest.Collect[click](run, "out"); len(got) != 4 {
		t.Fatalf("%d records are visible without a checkpoint after the crash", len(got))
	}
	run.Do(weirtest.EndOfInput())
	if got := weirtest.Collect[click](run, "out"); !slices.Equal(sorted(got), all) {
		t.Fatalf("at the end: %v", got)
	}
}

func TestMatrixOfAStatelessJob(t *testing.T) {
	steps, all := clicks(60)
	weirtest.Matrix(t, echo(), steps, func(tb testing.TB, r *weirtest.Run) {
		tb.Helper()
		if got := weirtest.Collect[click](r, "out"); !slices.Equal(sorted(got), all) {
			tb.Errorf("%d records: %v", len(got), got)
		}
	}, weirtest.Source[click]("clicks"), weirtest.Sink[click]("out"), weirtest.InKeyOrder("out"))
}

func TestUnboundSourcesAndSinksAreRefused(t *testing.T) {
	f := &fatal{TB: t}
	f.run(func() { weirtest.New(f, echo(), weirtest.Source[click]("clicks")) })
	if !strings.Contains(f.msg, "sink out") || !strings.Contains(f.msg, "weirtest_test.go:") {
		t.Errorf("message: %q", f.msg)
	}
}

// fatal records a failure that a test expects.
type fatal struct {
	testing.TB
	msg string
}

func (f *fatal) Fatalf(format string, args ...any) {
	f.msg += fmt.Sprintf(format, args...)
	panic(f)
}

func (f *fatal) Errorf(format string, args ...any) { f.msg += fmt.Sprintf(format, args...) }
func (f *fatal) Helper()                           {}

func (f *fatal) run(do func()) {
	defer func() {
		if r := recover(); r != nil && r != any(f) {
			panic(r)
		}
	}()
	do()
}
