package model_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weirflow/weir/operators/model"
)

var walks = flag.Uint64("infer.walks", 24, "number of random histories in TestInferRandomly")

// TestInferRandomly holds all orders against what they promise, with random answers,
// watermarks, barriers, restores and crashes.
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
	// may counts the calls of a record that may be repeated: those that were in flight
	// when the subtask ended.
	may map[string]int
}

func (w *walk) run() {
	w.t.Helper()
	if w.rnd.IntN(3) > 0 {
		w.dir = w.t.TempDir()
	}
	w.set = func(s *spec) {
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
	w.visible = append(w.visible, w.r.out...)
	w.r.close()
	w.check()
}

func (w *walk) step() {
	w.t.Helper()
	r := w.r
	switch w.rnd.IntN(13) {
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
		w.visible = append(w.visible, r.out...)
		r.out, w.durable = nil, len(w.ids)
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
	for _, id := range flying {
		w.may[id]++
	}
}

// flying lists the calls of this run that cannot have returned.
func (w *walk) flying() []string {
	w.oracle.mu.Lock()
	defer w.oracle.mu.Unlock()
	at := 0
	var out []string
	for _, size := range w.oracle.sizes {
		if batch := w.oracle.calls[at : at+size]; at >= w.asked {
			if slices.ContainsFunc(batch, func(c model.Call[string]) bool { return !w.answered[c.In] }) {
				for _, c := range batch {
					out = append(out, c.In)
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
	if w.dir == "" {
		return
	}
	calls := map[string]int{}
	for _, id := range w.oracle.asked() {
		calls[id]++
	}
	for id, n := range calls {
		if n > 1+w.may[id] {
			w.t.Errorf("seed %d: %s was asked for %d times, and was in flight at %d ends", w.seed, id, n, w.may[id])
		}
	}
}
