package operators

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/window"
	"github.com/weirflow/weir/window/windowtest"
)

// rec is a record of the tests: its key's number, its time and its own number.
type rec struct {
	Key  int
	T, N int64
}

// stepClock is a virtual clock whose monotonic time moves by a step at every look,
// so that every turn that looks at its deadline is over.
type stepClock struct {
	*clock.Virtual
	mono, step int64
}

func (c *stepClock) Mono() int64 {
	c.mono += c.step
	return c.mono
}

// fired is a result as it is compared.
type fired struct {
	key        int
	start, end int64
	digest     uint64
	byRecord   bool
}

// rig runs the subtasks of a window operator by hand.
type rig[K comparable, A any] struct {
	t     testing.TB
	spec  window.Spec
	kit   *aggKit[A]
	keyOf func(int) K
	keys  *codec.KeyCodec[K]
	acc   *codec.Codec[A]
	step  int64 // of the clock
	state *testState
	mk    func() Batch
	tasks []*rigTask
	names map[K]int

	out  []fired
	from []base.Origin // of out
	late []rec
	gaps int64
	// seen is what each key's subtask saw, for the model.
	seen [][]windowtest.Step[rec]
}

type rigTask struct {
	sub *Subtask
	rng base.HashRange
}

// saved is a snapshot of a rig.
type saved struct {
	ops    map[string][][]byte
	chains []state.Chain
	out    int
	late   int
	gaps   int64
	seen   []int
}

func newRig[K comparable, A any](t testing.TB, st *testState, spec window.Spec, kit *aggKit[A], keyOf func(int) K, nKeys int, step int64) *rig[K, A] {
	keys, err := codec.KeyFor[K]()
	if err != nil {
		t.Fatal(err)
	}
	acc, err := codec.For[A]()
	if err != nil {
		t.Fatal(err)
	}
	mk, err := NewBatch[rec]()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig[K, A]{t: t, mk: mk, spec: spec, kit: kit, keyOf: keyOf, keys: keys, acc: acc, step: step, state: st,
		names: map[K]int{}, seen: make([][]windowtest.Step[rec], nKeys)}
	for i := range nKeys {
		r.names[keyOf(i)] = i
	}
	return r
}

// deploy starts n subtasks, from nothing or from what was saved.
func (r *rig[K, A]) deploy(n int, from *saved) {
	r.stop()
	for i := range n {
		rt := &rigTask{rng: base.SplitRange(i, n)}
		b := r.state.backend(rt.rng)
		rt.sub = NewSubtask(Env{
			Ctx: context.Background(), JobName: "j", Task: "w", Index: i, Parallelism: n, Range: rt.rng,
			Clock:   &stepClock{Virtual: clock.NewVirtual(1), step: r.step},
			Backend: b, Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{},
		})
		in := Window(rt.sub, WindowSpec[K, rec, A, uint64]{
			UID: "agg", Window: r.spec, Key: func(v rec) K { return r.keyOf(v.Key) }, Keys: r.keys,
			Add: r.kit.add, Ops: r.kit.ops, Result: r.kit.result, Acc: r.acc,
		}, Consumer[Windowed[K, uint64]]{One: r.result}, Consumer[rec]{One: func(m *base.Meta, v *rec) {
			if m.Time != v.T || m.Hash != r.hash(v.Key) {
				r.t.Errorf("late record %v with metadata %+v", *v, *m)
			}
			r.late = append(r.late, *v)
		}})
		Head(rt.sub, in)
		var re Restore
		var chains []state.Chain
		if from != nil {
			chains, re.Ops = from.chains, from.ops
		}
		r.state.restore(b, chains)
		if err := rt.sub.Open(re); err != nil {
			r.t.Fatal(err)
		}
		r.tasks = append(r.tasks, rt)
	}
}

// stop ends all subtasks.
func (r *rig[K, A]) stop() {
	for _, rt := range r.tasks {
		r.check(rt.sub.Close())
		r.check(rt.sub.Env.Backend.Close())
	}
	r.tasks = nil
}

func (r *rig[K, A]) result(m *base.Meta, v *Windowed[K, uint64]) {
	key, ok := r.names[v.Key]
	f := fired{key: key, start: v.Start.UnixNano(), end: v.End.UnixNano(), digest: v.Value, byRecord: m.Origin.Emit != m.Hash}
	at := f.end - 1
	if r.spec.Kind() == window.KindSession {
		at = f.end
	}
	if !ok || m.Time != at || m.Hash != r.hash(key) || m.Origin.Pos != uint64(f.end) || m.Origin.Split != base.HashString("agg") {
		r.t.Errorf("result %+v of key %v with metadata %+v", f, v.Key, *m)
	}
	r.out = append(r.out, f)
	r.from = append(r.from, m.Origin)
}

func (r *rig[K, A]) hash(key int) uint64 { return r.keys.Hash(r.keyOf(key)) }

