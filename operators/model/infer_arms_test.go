package model_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model"
)

// two are the arms of most tests. Of the keys, a, c and d, say, go to the canary by one
// routing and to the other arm by another.
func two() map[string]*oracle {
	return map[string]*oracle{"canary": newOracle(), "stable": newOracle()}
}

// byArm lists what each arm was asked, sorted.
func byArm(of map[string]*oracle) string {
	s := func(o *oracle) string { return strings.Join(slices.Sorted(slices.Values(o.asked())), " ") }
	return "canary: " + s(of["canary"]) + "; stable: " + s(of["stable"])
}

// keysOf returns n letters whose keys are on the canary at a weight of 50 %, and n that
// are not.
func (r *rig) keysOf(n int) (on, off []string) {
	for c := 'a'; c <= 'z'; c++ {
		if k := string(c); model.Bucket("ask", r.keys.Hash(k)) < 5000 {
			on = append(on, k)
		} else {
			off = append(off, k)
		}
	}
	return on[:n], off[:n]
}

func TestArmIsKept(t *testing.T) {
	of := two()
	set := arms(canary(1, 5000), of)
	r := newRig(t, setup{spec: set})
	on, off := r.keysOf(2)
	r.feed(on[0]+"1", off[0]+"1")
	r.until("two calls", func() bool { return len(of["canary"].asked()) == 1 && len(of["stable"].asked()) == 1 })
	r.queue(canary(2, 0))
	r.feed(on[0]+"2", off[0]+"2") // before the barrier: as before
	r.until("four calls", func() bool { return len(of["canary"].asked()) == 2 && len(of["stable"].asked()) == 2 })
	r.checkpoint()
	r.feed(on[0]+"3", on[1]+"3")
	r.until("six calls", func() bool { return len(of["stable"].asked()) == 4 })
	if got, want := byArm(of), fmt.Sprintf("canary: %[1]s1 %[1]s2; stable: %[2]s", on[0], strings.Join(slices.Sorted(slices.Values([]string{off[0] + "1", off[0] + "2", on[0] + "3", on[1] + "3"})), " ")); got != want {
		t.Fatalf("%s; want %s", got, want)
	}
	for _, o := range of {
		close(o.all)
	}
	r.until("all", func() bool { return len(r.outs) == 6 })
	for _, o := range r.outs {
		want := model.Asked{Arm: "stable", Propensity: 0.5, Routing: 1, Model: "ask", At: int64(o.N), ID: o.Asked.ID}
		switch {
		case strings.HasSuffix(o.ID, "3"):
			want.Routing, want.Propensity = 2, 1
		case strings.HasPrefix(o.ID, on[0]):
			want.Arm = "canary"
		}
		if o.Asked != want || o.Text != "re "+o.ID+" by "+want.Arm || !strings.HasPrefix(o.Asked.ID, "ask/0000000000000007-") {
			t.Errorf("%+v, want %+v", o, want)
		}
	}
	if k := of["canary"].calls[0].Key; !strings.HasPrefix(k, "0123/ask/") || !strings.HasSuffix(k, "/canary") {
		t.Errorf("the idempotency key %s does not name the arm", k)
	}
	if c, s := r.figure("model_calls_total", "canary"), r.figure("model_calls_total", "stable"); c != 2 || s != 4 || r.figure("model_routing_version") != 2 {
		t.Errorf("figures: %d and %d calls, version %d", c, s, r.figure("model_routing_version"))
	}
}

// TestRoutingIsRestored, also on two subtasks.
func TestRoutingIsRestored(t *testing.T) {
	first := two()
	set := func(s *spec) { arms(canary(1, 5000), first)(s) }
	r := newRig(t, setup{spec: set})
	on, off := r.keysOf(3)
	r.feed(on[0]+"1", on[1]+"1", off[0]+"1", off[1]+"1")
	r.queue(canary(2, model.FullWeight))
	r.checkpoint()
	r.queue(canary(3, 0)) // after the checkpoint: another run does not know it
	r.checkpoint()
	if got := r.figure("model_routing_version"); got != 3 {
		t.Fatalf("version %d", got)
	}
	r.close()
	one := *r.w
	for _, ranges := range [][]base.HashRange{{base.FullRange}, {base.SplitRange(0, 2), base.SplitRange(1, 2)}} {
		of := two()
		for i, rng := range ranges {
			w := one
			q := newRig(t, setup{spec: arms(canary(1, 5000), of), world: &w, rng: rng, index: i})
			if got := q.figure("model_routing_version"); got != 3 {
				t.Errorf("version %d after the restore", got)
			}
			q.until("the calls", func() bool { return q.figure("model_records_pending") == q.figure("model_calls_in_flight") })
			if rng.Contains(q.keys.Hash(on[2])) {
				q.feed(on[2] + "9")
				q.until("the call", func() bool { return slices.Contains(of["stable"].asked(), on[2]+"9") })
			}
			q.close()
		}
		want := slices.Sorted(slices.Values([]string{off[0] + "1", off[1] + "1", on[2] + "9"}))
		if got := byArm(of); got != fmt.Sprintf("canary: %s1 %s1; stable: %s", on[0], on[1], strings.Join(want, " ")) {
			t.Errorf("%d subtasks: %s", len(ranges), got)
		}
	}
}

