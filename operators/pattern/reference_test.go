package pattern_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weirflow/weir/operators/pattern"
)

// -reference-cases sets how many random patterns are compared with the model, and
// -reference-seed where they begin:
//
//	go test ./operators/pattern -run Reference -args -reference-cases 100000
var (
	referenceCases = flag.Int("reference-cases", 4000, "random patterns compared with the model of subsets")
	referenceSeed  = flag.Uint64("reference-seed", 1, "seed of the first of them")
)

// onceWrong are seeds at which model and matcher once differed; they come first.
var onceWrong = []uint64{29958, 1795597975543483, 77189918}

func TestReference(t *testing.T) {
	kinds := map[string]int{}
	ran := 0
	t.Logf("seeds from %d", *referenceSeed)
	first, next := onceWrong, *referenceSeed
	for ran < *referenceCases {
		seed := next
		if len(first) > 0 {
			seed, first = first[0], first[1:]
		} else {
			next++
		}
		r := &refGen{Rand: rand.New(rand.NewPCG(seed, 7))}
		p := r.pattern()
		prog, err := pattern.Compile(p.build())
		if err != nil {
			kinds["refused"]++
			continue
		}
		ran++
		ev, ts := r.events()
		if !checkReference(t, seed, p, prog, ev, ts, kinds) {
			return
		}
	}
	t.Logf("%d cases: %v", ran, kinds)
	for _, k := range []string{"loop", "group", "not", "within", "skip"} {
		if kinds[k]*5 < ran {
			t.Errorf("%s in %d of %d cases, less than 20 %%", k, kinds[k], ran)
		}
	}
	if kinds["matches"]*10 < ran*3 {
		t.Errorf("matches in %d of %d cases, less than 30 %%", kinds["matches"], ran)
	}
	if kinds["refused"] > ran {
		t.Errorf("%d patterns refused", kinds["refused"])
	}
}

func (r *refGen) events() ([]byte, []int64) {
	n := 3 + r.IntN(5)
	ev, ts := make([]byte, n), make([]int64, n)
	now := int64(1)
	for i := range ev {
		now += int64(r.IntN(3))
		ev[i], ts[i] = "abcd"[r.IntN(4)], now
	}
	return ev, ts
}

// emitted is what one step of the matcher hands on.
type emitted struct {
	step    int
	byTime  bool
	matches []string
}

// checkReference runs one case through both and compares.
func checkReference(t *testing.T, seed uint64, p *refPattern, prog *pattern.Program[event], ev []byte, ts []int64, kinds map[string]int) bool {
	t.Helper()
	m := pattern.NewMatcher(prog)
	k := &pattern.Key[event]{}
	var got []emitted
	step := func(i int, byTime bool, f func(*pattern.Output[event]) error) {
		out := &pattern.Output[event]{}
		if err := f(out); err != nil {
			t.Fatal(err)
		}
		e := emitted{step: i, byTime: byTime}
		for j := range out.Matches {
			e.matches = append(e.matches, stagesOf(&out.Matches[j]))
		}
		got = append(got, e)
	}
	for i := range ev {
		step(i, true, func(o *pattern.Output[event]) error { return m.Advance(k, ts[i]*ms, o) })
		v := event{Seq: i + 1, Name: string(ev[i])}
		step(i, false, func(o *pattern.Output[event]) error { return m.Process(k, ts[i]*ms, 0, &v, o) })
	}
	end := ts[len(ts)-1] + 1000
	step(len(ev), true, func(o *pattern.Output[event]) error { return m.Advance(k, end*ms, o) })

	all, open := p.matches(ev, ts)
	if err := p.replay(all, open, ts, end, got); err != nil {
		t.Errorf("seed %d: %v\npattern %s\nevents %q at %v\nmodel %v", seed, err, pattern.Explain(prog), ev, ts, describe(all))
		return false
	}
	p.note(kinds, len(all) > 0)
	return true
}

func describe(all []found) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "\n  %d× %s at %d", f.count, f.text, f.at)
	}
	return b.String()
}

