package window

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
)

func TestBoundedTracker(t *testing.T) {
	tr := BoundedOutOfOrderness(5).NewTracker()
	for _, c := range []struct{ ts, want base.Timestamp }{
		{100, 95}, {90, 95}, {101, 96}, {base.MinTime, 96}, {base.MaxTime, base.MaxTime - 5},
	} {
		if tr.Observe(c.ts, 0); tr.Watermark() != c.want {
			t.Errorf("after %d: %d, want %d", c.ts, tr.Watermark(), c.want)
		}
	}
	asc := Ascending().NewTracker()
	if asc.Observe(base.MaxTime, 0); asc.Watermark() != base.MaxTime-1 {
		t.Error("a record must not end the input")
	}
	if asc.End(); asc.Watermark() != base.MaxTime {
		t.Error("the end of input is +inf")
	}
	if w := BoundedOutOfOrderness(5).NewTracker(); w.Watermark() != base.MinTime || w.Advance(99) != base.MinTime {
		t.Error("before the first record the watermark is -inf")
	}
}

func TestSkewGuard(t *testing.T) {
	tr := BoundedOutOfOrderness(0).WithMaxSkew(10).NewTracker()
	if !tr.Observe(110, 100) || tr.Watermark() != 110 {
		t.Error("a record at the bound counts")
	}
	if tr.Observe(111, 100) || tr.Watermark() != 110 {
		t.Error("a record beyond the bound must be reported and move nothing")
	}
	off := BoundedOutOfOrderness(0).NewTracker()
	if !off.Observe(1<<40, 0) {
		t.Error("without a bound every record counts")
	}
}

func TestWallClockBounded(t *testing.T) {
	s := WallClockBounded(5)
	tr := s.NewTracker()
	if tr.Advance(1000) != base.MinTime {
		t.Error("nothing runs before the first record")
	}
	tr.Observe(100, 2000)
	if got := tr.Advance(2007); got != 102 {
		t.Errorf("after 7 of wall time: %d, want 102", got)
	}
	if got := tr.Advance(1500); got != 102 {
		t.Errorf("after the clock was set back: %d, want 102", got)
	}
	if got := tr.Advance(1501); got != 103 {
		t.Errorf("and going on: %d, want 103", got)
	}
	again := s.Restore(tr.Snapshot(), 9000)
	if got := again.Advance(9000); got != 103 {
		t.Errorf("the outage ran the watermark on to %d", got)
	}
	if got := again.Advance(9002); got != 105 {
		t.Errorf("after the restart: %d, want 105", got)
	}
	looser := BoundedOutOfOrderness(50).Restore(tr.Snapshot(), 9000)
	if looser.Observe(120, 9000); looser.Watermark() != 103 {
		t.Errorf("a changed strategy moved the watermark back to %d", looser.Watermark())
	}
}

func TestStrategyValidate(t *testing.T) {
	for _, s := range []Strategy{{}, Ascending(), BoundedOutOfOrderness(time.Hour), WallClockBounded(0).WithMaxSkew(24 * time.Hour)} {
		if err := s.Validate(); err != nil {
			t.Errorf("%v: %v", s, err)
		}
	}
	for _, s := range []Strategy{BoundedOutOfOrderness(-1), WallClockBounded(1 << 62), Ascending().WithMaxSkew(-1)} {
		if err := s.Validate(); base.CodeOf(err) != "WEIR-0141" {
			t.Errorf("%v: %v", s, err)
		}
	}
	if BoundedOutOfOrderness(time.Minute).IdleAfter() != time.Minute || Ascending().IdleAfter() != time.Second {
		t.Error("IdleAfter")
	}
}

func TestCombiner(t *testing.T) {
	c := NewCombiner(2)
	step := func(got base.Timestamp, moved bool, want base.Timestamp, wantMoved bool) {
		t.Helper()
		if got != want || moved != wantMoved {
			t.Fatalf("%d %v, want %d %v", got, moved, want, wantMoved)
		}
	}
	do := func(w base.Timestamp, moved bool) func(base.Timestamp, bool) {
		return func(want base.Timestamp, wantMoved bool) { t.Helper(); step(w, moved, want, wantMoved) }
	}
	do(c.Update(0, 100))(base.MinTime, false)
	do(c.Update(1, 50))(50, true)
	do(c.Update(1, 40))(50, false)
	do(c.SetIdle(1, true))(100, true)
	do(c.Update(1, 60))(100, false) // re-enters behind
	do(c.Update(0, 200))(100, false)
	do(c.Update(1, 150))(150, true)
	do(c.SetIdle(0, true))(150, false)
	do(c.SetIdle(1, true))(200, true) // all idle: the highest
	if !c.Idle() {
		t.Error("both are idle")
	}
	do(c.Update(0, base.MaxTime))(200, false) // one ended, the other only idle
	if !c.Idle() {
		t.Error("the one that has not ended is idle")
	}
	do(c.Update(0, 205))(200, false) // what has ended stays so
	do(c.Update(1, 210))(210, true)
	do(c.Update(1, base.MaxTime))(base.MaxTime, true)
	if c.Idle() {
		t.Error("ended is not idle")
	}
	if NewCombiner(0).Watermark() != base.MaxTime {
		t.Error("no inputs: ended")
	}
}

// The combined watermark never goes back, does not depend on the order in which
// inputs fall idle, and a restored combiner goes on the same way.
func TestCombinerProperties(t *testing.T) {
	r := seeded(t)
	for range 2000 {
		n := 1 + r.IntN(4)
		c := NewCombiner(n)
		last := c.Watermark()
		for range 30 {
			i := r.IntN(n)
			idle, w := r.IntN(3) == 0, r.Int64N(100)
			restored := RestoreCombiner(c.Snapshot())
			for _, x := range []*Combiner{c, restored} {
				if idle {
					x.SetIdle(i, true)
				} else {
					x.Update(i, w)
				}
			}
			if c.Watermark() < last || restored.Watermark() != c.Watermark() {
				t.Fatalf("from %d to %d, restored %d", last, c.Watermark(), restored.Watermark())
			}
			last = c.Watermark()
		}
		_, inputs := c.Snapshot()
		a, b := RestoreCombiner(c.Snapshot()), RestoreCombiner(c.Snapshot())
		for _, i := range r.Perm(len(inputs)) {
			a.SetIdle(i, true)
		}
		for _, i := range rand.New(rand.NewPCG(r.Uint64(), 2)).Perm(len(inputs)) {
			b.SetIdle(i, true)
		}
		if a.Watermark() != b.Watermark() {
			t.Fatalf("%d or %d, depending on the order of idling", a.Watermark(), b.Watermark())
		}
	}
}

func TestIdleness(t *testing.T) {
	d := NewIdleness(100, 1000)
	if d.Idle(1099) || !d.Idle(1100) || d.IdleAt() != 1100 {
		t.Error("before the first record the opening counts")
	}
	d.Record(1150)
	d.Record(1120)
	if d.Idle(1249) || !d.Idle(1250) {
		t.Error("after a record")
	}
}
