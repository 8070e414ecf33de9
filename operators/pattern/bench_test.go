package pattern_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weirflow/weir/operators/pattern"
)

// click is the event of the benchmarks.
type click struct {
	Kind  string
	Price float64
}

func kind(k string) pattern.Cond[click] {
	return pattern.Equal("kind", func(c click) string { return c.Kind }, k)
}

// stream makes events of the kinds given, uniformly, for 1,000 keys.
func stream(n int, kinds ...string) (events []click, keys []int) {
	rng := rand.New(rand.NewPCG(1, 1))
	events, keys = make([]click, n), make([]int, n)
	for i := range events {
		events[i], keys[i] = click{Kind: kinds[rng.IntN(len(kinds))], Price: 1}, rng.IntN(1000)
	}
	return events, keys
}

var tenKinds = []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}

func benchPattern(b *testing.B, p *pattern.Pattern[click], kinds []string, opts ...pattern.Option) *pattern.Matcher[click] {
	b.Helper()
	prog, err := pattern.Compile(p, opts...)
	if err != nil {
		b.Fatal(err)
	}
	m := pattern.NewMatcher(prog)
	events, ids := stream(1<<16, kinds...)
	keys := make([]pattern.Key[click], 1000)
	var out pattern.Output[click]
	b.ReportAllocs()
	n, ts, matches := 0, int64(0), 0
	for b.Loop() {
		i := n & (1<<16 - 1)
		n++
		ts += ms
		if err := m.Process(&keys[ids[i]], ts, 0, &events[i], &out); err != nil {
			b.Fatal(err)
		}
		matches += len(out.Matches)
		out.Reset()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mev/s")
	b.ReportMetric(float64(matches)/float64(b.N), "matches/ev")
	return m
}

// A window of 100 s is 100 events of a key here.
const window = 100 * time.Second

func BenchmarkStrictThree(b *testing.B) {
	benchPattern(b, pattern.Begin[click]("a").WhereCond(kind("a")).Next("b").WhereCond(kind("b")).Next("c").WhereCond(kind("c")), tenKinds)
}

func BenchmarkFollowedByWithin(b *testing.B) {
	benchPattern(b, pattern.Begin[click]("a").WhereCond(kind("a")).FollowedBy("b").WhereCond(kind("b")).FollowedBy("c").WhereCond(kind("c")).Within(window), tenKinds)
}

func BenchmarkFollowedByWithinSkipPastLast(b *testing.B) {
	benchPattern(b, pattern.Begin[click]("a").WhereCond(kind("a")).FollowedBy("b").WhereCond(kind("b")).FollowedBy("c").WhereCond(kind("c")).Within(window).
		SkipStrategy(pattern.Skip{Kind: pattern.SkipPastLast}), tenKinds)
}

func BenchmarkOneOrMore(b *testing.B) {
	benchPattern(b, pattern.Begin[click]("a").WhereCond(kind("a")).FollowedBy("b").WhereCond(kind("b")).OneOrMore().FollowedBy("c").WhereCond(kind("c")).Within(window/2), tenKinds)
}

func BenchmarkNot(b *testing.B) {
	benchPattern(b, pattern.Begin[click]("a").WhereCond(kind("a")).NotFollowedBy("b").WhereCond(kind("b")).Within(window), tenKinds)
}

func BenchmarkIrrelevant(b *testing.B) {
	benchPattern(b, pattern.Begin[click]("a").WhereCond(kind("a")).FollowedBy("b").WhereCond(kind("b")).FollowedBy("c").WhereCond(kind("c")).Within(window), []string{"x", "y", "z"})
}

// BenchmarkAdversarial is a key whose runs double with every event; it must stay
// inside its limit.
func BenchmarkAdversarial(b *testing.B) {
	m := benchPattern(b, pattern.Begin[click]("a").WhereCond(kind("a")).FollowedBy("b").WhereCond(kind("b")).OneOrMore().AllowCombinations().FollowedBy("c").WhereCond(kind("c")),
		[]string{"a", "b"}, pattern.WithLimits(pattern.Limits{Runs: 100}))
	if s := m.Stats(); b.N > 100_000 && s.Overflowed == 0 {
		b.Error("no run was dropped")
	}
}

// BenchmarkManyPatterns is 1,000 patterns of three stages with 10 prefixes, and one of
// them alone.
func BenchmarkManyPatterns(b *testing.B) {
	var kinds []string
	for i := range 10 {
		kinds = append(kinds, fmt.Sprint("a", i), fmt.Sprint("b", i), fmt.Sprint("c", i, "x", i), fmt.Sprint("d", i), fmt.Sprint("e", i))
	}
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := pattern.NewSet[click](false)
			for i := range n {
				p := pattern.Begin[click]("a").WhereCond(kind(fmt.Sprint("a", i%10))).FollowedBy("b").WhereCond(kind(fmt.Sprint("b", i%10))).
					FollowedBy("c").WhereCond(kind(fmt.Sprint("c", i%10, "x", i/10))).Within(window)
				if err := s.Put(fmt.Sprint(i), p); err != nil {
					b.Fatal(err)
				}
			}
			events, ids := stream(1<<16, kinds...)
			keys := make([]pattern.SetKey[click], 1000)
			sink := func(string, *pattern.Output[click]) {}
			k, ts := 0, int64(0)
			b.ReportAllocs()
			for b.Loop() {
				i := k & (1<<16 - 1)
				k++
				ts += ms
				if err := s.Process(&keys[ids[i]], ts, 0, &events[i], sink); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mev/s")
		})
	}
}

// BenchmarkOperator runs the operator over state in memory, with a watermark for every
// batch and, where said, a barrier every 500,000 records.
func BenchmarkOperator(b *testing.B) {
	is := func(n string) func(rec) bool { return func(r rec) bool { return r.E.Name == n } }
	for name, p := range map[string]func() *pattern.Pattern[rec]{
		"strict": func() *pattern.Pattern[rec] { return pattern.Begin("a", is("a")).Next("b", is("b")).Next("c", is("c")) },
		"within": func() *pattern.Pattern[rec] {
			return pattern.Begin("a", is("a")).FollowedBy("b", is("b")).FollowedBy("c", is("c")).Within(window)
		},
	} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, rigSpec{set: func() (*pattern.Set[rec], error) {
				s := pattern.NewSet[rec](false)
				return s, s.Put("p", p())
			}}, newStore(b), nil, nil)
			rng := rand.New(rand.NewPCG(1, 1))
			recs := make([]rec, 256)
			ts, n := int64(0), 0
			b.ReportAllocs()
			for b.Loop() {
				if n%256 == 0 {
					for i := range recs {
						ts += ms
						recs[i] = rec{E: event{Name: tenKinds[rng.IntN(10)]}, ID: int64(rng.IntN(1000)), At: ts}
					}
					if err := r.feed(recs...); err != nil {
						b.Fatal(err)
					}
					if err := r.s.Watermark(ts); err != nil {
						b.Fatal(err)
					}
					r.matches = r.matches[:0]
					clear(r.metas)
				}
				n++
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mev/s")
		})
	}
}
