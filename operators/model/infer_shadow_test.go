package model_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model"
)

// shadowed is a rig where "stable" answers and "canary" is its shadow.
func shadowed(t *testing.T, of map[string]*oracle, set func(*spec), o setup) *rig {
	o.spec = func(s *spec) {
		arms(canary(1, 0, "canary"), of)(s)
		if set != nil {
			set(s)
		}
	}
	return newRig(t, o)
}

func TestShadows(t *testing.T) {
	of := two()
	r := shadowed(t, of, nil, setup{})
	r.feed("a1", "a2")
	r.until("calls", func() bool { return len(of["canary"].asked()) == 2 && len(of["stable"].asked()) == 2 })
	r.must(r.s.Watermark(50))
	of["stable"].answer("a1", "a2")
	r.wants("a1", "a2") // no shadow has said anything yet
	r.logged("a1", "a2", "w50")
	r.clk.Advance(3 * time.Millisecond)
	of["canary"].fail("a2", &model.Failure{Kind: model.Limited, Status: 429, What: "slow down"})
	r.until("one", func() bool { return len(r.shadows) == 1 })
	of["canary"].answer("a1")
	r.until("both", func() bool { return len(r.shadows) == 2 })
	want := []model.Shadow[answer]{
		{ID: r.outs[1].Asked.ID, Model: "ask", Arm: "canary", Primary: "stable", Routing: 1, Kind: "limited", Status: 429, What: "slow down", LatencyMicros: 3000, At: 2},
		{ID: r.outs[0].Asked.ID, Model: "ask", ModelVersion: "v1", Arm: "canary", Primary: "stable", Routing: 1, Out: answer{"re a1 by canary"}, LatencyMicros: 3000, At: 1},
	}
	if !slices.Equal(r.shadows, want) {
		t.Errorf("%+v\nwant\n%+v", r.shadows, want)
	}
	if !slices.Equal(r.shadowTimes, []int64{50, 50}) {
		t.Errorf("shadows have times %v behind the watermark 50", r.shadowTimes)
	}
	if k := of["canary"].calls[0].Key; !strings.HasSuffix(k, "/canary") || slices.ContainsFunc(of["stable"].calls, func(c model.Call[string]) bool { return c.Key == k }) {
		t.Errorf("a shadow has the key %s", k)
	}
	for name, want := range map[string]int64{"model_shadow_calls_total": 2, "model_shadow_failed_total": 1, "model_shadow_dropped_total": 0, "model_calls_total": 0} {
		if got := r.figure(name, "canary"); got != want {
			t.Errorf("%s = %d, want %d", name, got, want)
		}
	}
}

// TestShadowIsNotAskedTwice: an arm does not shadow itself.
func TestShadowIsNotAskedTwice(t *testing.T) {
	of := two()
	r := newRig(t, setup{spec: arms(canary(1, 5000, "canary", "stable"), of)})
	on, off := r.keysOf(1)
	for _, o := range of {
		close(o.all)
	}
	r.feed(on[0]+"1", off[0]+"1")
	r.until("all", func() bool { return len(r.out) == 2 && len(r.shadows) == 2 })
	for _, s := range r.shadows {
		if s.Arm == s.Primary {
			t.Errorf("%+v", s)
		}
	}
	if len(of["canary"].asked()) != 2 || len(of["stable"].asked()) != 2 {
		t.Error(byArm(of))
	}
}

// TestShadowsGoFirst: under load and behind a shadow that hangs.
func TestShadowsGoFirst(t *testing.T) {
	of := two()
	r := shadowed(t, of, func(s *spec) { s.ShadowCapacity, s.Capacity = 3, 8 }, setup{})
	var ids []string
	for i := range 20 {
		ids = append(ids, fmt.Sprintf("%c1", 'a'+rune(i)))
	}
	close(of["stable"].all)
	for i, id := range ids { // one by one: the primary has no load
		r.feed(id)
		r.wants(ids[:i+1]...)
	}
	if got := r.figure("model_shadow_dropped_total", "canary"); got != 17 || len(of["canary"].asked()) != 3 {
		t.Errorf("%d dropped, %d asked, want 17 and 3", got, len(of["canary"].asked()))
	}
	if r.s.Full() {
		t.Error("shadows make the operator full")
	}
	r.must(r.s.Watermark(99))
	if r.turn(); r.port.log[len(r.port.log)-1] != "w99" {
		t.Errorf("a shadow holds the watermark back: %q", r.port.log)
	}
	r.checkpoint() // and no barrier

	busy := two() // now the primary has load
	q := shadowed(t, busy, func(s *spec) { s.Capacity = 8 }, setup{})
	q.feed(ids[:8]...)
	q.until("calls", func() bool { return len(busy["stable"].asked()) == 8 })
	q.until("shadows", func() bool { return len(busy["canary"].asked()) == 6 })
	if got := q.figure("model_shadow_dropped_total", "canary"); got != 2 {
		t.Errorf("%d dropped, want those beyond 6 of 8", got)
	}
}

