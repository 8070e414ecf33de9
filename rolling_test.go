package weir_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/operators/feature"
	"github.com/weirflow/weir/weirtest"
)

// move is a movement on an account.
type move struct {
	N      int64
	User   string
	Item   uint32
	Amount float64
	At     int64 // milliseconds
}

// moveKey is what a user does with an item.
type moveKey struct {
	User string
	Item uint32
}

func (m move) time() time.Time { return time.UnixMilli(m.At) }
func (m move) user() string    { return m.User }
func (m move) item() uint32    { return m.Item }
func (m move) both() moveKey   { return moveKey{m.User, m.Item} }
func (m move) amount() float64 { return m.Amount }

// randomMoves makes moves that are out of order by up to a second.
func randomMoves(rng *rand.Rand, n int) []move {
	type late struct {
		move
		arrival int64
	}
	var list []late
	at := int64(1_000_000)
	for range n {
		at += rng.Int64N(400)
		m := move{User: fmt.Sprint("u", rng.IntN(7)), Item: rng.Uint32N(3), Amount: rng.NormFloat64() * 100, At: at}
		list = append(list, late{m, at + rng.Int64N(1000)})
	}
	slices.SortStableFunc(list, func(a, b late) int { return cmp.Compare(a.arrival, b.arrival) })
	moves := make([]move, n)
	for i, m := range list {
		m.N = int64(i)
		moves[i] = m.move
	}
	return moves
}

// mistake is a job with a mistake behind a keyed stream of moves. build calls here on
// the line before the mistake's.
type mistake struct {
	name, code, says string
	build            func(j *weir.Job, in weir.KeyedStream[string, move], here func())
}

// testMistakes expects each mistake to be reported once, at its line.
func testMistakes(t *testing.T, list []mistake) {
	t.Helper()
	for _, c := range list {
		t.Run(c.name, func(t *testing.T) {
			var at string
			_, err := weir.Compile(weir.NewJob("moves", func(j *weir.Job) {
				in := weir.From[move](j, "in", nil, weir.Ascending(move.time))
				c.build(j, weir.KeyBy(in, "by-user", move.user), func() {
					_, file, line, _ := runtime.Caller(1)
					at = fmt.Sprintf("%s:%d", filepath.Base(file), line+1)
				})
			}), weir.WithBindings(&weir.Bindings{}))
			if err == nil {
				t.Fatal("no error")
			}
			text := err.Error()
			if !strings.Contains(text, c.code) || !strings.Contains(text, c.says) || !strings.Contains(text, at+":") && !strings.Contains(text, at+",") {
				t.Errorf("the error\n%v\ndoes not say %s, %q and %s", err, c.code, c.says, at)
			}
			if n := strings.Count(text, c.code); n != 1 {
				t.Errorf("the error\n%v\nhas %s %d times", err, c.code, n)
			}
		})
	}
}

func counting(name string) *feature.Group[move] {
	return feature.Set(feature.Count[move](name).Over(time.Minute))
}

// countOf takes the count of counting("n").
type countOf struct {
	N int64 `feature:"n_1m"`
}

func TestRollingMistakes(t *testing.T) {
	num := func(_ move, c countOf) int64 { return c.N }
	testMistakes(t, []mistake{
		{"no group", "WEIR-0126", "rolling r has no features", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Rolling(in, "r", nil, num)
		}},
		{"no function", "WEIR-0126", "rolling r has no function", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Rolling[string, move, countOf, int64](in, "r", counting("n"), nil)
		}},
		{"no features", "WEIR-0170", "", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Rolling(in, "r", feature.Set[move](), num)
		}},
		{"a horizon of nothing", "WEIR-0170", "n", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Rolling(in, "r", feature.Set(feature.Count[move]("n").Over(0)), num)
		}},
		{"no such feature", "WEIR-0171", `"m_1m"`, func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Rolling(in, "r", counting("n"), func(move, struct {
				N int64 `feature:"m_1m"`
			}) int64 {
				return 0
			})
		}},
		{"another type", "WEIR-0171", "is a string", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Rolling(in, "r", counting("n"), func(move, struct {
				N string `feature:"n_1m"`
			}) int64 {
				return 0
			})
		}},
		{"no tags", "WEIR-0171", "tag", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Rolling(in, "r", counting("n"), func(move, struct{ N int64 }) int64 { return 0 })
		}},
		{"no struct", "WEIR-0171", "is not a struct", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Rolling(in, "r", counting("n"), func(move, int64) int64 { return 0 })
		}},
		{"the name twice", "WEIR-0105", `"by-user"`, func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Rolling(in, "by-user", counting("n"), num)
		}},
	})
}

