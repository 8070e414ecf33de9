package pattern_test

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/pattern"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// rec is an event with a key and a time.
type rec struct {
	E  event
	ID int64
	At int64
}

// rig is a subtask with a pattern operator, by hand.
type rig struct {
	tb       testing.TB
	s        *operators.Subtask
	d        *pattern.Detector[int64, rec, string, string]
	backend  *state.Backend
	snaps    chan state.Snapshot
	clk      *clock.Virtual
	keys     *codec.KeyCodec[int64]
	mk       func() operators.Batch
	epoch    base.Epoch
	matches  []string
	timeouts []string
	late     []int
	metas    map[base.Origin]bool
}

type rigSpec struct {
	set        func() (*pattern.Set[rec], error)
	less       func(a, b *rec) bool
	processing bool
	cache      int
	park       int
	words      *pattern.Vocabulary[rec]
	changes    pattern.ChangeLimits
}

func newStore(tb testing.TB) *state.Store {
	tb.Helper()
	store, err := state.OpenStore(state.Options{FS: vfs.NewMem(), Dir: "state", Memory: 64 << 20, Blob: blob.Memory(), Job: "0123456789abcdef0123456789abcdef", Clock: clock.NewVirtual(0), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = store.Close() })
	return store
}

func newRig(tb testing.TB, spec rigSpec, store *state.Store, chain []state.Chain, ops map[string][][]byte) *rig {
	tb.Helper()
	r := &rig{tb: tb, snaps: make(chan state.Snapshot, 8), clk: clock.NewVirtual(0), metas: map[base.Origin]bool{}}
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	var err error
	r.backend, err = store.NewBackend(state.BackendOptions{Task: "by-id/0", Range: base.FullRange, OnSnapshot: func(s state.Snapshot, err error) {
		if err != nil {
			tb.Error(err)
		}
		r.snaps <- s
	}})
	must(err)
	r.keys, err = codec.KeyFor[int64]()
	must(err)
	values, err := codec.For[rec]()
	must(err)
	r.mk, err = operators.NewBatch[rec]()
	must(err)
	r.s = operators.NewSubtask(operators.Env{
		Ctx: tb.Context(), Task: "by-id", Parallelism: 1, Range: base.FullRange, Clock: r.clk,
		Backend: r.backend, Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{}, Wake: func() {},
	})
	in, d := pattern.Detect(r.s, pattern.DetectSpec[int64, rec, string, string]{
		UID: "detect", Set: spec.set, Key: func(v rec) int64 { return v.ID }, Keys: r.keys, Values: values,
		Less: spec.less, Processing: spec.processing, Cache: spec.cache, Park: spec.park, Words: spec.words, Changes: spec.changes,
		Select: func(k int64, id string, m *pattern.Match[rec], emit func(string)) {
			emit(fmt.Sprintf("%d %s %d %s", k, id, millis(m.At), recStages(m)))
		},
		Timeout: func(k int64, id string, m *pattern.Timeout[rec], emit func(string)) {
			emit(fmt.Sprintf("%d %s %d %s", k, id, millis(m.Ended), recStages(&m.Match)))
		},
	}, operators.Consumer[string]{One: func(m *base.Meta, v *string) {
		if r.metas[m.Origin] {
			tb.Errorf("origin %v twice", m.Origin)
		}
		r.metas[m.Origin] = true
		r.matches = append(r.matches, *v)
	}}, operators.Consumer[string]{One: func(_ *base.Meta, v *string) { r.timeouts = append(r.timeouts, *v) }},
		operators.Consumer[rec]{One: func(_ *base.Meta, v *rec) { r.late = append(r.late, v.E.Seq) }})
	r.d = d
	operators.Head(r.s, in)
	must(r.s.Err())
	must(r.backend.Restore(tb.Context(), chain))
	must(r.s.Open(operators.Restore{Ops: ops}))
	return r
}

