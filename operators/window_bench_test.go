package operators

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/window"
)

// tick is the record of the benchmarks.
type tick struct {
	Key  uint64
	Time int64
}

// benchWindow feeds records of uniformly drawn keys at 1,000,000 per second of
// event time, a watermark every 2 ms, to a window operator whose results are
// only counted. The cost of making records is part of it (about 5 ns).
func benchWindow[A any](b *testing.B, spec window.Spec, keys int, kit aggKit2[A]) {
	kc, err := codec.KeyFor[uint64]()
	if err != nil {
		b.Fatal(err)
	}
	ac, err := codec.For[A]()
	if err != nil {
		b.Fatal(err)
	}
	st := newTestState(b)
	s := NewSubtask(Env{
		Ctx: context.Background(), JobName: "j", Task: "w", Parallelism: 1, Range: base.FullRange, Clock: clock.Real(),
		Backend: st.backend(base.FullRange), Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{},
	})
	results, turns, longest := 0, 0, time.Duration(0)
	Head(s, Window(s, WindowSpec[uint64, tick, A, int64]{
		UID: "agg", Window: spec, Key: func(v tick) uint64 { return v.Key }, Keys: kc, Add: kit.add, Ops: kit.ops,
		Result: kit.result, Acc: ac,
	}, Consumer[Windowed[uint64, int64]]{One: func(*base.Meta, *Windowed[uint64, int64]) { results++ }}, Fan[tick](s, nil)))
	st.restore(s.Env.Backend, nil)
	if err := s.Open(Restore{}); err != nil {
		b.Fatal(err)
	}
	mk, _ := NewBatch[tick]()
	batch := mk().(*TypedBatch[tick])
	x, now, marked := uint64(1), int64(0), int64(0)
	feed := func() {
		batch.Reset()
		for range MaxBatch {
			x = x*6364136223846793005 + 1442695040888963407
			k := (x >> 33) % uint64(keys)
			m := base.Meta{Time: now, Hash: base.HashUint64(k)}
			batch.add(&m, &tick{k, now})
			now += 1000
		}
		if err := s.Process(0, batch); err != nil {
			b.Fatal(err)
		}
		if now-marked < 2_000_000 {
			return
		}
		marked = now
		start := time.Now()
		if err := s.Watermark(now); err != nil {
			b.Fatal(err)
		}
		for more := true; more; turns++ {
			if more, err = s.Turn(); err != nil {
				b.Fatal(err)
			}
			longest = max(longest, time.Since(start))
			start = time.Now()
		}
	}
	for warm := 2 * keys; warm > 0; warm -= MaxBatch {
		feed()
	}
	n := 0
	b.ResetTimer()
	for n < b.N {
		feed()
		n += MaxBatch
	}
	b.StopTimer()
	b.ReportMetric(float64(results), "results")
	b.ReportMetric(float64(longest.Microseconds()), "µs-longest-turn")
}

// aggKit2 is an aggregate of a benchmark.
type aggKit2[A any] struct {
	add    func(*A, tick)
	ops    window.Ops[A]
	result func(*A) int64
}

var countKit = aggKit2[int64]{
	add: func(a *int64, _ tick) { *a++ },
	ops: window.Ops[int64]{
		Merge:    func(d, s *int64) { *d += *s },
		Subtract: func(d, s *int64) { *d -= *s },
	},
	result: func(a *int64) int64 { return *a },
}

type peak struct{ Max int64 }

var maxKit = aggKit2[peak]{
	add:    func(a *peak, v tick) { a.Max = max(a.Max, v.Time) },
	ops:    window.Ops[peak]{Merge: func(d, s *peak) { d.Max = max(d.Max, s.Max) }},
	result: func(a *peak) int64 { return a.Max },
}

func BenchmarkWindow(b *testing.B) {
	tumbling, sliding := window.Tumbling(time.Minute), window.Sliding(time.Minute, 500*time.Millisecond)
	for _, keys := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("tumbling/count/keys=%d", keys), func(b *testing.B) { benchWindow(b, tumbling, keys, countKit) })
	}
	b.Run("sliding/count/keys=10000", func(b *testing.B) { benchWindow(b, sliding, 10_000, countKit) })
	b.Run("sliding/max/keys=10000", func(b *testing.B) { benchWindow(b, sliding, 10_000, maxKit) })
	b.Run("session/count/keys=10000", func(b *testing.B) { benchWindow(b, window.Session(time.Second), 10_000, countKit) })
}