func TestRollingByMistakes(t *testing.T) {
	num := func(_ move, c countOf) int64 { return c.N }
	type sealed struct {
		C chan int
		N int64
	}
	testMistakes(t, []mistake{
		{"no groups", "WEIR-0126", "at least one group", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.RollingBy(in.Stream, "r", num)
		}},
		{"no function", "WEIR-0126", "needs a function", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.RollingBy[move, countOf, int64](in.Stream, "r", nil, weir.GroupBy("user", move.user, counting("n")))
		}},
		{"no features of a group", "WEIR-0126", "rolling r/item has no features", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.RollingBy(in.Stream, "r", num, weir.GroupBy("user", move.user, counting("n")), weir.GroupBy("item", move.item, nil))
		}},
		{"a group of nothing", "WEIR-0126", "has no features", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.RollingBy(in.Stream, "r", num, weir.KeyedGroup[move]{})
		}},
		{"no key", "WEIR-0126", `group "user" of rolling r has no key`, func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.RollingBy(in.Stream, "r", num, weir.GroupBy[string]("user", nil, counting("n")))
		}},
		{"features of one name", "WEIR-0170", "n_1m", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.RollingBy(in.Stream, "r", num, weir.GroupBy("user", move.user, counting("n")), weir.GroupBy("item", move.item, counting("n")))
		}},
		{"no such feature", "WEIR-0171", `"n_1m"`, func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.RollingBy(in.Stream, "r", num, weir.GroupBy("user", move.user, counting("a")), weir.GroupBy("item", move.item, counting("b")))
		}},
		{"groups of one name", "WEIR-0105", `rolling r has two groups "user"`, func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.RollingBy(in.Stream, "r", num, weir.GroupBy("user", move.user, counting("n")), weir.GroupBy("user", move.item, counting("m")))
		}},
		{"the name of a group", "WEIR-0101", `the name "By User"`, func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.RollingBy(in.Stream, "r", num, weir.GroupBy("By User", move.user, counting("n")))
		}},
		{"a key of no use", "WEIR-0106", "float64", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.RollingBy(in.Stream, "r", num, weir.GroupBy("amount", move.amount, counting("n")))
		}},
		{"records that cannot be sent", "WEIR-0107", "sealed", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			sealing := weir.Map(in.Stream, "sealed", func(m move) sealed { return sealed{N: m.N} })
			group := feature.Set(feature.Count[sealed]("n").Over(time.Minute))
			here()
			weir.RollingBy(sealing, "r", func(_ sealed, c countOf) int64 { return c.N }, weir.GroupBy("n", func(s sealed) int64 { return s.N }, group))
		}},
	})
}

func TestSameKeyMistakes(t *testing.T) {
	testMistakes(t, []mistake{
		{"another exchange", "WEIR-0128", "does not go by the key of by-user", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			other := weir.KeyBy(in.Stream, "by-item", move.item)
			here()
			weir.SameKey(in, other.Stream, move.user)
		}},
		{"what was there before", "WEIR-0128", "in-2 does not go by the key of by-user-2", func(j *weir.Job, _ weir.KeyedStream[string, move], here func()) {
			before := weir.From[move](j, "in-2", nil, weir.Ascending(move.time))
			by := weir.KeyBy(before, "by-user-2", move.user)
			here()
			weir.SameKey(by, before, move.user)
		}},
		{"no key", "WEIR-0128", "by-user", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.SameKey(in, in.Stream, nil)
		}},
	})
}

