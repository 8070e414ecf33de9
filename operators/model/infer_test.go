package model_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/batcher"
)

func order(o model.Order) func(*spec) { return func(s *spec) { s.Order = o } }

func TestInferOrders(t *testing.T) {
	for _, c := range []struct {
		order model.Order
		steps [][]string // an answer, then everything that is out
	}{
		{model.Unordered, [][]string{{"b1", "b1"}, {"a2", "b1 a2"}, {"a1", "b1 a2 a1"}, {"b2", "b1 a2 a1 b2"}}},
		{model.PerKey, [][]string{{"b1", "b1"}, {"a2", "b1"}, {"a1", "b1 a1 a2"}, {"b2", "b1 a1 a2 b2"}}},
		{model.Ordered, [][]string{{"b1", ""}, {"a2", ""}, {"a1", "a1 b1 a2"}, {"b2", "a1 b1 a2 b2"}}},
	} {
		r := newRig(t, setup{spec: order(c.order)})
		r.feed("a1", "b1", "a2", "b2")
		r.asked(4)
		for _, s := range c.steps {
			was := r.s.Env.Stats.AsyncOut.Load()
			r.oracle.answer(s[0])
			if want := strings.Fields(s[1]); len(want) > int(was) {
				r.wants(want...)
			} else {
				r.until("the answer of "+s[0], func() bool { return !slices.Contains(r.flying(), s[0]) })
				r.wants(want...)
			}
		}
		if r.s.Busy() || r.s.Full() {
			t.Error("busy or full with nothing to do")
		}
	}
}

// flying lists the records whose calls the oracle has not answered; it looks at the
// gates, so a call that is between the two counts as answered.
func (r *rig) flying() []string {
	r.oracle.mu.Lock()
	defer r.oracle.mu.Unlock()
	var s []string
	for _, c := range r.oracle.calls {
		if len(r.oracle.open[c.In]) > 0 {
			s = append(s, c.In)
		}
	}
	return s
}

func TestInferHoldsWatermarksBack(t *testing.T) {
	for _, o := range []model.Order{model.Unordered, model.PerKey, model.Ordered} {
		r := newRig(t, setup{spec: order(o)})
		r.must(r.s.Watermark(1))
		r.feed("a1", "b1")
		r.must(r.s.Watermark(10))
		r.feed("c1")
		r.must(r.s.Watermark(20))
		r.must(r.s.Watermark(25))
		r.must(r.s.Watermark(30))
		r.turn()
		r.logged("w1")
		r.asked(3)
		r.oracle.answer("b1")
		if o != model.Ordered {
			r.wants("b1")
		}
		r.oracle.answer("a1")
		if o == model.Ordered {
			r.wants("a1", "b1")
		} else {
			r.wants("b1", "a1")
		}
		r.logged(append(slices.Clone(r.out), "w10")...)
		r.feed("d1")
		r.asked(4)
		r.oracle.answer("d1", "c1")
		r.until("all", func() bool { return len(r.out) == 4 })
		r.turn()
		if log := strings.Join(r.port.log, " "); log != "c1 w30 d1" && !(o != model.Ordered && (log == "d1 c1 w30" || log == "c1 d1 w30")) {
			t.Errorf("order %d: the edge got %q", o, log)
		}
	}
}

func TestInferEndAndIdlenessWaitForAnswers(t *testing.T) {
	r := newRig(t, setup{})
	r.feed("a1")
	r.must(r.s.Watermark(5))
	r.must(r.s.MarkIdle())
	r.turn()
	r.logged()
	r.asked(1)
	r.oracle.answer("a1")
	r.wants("a1")
	r.logged("a1", "w5", "idle")
	r.feed("a2")
	r.must(r.s.MarkIdle())
	r.must(r.s.Watermark(6)) // not idle any more
	r.must(r.s.End())
	if r.s.Ended() {
		t.Error("the subtask has ended with a call under way")
	}
	r.turn()
	r.logged()
	r.checkpoint()
	r.logged("barrier 1")
	r.asked(2)
	r.oracle.answer("a2")
	r.wants("a1", "a2")
	r.logged("a2", "w end", "end")
	if !r.s.Ended() {
		t.Error("the subtask has not ended")
	}
}

func TestInferCapacity(t *testing.T) {
	r := newRig(t, setup{spec: func(s *spec) { s.Capacity, s.Order = 3, model.Ordered }})
	var ids []string
	for i := range 8 {
		ids = append(ids, fmt.Sprintf("a%d", i))
	}
	r.feed(ids[:2]...)
	if r.s.Full() {
		t.Error("full with 2 of 3")
	}
	r.feed(ids[2:]...)
	r.asked(3)
	r.turn()
	if n := len(r.oracle.asked()); n != 3 || !r.s.Full() {
		t.Fatalf("%d calls, full %v; want 3 and full", n, r.s.Full())
	}
	for i := range 5 {
		r.oracle.answer(ids[i])
		r.wants(ids[:i+1]...)
		r.asked(4 + i)
		if n := len(r.oracle.asked()); n != 4+i {
			t.Fatalf("%d calls after %d answers", n, i+1)
		}
		if full := r.s.Full(); full != (i < 5) {
			t.Errorf("full %v with %d left", full, 7-i)
		}
	}
	r.oracle.answer(ids[5])
	r.wants(ids[:6]...)
	if r.s.Full() {
		t.Error("full with 2 of 3 left")
	}
}

