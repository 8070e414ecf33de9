package weir_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/operators/feature"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/weirtest"
)

// view is a visit of an item, choice a question which of several to show to a user.
type view struct {
	Item string
	At   int64
}

type choice struct {
	User  int
	N     int
	Items []string
	At    int64
}

type views struct {
	Count float64 `feature:"count_1h"`
}

type itemViews struct {
	Item  string
	Count int
}

type shown struct {
	User, N int
	Items   string
}

// candidatesJob looks the features of candidates up that another operator of the job
// keeps.
func candidatesJob(opts ...state.Option) weir.JobSpec {
	return weir.NewJob("candidates", func(j *weir.Job) {
		seen := weir.From(j, "views", memory.NewSource[view](), weir.Ascending(func(v view) time.Time { return time.UnixMilli(v.At) }))
		asked := weir.From(j, "choices", memory.NewSource[choice](), weir.Ascending(func(c choice) time.Time { return time.UnixMilli(c.At) }))
		byItem := weir.KeyBy(seen, "by-item", func(v view) string { return v.Item })
		group := feature.Set(feature.Count[view]("count").Over(time.Hour)).Including()
		stats := weir.Rolling(byItem, "stats", group, func(v view, f views) itemViews { return itemViews{v.Item, int(f.Count)} })
		table := weir.KeyBy(stats, "items", func(i itemViews) string { return i.Item })
		byUser := weir.KeyBy(asked, "by-user", func(c choice) int { return c.User })
		ranked := weir.Lookup(byUser, "candidates", table, func(c choice) []string { return c.Items }, func(c choice, found []weir.Found[string, itemViews]) shown {
			var s []string
			for _, f := range found {
				s = append(s, fmt.Sprintf("%s:%d:%v", f.Key, f.Value.Count, f.OK))
			}
			return shown{c.User, c.N, strings.Join(s, " ")}
		}, opts...)
		weir.To(ranked, "shown", memory.NewSink[shown]().Sink())
	})
}

// candidates makes choices from n on, and what is to be found for them.
func candidates(from, to int, counts map[string]int, want map[int]string) (steps []weirtest.Step) {
	for n := from; n < to; n++ {
		c := choice{User: n % 7, N: n, At: int64(10*n + 5)}
		var s []string
		for k := range n % 6 { // some ask for nothing, some for one key twice, some for what is not there
			i := fmt.Sprint("i", (n+k*k)%13)
			c.Items = append(c.Items, i)
			s = append(s, fmt.Sprintf("%s:%d:%v", i, counts[i], counts[i] > 0))
		}
		want[n] = strings.Join(s, " ")
		steps = append(steps, weirtest.Into("choices", weirtest.Value(c)))
	}
	return steps
}

func seeItem(n int, counts map[string]int) weirtest.Step {
	item := fmt.Sprint("i", n*n%11)
	counts[item]++
	return weirtest.Into("views", weirtest.Value(view{item, int64(10 * n)}))
}

func checkShown(tb testing.TB, r *weirtest.Run, want map[int]string) {
	tb.Helper()
	last := map[int]int{}
	all := weirtest.Collect[shown](r, "shown")
	for _, s := range all {
		if s.Items != want[s.N] {
			tb.Errorf("record %d: %q, want %q", s.N, s.Items, want[s.N])
		}
		if before, ok := last[s.User]; ok && before > s.N {
			tb.Errorf("record %d of user %d came behind %d", s.N, s.User, before)
		}
		last[s.User] = s.N
	}
	if len(all) != len(want) {
		tb.Errorf("%d records, want %d", len(all), len(want))
	}
}

var shownOptions = []weirtest.Option{
	weirtest.Source[view]("views"), weirtest.Source[choice]("choices"), weirtest.Sink[shown]("shown"), weirtest.InKeyOrder("shown"),
}

// TestLookupMatrix fills the table first: nothing says whether a value that is under way
// comes before a question that is.
func TestLookupMatrix(t *testing.T) {
	var steps []weirtest.Step
	counts, want := map[string]int{}, map[int]string{}
	for n := range 90 {
		steps = append(steps, seeItem(n, counts))
	}
	steps = append(steps, candidates(0, 80, counts, want)...)
	weirtest.Matrix(t, candidatesJob(), steps, func(tb testing.TB, r *weirtest.Run) { checkShown(tb, r, want) }, shownOptions...)
}

