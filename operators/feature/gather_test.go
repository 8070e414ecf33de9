package feature_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/feature"
)

// TestGatherHoldsWatermarks: after all inputs were idle, a watermark can come from one
// of them before the part that another has.
func TestGatherHoldsWatermarks(t *testing.T) {
	program := func(name string) *feature.Program[txn] {
		p, err := feature.Set(feature.Count[txn](name).Over(time.Minute)).Compile()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	all, err := feature.Combine(program("a"), program("b"))
	if err != nil {
		t.Fatal(err)
	}
	s := operators.NewSubtask(operators.Env{
		Ctx: context.Background(), Task: "t", Parallelism: 1, Range: base.FullRange, Clock: clock.NewVirtual(0),
		Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{}, Wake: func() {},
	})
	n := 0
	g := feature.NewGather(s, "both", all, operators.Consumer[feature.Carried[txn]]{One: func(*base.Meta, *feature.Carried[txn]) { n++ }})
	one, zero := feature.Carried[txn]{ID: 7}, program("a").NewCore()
	if err := zero.Read(nil, 0); err != nil {
		t.Fatal(err)
	}
	one.Row = zero.Vector().Row()
	meta := base.Meta{Time: 10}
	g.Part(1).One(&meta, &one)
	if !g.Advance(10, 0) {
		t.Error("a watermark waits for a record that it does not overtake")
	}
	if g.Advance(20, 0) || n != 0 {
		t.Error("a watermark overtakes a record that waits for its features")
	}
	g.Part(0).One(&meta, &one)
	if !g.Advance(20, 0) || n != 1 {
		t.Errorf("after its last part: %d records", n)
	}
}