func recStages(m *pattern.Match[rec]) string {
	var out pattern.Match[event]
	for _, s := range m.Stages {
		se := pattern.StageEvents[event]{Name: s.Name}
		for _, e := range s.Events {
			se.Events = append(se.Events, e.E)
		}
		out.Stages = append(out.Stages, se)
	}
	return stagesOf(&out)
}

func (r *rig) feed(recs ...rec) error {
	b := r.mk().(*operators.TypedBatch[rec])
	for _, v := range recs {
		b.Vals = append(b.Vals, v)
		b.Metas = append(b.Metas, base.Meta{Time: v.At, Hash: r.keys.Hash(v.ID)})
	}
	return r.s.Process(0, b)
}

// restored takes a checkpoint and returns a rig that starts from it; what was found
// goes with it.
func (r *rig) restored(spec rigSpec, store *state.Store) *rig {
	r.tb.Helper()
	r.epoch++
	snap, err := r.s.Snapshot(protocol.Barrier{Try: protocol.Try{Epoch: r.epoch}})
	if err != nil {
		r.tb.Fatal(err)
	}
	r.backend.Freeze(r.epoch)
	r.backend.CopyAll()
	chain := []state.Chain{{Task: "by-id/0", Range: base.FullRange, Objects: (<-r.snaps).Chain}}
	ops := map[string][][]byte{}
	for uid, b := range snap.Ops {
		ops[uid] = [][]byte{b}
	}
	_ = r.backend.Close()
	n := newRig(r.tb, spec, store, chain, ops)
	n.matches, n.timeouts, n.late, n.metas, n.epoch = r.matches, r.timeouts, r.late, r.metas, r.epoch
	return n
}

// recWords is the vocabulary of the cases for rec.
var recWords = pattern.Vocabulary[rec]{
	Text: map[string]func(*rec) string{"name": func(e *rec) string { return e.E.Name }},
	Number: map[string]func(*rec) (float64, bool){
		"price":  func(e *rec) (float64, bool) { return e.E.Price, true },
		"volume": func(e *rec) (float64, bool) { return e.E.Volume, e.E.HasVol },
		"id":     func(e *rec) (float64, bool) { return float64(e.E.ID), true },
	},
	Type: func(e *rec, name string) bool { return name == "Event" || name == "SubEvent" && e.E.HasVol },
}

// runNode runs an nfa case through the operator, in batches of random size with
// watermarks and restored checkpoints between them.
func runNode(t *testing.T, c *testCase, v variant) {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(len(c.Input)), base.HashString(c.ID)))
	spec := rigSpec{cache: 1, set: func() (*pattern.Set[rec], error) {
		p, err := pattern.Parse(c.Pattern, recWords)
		if err != nil {
			return nil, err
		}
		s := pattern.NewSet[rec](true)
		return s, s.Put("p", p, v.opts...)
	}}
	store := newStore(t)
	r := newRig(t, spec, store, nil, nil)
	if timesGoBack(c) {
		t.Log("not given to the operator, which takes events in the order of their times: times go back")
		return
	}
	var batch []rec
	last := int64(math.MinInt64)
	flush := func(w int64) {
		if err := r.feed(batch...); err != nil {
			t.Fatal(err)
		}
		if batch = nil; w > math.MinInt64 {
			if err := r.s.Watermark(w); err != nil {
				t.Fatal(err)
			}
		}
		if rng.IntN(2) == 0 {
			r = r.restored(spec, store)
		}
	}
	for at := range c.Input {
		switch o := &c.Input[at]; {
		case o.Advance != nil:
			last = max(last, nanos(*o.Advance))
			flush(last)
		default:
			last = nanos(o.TS)
			batch = append(batch, rec{E: o.event(), ID: 7, At: last})
			if rng.IntN(3) == 0 {
				flush([]int64{math.MinInt64, last}[rng.IntN(2)])
			}
		}
	}
	flush(last + 1)
	var got, want result
	for i := range r.matches {
		got.matches = append(got.matches, stripped(r.matches[i], 3))
	}
	for i := range r.timeouts {
		got.timeouts = append(got.timeouts, stripped(r.timeouts[i], 2))
	}
	for _, e := range c.Expect.Matches {
		want.matches = append(want.matches, e.stages())
	}
	if c.Timeouts {
		for _, e := range c.Expect.Timeouts {
			want.timeouts = append(want.timeouts, fmt.Sprintf("%d %s", e.Timeout, e.stages()))
		}
	} else {
		got.timeouts = nil
	}
	v.exact = false
	compare(t, v, got, want)
}

