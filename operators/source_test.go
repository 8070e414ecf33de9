package operators_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/window"
)

// TestWatermarkThatRunsOnNeedsNoRecords polls a quiet source as a task would: at
// the times that it asks for. Its watermark must follow the clock all the while.
func TestWatermarkThatRunsOnNeedsNoRecords(t *testing.T) {
	clk := clock.NewVirtual(time.Unix(1_000, 0).UnixNano())
	src := memory.NewSource[int]("a")
	s := operators.NewSubtask(operators.Env{
		Ctx: context.Background(), JobName: "j", Task: "src", Parallelism: 1, Range: base.FullRange, Clock: clk,
		Wake: func() {}, Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{},
	})
	operators.SourceHead(s, operators.SourceSpec[int]{
		UID: "src", Source: src, Strategy: window.WallClockBounded(time.Second), Limits: connectors.DefaultLimits,
	}, operators.Consumer[int]{One: func(*base.Meta, *int) {}})
	if err := s.Open(operators.Restore{}); err != nil {
		t.Fatal(err)
	}
	first := time.Unix(500, 0)
	src.Append("a", first.UnixNano(), 1)
	for range 200 { // 200 polls of 50 ms are ten seconds
		st, err := s.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if st.More {
			continue
		}
		if st.Due == base.MaxTime {
			t.Fatal("the source does not ask to be polled again")
		}
		clk.Advance(time.Duration(max(st.Due-clk.Now(), 1)))
	}
	got := time.Unix(0, s.Env.Stats.Watermark.Load()).Sub(first)
	if got < 8*time.Second || got > 10*time.Second {
		t.Errorf("the watermark is %v after the only record, want about 9 s", got)
	}
}