func (r *rig[K, A]) check(err error) {
	if err != nil {
		r.t.Helper()
		r.t.Fatal(err)
	}
}

// feed hands a run of records to their subtasks, in batches.
func (r *rig[K, A]) feed(recs []rec) {
	batches := make([]*TypedBatch[rec], len(r.tasks))
	for i := range batches {
		batches[i] = r.mk().(*TypedBatch[rec])
	}
	for _, v := range recs {
		i := base.OwnerOf(r.hash(v.Key), len(r.tasks))
		m := base.Meta{Time: v.T, Hash: r.hash(v.Key), Origin: base.Origin{Split: 7, Pos: uint64(v.N)}}
		if batches[i].add(&m, &v) == MaxBatch {
			r.check(r.tasks[i].sub.Process(0, batches[i]))
			batches[i].Reset()
		}
		r.seen[v.Key] = append(r.seen[v.Key], windowtest.Step[rec]{
			Event: &windowtest.Event[rec]{Key: fmt.Sprint(v.Key), Time: v.T, Value: v},
		})
	}
	for i := range batches {
		if batches[i].Len() > 0 {
			r.check(r.tasks[i].sub.Process(0, batches[i]))
		}
	}
}

// watermark advances one subtask, which may still be at the watermark before.
func (r *rig[K, A]) watermark(i int, w base.Timestamp) {
	r.check(r.tasks[i].sub.Watermark(w))
	for key := range r.seen {
		if r.tasks[i].rng.Contains(r.hash(key)) {
			r.seen[key] = append(r.seen[key], windowtest.Step[rec]{Watermark: w})
		}
	}
}

// turn lets a subtask take one turn.
func (r *rig[K, A]) turn(i int) bool {
	more, err := r.tasks[i].sub.Turn()
	r.check(err)
	return more
}

// save takes a snapshot of all subtasks.
func (r *rig[K, A]) save() *saved {
	sv := &saved{ops: map[string][][]byte{}}
	for _, rt := range r.tasks {
		snap, err := rt.sub.Snapshot(protocol.Barrier{})
		r.check(err)
		for uid, b := range snap.Ops {
			sv.ops[uid] = append(sv.ops[uid], b)
		}
		sv.chains = append(sv.chains, r.state.freeze(rt.sub.Env.Backend, rt.rng))
	}
	sv.out, sv.late, sv.gaps = len(r.out), len(r.late), r.noWindow()
	for _, s := range r.seen {
		sv.seen = append(sv.seen, len(s))
	}
	return sv
}

func (r *rig[K, A]) noWindow() int64 {
	n := r.gaps
	for _, rt := range r.tasks {
		n += rt.sub.Env.Stats.NoWindowRecords.Load()
	}
	return n
}

// restore goes back to a snapshot, with n subtasks.
func (r *rig[K, A]) restore(n int, sv *saved) {
	r.out, r.from, r.late, r.gaps = r.out[:sv.out], r.from[:sv.out], r.late[:sv.late], sv.gaps
	for i := range r.seen {
		r.seen[i] = r.seen[i][:sv.seen[i]]
	}
	r.deploy(n, sv)
}

// verify compares everything that came out with the model, key by key.
func (r *rig[K, A]) verify() (counts map[string]int, diff string) {
	counts = map[string]int{}
	var want []fired
	var late []rec
	gaps := 0
	for key, steps := range r.seen {
		res := windowtest.Run(r.spec, steps)
		for _, f := range res.Firings {
			want = append(want, fired{key, f.Window.Start, f.Window.End, r.kit.digest(r.spec, f.Values), f.ByRecord})
			if f.ByRecord {
				counts["by record"]++
			}
		}
		for _, e := range res.Late {
			late = append(late, e.Value)
		}
		gaps += len(res.NoWindow)
	}
	counts["firings"], counts["late"], counts["gaps"] = len(want), len(late), gaps
	if d := differ(r.out, want, func(f fired) string {
		return fmt.Sprintf("%d/%d/%d/%x/%v", f.key, f.end, f.start, f.digest, f.byRecord)
	}); d != "" {
		return counts, "results: " + d
	}
	if d := differ(r.late, late, func(v rec) string { return fmt.Sprint(v) }); d != "" {
		return counts, "late: " + d
	}
	if int64(gaps) != r.noWindow() {
		return counts, fmt.Sprintf("%d records without a window, want %d", r.noWindow(), gaps)
	}
	seen := map[base.Origin]fired{}
	for i, o := range r.from {
		if first, dup := seen[o]; dup {
			return counts, fmt.Sprintf("%+v and %+v have the same origin %v", first, r.out[i], o)
		}
		seen[o] = r.out[i]
	}
	return counts, ""
}