func (p *refPattern) note(kinds map[string]int, matches bool) {
	has := map[string]bool{"within": p.window > 0, "skip": p.skip.Kind != pattern.NoSkip, "matches": matches}
	var walk func([]*refElem)
	walk = func(es []*refElem) {
		for _, e := range es {
			has["loop"] = has["loop"] || e.quant && e.to == 0
			has["group"] = has["group"] || e.group != nil
			has["not"] = has["not"] || e.not()
			has["greedy"] = has["greedy"] || e.greedy
			has["until"] = has["until"] || e.until != 0
			has["optional"] = has["optional"] || e.optional
			walk(e.group)
		}
	}
	walk(p.elems)
	for k, v := range has {
		if v {
			kinds[k]++
		}
	}
}

// replay plays the model's matches through the skip strategy and holds what the
// matcher emitted against them. Where several matches have one start, any may be
// emitted first.
func (p *refPattern) replay(all []found, open []int, ts []int64, end int64, got []emitted) error {
	gone := make([]bool, len(open)) // starts that were pruned
	var held []found
	for _, g := range got {
		now := end
		if g.step < len(ts) {
			now = ts[g.step]
		}
		for _, f := range all {
			due := f.at == g.step && !g.byTime
			if f.at == len(ts) && g.byTime {
				expiry := ts[f.start] + p.window
				before := int64(-1)
				if g.step > 0 {
					before = ts[g.step-1]
				}
				due = expiry <= now && expiry > before
			}
			for range f.count {
				if due && !gone[f.start] {
					held = append(held, f)
				}
			}
		}
		var err error
		if held, err = p.emit(held, open, gone, ts, now, g); err != nil {
			return err
		}
	}
	return nil
}

// oldestOpen returns the earliest start with an open run after a step.
func (p *refPattern) oldestOpen(open []int, gone []bool, ts []int64, now int64, g emitted) int {
	for s := range open {
		last := g.step
		if g.byTime {
			last--
		}
		if s <= last && open[s] >= last && !gone[s] && (p.window == 0 || now < ts[s]+p.window) {
			return s
		}
	}
	return len(ts)
}

func (p *refPattern) emit(held []found, open []int, gone []bool, ts []int64, now int64, g emitted) ([]found, error) {
	fail := func(what string) error {
		return fmt.Errorf("step %d (by time: %v): %s; emitted %v, model has %s", g.step, g.byTime, what, g.matches, describe(held))
	}
	for i, text := range g.matches {
		slices.SortStableFunc(held, func(a, b found) int { return a.start - b.start })
		if len(held) == 0 {
			return nil, fail(fmt.Sprintf("match %d is none", i))
		}
		n := slices.IndexFunc(held, func(f found) bool { return f.text == text && f.start == held[0].start })
		if n < 0 || p.skip.Kind != pattern.NoSkip && held[0].start > p.oldestOpen(open, gone, ts, now, g) {
			return nil, fail(fmt.Sprintf("match %d is not due", i))
		}
		f := held[n]
		held = slices.Delete(held, n, n+1)
		limit := p.limit(f)
		for s := 0; s < limit; s++ {
			gone[s] = true
		}
		held = slices.DeleteFunc(held, func(f found) bool { return gone[f.start] })
	}
	if p.skip.Kind == pattern.NoSkip && len(held) > 0 {
		return nil, fail("matches are missing")
	}
	if len(held) > 0 {
		slices.SortStableFunc(held, func(a, b found) int { return a.start - b.start })
		if held[0].start <= p.oldestOpen(open, gone, ts, now, g) {
			return nil, fail("a match is held back")
		}
	}
	return held, nil
}

// limit returns the start before which a match prunes.
func (p *refPattern) limit(f found) int {
	idx := indices(f.mask)
	switch p.skip.Kind {
	case pattern.SkipToNext:
		return idx[0] + 1
	case pattern.SkipPastLast:
		return idx[len(idx)-1] + 1
	case pattern.SkipToFirst, pattern.SkipToLast:
		at := 0
		for i, s := range f.slots {
			if s.e.name == p.skip.Stage {
				at = idx[i]
				if p.skip.Kind == pattern.SkipToFirst {
					break
				}
			}
		}
		return at
	}
	return 0
}
