package windowtest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/window"
	"github.com/weirflow/weir/window/windowtest"
)

// sketch is a window operator in its smallest form, on maps: it shows that the
// pure parts of package window are enough to build one, and holds them against the
// model. An accumulator is the sorted values of its records.
type sketch struct {
	spec   window.Spec
	w      base.Timestamp
	slices map[string]map[base.Timestamp]*[]string // aligned: key, slice end
	blocks map[string]*window.Blocks[[]string]
	open   map[string]window.SessionSet
	accs   map[string][][]string // parallel to open
	out    []string              // firings, late and gap records, as render writes them
}

var concat = window.Ops[[]string]{Merge: func(dst, src *[]string) { *dst = append(slices.Clone(*dst), *src...) }}

func newSketch(spec window.Spec) *sketch {
	return &sketch{spec: spec, w: base.MinTime, slices: map[string]map[base.Timestamp]*[]string{},
		blocks: map[string]*window.Blocks[[]string]{}, open: map[string]window.SessionSet{}, accs: map[string][][]string{}}
}

func line(key string, w window.Window, values []string, at base.Timestamp, byRecord bool) string {
	values = slices.Sorted(slices.Values(values))
	return fmt.Sprintf("%s [%d,%d) %v at %d %v", key, w.Start, w.End, values, at, byRecord)
}

func (o *sketch) record(e windowtest.Event[string]) {
	if o.spec.Kind() == window.KindSession {
		o.sessionRecord(e)
		return
	}
	s := o.spec.Slicer()
	end, v := s.Classify(e.Time, o.w)
	switch v {
	case window.Late:
		o.out = append(o.out, "late "+e.Value)
		return
	case window.NoWindow:
		o.out = append(o.out, "none "+e.Value)
		return
	}
	if o.slices[e.Key] == nil {
		o.slices[e.Key] = map[base.Timestamp]*[]string{}
		o.blocks[e.Key] = &window.Blocks[[]string]{}
	}
	if o.slices[e.Key][end] == nil {
		o.slices[e.Key][end] = &[]string{}
	}
	*o.slices[e.Key][end] = append(*o.slices[e.Key][end], e.Value)
	if o.blocks[e.Key].Covers(end) {
		o.blocks[e.Key].Reset()
	}
	first, last, ok := s.Refires(end, o.w)
	if ok != (v == window.Update) {
		panic("Refires and Classify disagree")
	}
	for we := first; ok && we <= last; we += int64(o.spec.Slide()) {
		var acc []string
		window.Recombine(s, &concat, we, o.lookup(e.Key), &acc)
		o.out = append(o.out, line(e.Key, s.WindowAt(we), acc, o.w, true))
	}
}

func (o *sketch) lookup(key string) window.Lookup[[]string] {
	return func(end base.Timestamp) *[]string { return o.slices[key][end] }
}

func (o *sketch) sessionRecord(e windowtest.Event[string]) {
	rules := o.spec.SessionRules()
	p := o.open[e.Key].Place(rules, e.Time, o.w)
	if p.Verdict == window.Late {
		o.out = append(o.out, "late "+e.Value)
		return
	}
	merged := []string{e.Value}
	for _, acc := range o.accs[e.Key][p.Lo:p.Hi] {
		merged = append(merged, acc...)
	}
	o.open[e.Key] = o.open[e.Key].Apply(p)
	o.accs[e.Key] = window.Splice(o.accs[e.Key], p, merged)
	if p.Verdict == window.Update {
		o.out = append(o.out, line(e.Key, rules.Window(p.Merged), merged, o.w, true))
	}
}

func (o *sketch) watermark(w base.Timestamp) {
	if w <= o.w {
		return
	}
	before := o.w
	o.w = w
	if o.spec.Kind() == window.KindSession {
		rules := o.spec.SessionRules()
		for key, set := range o.open {
			for i := set.Closed(rules, before); i < set.Closed(rules, w); i++ {
				o.out = append(o.out, line(key, rules.Window(set[i]), o.accs[key][i], w, false))
			}
			gone := set.Gone(rules, w)
			o.open[key], o.accs[key] = set[gone:], o.accs[key][gone:]
		}
		return
	}
	s := o.spec.Slicer()
	for key, own := range o.slices {
		o.fireAligned(s, key, own, before, w)
	}
}

func (o *sketch) fireAligned(s window.Slicer, key string, own map[base.Timestamp]*[]string, before, w base.Timestamp) {
	due := map[base.Timestamp]bool{}
	for end := range own {
		first, last, _ := s.WindowEndsOf(end)
		for we := first; we <= last; we += int64(o.spec.Slide()) {
			if before < we && we <= w {
				due[we] = true
			}
		}
	}
	ends := []base.Timestamp{}
	for we := range due {
		ends = append(ends, we)
	}
	slices.Sort(ends)
	for _, we := range ends {
		var acc []string
		if o.blocks[key].Fire(s, &concat, base.HashString(key), we, o.lookup(key), &acc) {
			o.out = append(o.out, line(key, s.WindowAt(we), acc, w, false))
		}
	}
	for end := range own {
		if s.DropAt(end) <= w {
			delete(own, end)
		}
	}
}

func randomSpec(r *rand.Rand) window.Spec {
	late := window.AllowedLateness(time.Duration(r.IntN(2) * r.IntN(20)))
	if r.IntN(3) == 0 {
		return window.Session(time.Duration(1+r.IntN(8)), late)
	}
	size := 1 + r.IntN(20)
	return window.Sliding(time.Duration(size), time.Duration(1+r.IntN(size+5)), window.Offset(time.Duration(r.IntN(40)-20)), late)
}

func TestSketchEqualsModel(t *testing.T) {
	seed := uint64(20240611)
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	seen := map[string]int{}
	for i := range 10_000 {
		spec := randomSpec(r)
		var events []windowtest.Event[string]
		disorder := 1 + r.Int64N(40)
		for n := range r.IntN(30) {
			events = append(events, windowtest.Event[string]{Key: string(rune('a' + r.IntN(3))),
				Time: int64(n*r.IntN(4)) - 30 + r.Int64N(disorder), Value: fmt.Sprint(n)})
		}
		steps := windowtest.Interleave(events, r.Int64N(20), 1+r.IntN(5))
		want := expected(windowtest.Run(spec, steps), seen)
		o := newSketch(spec)
		for _, s := range steps {
			if s.Event != nil {
				o.record(*s.Event)
			} else {
				o.watermark(s.Watermark)
			}
		}
		slices.Sort(o.out)
		if !slices.Equal(o.out, want) {
			t.Fatalf("case %d, %v\nsteps %+v\n got %s\nwant %s", i, spec, events, strings.Join(o.out, "\n     "), strings.Join(want, "\n     "))
		}
	}
	for _, what := range []string{"firing", "by record", "late", "none"} {
		if seen[what] < 1000 {
			t.Errorf("only %d of %q: the cases are too tame", seen[what], what)
		}
	}
}

func expected(res windowtest.Result[string], seen map[string]int) []string {
	var want []string
	for _, f := range res.Firings {
		want = append(want, line(f.Key, f.Window, f.Values, f.At, f.ByRecord))
		if f.ByRecord {
			seen["by record"]++
		}
	}
	for _, e := range res.Late {
		want = append(want, "late "+e.Value)
	}
	for _, e := range res.NoWindow {
		want = append(want, "none "+e.Value)
	}
	seen["firing"] += len(res.Firings)
	seen["late"] += len(res.Late)
	seen["none"] += len(res.NoWindow)
	slices.Sort(want)
	return want
}