// differ returns what one bag has and the other has not.
func differ[X any](got, want []X, render func(X) string) string {
	n := map[string]int{}
	for _, x := range got {
		n[render(x)]++
	}
	for _, x := range want {
		n[render(x)]--
	}
	var out []string
	for x, k := range n {
		if k != 0 {
			out = append(out, fmt.Sprintf("%+d %s", k, x))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func randomWindow(r *rand.Rand) window.Spec {
	late := window.AllowedLateness(time.Duration(r.IntN(2) * r.IntN(20)))
	switch r.IntN(6) {
	case 0, 1:
		return window.Session(time.Duration(1+r.IntN(8)), late)
	case 2: // many slices: blocks
		slide := 1 + r.IntN(3)
		return window.Sliding(time.Duration(slide*(9+r.IntN(12))+r.IntN(slide)), time.Duration(slide), late)
	}
	size := 1 + r.IntN(20)
	return window.Sliding(time.Duration(size), time.Duration(1+r.IntN(size+5)), window.Offset(time.Duration(r.IntN(40)-20)), late)
}

// playRandom runs one random case: records in disorder, subtasks whose watermarks
// differ, short turns with records in between, snapshots, crashes and restores at
// other parallelisms.
func playRandom[K comparable, A any](t *testing.T, st *testState, r *rand.Rand, spec window.Spec, kit *aggKit[A], keyOf func(int) K, nKeys, nRecs int) (map[string]int, string) {
	rg := newRig(t, st, spec, kit, keyOf, nKeys, int64(r.IntN(2))*2*TurnNanos)
	var recs []rec
	disorder := 1 + r.Int64N(40)
	for n := range r.IntN(nRecs) {
		recs = append(recs, rec{Key: r.IntN(nKeys), T: int64(n*r.IntN(4)*60/nRecs) - 30 + r.Int64N(disorder), N: int64(n)})
	}
	delay, every := r.Int64N(20), 1+r.IntN(nRecs/12)
	rg.deploy(1+r.IntN(3), nil)
	var sv *saved
	svAt, greatest, svGreatest := 0, base.MinTime, base.MinTime
	for at := 0; at < len(recs); {
		n := min(1+r.IntN(every), len(recs)-at)
		rg.feed(recs[at : at+n])
		for _, v := range recs[at : at+n] {
			greatest = max(greatest, v.T)
		}
		at += n
		for i := range rg.tasks {
			if r.IntN(4) > 0 {
				rg.watermark(i, greatest-delay)
			}
			for range r.IntN(3) {
				rg.turn(i)
			}
		}
		switch r.IntN(8) {
		case 0:
			sv, svAt, svGreatest = rg.save(), at, greatest
		case 1:
			if sv != nil {
				rg.restore(1+r.IntN(4), sv)
				at, greatest, sv = svAt, svGreatest, nil
			}
		}
	}
	for i := range rg.tasks {
		rg.check(rg.tasks[i].sub.End())
		rg.watermark(i, base.MaxTime)
	}
	defer rg.stop()
	return rg.verify()
}

func TestWindowsEqualModel(t *testing.T) {
	cases := 12_000
	if testing.Short() {
		cases = 2_000
	}
	manyWindows(t, cases, 5, func(r *rand.Rand) (int, int) { return 1 + r.IntN(4), 60 })
}

// TestWindowsOfManyKeys takes so many keys that a window does not fire in one
// turn.
func TestWindowsOfManyKeys(t *testing.T) {
	manyWindows(t, 24, 7, func(*rand.Rand) (int, int) { return 900, 4000 })
}

func manyWindows(t *testing.T, cases int, stream uint64, size func(*rand.Rand) (keys, recs int)) {
	const seed = 20240611
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, stream))
	total := map[string]int{}
	st := newTestState(t)
	number := func(i int) uint64 { return base.HashUint64(uint64(i)) }
	text := func(i int) string { return strings.Repeat("k", i) }
	for i := range cases {
		spec := randomWindow(r)
		keys, recs := size(r)
		var counts map[string]int
		var diff string
		switch aligned := spec.Kind() != window.KindSession; {
		case i%3 == 0:
			counts, diff = playRandom(t, st, r, spec, &sumKit, number, keys, recs)
		case i%3 == 1 && aligned:
			counts, diff = playRandom(t, st, r, spec, &polyKit, number, keys, recs)
		case i%6 == 1 || i%6 == 4:
			counts, diff = playRandom(t, st, r, spec, &sumKit, text, keys, recs)
		case i%6 == 2:
			counts, diff = playRandom(t, st, r, spec, &listKit, number, keys, recs)
		default:
			counts, diff = playRandom(t, st, r, spec, &listKit, text, keys, recs)
		}
		if diff != "" {
			t.Fatalf("case %d, %v: %.4000s", i, spec, diff)
		}
		for k, n := range counts {
			total[k] += n
		}
	}
	t.Logf("%v", total)
	for _, what := range []string{"firings", "by record", "late", "gaps"} {
		if total[what] < cases/10 {
			t.Errorf("only %d %s in %d cases: they are too tame", total[what], what, cases)
		}
	}
}
