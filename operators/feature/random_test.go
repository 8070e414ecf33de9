package feature_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/operators/feature"
)

// trial is a random group over a random stream.
type trial struct {
	t      testing.TB
	rng    *rand.Rand
	names  []string
	fs     map[string]*modelFeature
	m      model
	nulled bool
	p      *feature.Program[ev]
	events []ev
}

var horizonSets = [][]time.Duration{
	{10 * time.Second, time.Minute, 5 * time.Minute, time.Hour},
	{time.Minute, 5 * time.Minute, time.Hour, 24 * time.Hour, 7 * 24 * time.Hour},
	{7 * time.Second, 100 * time.Second, 3001 * time.Second},
	{32 * time.Millisecond, 11 * time.Minute},
}

func newTrial(t testing.TB, seed uint64) *trial {
	tr := &trial{t: t, rng: rand.New(rand.NewPCG(seed, 7)), fs: modelFeatures()}
	r := tr.rng
	set := horizonSets[r.IntN(len(horizonSets))]
	var all []string
	for name := range tr.fs {
		all = append(all, name)
	}
	slices.Sort(all)
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	tr.names = all[:1+r.IntN(len(all))]
	var fs []*feature.Feature[ev]
	for _, name := range tr.names {
		f := tr.fs[name].f
		hs := slices.Clone(set)
		r.Shuffle(len(hs), func(i, j int) { hs[i], hs[j] = hs[j], hs[i] })
		if fs = append(fs, f); name[0] == 'd' && name != "delta" {
			continue // no horizons
		}
		f.Over(hs[:1+r.IntN(len(hs))]...)
		if name != "rate" && !strings.HasPrefix(name, "ex") && r.IntN(5) == 0 {
			f.Lifetime()
		}
	}
	g := feature.Set(fs...)
	switch r.IntN(4) {
	case 0:
		g.Including()
		tr.m.including = true
	case 1:
		tr.m.period = int64([]time.Duration{time.Second, 10 * time.Second, time.Hour}[r.IntN(3)])
		tr.m.offset = []int64{0, 0, tr.m.period / 3}[r.IntN(3)]
		g.SnapshotEvery(time.Duration(tr.m.period), time.Duration(tr.m.offset))
	}
	if r.IntN(3) == 0 {
		g.EmptyIsNull()
		tr.nulled = true
	}
	if r.IntN(2) == 0 {
		g.Tiles([]int{1, 2, 8, 60}[r.IntN(4)])
	}
	var err error
	if tr.p, err = g.Compile(); err != nil {
		t.Fatal(err)
	}
	tr.m.expiry, tr.m.counts = math.MaxInt64, func(e ev) bool {
		return slices.ContainsFunc(tr.names, func(n string) bool { return tr.fs[n].cond == nil || tr.fs[n].cond(e) })
	}
	core := tr.p.NewCore()
	state, _, err := core.Step(nil, 0, &ev{flag: true})
	if state == nil {
		state, _, err = core.Step(nil, 0, &ev{})
	}
	if err != nil {
		t.Fatal(err)
	}
	if at := core.Expires(state); at != math.MaxInt64 {
		tr.m.expiry = at - tr.m.boundary(0)
	}
	tr.stream(set)
	return tr
}

// stream makes the events: bursts, ties, gaps of every size, and disorder.
func (tr *trial) stream(set []time.Duration) {
	r := tr.rng
	longest, hops := int64(set[len(set)-1]), tr.p.Horizons()
	now := r.Int64N(4e18) - 2e18
	cats := 1 + r.IntN(20)
	pace := int64(set[r.IntN(len(set))]) / int64(1+r.IntN(60))
	for range 20 + r.IntN(180) {
		switch r.IntN(40) {
		case 0:
			now += r.Int64N(2 * longest)
		case 1:
			now += 2 * longest
		case 2, 3, 4, 5, 6, 7:
		case 8, 9:
			now += 1
		default:
			now += r.Int64N(max(1, 2*pace))
		}
		e := ev{at: now, cat: "c" + strconv.Itoa(r.IntN(cats)), flag: r.IntN(2) == 0, code: int32(r.IntN(1000))}
		if r.IntN(6) == 0 {
			e.at -= r.Int64N(max(1, int64(set[r.IntN(len(set))])*3/2))
		}
		if r.IntN(8) == 0 && len(tr.events) > 0 {
			e.at = tr.events[r.IntN(len(tr.events))].at
		}
		if h := hop(r, hops); h > 0 && r.IntN(6) == 0 { // where tiles and windows begin
			e.at -= ((e.at-tr.m.offset)%h + h) % h
		}
		switch r.IntN(20) {
		case 0:
			e.v = math.NaN()
		case 1:
			e.v = 1e15 * r.NormFloat64()
		case 2:
			e.v = 0
		case 3:
			e.v = math.Inf(1)
		default:
			if e.v = math.Round(r.NormFloat64()*1e4) / 100; e.v == 0 {
				e.v = 0 // not −0
			}
		}
		tr.events = append(tr.events, e)
	}
}