func TestRestoredRoutingAndProgram(t *testing.T) {
	start := func(first, control model.Routing) *rig {
		r := newRig(t, setup{spec: arms(first, two())})
		r.queue(control)
		r.checkpoint()
		r.close()
		return r
	}
	for _, c := range []struct {
		name         string
		first        model.Routing
		of           map[string]*oracle
		want         int64
		canaryAnswer bool
	}{
		{"an older one of the program", canary(4, 0), two(), 5, true},
		{"one of the program as new", canary(5, 0), two(), 5, true},
		{"a newer one of the program", canary(6, 0), two(), 6, false},
		{"arms that are gone", model.Everything("stable"), map[string]*oracle{"stable": newOracle()}, 0, false},
	} {
		r := start(canary(1, 0), canary(5, model.FullWeight))
		q := newRig(t, setup{spec: arms(c.first, c.of), world: r.w})
		q.feed("a1")
		for _, o := range c.of {
			close(o.all)
		}
		q.wants("a1")
		if got := q.figure("model_routing_version"); got != c.want || (q.outs[0].Asked.Arm == "canary") != c.canaryAnswer {
			t.Errorf("%s: version %d, answer %+v", c.name, got, q.outs[0])
		}
	}
}

// TestArmIsGone: what was in flight goes by the present routing, and what was answered
// keeps its answer.
func TestArmIsGone(t *testing.T) {
	of := two()
	r := newRig(t, setup{spec: func(s *spec) { arms(canary(1, model.FullWeight), of)(s); s.Order = model.Ordered }})
	r.feed("a1", "b1")
	r.until("calls", func() bool { return len(of["canary"].asked()) == 2 })
	of["canary"].answer("b1")
	r.until("b1", func() bool { return r.figure("model_calls_in_flight") == 1 })
	r.checkpoint()
	r.close()
	next := map[string]*oracle{"stable": newOracle()}
	q := newRig(t, setup{spec: func(s *spec) { arms(model.Everything("stable"), next)(s); s.Order = model.Ordered }, world: r.w})
	close(next["stable"].all)
	q.wants("a1", "b1")
	if a, b := q.outs[0], q.outs[1]; a.Asked.Arm != "stable" || a.Text != "re a1 by stable" || b.Asked.Arm != "canary" || b.Text != "re b1 by canary" {
		t.Errorf("%+v", q.outs)
	}
	// And to one model without arms, and back.
	p := newRig(t, setup{world: r.w, spec: func(s *spec) { s.Order = model.Ordered }})
	close(p.oracle.all)
	p.wants("a1", "b1")
	p.close()
	back := two()
	o := newRig(t, setup{spec: arms(canary(1, model.FullWeight), back), world: p.w})
	close(back["canary"].all)
	o.feed("c1")
	o.until("c1", func() bool { return slices.Contains(o.out, "c1") })
}

// TestJournalGoesByArm: an answer is not taken for that of another arm.
func TestJournalGoesByArm(t *testing.T) {
	dir := t.TempDir()
	of := two()
	set := arms(canary(1, 0), of)
	r := newRig(t, setup{spec: set, journal: dir})
	r.checkpoint()
	r.s.Confirm(try(1))
	r.queue(canary(2, model.FullWeight))
	r.checkpoint() // which the next run does not have
	r.feed("a1", "b1")
	close(of["canary"].all)
	r.until("both", func() bool { return len(r.out) == 2 })
	r.close()
	was := *r.w
	was.epoch, was.chain, was.ops = 1, nil, nil
	of2 := two()
	q := newRig(t, setup{spec: arms(canary(1, 0), of2), journal: dir, world: &was})
	q.feed("a1")
	close(of2["stable"].all)
	q.wants("a1")
	if got := q.outs[0]; got.Text != "re a1 by stable" || got.Asked.Arm != "stable" || got.Asked.Routing != 1 {
		t.Errorf("%+v", got)
	}
	q.queue(canary(2, model.FullWeight))
	q.checkpoint()
	q.feed("b1") // to the canary, again: its answer is known
	q.wants("a1", "b1")
	if got := q.outs[1]; got.Text != "re b1 by canary" || q.figure("model_calls_avoided_total", "canary") != 1 || len(of2["canary"].asked()) != 0 {
		t.Errorf("%+v; asked %q", got, of2["canary"].asked())
	}
}

