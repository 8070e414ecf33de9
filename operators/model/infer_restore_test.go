package model_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/state"
)

func try(n base.Epoch) protocol.Try { return protocol.Try{Epoch: n, Attempt: 1} }

func TestInferRestoresWhatWasInFlight(t *testing.T) {
	set := func(s *spec) { s.Order, s.Capacity = model.Ordered, 3 }
	r := newRig(t, setup{spec: set})
	r.feed("a1", "b1", "a2", "b2") // the last one waits
	r.asked(3)
	r.oracle.answer("b1") // arrives, and cannot leave
	r.until("b1", func() bool { return len(r.oracle.asked()) == 4 })
	r.checkpoint()
	first := map[string]string{}
	for _, c := range r.oracle.calls {
		first[c.In] = c.Key
	}
	r.close()

	q := newRig(t, setup{spec: set, world: r.w})
	q.feed("c1")
	q.asked(3)
	if got := q.oracle.asked(); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"a1", "a2", "b2"}) {
		t.Fatalf("asked for %q first, want what was in flight and not answered", got)
	}
	for _, c := range q.oracle.calls {
		if first[c.In] != c.Key {
			t.Errorf("%s has another key: %s, then %s", c.In, first[c.In], c.Key)
		}
		if want := 2; c.Attempt != want {
			t.Errorf("%s: attempt %d", c.In, c.Attempt)
		}
	}
	close(q.oracle.all)
	q.wants("a1", "b1", "a2", "b2", "c1")
	q.checkpoint()
	q.close()

	// What has left is not in the state any more.
	p := newRig(t, setup{spec: set, world: r.w})
	p.turn()
	if p.s.Busy() || len(p.oracle.asked()) > 0 {
		t.Errorf("asked again for %q", p.oracle.asked())
	}
}

func TestInferRescales(t *testing.T) {
	set := order(model.PerKey)
	ids := []string{"a1", "b1", "c1", "d1", "e1", "a2", "b2", "c2", "d2", "e2"}
	r := newRig(t, setup{spec: set})
	r.feed(ids...)
	r.asked(10)
	r.checkpoint()
	r.close()
	var parts []*rig
	var chains []state.Chain
	var got []string
	for i := range 2 {
		w := *r.w
		q := newRig(t, setup{spec: set, world: &w, rng: base.SplitRange(i, 2), index: i})
		parts = append(parts, q)
		q.until("its records", func() bool { return q.figure("model_records_pending") == int64(len(q.oracle.asked())) })
		got = append(got, q.oracle.asked()...)
		q.checkpoint()
		chains = append(chains, w.chain...)
		q.close()
	}
	if len(parts[0].oracle.asked()) == 0 || len(parts[1].oracle.asked()) == 0 {
		t.Fatal("all records went to one subtask; the test says nothing")
	}
	slices.Sort(got)
	if want := slices.Sorted(slices.Values(ids)); !slices.Equal(got, want) {
		t.Fatalf("the two subtasks asked for %q", got)
	}
	r.w.chain, r.w.epoch = chains, r.w.epoch+1
	q := newRig(t, setup{spec: set, world: r.w})
	close(q.oracle.all)
	q.until("all", func() bool { return len(q.out) == len(ids) })
	slices.SortStableFunc(q.out, func(a, b string) int { return strings.Compare(a[:1], b[:1]) })
	if want := slices.Sorted(slices.Values(ids)); !slices.Equal(q.out, want) {
		t.Errorf("after two changes of parallelism: %q", q.out)
	}
}

func TestInferTakesAnswersFromTheJournal(t *testing.T) {
	dir := t.TempDir()
	set := order(model.Unordered)
	r := newRig(t, setup{spec: set, journal: dir})
	r.feed("a1", "a2")
	r.asked(2)
	r.checkpoint()
	r.s.Confirm(try(1))
	r.feed("b1", "b2", "b3")
	r.asked(5)
	r.oracle.answer("a1", "b1")
	r.oracle.fail("b2", &model.Failure{Kind: model.Permanent, Status: 400, What: "bad"})
	r.until("three", func() bool { return r.stats.AsyncOut.Load() == 3 })
	r.close() // dies: epoch 1 is durable

	for _, more := range []bool{false, true} {
		q := newRig(t, setup{spec: set, world: r.w, journal: dir})
		q.pos = 2
		q.feed("b1", "b2", "b3")
		q.asked(2)
		q.until("three", func() bool { return q.stats.AsyncOut.Load() == 3 })
		if got := slices.Sorted(slices.Values(q.oracle.asked())); !slices.Equal(got, []string{"a2", "b3"}) {
			t.Fatalf("asked again for %q, want only what had no answer", got)
		}
		if got := slices.Sorted(slices.Values(q.out)); !slices.Equal(got, []string{"a1", "b1"}) {
			t.Errorf("emitted %q", got)
		}
		if len(q.failed) != 1 || q.failed[0].Status != 400 || q.failed[0].Kind != "permanent" {
			t.Errorf("failures: %+v", q.failed)
		}
		if n := q.figure("model_calls_avoided_total"); n != 3 {
			t.Errorf("%d calls avoided, want 3", n)
		}
		if !more { // dies again before its first checkpoint
			q.close()
			continue
		}
		close(q.oracle.all)
		q.until("all", func() bool { return q.stats.AsyncOut.Load() == 5 })
		q.checkpoint()
		q.s.Confirm(try(2))
		q.feed("c1")
		q.until("c1", func() bool { return q.stats.AsyncOut.Load() == 6 })
		q.close()
		left, err := os.ReadDir(dir + "/ask")
		q.must(err)
		if len(left) != 1 || !strings.HasPrefix(left[0].Name(), "e0000000000000003-") {
			t.Errorf("files left: %v, want that of epoch 3", left)
		}
	}
}
