package model_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators/model"
)

var walks = flag.Uint64("infer.walks", 24, "number of random histories in TestInferRandomly")

// TestInferRandomly holds all orders against what they promise, with random answers,
// watermarks, barriers, restores and crashes, and, in every other history, with arms
// among which control records move the keys.
func TestInferRandomly(t *testing.T) {
	for seed := range *walks {
		w := &walk{t: t, seed: seed, order: model.Order(seed % 3), rnd: rand.New(rand.NewPCG(seed, 1)), oracle: newOracle(),
			answered: map[string]bool{}, may: map[string]int{}}
		w.run()
	}
}

// walk is one random history.
type walk struct {
	t      *testing.T
	seed   uint64
	order  model.Order
	rnd    *rand.Rand
	oracle *oracle
	dir    string // of the journal; "" for none
	r      *rig
	set    func(*spec)

	ids      []string
	answered map[string]bool
	visible  []string
	durable  int // records before the last checkpoint
	asked    int // calls before this run
	// may counts, by idempotency key, the calls that may be repeated: those that were in
	// flight when the subtask ended.
	may map[string]int
	// routings are by version; those from durably on were not in effect at the last
	// checkpoint.
	routings []model.Routing
	durably  int
	outs     []outcome
}

func (w *walk) run() {
	w.t.Helper()
	if w.rnd.IntN(3) > 0 {
		w.dir = w.t.TempDir()
	}
	w.routings = []model.Routing{w.routing(0)}
	w.durably = 1
	w.set = func(s *spec) {
		if w.seed%2 == 1 {
			arms(w.routings[0], map[string]*oracle{"x": w.oracle, "y": w.oracle, "z": w.oracle})(s)
		}
		s.Order, s.Capacity = w.order, 1+w.rnd.IntN(20)
		if w.rnd.IntN(2) == 0 {
			s.Batch = model.Batching{MaxBatch: 1 + w.rnd.IntN(4), MaxDelay: -1, InFlight: 3}
		}
	}
	w.r = newRig(w.t, setup{spec: w.set, oracle: w.oracle, journal: w.dir})
	for range 80 {
		w.step()
	}
	w.r.must(w.r.s.End())
	close(w.oracle.all)
	w.r.until(fmt.Sprintf("the end, seed %d", w.seed), w.r.s.Ended)
	w.visible, w.outs = append(w.visible, w.r.out...), append(w.outs, w.r.outs...)
	w.r.close()
	w.check()
}

// routing makes a random one.
func (w *walk) routing(version uint64) model.Routing {
	x := uint32(w.rnd.IntN(model.FullWeight + 1))
	y := uint32(w.rnd.IntN(model.FullWeight + 1 - int(x)))
	return model.Routing{Version: version, Arms: []model.Share{{Arm: "y", Weight: y}, {Arm: "x", Weight: x}, {Arm: "z", Weight: model.FullWeight - x - y}}}
}

func (w *walk) step() {
	w.t.Helper()
	r := w.r
	switch w.rnd.IntN(14) {
	case 13:
		if w.seed%2 == 1 {
			w.routings = append(w.routings, w.routing(uint64(len(w.routings))))
			r.queue(w.routings[len(w.routings)-1])
		}
	case 0, 1, 2:
		var more []string
		for range 1 + w.rnd.IntN(5) {
			more = append(more, fmt.Sprintf("%c%d", 'a'+rune(w.rnd.IntN(3)), len(w.ids)+len(more)))
		}
		r.feed(more...)
		w.ids = append(w.ids, more...)
	case 3, 4, 5, 6, 7:
		if len(w.ids) > 0 {
			if id := w.ids[w.rnd.IntN(len(w.ids))]; !w.answered[id] {
				w.answered[id] = true
				w.oracle.answer(slices.Repeat([]string{id}, 20)...)
			}
		}
		r.turn()
	case 8, 9:
		r.must(r.s.Watermark(int64(len(w.ids))))
	case 10, 11:
		r.checkpoint()
		w.visible, w.outs = append(w.visible, r.out...), append(w.outs, r.outs...)
		r.out, r.outs, w.durable, w.durably = nil, nil, len(w.ids), len(w.routings)
		r.s.Confirm(try(r.w.epoch))
		if w.rnd.IntN(2) == 0 {
			w.restart()
		}
	case 12:
		w.restart()
	}
}