// timesGoBack says that the times of a case decrease, as in one test of the
// reference's NFA (testIgnoreStateOfTimesWithNotFollowedBy), which takes events as they
// come. In an operator, ours or the reference's, such events are put into order or
// late, so that the case says nothing of it.
func timesGoBack(c *testCase) bool {
	last := int64(math.MinInt64)
	for i := range c.Input {
		at := c.Input[i].TS
		if c.Input[i].Advance != nil {
			at = *c.Input[i].Advance
		}
		if at < last {
			return true
		}
		last = at
	}
	return false
}

// stripped drops the first n words.
func stripped(s string, n int) string {
	for range n {
		for i := range s {
			if s[i] == ' ' {
				s = s[i+1:]
				break
			}
		}
	}
	return s
}

// TestOperatorTakesRecordsInOrder holds the operator, with records out of order, many
// keys, a tiny cache and checkpoints, against matchers by hand.
func TestOperatorTakesRecordsInOrder(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, round))
		g := &refGen{Rand: rng}
		pats := make([]*refPattern, 3)
		for i := range pats {
			for pats[i] = g.pattern(); ; pats[i] = g.pattern() {
				if _, err := pattern.Compile(pats[i].build()); err == nil {
					break
				}
			}
		}
		recs := make([]rec, 300)
		for i := range recs {
			recs[i] = rec{E: event{Seq: i + 1, Name: string("abcd"[rng.IntN(4)]), Price: float64(rng.IntN(3))}, ID: int64(rng.IntN(12)), At: int64(i/2+1) * ms}
		}
		checkOrder(t, rng, pats, recs)
	}
}

func setOf(pats []*refPattern) func() (*pattern.Set[rec], error) {
	return func() (*pattern.Set[rec], error) {
		s := pattern.NewSet[rec](true)
		for i, p := range pats {
			if err := s.Put(fmt.Sprint("p", i), p.buildRec(), pattern.WithLimits(pattern.Limits{Runs: 200})); err != nil {
				return nil, err
			}
		}
		return s, nil
	}
}

func checkOrder(t *testing.T, rng *rand.Rand, pats []*refPattern, recs []rec) {
	t.Helper()
	less := func(a, b *rec) bool { return a.E.Price < b.E.Price }
	const disorder = 8 // ms
	type arrival struct {
		rec
		comes int64
	}
	come := make([]arrival, len(recs))
	for i, r := range recs {
		come[i] = arrival{r, r.At + rng.Int64N(disorder)*ms}
	}
	slices.SortStableFunc(come, func(a, b arrival) int { return int((a.comes - b.comes) / ms) })
	spec := rigSpec{set: setOf(pats), less: less, cache: 3, park: 20}
	store := newStore(t)
	r := newRig(t, spec, store, nil, nil)
	for at := 0; at < len(come); {
		n := min(len(come)-at, 1+rng.IntN(20))
		for _, a := range come[at : at+n] {
			if err := r.feed(a.rec); err != nil {
				t.Fatal(err)
			}
		}
		at += n
		if rng.IntN(2) == 0 {
			if err := r.s.Watermark(come[at-1].comes - disorder*ms); err != nil {
				t.Fatal(err)
			}
		}
		if rng.IntN(5) == 0 {
			r = r.restored(spec, store)
		}
	}
	if err := r.s.End(); err != nil {
		t.Fatal(err)
	}
	if len(r.late) > 0 {
		t.Errorf("late: %v", r.late)
	}
	arrived := make([]rec, len(come))
	for i := range come {
		arrived[i] = come[i].rec
	}
	want := byHand(t, pats, arrived, less)
	got := result{r.matches, r.timeouts}
	compare(t, variant{name: "operator"}, got, want)
}