// TestSameKeyOfAnotherKey stops the job at a record whose key is another one.
func TestSameKeyOfAnotherKey(t *testing.T) {
	run := weirtest.New(t, weir.NewJob("moves", func(j *weir.Job) {
		in := weir.From[move](j, "in", nil, weir.Ascending(move.time))
		by := weir.KeyBy(in, "by-user", move.user)
		back := weir.Map(by.Stream, "back", func(m move) move {
			if m.N == 2 {
				m.User = "somebody else"
			}
			return m
		})
		weir.To(weir.Rolling(weir.SameKey(by, back, move.user), "r", counting("n").Including(), func(_ move, c countOf) int64 { return c.N }), "out", connectors.Sink[int64]{})
	}), weirtest.Source[move]("in"), weirtest.Sink[int64]("out"))
	run.Do(weirtest.Value(move{N: 1, User: "u", At: 1}))
	err := run.Try(weirtest.Value(move{N: 2, User: "u", At: 2}))
	if err == nil || !strings.Contains(err.Error(), "WEIR-0715") || !strings.Contains(err.Error(), "operator back") {
		t.Errorf("error: %v", err)
	}
}

// combination is a vector of groups with keys of four types.
type combination struct {
	User  int64    `feature:"user_n_12s"`
	Sum   float64  `feature:"user_sum_12s"`
	Last  *float64 `feature:"user_last_12s"`
	Item  int64    `feature:"item_n_12s"`
	Users int64    `feature:"item_users_1m"`
	Both  int64    `feature:"both_n_12s"`
	Since float64  `feature:"both_since_12s"`
	Sign  int64    `feature:"sign_n_12s"`
}

// seen is a move with its vector. Pointers have no place in what a sink is compared by.
type seen struct {
	Move move
	Vec  combination
	Last float64
}

func combined() weir.JobSpec {
	twelve := 12 * time.Second
	sum := func() *feature.Feature[move] {
		return feature.Sum("sum", func(m move) float64 { return math.Round(m.Amount) }).Exact().Over(twelve)
	}
	count := func() *feature.Feature[move] { return feature.Count[move]("n").Exact().Over(twelve) }
	return weir.NewJob("moves", func(j *weir.Job) {
		in := weir.From[move](j, "in", nil, weir.BoundedOutOfOrderness(time.Second, move.time))
		out := weir.RollingBy(in, "r", func(m move, c combination) seen {
			s := seen{m, c, math.Inf(1)}
			if s.Vec.Last = nil; c.Last != nil {
				s.Last = *c.Last
			}
			return s
		},
			weir.GroupBy("user", move.user, feature.Set(count(), sum(), feature.Last("last", move.amount).Over(twelve)).Prefix("user_")),
			weir.GroupBy("item", move.item, feature.Set(count(), feature.Distinct("users", move.user).Over(time.Minute)).Prefix("item_")),
			weir.GroupBy("both", move.both, feature.Set(count(), feature.SinceLast[move]("since").Over(twelve)).Prefix("both_")),
			weir.GroupBy("sign", func(m move) bool { return m.Amount < 0 }, feature.Set(count()).Prefix("sign_"), weir.Parallelism(1)))
		weir.To(out, "out", connectors.Sink[seen]{})
	})
}