// TestLookupFindsTheLast: questions and values one after another, with restores.
func TestLookupFindsTheLast(t *testing.T) {
	for _, p := range []int{1, 2, 4} {
		r := weirtest.New(t, candidatesJob(), append(slices.Clone(shownOptions), weirtest.Parallelism(p))...)
		counts, want := map[string]int{}, map[int]string{}
		for n := range 100 {
			r.Do(seeItem(n, counts))
			r.Do(candidates(n, n+1, counts, want)...)
			if n%30 == 29 {
				r.Do(weirtest.Checkpoint(), weirtest.Crash(), weirtest.Restore(1+(p+n)%4))
			}
		}
		r.Do(weirtest.EndOfInput())
		checkShown(t, r, want)
	}
}

// TestLookupUnderLoad runs for real, with many records under way at once.
func TestLookupUnderLoad(t *testing.T) {
	const n, keys = 30_000, 500
	sink := memory.NewSink[string]()
	job := weir.NewJob("load", func(j *weir.Job) {
		values := weir.From(j, "values", generator.New(func(i uint64) int { return int(i) % keys }, generator.Count(n)), weir.ProcessingTime[int]())
		table := weir.KeyBy(values, "by-value", func(v int) int { return v })
		asks := weir.From(j, "asks", generator.New(func(i uint64) int { return int(i) }, generator.Count(n), generator.Shards(2)), weir.ProcessingTime[int](), weir.Parallelism(2))
		by := weir.KeyBy(asks, "by-ask", func(a int) int { return a % 100 })
		found := weir.Lookup(by, "found", table, func(a int) []int { return []int{a % keys, keys + 1, a / 7 % keys}[:a%4%4] }, func(a int, f []weir.Found[int, int]) string {
			for i := range f {
				if f[i].OK != (f[i].Value == f[i].Key) && f[i].Key != 0 || f[i].Key != []int{a % keys, keys + 1, a / 7 % keys}[i] {
					return fmt.Sprintf("%d: %+v", a, f)
				}
			}
			return fmt.Sprint(a, " ok ", len(f))
		})
		weir.To(found, "out", sink.Sink())
	})
	if err := weir.Run(t.Context(), job, weir.Options{DataDir: t.TempDir(), Interval: 20 * time.Millisecond, Parallelism: 2}); err != nil {
		t.Fatal(err)
	}
	var want []string
	for a := range n {
		want = append(want, fmt.Sprint(a, " ok ", a%4))
	}
	got := slices.Clone(sink.Visible())
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d results for %d records, or wrong ones: %q…", len(got), n, got[:3])
	}
}

// TestLookupOfNil: a value that is encoded as nil is a value, over every kind of edge.
func TestLookupOfNil(t *testing.T) {
	spec := weir.NewJob("nils", func(j *weir.Job) {
		values := weir.From(j, "values", memory.NewSource[[]int](), weir.ProcessingTime[[]int]())
		asked := weir.From(j, "asked", memory.NewSource[int](), weir.ProcessingTime[int]())
		table := weir.KeyBy(values, "by-len", func(v []int) int { return len(v) })
		by := weir.KeyBy(asked, "by-ask", func(a int) int { return a })
		found := weir.Lookup(by, "found", table, func(a int) []int { return []int{a, 0} }, func(a int, f []weir.Found[int, []int]) string {
			return fmt.Sprint(a, f)
		})
		weir.To(found, "out", memory.NewSink[string]().Sink())
	})
	steps := []weirtest.Step{
		weirtest.Into("values", weirtest.Value([]int(nil)), weirtest.Value([]int{7})), weirtest.Checkpoint(),
		weirtest.Into("asked", weirtest.Value(0), weirtest.Value(1), weirtest.Value(2)),
	}
	weirtest.Matrix(t, spec, steps, func(tb testing.TB, r *weirtest.Run) {
		got := weirtest.Collect[string](r, "out")
		slices.Sort(got)
		if want := []string{"0 [{0 [] true} {0 [] true}]", "1 [{1 [7] true} {0 [] true}]", "2 [{2 [] false} {0 [] true}]"}; !slices.Equal(got, want) {
			tb.Errorf("got %q, want %q", got, want)
		}
	}, weirtest.Source[[]int]("values"), weirtest.Source[int]("asked"), weirtest.Sink[string]("out"), weirtest.InKeyOrder("out"))
}

func TestLookupMistakesAreReported(t *testing.T) {
	_, err := weir.Compile(weir.NewJob("bad", func(j *weir.Job) {
		in := weir.KeyBy(weir.From(j, "in", generator.New(func(uint64) int { return 0 }, generator.Count(1)), weir.ProcessingTime[int]()), "by", func(v int) int { return v })
		weir.Lookup(in, "none", in, nil, func(int, []weir.Found[int, int]) int { return 0 })
	}))
	for _, want := range []string{"lookup none: a function is missing", "lookup_test.go"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the errors do not say %q:\n%v", want, err)
		}
	}
}
