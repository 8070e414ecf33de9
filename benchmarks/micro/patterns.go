package main

import (
	"fmt"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/pattern"
)

// act is the record of the pattern benchmarks.
type act struct {
	Key  uint64
	Kind string
}

func isKind(kind string) pattern.Cond[act] {
	return pattern.Equal("kind", func(a act) string { return a.Kind }, kind)
}

// The records of 1,000 keys come a millisecond apart: a window of 100 s is 100 records
// of a key.
const (
	patternKeys = 1000
	patternStep = int64(time.Millisecond)
	patternSpan = 100 * time.Second
)

// kindsOf makes a stream of records of kinds, uniformly.
func kindsOf(n int, kinds ...string) []act {
	out := make([]act, n)
	for i := range out {
		h := base.HashUint64(uint64(i) ^ 0xfeed)
		out[i] = act{Key: h % patternKeys, Kind: kinds[(h>>32)%uint64(len(kinds))]}
	}
	return out
}

var tenKinds = []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}

func patternBenches() []bench {
	a := func() *pattern.Pattern[act] { return pattern.Begin[act]("a").WhereCond(isKind("a")) }
	strict := func() *pattern.Pattern[act] {
		return a().Next("b").WhereCond(isKind("b")).Next("c").WhereCond(isKind("c"))
	}
	within := func() *pattern.Pattern[act] {
		return a().FollowedBy("b").WhereCond(isKind("b")).FollowedBy("c").WhereCond(isKind("c")).Within(patternSpan)
	}
	more := func() *pattern.Pattern[act] {
		return a().FollowedBy("b").WhereCond(isKind("b")).OneOrMore().FollowedBy("c").WhereCond(isKind("c")).Within(patternSpan / 2)
	}
	ring := kindsOf(1<<16, tenKinds...)
	return []bench{
		rateBench("strict three-step", strict, ring, 2e6, handStrict),
		rateBench("followedBy within 100 records", within, ring, 1e6, handWithin),
		rateBench("one-or-more within 50 records", more, ring, 3e5, nil),
		rateBench("irrelevant records", within, kindsOf(1<<16, "x", "y", "z"), 5e6, handWithin),
		manyBench(), adversarialBench(),
	}
}

// rateBench compares the operator, without and with checkpoints, with a matcher over a
// Go map of keys and, where there is one, a program for the pattern by hand.
func rateBench(name string, p func() *pattern.Pattern[act], ring []act, atLeast float64, hand func([]act, int) int) bench {
	r := &patternRun{set: oneOf(p), ring: ring, records: int(atLeast), found: -1}
	long := *r
	long.every, long.records = time.Second, int(4*atLeast)
	b := bench{
		name: "patterns: " + name, unit: "ns of CPU time/record",
		arms: []arm{
			{"operator, in memory", r.run}, {"operator, checkpoint each second", long.run},
			{"matcher over a Go map of keys", func() (float64, error) { return r.matcher(p()) }},
		},
		bars: []bar{
			{text: fmt.Sprintf("million records/s in memory ≥ %.1f", atLeast/1e6), value: func(m []float64) float64 { return 1e3 / m[0] }, min: atLeast / 1e6},
			{text: "throughput with checkpoints / without", value: func(m []float64) float64 { return m[0] / m[1] }, min: 0.5},
		},
	}
	if hand != nil {
		b.arms = append(b.arms, arm{"program by hand", func() (float64, error) { return r.byHand(hand) }})
	}
	return b
}

func oneOf(p func() *pattern.Pattern[act]) func() (*pattern.Set[act], error) {
	return func() (*pattern.Set[act], error) {
		s := pattern.NewSet[act](false)
		return s, s.Put("one", p())
	}
}

// handStrict is the strict pattern as a person would write it: the step that each key
// has come to.
func handStrict(ring []act, records int) (found int) {
	step := map[uint64]*int{}
	next := []string{"a", "b", "c"}
	for i := range records {
		r := &ring[i&(len(ring)-1)]
		s := step[r.Key]
		if s == nil {
			s = new(int)
			step[r.Key] = s
		}
		switch {
		case r.Kind != next[*s]:
			if *s = 0; r.Kind == "a" {
				*s = 1
			}
		case *s == 2:
			*s = 0
			found++
		default:
			*s++
		}
	}
	return found
}