// restart ends the subtask, and starts it from its last checkpoint.
func (w *walk) restart() {
	w.t.Helper()
	if w.dir != "" {
		w.rest()
	}
	w.r.close()
	world := w.r.w
	w.r = newRig(w.t, setup{spec: w.set, oracle: w.oracle, journal: w.dir, world: world})
	w.asked = len(w.oracle.asked())
	for _, again := range w.routings[w.durably:] {
		w.r.queue(again)
	}
	w.r.pos = uint64(w.durable)
	for at := w.durable; at < len(w.ids); {
		n := min(1+w.rnd.IntN(4), len(w.ids)-at)
		w.r.feed(w.ids[at : at+n]...)
		at += n
	}
}

// rest waits until all answers have come through, and notes what is in flight still:
// the calls of batches in which one has no answer.
func (w *walk) rest() {
	w.t.Helper()
	var flying []string
	w.r.until(fmt.Sprintf("rest, seed %d", w.seed), func() bool {
		if w.r.s.Busy() != (w.r.figure("model_calls_in_flight") > 0) {
			return false
		}
		flying = w.flying()
		return w.r.figure("model_calls_in_flight") == int64(len(flying))
	})
	for _, key := range flying {
		w.may[key]++
	}
}

// flying lists the keys of the calls of this run that cannot have returned.
func (w *walk) flying() []string {
	w.oracle.mu.Lock()
	defer w.oracle.mu.Unlock()
	at := 0
	var out []string
	for _, size := range w.oracle.sizes {
		if batch := w.oracle.calls[at : at+size]; at >= w.asked {
			if slices.ContainsFunc(batch, func(c model.Call[string]) bool { return !w.answered[c.In] }) {
				for _, c := range batch {
					out = append(out, c.Key)
				}
			}
		}
		at += size
	}
	return out
}

func (w *walk) check() {
	w.t.Helper()
	want, got := slices.Clone(w.ids), slices.Clone(w.visible)
	switch w.order {
	case model.Unordered:
		slices.Sort(want)
		slices.Sort(got)
	case model.PerKey:
		byKey := func(a, b string) int { return strings.Compare(a[:1], b[:1]) }
		slices.SortStableFunc(want, byKey)
		slices.SortStableFunc(got, byKey)
	}
	if !slices.Equal(got, want) {
		w.t.Fatalf("seed %d, order %d: visible %q, want %q", w.seed, w.order, got, want)
	}
	w.checkRouting()
	if w.dir == "" {
		return
	}
	calls := map[string]int{}
	for _, c := range w.oracle.calls {
		calls[c.Key]++
	}
	for key, n := range calls {
		if n > 1+w.may[key] {
			w.t.Errorf("seed %d: %s was asked for %d times, and was in flight at %d ends", w.seed, key, n, w.may[key])
		}
	}
}

// checkRouting holds every result against the routing that it names. Routings take
// effect in their order, as the records see it.
func (w *walk) checkRouting() {
	w.t.Helper()
	keys, _ := codec.KeyFor[string]()
	at := map[string]uint64{}
	for _, o := range w.outs {
		if w.seed%2 == 0 {
			if o.Asked.Arm != "" || o.Asked.Propensity != 1 || o.Text != "re "+o.ID {
				w.t.Errorf("seed %d: without arms: %+v", w.seed, o)
			}
			continue
		}
		share, _ := w.routings[o.Asked.Routing].Pick(model.Bucket("ask", keys.Hash(o.ID[:1])))
		if o.Asked.Arm != share.Arm || o.Asked.Propensity != float64(share.Weight)/model.FullWeight || o.Text != "re "+o.ID+" by "+share.Arm {
			w.t.Errorf("seed %d: %+v; the routing says %+v", w.seed, o, share)
		}
		if w.order != model.Unordered && o.Asked.Routing < at[o.ID[:1]] {
			w.t.Errorf("seed %d: %s by routing %d, after %d", w.seed, o.ID, o.Asked.Routing, at[o.ID[:1]])
		}
		at[o.ID[:1]] = o.Asked.Routing
	}
}