// TestCombinedGroups compares the vectors of several groups with those of a model over
// all moves, in every way to run a job.
func TestCombinedGroups(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 0))
	moves := randomMoves(rng, 600)
	var steps []weirtest.Step
	var want []seen
	for i, m := range moves {
		steps = append(steps, weirtest.Value(m))
		want = append(want, combinedModel(moves[:i], m))
	}
	weirtest.Matrix(t, combined(), steps, func(tb testing.TB, r *weirtest.Run) {
		tb.Helper()
		got := weirtest.Collect[seen](r, "out")
		slices.SortFunc(got, func(a, b seen) int { return cmp.Compare(a.Move.N, b.Move.N) })
		for i := range want {
			if i >= len(got) || got[i] != want[i] {
				tb.Fatalf("%d vectors; vector %d:\n got %+v\nwant %+v", len(got), i, got[min(i, len(got)-1)], want[i])
			}
		}
	}, weirtest.Source[move]("in"), weirtest.Sink[seen]("out"))
}

// combinedModel is what the vector of a move must be after others.
func combinedModel(before []move, m move) seen {
	s := seen{Move: m, Last: math.Inf(1)}
	// past gives the moves with a key before its clock, in the order of their times.
	past := func(same func(move) bool) (list []move, clock int64) {
		clock = m.At
		for _, x := range before {
			if same(x) {
				clock = max(clock, x.At)
			}
		}
		for _, x := range before {
			if same(x) && x.At < clock {
				list = append(list, x)
			}
		}
		slices.SortStableFunc(list, func(a, b move) int { return cmp.Compare(a.At, b.At) })
		return list, clock
	}
	// since cuts a list; a horizon that is not exact begins at a tile.
	since := func(list []move, from int64) []move {
		i, _ := slices.BinarySearchFunc(list, from, func(x move, from int64) int { return cmp.Compare(x.At, from) })
		return list[i:]
	}
	const twelve, sixty = 12_000, 60_000
	tiles := func(clock, w float64) int64 { return int64(math.Ceil((math.Floor(clock/(w/24)) - 24) * (w / 24))) }
	list, clock := past(func(x move) bool { return x.User == m.User })
	exact := since(list, clock-twelve)
	s.Vec.User = int64(len(exact))
	for _, x := range exact {
		s.Vec.Sum += math.Round(x.Amount)
	}
	if in := since(list, tiles(float64(clock), twelve)); len(in) > 0 {
		s.Last = in[len(in)-1].Amount
	}
	list, clock = past(func(x move) bool { return x.Item == m.Item })
	s.Vec.Item = int64(len(since(list, clock-twelve)))
	users := map[string]bool{}
	for _, x := range since(list, tiles(float64(clock), sixty)) {
		users[x.User] = true
	}
	s.Vec.Users = int64(len(users))
	list, clock = past(func(x move) bool { return x.both() == m.both() })
	s.Vec.Both = int64(len(since(list, clock-twelve)))
	if in := since(list, tiles(float64(clock), twelve)); len(in) > 0 {
		s.Vec.Since = float64(clock-in[len(in)-1].At) / 1000
	}
	list, clock = past(func(x move) bool { return x.Amount < 0 == (m.Amount < 0) })
	s.Vec.Sign = int64(len(since(list, clock-twelve)))
	return s
}

// bits renders a vector so that two are equal only if they are so to the last bit.
func bits(r feature.Row) string {
	var b strings.Builder
	for _, f := range r.Floats {
		fmt.Fprintf(&b, "%016x ", math.Float64bits(f))
	}
	for _, l := range r.Lists {
		for _, f := range l {
			fmt.Fprintf(&b, "%016x,", math.Float64bits(f))
		}
		b.WriteByte(' ')
	}
	return fmt.Sprintf("%s%x %q %q %v", b.String(), r.Null, r.Texts, r.Words, r.Maps)
}