func TestInferKeepsTheDetailsOfARecord(t *testing.T) {
	r := newRig(t, setup{})
	r.oracle.text = func(in string) string { return map[string]string{"b1": "drop"}[in] }
	close(r.oracle.all)
	r.feed("a1", "b1")
	r.until("both", func() bool { return r.stats.AsyncOut.Load() == 2 })
	if !slices.Equal(r.out, []string{"a1"}) {
		t.Errorf("Make did not drop a record: %q", r.out)
	}
	if m := r.metas[0]; m.Time != 1 || m.Origin != (base.Origin{Split: 7, Pos: 1}) || m.Hash != r.keys.Hash("a") {
		t.Errorf("the result's metadata is %+v", m)
	}
	c := r.oracle.calls[slices.IndexFunc(r.oracle.calls, func(c model.Call[string]) bool { return c.In == "a1" })]
	if c.Attempt != 1 || !strings.HasPrefix(c.Key, "0123/ask/0000000000000007-1-0-") {
		t.Errorf("the call is %+v", c)
	}
}

func TestInferFailures(t *testing.T) {
	r := newRig(t, setup{spec: order(model.Ordered)})
	r.feed("a1", "a2", "a3")
	r.asked(3)
	r.oracle.fail("a1", &model.Failure{Kind: model.Limited, Status: 429, What: "slow down"})
	r.oracle.fail("a2", errors.New("odd"))
	r.oracle.answer("a3")
	r.wants("a3")
	if len(r.failed) != 2 || r.failed[0].Record.ID != "a1" || r.failed[0].Kind != "limited" || r.failed[0].Status != 429 ||
		r.failed[0].Attempts != 1 || r.failed[1].Kind != "unknown" || !strings.Contains(r.failed[1].What, "odd") || r.failed[1].Key == "" {
		t.Errorf("failures: %+v", r.failed)
	}
	d := newRig(t, setup{drop: true})
	d.feed("a1", "a2")
	d.oracle.fail("a1", errors.New("x"))
	d.oracle.answer("a2")
	d.wants("a2")
	if d.figure("model_failed_total") != 1 {
		t.Error("a failure that is dropped is not counted")
	}
}

// figure adds up the figures of that name and, if there are any, of these arms.
func (r *rig) figure(name string, arms ...string) int64 {
	sum, none := int64(0), true
	for _, f := range r.stats.Figures.List() {
		if f.Name == name && (len(arms) == 0 || slices.Contains(arms, f.Label)) {
			sum, none = sum+f.Value(), false
		}
	}
	if none {
		r.t.Fatalf("no figure %s of %q", name, arms)
	}
	return sum
}

func TestInferDeadline(t *testing.T) {
	r := newRig(t, setup{spec: func(s *spec) { s.Deadline = time.Second }})
	r.feed("a1")
	r.asked(1)
	r.clk.BlockUntil(1)
	r.clk.Advance(999 * time.Millisecond)
	r.turn()
	if len(r.failed) > 0 {
		t.Fatal("failed before its deadline")
	}
	r.clk.Advance(time.Millisecond)
	r.until("the failure", func() bool { return len(r.failed) == 1 })
	if f := r.failed[0]; f.Kind != "unknown" || !strings.Contains(f.What, "within 1s") {
		t.Errorf("failure: %+v", f)
	}
}

func TestInferMisbehavingClients(t *testing.T) {
	r := newRig(t, setup{})
	r.oracle.text = func(in string) string {
		if in == "a1" {
			panic("oh")
		}
		return "fine"
	}
	close(r.oracle.all)
	r.feed("a1", "b1")
	r.wants("b1")
	r.until("the failure", func() bool { return len(r.failed) == 1 })
	if !strings.Contains(r.failed[0].What, "panicked: oh") || r.failed[0].Kind != "permanent" {
		t.Errorf("failure: %+v", r.failed[0])
	}
}

func TestInferBatches(t *testing.T) {
	r := newRig(t, setup{spec: func(s *spec) {
		s.Batch = batcher.Config{MaxBatch: 4, InFlight: 1, Goal: time.Second, MaxDelay: 100 * time.Millisecond}
		s.Order = model.Ordered
	}})
	r.feed("a1", "a2", "a3")
	next, err := r.s.ProcessingTime(r.clk.Now())
	r.must(err)
	if wait := next - r.clk.Now(); wait <= 0 || wait > int64(100*time.Millisecond) {
		t.Errorf("the batch closes after %v", time.Duration(wait))
	}
	if n := len(r.oracle.asked()); n != 0 {
		t.Fatalf("%d calls before the batch closes", n)
	}
	r.clk.Advance(100 * time.Millisecond)
	r.asked(3)
	r.feed("b1", "b2")
	r.checkpoint()
	r.feed("c1", "c2", "c3", "c4", "c5")
	close(r.oracle.all)
	r.until("all but the last", func() bool { return len(r.out) >= 9 })
	r.must(r.s.End()) // ends the batch that is collected
	r.wants("a1", "a2", "a3", "b1", "b2", "c1", "c2", "c3", "c4", "c5")
	if !slices.Equal(r.oracle.sizes, []int{3, 2, 4, 1}) {
		t.Errorf("batches of %v, want 3, 2 before the barrier, 4, and the rest", r.oracle.sizes)
	}
}