// byHand sorts the records and gives them to one set per key.
func byHand(t *testing.T, pats []*refPattern, recs []rec, less func(a, b *rec) bool) result {
	t.Helper()
	slices.SortStableFunc(recs, func(a, b rec) int {
		switch {
		case a.At != b.At:
			return int(a.At - b.At)
		case less(&a, &b):
			return -1
		case less(&b, &a):
			return 1
		}
		return 0
	})
	set, err := setOf(pats)()
	if err != nil {
		t.Fatal(err)
	}
	var want result
	keys := map[int64]*pattern.SetKey[rec]{}
	sink := func(id int64) pattern.Sink[rec] {
		return func(name string, out *pattern.Output[rec]) {
			for i := range out.Matches {
				want.matches = append(want.matches, fmt.Sprintf("%d %s %d %s", id, name, millis(out.Matches[i].At), recStages(&out.Matches[i])))
			}
			for i := range out.Timeouts {
				want.timeouts = append(want.timeouts, fmt.Sprintf("%d %s %d %s", id, name, millis(out.Timeouts[i].Ended), recStages(&out.Timeouts[i].Match)))
			}
		}
	}
	for i := range recs {
		id := recs[i].ID
		if keys[id] == nil {
			keys[id] = &pattern.SetKey[rec]{}
		}
		if err := set.Process(keys[id], recs[i].At, 0, &recs[i], sink(id)); err != nil {
			t.Fatal(err)
		}
	}
	for id, k := range keys {
		if err := set.Advance(k, math.MaxInt64-1, sink(id)); err != nil {
			t.Fatal(err)
		}
	}
	return want
}

func TestLateRecordsAndTimeouts(t *testing.T) {
	spec := rigSpec{set: func() (*pattern.Set[rec], error) {
		s := pattern.NewSet[rec](true)
		is := func(n string) func(rec) bool { return func(r rec) bool { return r.E.Name == n } }
		return s, s.Put("p", pattern.Begin("a", is("a")).FollowedBy("b", is("b")).Within(10*time.Millisecond))
	}}
	r := newRig(t, spec, newStore(t), nil, nil)
	at := func(seq int, name string, ts int64) rec {
		return rec{E: event{Seq: seq, Name: name}, ID: 1, At: ts * ms}
	}
	if err := r.feed(at(1, "a", 5), at(2, "a", 6)); err != nil {
		t.Fatal(err)
	}
	if err := r.s.Watermark(15 * ms); err != nil {
		t.Fatal(err)
	}
	if want := []string{`1 p 15 ["a",[1]]`}; !slices.Equal(r.timeouts, want) {
		t.Errorf("timeouts %q, want %q", r.timeouts, want)
	}
	if runs := r.d.Runs(1); len(runs) != 1 || runs[0].Ends != 16*ms || runs[0].Pattern != "p" {
		t.Errorf("runs: %+v", runs)
	}
	if err := r.feed(at(3, "b", 14), at(4, "b", 15)); err != nil {
		t.Fatal(err)
	}
	if err := r.s.End(); err != nil {
		t.Fatal(err)
	}
	if want := []string{`1 p 15 ["a",[2]] ["b",[4]]`}; !slices.Equal(r.matches, want) || !slices.Equal(r.late, []int{3}) {
		t.Errorf("matches %q, want %q; late %v", r.matches, want, r.late)
	}
	if runs := r.d.Runs(1); len(runs) != 0 {
		t.Errorf("runs at the end: %+v", runs)
	}
}