// TestRowsAreVectors takes all features as one record, from Rolling and RollingBy.
func TestRowsAreVectors(t *testing.T) {
	group := func() *feature.Group[move] {
		return feature.Set(
			feature.Count[move]("n").Over(time.Minute), feature.Mean("mean", move.amount).Over(time.Minute),
			feature.LastK("amounts", move.amount, 2).Over(time.Minute), feature.Last("who", move.user).Over(time.Minute),
			feature.Count[move]("by").By(move.user).Over(time.Minute),
		)
	}
	program, err := group().Compile()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"0 <nil> <nil> <nil> <nil>\n", "1 4 [4] u map[u:1]\n", "2 5 [6 4] v map[u:1 v:1]\n"}
	run := weirtest.New(t, weir.NewJob("moves", func(j *weir.Job) {
		in := weir.From[move](j, "in", nil, weir.Ascending(move.time))
		whole := func(_ move, r feature.Row) feature.Row { return r }
		weir.To(weir.Rolling(weir.KeyBy(in, "by-item", move.item), "a", group(), whole), "one", connectors.Sink[feature.Row]{})
		weir.To(weir.RollingBy(in, "b", whole, weir.GroupBy("item", move.item, group())), "by", connectors.Sink[feature.Row]{})
	}), weirtest.Source[move]("in"), weirtest.Sink[feature.Row]("one"), weirtest.Sink[feature.Row]("by"))
	run.Do(weirtest.Value(move{User: "u", Amount: 4, At: 1000}), weirtest.Value(move{User: "v", Amount: 6, At: 2000}),
		weirtest.Value(move{User: "u", Amount: 1, At: 3000}), weirtest.EndOfInput())
	for _, sink := range []string{"one", "by"} {
		var got []string
		for _, r := range weirtest.Collect[feature.Row](run, sink) {
			v := feature.View{Schema: program.Schema(), Row: &r}
			got = append(got, fmt.Sprintln(v.Value(0), v.Value(1), v.Value(2), v.Value(3), v.Value(4)))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", sink, got, want)
		}
	}
}

// vectorOf is the vector of a move by one of three groups.
type vectorOf struct {
	Move move
	By   string
	Row  feature.Row
}

// replayed is a job whose vectors must not depend on how it runs: over one key, and
// over several.
func replayed() weir.JobSpec {
	group := func(prefix string) *feature.Group[move] {
		over := []time.Duration{time.Second, 10 * time.Second, time.Minute}
		return feature.Set(
			feature.Sum("sum", move.amount).Over(over...), feature.Mean("mean", move.amount).Over(over...), feature.Stddev("dev", move.amount).Over(over...),
			feature.DecaySum("decay", move.amount, 5*time.Second), feature.Percentile("p", move.amount, 0.5, 0.99).Over(time.Minute),
			feature.Trend("trend", move.amount).Over(over[1]), feature.Distinct("users", move.user).Over(over...), feature.LastK("last", move.amount, 3).Over(over[1]),
			feature.Sum("exact", move.amount).Exact().Over(over[1]), feature.Sum("by", move.amount).By(move.user).Over(over[2]),
		).Prefix(prefix)
	}
	return weir.NewJob("moves", func(j *weir.Job) {
		in := weir.From[move](j, "in", nil, weir.BoundedOutOfOrderness(time.Second, move.time))
		of := func(by string) func(move, feature.Row) vectorOf {
			return func(m move, r feature.Row) vectorOf { return vectorOf{m, by, r} }
		}
		weir.To(weir.Rolling(weir.KeyBy(in, "by-user", move.user), "user", group(""), of("user")), "user-out", connectors.Sink[vectorOf]{})
		weir.To(weir.Rolling(weir.KeyBy(in, "by-item", move.item), "item", group(""), of("item")), "item-out", connectors.Sink[vectorOf]{})
		user, item, both := weir.GroupBy("user", move.user, group("user_")), weir.GroupBy("item", move.item, group("item_"), weir.Parallelism(2)), weir.GroupBy("both", move.both, group("both_"))
		weir.To(weir.RollingBy(in, "all-both", of("both"), user, item, both), "both-out", connectors.Sink[vectorOf]{})
		weir.To(weir.RollingBy(in, "all-item", of("all-item"), both, user, item), "all-item-out", connectors.Sink[vectorOf]{})
	})
}