func TestRoutingsAreRefused(t *testing.T) {
	var log strings.Builder
	of := two()
	r := newRig(t, setup{spec: arms(canary(3, 0), of), noShadows: true, log: slog.NewTextHandler(&log, nil)})
	r.queue(canary(3, 100))
	r.queue(canary(2, 100))
	r.queue(model.Routing{Version: 9, Arms: []model.Share{{Arm: "other", Weight: model.FullWeight}}})
	r.queue(canary(9, model.FullWeight+1))
	r.queue(canary(9, 0, "canary"))
	r.checkpoint()
	if got := r.figure("model_routings_refused_total"); got != 5 || r.figure("model_routing_version") != 3 {
		t.Errorf("%d refused, version %d", got, r.figure("model_routing_version"))
	}
	if got := strings.Count(log.String(), "WEIR-0733"); got != 5 {
		t.Errorf("%d lines in the log: %s", got, log.String())
	}
	for i := range 1010 {
		r.queue(canary(uint64(10+i), 100))
	}
	r.checkpoint()
	if got := r.figure("model_routings_refused_total"); got != 15 || r.figure("model_routing_version") != 1009 {
		t.Errorf("%d refused, version %d", got, r.figure("model_routing_version"))
	}
}

func TestArmsBatchByThemselves(t *testing.T) {
	of := two()
	r := newRig(t, setup{spec: func(s *spec) {
		arms(canary(1, 5000), of)(s)
		s.Batch = model.Batching{MaxBatch: 4, MaxDelay: time.Hour, InFlight: 4}
	}})
	on, off := r.keysOf(1)
	for i := range 3 {
		r.feed(fmt.Sprintf("%s%d", on[0], i), fmt.Sprintf("%s%d", off[0], i))
	}
	r.feed(off[0] + "3")
	r.until("a batch", func() bool { return len(of["stable"].asked()) == 4 })
	if n := len(of["canary"].asked()); n != 0 {
		t.Errorf("the canary was asked about %d of 4", n)
	}
	r.checkpoint() // ends the batch
	r.until("a batch", func() bool { return len(of["canary"].asked()) == 3 })
}

func TestLatencyAndFailuresOfArms(t *testing.T) {
	of := two()
	dir := t.TempDir()
	r := newRig(t, setup{spec: arms(canary(1, model.FullWeight), of), journal: dir})
	r.feed("a1", "b1")
	r.until("calls", func() bool { return len(of["canary"].asked()) == 2 })
	r.clk.Advance(1500 * time.Microsecond)
	of["canary"].answer("a1")
	of["canary"].fail("b1", &model.Failure{Kind: model.Permanent, What: "no"})
	r.until("both", func() bool { return len(r.out) == 1 && len(r.failed) == 1 })
	if got := r.outs[0].Asked.Latency; got != 1500*time.Microsecond {
		t.Errorf("a latency of %v", got)
	}
	if f := r.failed[0]; f.Arm != "canary" || f.Routing != 1 || strings.Contains(f.Key, "canary") || r.figure("model_failed_total", "canary") != 1 {
		t.Errorf("%+v", f)
	}
	r.close()
	q := newRig(t, setup{spec: arms(canary(1, model.FullWeight), two()), journal: dir, world: r.w})
	q.feed("a1")
	q.wants("a1")
	if got := q.outs[0].Asked.Latency; got != 1500*time.Microsecond {
		t.Errorf("a latency of %v out of the journal", got)
	}
}

// TestRandomKeysStayOnTheirArms: at any parallelism every subtask routes a key alike.
func TestRandomKeysStayOnTheirArms(t *testing.T) {
	const seed = 11
	rnd := rand.New(rand.NewPCG(seed, 1))
	var ids []string
	for i := range 200 {
		ids = append(ids, fmt.Sprintf("%c%d", 'a'+rune(rnd.IntN(26)), i))
	}
	routes := func(n int) string {
		of := two()
		for i := range n {
			r := newRig(t, setup{spec: func(s *spec) { arms(canary(1, 3000), of)(s); s.Capacity = 1000 }, rng: base.SplitRange(i, n), index: i})
			for _, id := range ids {
				if r.s.Env.Range.Contains(r.keys.Hash(id[:1])) {
					r.feed(id)
				}
			}
			r.until("calls", func() bool { return r.figure("model_records_pending") == r.figure("model_calls_in_flight") })
			r.close()
		}
		return byArm(of)
	}
	one := routes(1)
	for _, n := range []int{2, 5} {
		if got := routes(n); got != one {
			t.Errorf("at parallelism %d:\n%s\nat 1:\n%s", n, got, one)
		}
	}
}