func TestShadowsEnd(t *testing.T) {
	of := two()
	r := shadowed(t, of, func(s *spec) { s.Deadline = time.Minute }, setup{})
	r.feed("a1", "a2")
	r.must(r.s.Watermark(5))
	close(of["stable"].all)
	r.wants("a1", "a2")
	r.logged("a1", "a2", "w5")
	r.until("calls", func() bool { return len(of["canary"].asked()) == 2 })
	r.must(r.s.End())
	r.turn()
	if r.logged(); r.s.Ended() {
		t.Error("the end does not wait for shadows")
	}
	of["canary"].answer("a1")
	r.until("a1", func() bool { return len(r.shadows) == 1 })
	if r.logged(); r.s.Ended() {
		t.Error("the end does not wait for the last shadow")
	}
	r.clk.BlockUntil(1)
	r.clk.Advance(time.Minute) // the other one hangs
	r.until("a2", func() bool { return len(r.shadows) == 2 })
	r.turn()
	if r.logged("w end", "end"); r.shadows[1].Kind != "unknown" || !r.s.Ended() {
		t.Errorf("%+v, ended: %v", r.shadows[1], r.s.Ended())
	}
	if !slices.Equal(r.shadowTimes, []int64{5, 5}) {
		t.Errorf("times %v", r.shadowTimes)
	}
}

// TestShadowsComeOnceAtMost: what a shadow said before a checkpoint does not come again
// after a restore, with the record still in flight; and what it had not said is lost.
func TestShadowsComeOnceAtMost(t *testing.T) {
	dir := t.TempDir()
	of := two()
	r := shadowed(t, of, nil, setup{journal: dir})
	r.feed("a1", "b1")
	of["canary"].answer("a1")
	r.until("a shadow", func() bool { return len(r.shadows) == 1 && len(of["stable"].asked()) == 2 })
	r.checkpoint()
	r.close()
	next := two()
	q := shadowed(t, next, nil, setup{journal: dir, world: r.w})
	close(next["stable"].all)
	close(next["canary"].all)
	q.until("both", func() bool { return len(q.out) == 2 })
	q.feed("c1")
	q.until("c1", func() bool { return len(q.shadows) == 1 })
	if got := next["canary"].asked(); !slices.Equal(got, []string{"c1"}) || q.shadows[0].Out.Text != "re c1 by canary" {
		t.Errorf("shadows of %q after the restore", got)
	}
}

func TestShadowsBeginAndEndByControl(t *testing.T) {
	of := two()
	r := newRig(t, setup{spec: arms(canary(1, 0), of)})
	for _, o := range of {
		close(o.all)
	}
	at := 0
	feed := func() {
		at++
		r.feed(fmt.Sprintf("a%d", at))
		r.until("it", func() bool { return len(r.out) == at && !r.s.Busy() })
		r.turn()
	}
	feed()
	r.queue(canary(2, 0, "canary"))
	feed()
	r.checkpoint()
	feed()
	r.queue(canary(3, model.FullWeight, "canary"))
	r.checkpoint()
	feed()
	if len(r.shadows) != 1 || r.shadows[0].Routing != 2 || r.shadows[0].Out.Text != "re a3 by canary" {
		t.Errorf("%+v", r.shadows)
	}
}

// TestShadowsThatMisbehave change nothing for the answers that count.
func TestShadowsThatMisbehave(t *testing.T) {
	of := two()
	close(of["stable"].all)
	close(of["canary"].all)
	of["canary"].text = func(string) string { panic("oh") }
	r := shadowed(t, of, func(s *spec) { s.Batch = model.Batching{MaxBatch: 4, MaxDelay: -1} }, setup{})
	r.feed("a1", "b1", "c1")
	r.until("all", func() bool { return len(r.out) == 3 && len(r.shadows) == 3 })
	for _, s := range r.shadows {
		if s.Kind != "permanent" || !strings.Contains(s.What, "panicked: oh") || s.Out != (answer{}) {
			t.Errorf("%+v", s)
		}
	}
	if len(r.failed) > 0 || r.s.Err() != nil {
		t.Errorf("failures: %+v, %v", r.failed, r.s.Err())
	}
}

// TestShadowsHaveOriginsOfTheirOwn: what is derived from the shadows of one record must
// not be taken for one.
func TestShadowsHaveOriginsOfTheirOwn(t *testing.T) {
	of := map[string]*oracle{"a": newOracle(), "b": newOracle(), "c": newOracle()}
	for _, o := range of {
		close(o.all)
	}
	r := newRig(t, setup{spec: arms(model.Routing{Arms: []model.Share{{Arm: "a", Weight: model.FullWeight}}, Shadows: []string{"b", "c"}}, of)})
	r.feed("x1")
	r.until("both", func() bool { return len(r.shadowMetas) == 2 })
	a, b := r.shadowMetas[0], r.shadowMetas[1]
	if a.Origin == b.Origin || a.Hash != r.keys.Hash("x") || a.Origin == (base.Origin{Split: 7, Pos: 1}) {
		t.Errorf("%+v, %+v", a, b)
	}
}
