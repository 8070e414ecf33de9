package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state/blob"
)

// lanes is an exactly-once target in memory.
type lanes struct {
	mu      sync.Mutex
	n       int
	out     [][]string
	markers []protocol.Marker
	seqs    []uint64
	seq     uint64
}

func newLanes(n int) *lanes {
	return &lanes{n: n, out: make([][]string, n), markers: make([]protocol.Marker, n), seqs: make([]uint64, n)}
}

func (l *lanes) Kind() string            { return "test" }
func (l *lanes) Class() connectors.Class { return connectors.ExactlyOnce }
func (l *lanes) Lanes() int              { return l.n }
func (l *lanes) Close() error            { return nil }
func (l *lanes) OpenLanes(context.Context, connectors.SinkEnv) (connectors.LaneWriter, error) {
	return l, nil
}

func (l *lanes) Limits() connectors.ChunkLimits {
	return connectors.ChunkLimits{MaxMessages: 100, MaxBytes: 1 << 20, MaxMessage: 1 << 16}
}

func (l *lanes) ReadMarker(_ context.Context, lane int) (protocol.Marker, uint64, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.markers[lane], l.seqs[lane], l.seqs[lane] > 0, nil
}

func (l *lanes) PublishChunk(_ context.Context, lane int, msgs []connectors.Message, m protocol.Marker, expect uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seqs[lane] != expect {
		return 0, connectors.ErrConflict
	}
	for i := range msgs {
		l.out[lane] = append(l.out[lane], string(msgs[i].Data))
	}
	l.seq++
	l.seqs[lane], l.markers[lane] = l.seq, m
	return l.seq, nil
}

func (l *lanes) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, o := range l.out {
		n += len(o)
	}
	return n
}

type event struct {
	I    uint64
	User string
}

func sink(l *lanes) connectors.Sink[event] {
	return connectors.Sink[event]{Target: l, Encode: func(m *connectors.Message, _ *base.Meta, v *event) error {
		b, err := json.Marshal(v)
		m.Data = append(m.Data, b...)
		return err
	}}
}

func job(l *lanes, n uint64, opts ...generator.Option) weir.JobSpec {
	return weir.NewJob("e2e", func(j *weir.Job) {
		src := generator.New(func(i uint64) event { return event{I: i, User: fmt.Sprint("u", i%97)} },
			append([]generator.Option{generator.Count(n), generator.Shards(2)}, opts...)...)
		in := weir.From(j, "events", src, weir.ProcessingTime[event](), weir.Parallelism(2))
		even := weir.Filter(in, "even", func(e event) bool { return e.I%2 == 0 })
		keyed := weir.KeyBy(even, "by-user", func(e event) string { return e.User })
		weir.To(weir.Map(keyed.Stream, "same", func(e event) event { return e }), "out", sink(l))
	})
}

func check(t *testing.T, l *lanes, n uint64) {
	t.Helper()
	seen := map[uint64]int{}
	for _, o := range l.out {
		for _, s := range o {
			var e event
			if err := json.Unmarshal([]byte(s), &e); err != nil {
				t.Fatal(err)
			}
			seen[e.I]++
		}
	}
	for i := uint64(0); i < n; i += 2 {
		if seen[i] != 1 {
			t.Fatalf("record %d is visible %d times", i, seen[i])
		}
	}
	if uint64(len(seen)) != (n+1)/2 {
		t.Fatalf("%d records are visible, want %d", len(seen), (n+1)/2)
	}
}

func logger() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

func TestBoundedJobCommitsEverythingOnce(t *testing.T) {
	for _, p := range []int{1, 2, 3} {
		for _, encode := range []bool{false, true} {
			t.Run(fmt.Sprintf("p%d-encode-%v", p, encode), func(t *testing.T) {
				l := newLanes(4)
				plan, err := weir.Compile(job(l, 100_001), weir.WithParallelism(p))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err = engine.Run(ctx, plan, engine.Options{
					Blob: blob.Memory(), Interval: 20 * time.Millisecond, Encode: encode, Logger: logger(), StateDir: t.TempDir(),
				})
				if err != nil {
					t.Fatal(err)
				}
				check(t, l, 100_001)
			})
		}
	}
}

func TestKilledJobGoesOnAtAnotherParallelism(t *testing.T) {
	l, store, n := newLanes(4), blob.Memory(), uint64(60_000)
	ps := []int{1, 2, 3, 4, 2}
	for run, p := range ps {
		plan, err := weir.Compile(job(l, n, generator.Rate(100_000)), weir.WithParallelism(p))
		if err != nil {
			t.Fatal(err)
		}
		j, err := engine.Start(t.Context(), plan, engine.Options{
			Blob: store, Interval: 10 * time.Millisecond, Logger: logger(), StateDir: t.TempDir(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if run == len(ps)-1 {
			if err := j.Wait(); err != nil {
				t.Fatal(err)
			}
			break
		}
		for before := l.count(); l.count() < before+2_000; {
			select {
			case <-j.Done():
				t.Fatalf("run %d ended: %v", run, j.Wait())
			case <-time.After(time.Millisecond):
			}
		}
		if run%2 == 0 {
			j.Kill()
		} else if err := j.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	check(t, l, n)
}

func TestCheckpointCoversWhatCameBefore(t *testing.T) {
	l := newLanes(1)
	plan, err := weir.Compile(job(l, 1_000_000_000, generator.Rate(10_000)))
	if err != nil {
		t.Fatal(err)
	}
	j, err := engine.Start(t.Context(), plan, engine.Options{Blob: blob.Memory(), Manual: true, Logger: logger(), StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for last := 0; last < 3_000; {
		if err := j.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := l.count(); n < last {
			t.Fatalf("%d records are visible after %d", n, last)
		} else {
			last = n
		}
	}
	j.Kill()
	if err := j.Wait(); !errors.Is(err, context.Canceled) {
		t.Fatalf("a killed job ended with %v", err)
	}
}