// handWithin is the relaxed pattern by hand: the times of starts that have had no b,
// and of those that have.
func handWithin(ring []act, records int) (found int) {
	type key struct{ starts, withB []int64 }
	keys := map[uint64]*key{}
	inside := func(times []int64, now int64) []int64 {
		for len(times) > 0 && times[0]+int64(patternSpan) <= now {
			times = times[1:]
		}
		return times
	}
	for i := range records {
		r, now := &ring[i&(len(ring)-1)], int64(i)*patternStep
		k := keys[r.Key]
		if k == nil {
			k = &key{}
			keys[r.Key] = k
		}
		switch r.Kind {
		case "a":
			k.starts = append(inside(k.starts, now), now)
		case "b":
			k.withB = append(inside(k.withB, now), inside(k.starts, now)...)
			k.starts = k.starts[:0]
		case "c":
			found += len(inside(k.withB, now))
			k.withB = k.withB[:0]
		}
	}
	return found
}

// manyBench is 1,000 patterns of three stages, 100 for each of 10 beginnings, and one
// of them alone over the same records: a fifth each are first, second and third stages
// and two fifths concern none. The one is concerned by one record in 25.
func manyBench() bench {
	var kinds []string
	for i := range 10 {
		for j := range 100 {
			kinds = append(kinds, fmt.Sprint("a", i), fmt.Sprint("b", i), fmt.Sprint("c", i, "-", j), "x", "y")
		}
	}
	ring := kindsOf(1<<16, kinds...)
	first := func(n int) func() (*pattern.Set[act], error) {
		return func() (*pattern.Set[act], error) {
			s := pattern.NewSet[act](false)
			for i := range n {
				p := pattern.Begin[act]("a").WhereCond(isKind(fmt.Sprint("a", i%10))).FollowedBy("b").WhereCond(isKind(fmt.Sprint("b", i%10))).
					FollowedBy("c").WhereCond(isKind(fmt.Sprint("c", i%10, "-", i/10))).Within(patternSpan)
				if err := s.Put(fmt.Sprint("p", i), p); err != nil {
					return nil, err
				}
			}
			return s, nil
		}
	}
	many := &patternRun{set: first(1000), ring: ring, records: 1e6, found: -1}
	one := &patternRun{set: first(1), ring: ring, records: 1e6, found: -1}
	busy := &patternRun{set: first(1), ring: kindsOf(1<<16, "a0", "b0", "c0-0", "x", "y"), records: 1e6, found: -1}
	return bench{
		name: "patterns: 1,000 patterns with 10 beginnings", unit: "ns of CPU time/record",
		arms: []arm{{"1,000 patterns", many.run}, {"one of them, the same records", one.run}, {"one that three fifths of the records concern", busy.run}},
		bars: []bar{
			{text: "throughput of 1,000 / of one", value: func(m []float64) float64 { return m[1] / m[0] }, min: 0.3},
			{text: "of 1,000 / of one as busy", value: func(m []float64) float64 { return m[2] / m[0] }},
		},
	}
}

// adversarialBench is a key whose partial matches would double with every record.
func adversarialBench() bench {
	p := func() *pattern.Pattern[act] {
		return pattern.Begin[act]("a").WhereCond(isKind("a")).FollowedBy("b").WhereCond(isKind("b")).OneOrMore().AllowCombinations().
			FollowedBy("c").WhereCond(isKind("c"))
	}
	ring := kindsOf(1<<10, "a", "b")
	for i := range ring {
		ring[i].Key = 1
	}
	r := &patternRun{set: oneOf(p), ring: ring, records: 512, found: -1}
	figure := func(name string) func() (float64, error) {
		return func() (float64, error) { return r.figures[name], nil }
	}
	return bench{
		name: "patterns: combinations without end on one key", unit: "ns of CPU time/record; runs",
		arms: []arm{
			{"operator, limit of 10,000 runs", r.run},
			{"weir_pattern_active_runs", figure("pattern_active_runs")},
			{"weir_pattern_dropped_total", figure("pattern_dropped_total")},
		},
		bars: []bar{
			{text: "open runs ≤ the limit", value: func(m []float64) float64 { return m[1] }, max: 10_000},
			{text: "runs dropped, and counted", value: func(m []float64) float64 { return m[2] }, min: 1},
		},
	}
}