// hop picks the width of a tile, in nanoseconds; 0 if there are none.
func hop(r *rand.Rand, of []feature.Horizon) int64 {
	if len(of) == 0 {
		return 0
	}
	return int64(of[r.IntN(len(of))].Hop)
}

// name finds the feature of a field.
func (tr *trial) feature(field string) *modelFeature {
	if strings.HasPrefix(field, "p_p50") {
		return tr.fs["p"]
	}
	name, _, _ := strings.Cut(field, "_")
	return tr.fs[name]
}

// check compares the vector of one event with the model.
func (tr *trial) check(i int, vis []ev, v *feature.Vector) error {
	for j := range tr.p.Schema().Fields {
		f := &tr.p.Schema().Fields[j]
		mf := tr.feature(f.Name)
		var w []ev
		from := tr.m.from(f)
		for _, e := range vis {
			if e.at >= from && (mf.cond == nil || mf.cond(e)) && !(mf.null && isNull(e.v)) {
				w = append(w, e)
			}
		}
		var want any
		switch {
		case len(w) > 0:
			want = mf.want(w, tr.m.clock, f.Horizon)
		}
		if want == nil && mf.zero && !tr.nulled {
			want = 0.0
		}
		have := v.View().Value(j)
		if !same(have, want, mf, w) {
			return fmt.Errorf("event %d of %d: %s is %v, want %v (%d records in the window)", i, len(tr.events), f.Name, have, want, len(w))
		}
	}
	return nil
}

func same(have, want any, mf *modelFeature, w []ev) bool {
	switch want := want.(type) {
	case nil:
		return have == nil
	case float64:
		if math.IsNaN(want) {
			return true
		}
		h, ok := have.(float64)
		return ok && near(h, want, mf, w)
	case map[string]float64:
		h, ok := have.(map[string]float64)
		if !ok || len(h) != len(want) {
			return len(want) == 0 && have == nil
		}
		for k, x := range want {
			if y, ok := h[k]; !ok || !near(y, x, mf, w) {
				return false
			}
		}
		return true
	}
	return fmt.Sprint(have) == fmt.Sprint(want)
}

func near(have, want float64, mf *modelFeature, w []ev) bool {
	if have == want {
		return true
	}
	tol := mf.tol * math.Abs(want)
	if mf.scale != nil {
		tol = mf.tol * mf.scale(w)
	}
	return math.Abs(have-want) <= tol
}

// run plays the events; between them it may copy the state, change the core, or
// drop a state that has expired.
func (tr *trial) run(each func(i int, e ev, v *feature.Vector) error, copies, drops bool) error {
	core := tr.p.NewCore()
	var state []byte
	for i, e := range tr.events {
		if copies && tr.rng.IntN(3) == 0 {
			state, core = slices.Clone(state), tr.p.NewCore()
		}
		if drops && len(state) > 0 && tr.m.boundary(e.at) >= core.Expires(state) {
			state = nil
		}
		next, moved, err := core.Step(state, e.at, &e)
		if err != nil {
			return err
		}
		if moved {
			state = slices.Clone(next)
		}
		if err := each(i, e, core.Vector()); err != nil {
			return err
		}
	}
	return nil
}

// TestRandomStreams compares all aggregates with a model that keeps the raw
// events. WEIR_FEATURE_TRIALS sets the number of trials, WEIR_FEATURE_SEED the
// first of their seeds.
func TestRandomStreams(t *testing.T) {
	trials, seed := 150, uint64(time.Now().UnixNano())
	if n, err := strconv.Atoi(os.Getenv("WEIR_FEATURE_TRIALS")); err == nil {
		trials = n
	}
	if s, err := strconv.ParseUint(os.Getenv("WEIR_FEATURE_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("WEIR_FEATURE_SEED=%d", seed)
	for i := range trials {
		s := seed + uint64(i)
		tr := newTrial(t, s)
		var rows []string
		err := tr.run(func(i int, e ev, v *feature.Vector) error {
			rows = append(rows, fmt.Sprintf("%x", v.Row()))
			return tr.check(i, tr.m.see(e), v)
		}, false, false)
		if err != nil {
			t.Fatalf("WEIR_FEATURE_SEED=%d: %v\nfeatures %v, snapshots every %v, including %v, horizons %v", s, err, tr.names, time.Duration(tr.m.period), tr.m.including, tr.p.Horizons())
		}
		err = tr.run(func(i int, _ ev, v *feature.Vector) error {
			if got := fmt.Sprintf("%x", v.Row()); got != rows[i] {
				return fmt.Errorf("event %d: the vector differs after a restore:\n%s\n%s", i, rows[i], got)
			}
			return nil
		}, true, true)
		if err != nil {
			t.Fatalf("WEIR_FEATURE_SEED=%d: %v", s, err)
		}
	}
}