// vectors runs the job over moves and returns the vectors of each key, in order.
func vectors(t *testing.T, parallelism int, steps []weirtest.Step) map[string][]string {
	t.Helper()
	run := weirtest.New(t, replayed(), weirtest.Source[move]("in"), weirtest.Sink[vectorOf]("user-out"), weirtest.Sink[vectorOf]("item-out"),
		weirtest.Sink[vectorOf]("both-out"), weirtest.Sink[vectorOf]("all-item-out"), weirtest.Parallelism(parallelism))
	run.Do(steps...)
	run.Do(weirtest.EndOfInput())
	keys := map[string][]string{}
	for _, sink := range []string{"user-out", "item-out", "both-out", "all-item-out"} {
		for _, v := range weirtest.Collect[vectorOf](run, sink) {
			key := v.By + " " + map[string]string{"user": v.Move.User, "item": fmt.Sprint(v.Move.Item), "both": fmt.Sprint(v.Move.both()), "all-item": fmt.Sprint(v.Move.Item)}[v.By]
			keys[key] = append(keys[key], fmt.Sprint(v.Move.N, " ", bits(v.Row)))
		}
	}
	return keys
}

// TestReplayIsBitIdentical runs the same input again, at another parallelism, in other
// runs of records, and with crashes and restores in between.
func TestReplayIsBitIdentical(t *testing.T) {
	moves := randomMoves(rand.New(rand.NewPCG(12, 0)), 1500)
	rng := rand.New(rand.NewPCG(13, 0))
	// cut makes steps of moves in runs of random length.
	cut := func(list []move, most int) (steps []weirtest.Step) {
		for len(list) > 0 {
			n := min(len(list), 1+rng.IntN(most))
			var run []weirtest.Step
			for _, m := range list[:n] {
				run = append(run, weirtest.Value(m))
			}
			steps, list = append(steps, weirtest.Together(run...)), list[n:]
		}
		return steps
	}
	want := vectors(t, 1, cut(moves, 1))
	n := 0
	for _, list := range want {
		n += len(list)
	}
	if n != 4*len(moves) || len(want) != 7+3+21+3 {
		t.Fatalf("%d vectors of %d keys", n, len(want))
	}
	for name, c := range map[string]struct {
		parallelism int
		steps       []weirtest.Step
	}{
		"again":              {1, cut(moves, 1)},
		"parallelism 3":      {3, cut(moves, 200)},
		"crashes":            {1, slices.Concat(cut(moves[:300], 50), []weirtest.Step{weirtest.Checkpoint()}, cut(moves[300:700], 50), []weirtest.Step{weirtest.Crash(), weirtest.Restore(0)}, cut(moves[700:], 50))},
		"crashes, then at 3": {2, slices.Concat(cut(moves[:500], 80), []weirtest.Step{weirtest.CrashInCommit(), weirtest.Restore(3)}, cut(moves[500:900], 80), []weirtest.Step{weirtest.Checkpoint()}, cut(moves[900:1100], 80), []weirtest.Step{weirtest.Crash(), weirtest.Restore(1)}, cut(moves[1100:], 80))},
		"a crash at once":    {3, slices.Concat(cut(moves[:500], 80), []weirtest.Step{weirtest.Crash(), weirtest.Restore(3)}, cut(moves[500:], 80))},
	} {
		t.Run(name, func(t *testing.T) {
			got := vectors(t, c.parallelism, c.steps)
			for key, w := range want {
				if !slices.Equal(got[key], w) {
					t.Errorf("the vectors of %s are others:\n%.400v\nwant\n%.400v", key, got[key], w)
				}
			}
			if !reflect.DeepEqual(got, want) && !t.Failed() {
				t.Errorf("%d keys, want %d", len(got), len(want))
			}
		})
	}
}
