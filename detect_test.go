package weir_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/operators/feature"
	"github.com/weirflow/weir/operators/pattern"
	"github.com/weirflow/weir/weirtest"
)

// rise is a movement above zero and then one above a hundred, within a second.
func rise() *pattern.Pattern[move] {
	return pattern.Begin("some", func(m move) bool { return m.Amount > 0 }).
		FollowedBy("much", func(m move) bool { return m.Amount > 100 }).Within(time.Second)
}

// found renders a match.
func found(user, name string, m *pattern.Match[move]) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", user, name)
	for _, s := range m.Stages {
		for _, e := range s.Events {
			fmt.Fprintf(&b, " %s=%d", s.Name, e.N)
		}
	}
	return b.String()
}

func foundOne(user string, m *pattern.Match[move]) string { return found(user, "", m) }

func TestDetectMistakes(t *testing.T) {
	tag, other := weir.NewTag[move]("late"), weir.NewTag[string]("late")
	type named = weir.NamedPattern[move]
	testMistakes(t, []mistake{
		{"no function", "WEIR-0127", "detect d: there is no function for matches", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Detect[string, move, string](in, "d", rise(), nil)
		}},
		{"no pattern", "WEIR-0127", `pattern "d" is nil`, func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Detect(in, "d", nil, foundOne)
		}},
		{"no patterns", "WEIR-0127", "there are no patterns", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.DetectAll(in, "d", nil, found)
		}},
		{"no function for several", "WEIR-0127", "there is no function for matches", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.DetectAll[string, move, string](in, "d", []named{{Name: "a", Pattern: rise()}}, nil)
		}},
		{"patterns of one name", "WEIR-0127", `two patterns are called "a"`, func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.DetectAll(in, "d", []named{{Name: "a", Pattern: rise()}, {Name: "a", Pattern: rise()}}, found)
		}},
		{"the name of a pattern", "WEIR-0127", `pattern "A b"`, func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.DetectAll(in, "d", []named{{Name: "A b", Pattern: rise()}}, found)
		}},
		{"a tie break for other records", "WEIR-0127", "the option TieBreak is for records or keys of another type", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Detect(in, "d", rise(), foundOne, weir.TieBreak(func(a, b *sale) bool { return a.At < b.At }))
		}},
		{"late records of another type", "WEIR-0127", "the option LateTo is for", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Detect(in, "d", rise(), foundOne, weir.LateTo(other))
		}},
		{"timeouts of another key", "WEIR-0127", "the option TimeoutsTo is for", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Detect(in, "d", rise(), foundOne, weir.TimeoutsTo(other, func(uint32, string, *pattern.Timeout[move]) string { return "" }))
		}},
		{"a side output twice", "WEIR-0121", `two side outputs "late"`, func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			timeouts := weir.TimeoutsTo(other, func(string, string, *pattern.Timeout[move]) string { return "" })
			here()
			weir.Detect(in, "d", rise(), foundOne, weir.LateTo(tag), timeouts)
		}},
		{"a side output that is not there", "WEIR-0120", `no side output "late"`, func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			out := weir.Detect(in, "d", rise(), foundOne)
			here()
			weir.SideOutput(out, tag)
		}},
		{"a pattern that cannot be", "WEIR-0170", "", func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Detect(in, "d", pattern.Begin[move]("a").Times(0), foundOne)
		}},
		{"the name of an operator", "WEIR-0105", `"by-user"`, func(_ *weir.Job, in weir.KeyedStream[string, move], here func()) {
			here()
			weir.Detect(in, "by-user", rise(), foundOne)
		}},
	})
}

// TestAllMistakesAtOnce expects the mistakes of several operators, and several of one.
func TestAllMistakesAtOnce(t *testing.T) {
	_, err := weir.Compile(weir.NewJob("moves", func(j *weir.Job) {
		in := weir.KeyBy(weir.From[move](j, "in", nil, weir.Ascending(move.time)), "by-user", move.user)
		weir.Rolling(in, "r", feature.Set(feature.Count[move]("n").Over(-1), feature.Count[move]("").Over(time.Hour)), func(move, feature.Row) int { return 0 })
		weir.DetectAll(in, "d", []weir.NamedPattern[move]{{Name: "a", Pattern: pattern.Begin[move]("x").Times(0)}, {Name: "b"}}, found)
		weir.SameKey(in, in.Stream, nil)
	}), weir.WithBindings(&weir.Bindings{}))
	if err == nil {
		t.Fatal("no error")
	}
	for code, n := range map[string]int{"WEIR-0170": 3, "WEIR-0127": 1, "WEIR-0128": 1} {
		if got := strings.Count(err.Error(), code); got != n {
			t.Errorf("%d times %s, want %d:\n%v", got, code, n, err)
		}
	}
}

// detecting is a job of two patterns with both side outputs.
func detecting(opts ...weir.DetectOption) weir.JobSpec {
	late, timeouts := weir.NewTag[move]("late"), weir.NewTag[string]("timeouts")
	return weir.NewJob("moves", func(j *weir.Job) {
		in := weir.From[move](j, "in", nil, weir.BoundedOutOfOrderness(time.Second, move.time), weir.WatermarkEveryRecord())
		three := pattern.Begin("down", func(m move) bool { return m.Amount < 0 }).Times(3).Consecutive().SkipStrategy(pattern.Skip{Kind: pattern.SkipPastLast})
		all := append([]weir.DetectOption{weir.LateTo(late), weir.TimeoutsTo(timeouts, func(user, name string, t *pattern.Timeout[move]) string {
			return found(user, name, &t.Match) + fmt.Sprint(" ended ", t.Ended/1e6)
		})}, opts...)
		out := weir.DetectAll(weir.KeyBy(in, "by-user", move.user), "d", []weir.NamedPattern[move]{
			{Name: "rise", Pattern: rise().SkipStrategy(pattern.Skip{Kind: pattern.SkipPastLast})}, {Name: "down", Pattern: three},
		}, found, all...)
		weir.To(out, "out", connectors.Sink[string]{})
		weir.To(weir.SideOutput(out, late), "late", connectors.Sink[move]{})
		weir.To(weir.SideOutput(out, timeouts), "timeouts", connectors.Sink[string]{})
	})
}

var detectKit = []weirtest.Option{weirtest.Source[move]("in"), weirtest.Sink[string]("out"), weirtest.Sink[move]("late"), weirtest.Sink[string]("timeouts")}

// detectModel finds by hand, in the moves of one user in order, what the two patterns of
// detecting do.
func detectModel(list []move) (matches, timeouts []string) {
	down, user := []move(nil), list[0].User
	var some []move // runs of rise that are open
	end := func(at int64) {
		for len(some) > 0 && some[0].At+1000 <= at {
			timeouts = append(timeouts, fmt.Sprintf("%s rise some=%d ended %d", user, some[0].N, some[0].At+1000))
			some = some[1:]
		}
	}
	for _, m := range list {
		end(m.At)
		if m.Amount > 100 && len(some) > 0 {
			matches = append(matches, fmt.Sprintf("%s rise some=%d much=%d", user, some[0].N, m.N))
			some = nil
		} else if m.Amount > 0 {
			some = append(some, m)
		}
		if down = append(down, m); m.Amount >= 0 {
			down = nil
		}
		if len(down) == 3 {
			matches = append(matches, fmt.Sprintf("%s down down=%d down=%d down=%d", user, down[0].N, down[1].N, down[2].N))
			down = nil
		}
	}
	end(1 << 60)
	return matches, timeouts
}

// TestDetectAll compares matches, timeouts and late records with a model's, in every way
// to run a job.
func TestDetectAll(t *testing.T) {
	moves := randomMoves(rand.New(rand.NewPCG(21, 0)), 900)
	for i := 40; i < len(moves); i += 40 {
		moves[i].At -= 2500 // late, when the bound is a second
	}
	var steps []weirtest.Step
	users, greatest := map[string][]move{}, int64(0)
	var wantLate []int64
	for _, m := range moves {
		steps = append(steps, weirtest.Value(m))
		if m.At < greatest-1000 {
			wantLate = append(wantLate, m.N)
			continue
		}
		greatest = max(greatest, m.At)
		users[m.User] = append(users[m.User], m)
	}
	var want, wantTimeouts []string
	for _, list := range users {
		slices.SortStableFunc(list, func(a, b move) int { return cmp.Compare(a.At, b.At) })
		m, ended := detectModel(list)
		want, wantTimeouts = append(want, m...), append(wantTimeouts, ended...)
	}
	if len(want) < 50 || len(wantTimeouts) < 50 || len(wantLate) < 15 {
		t.Fatalf("%d matches, %d timeouts, %d late", len(want), len(wantTimeouts), len(wantLate))
	}
	weirtest.Matrix(t, detecting(), steps, func(tb testing.TB, r *weirtest.Run) {
		tb.Helper()
		same(tb, "matches", weirtest.Collect[string](r, "out"), want)
		same(tb, "timeouts", weirtest.Collect[string](r, "timeouts"), wantTimeouts)
		var late []int64
		for _, m := range weirtest.Collect[move](r, "late") {
			late = append(late, m.N)
		}
		same(tb, "late records", late, wantLate)
	}, detectKit...)
}

// same compares lists whatever their order.
func same[T cmp.Ordered](tb testing.TB, what string, got, want []T) {
	tb.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		tb.Errorf("%d %s, want %d:\n got %.600v\nwant %.600v", len(got), what, len(want), got, want)
	}
}

// TestTimesOfMatches looks at the event times of what is emitted.
func TestTimesOfMatches(t *testing.T) {
	run := weirtest.New(t, detecting(), detectKit...)
	run.Do(weirtest.Value(move{N: 1, User: "u", Amount: 1, At: 5000}), weirtest.Value(move{N: 2, User: "u", Amount: 200, At: 5500}),
		weirtest.Value(move{N: 3, User: "u", Amount: 1, At: 6000}), weirtest.Value(move{N: 4, User: "u", At: 9000}), weirtest.EndOfInput())
	for sink, want := range map[string][]int64{"out": {5500}, "timeouts": {7000}} {
		var got []int64
		for _, r := range weirtest.CollectRecords[string](run, sink) {
			got = append(got, r.Time.UnixMilli())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: the times are %v, want %v", sink, got, want)
		}
	}
}

// TestTieBreak orders records of one time by their number, however they come.
func TestTieBreak(t *testing.T) {
	moves := []move{{N: 2, Amount: 200}, {N: 3, Amount: 1}, {N: 1, Amount: 1}, {N: 4, Amount: 300}}
	var steps []weirtest.Step
	for i := range moves {
		moves[i].User, moves[i].At = "u", 1000
		steps = append(steps, weirtest.Value(moves[i]))
	}
	for name, c := range map[string]struct {
		opts []weir.DetectOption
		want []string
	}{
		"as they come": {nil, []string{"u rise some=2 much=4"}},
		"by number":    {[]weir.DetectOption{weir.TieBreak(func(a, b *move) bool { return a.N < b.N })}, []string{"u rise some=1 much=2", "u rise some=3 much=4"}},
	} {
		t.Run(name, func(t *testing.T) {
			weirtest.Matrix(t, detecting(c.opts...), steps, func(tb testing.TB, r *weirtest.Run) {
				tb.Helper()
				same(tb, "matches", weirtest.Collect[string](r, "out"), c.want)
			}, detectKit...)
		})
	}
}

// TestArrivalTime takes records when they come, late ones too, and ends windows by the
// clock.
func TestArrivalTime(t *testing.T) {
	run := weirtest.New(t, detecting(weir.ArrivalTime()), detectKit...)
	run.Do(
		weirtest.Value(move{N: 1, User: "u", Amount: 1, At: 900_000}), weirtest.AdvanceClock(999*time.Millisecond),
		weirtest.Value(move{N: 2, User: "u", Amount: 200, At: 5}), weirtest.Checkpoint(),
	)
	same(t, "matches before the end", weirtest.Collect[string](run, "out"), []string{"u rise some=1 much=2"})
	run.Do(
		weirtest.Value(move{N: 3, User: "u", Amount: 1, At: 900_000}), weirtest.Checkpoint(), weirtest.Crash(), weirtest.Restore(2),
		weirtest.AdvanceClock(time.Second),
		weirtest.Value(move{N: 4, User: "u", Amount: 50, At: 900_001}), weirtest.EndOfInput(),
	)
	same(t, "matches", weirtest.Collect[string](run, "out"), []string{"u rise some=1 much=2"})
	if late := weirtest.Collect[move](run, "late"); len(late) > 0 {
		t.Errorf("late records: %v", late)
	}
	start := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	same(t, "timeouts", weirtest.Collect[string](run, "timeouts"), []string{
		fmt.Sprint("u rise some=3 ended ", start+1999), fmt.Sprint("u rise some=4 ended ", start+2999),
	})
}

// TestPatternOptions sets limits, and hits them.
func TestPatternOptions(t *testing.T) {
	run := weirtest.New(t, detecting(weir.PatternOptions(pattern.WithLimits(pattern.Limits{Runs: 2, Overflow: pattern.FailOnOverflow}))), detectKit...)
	run.Do(weirtest.Value(move{N: 1, User: "u", Amount: 1, At: 1000}), weirtest.Value(move{N: 2, User: "u", Amount: 1, At: 1001}))
	err := run.Try(weirtest.Value(move{N: 3, User: "u", Amount: 1, At: 1002}), weirtest.Value(move{N: 4, User: "v", Amount: 1, At: 9000}))
	if err == nil || !strings.Contains(err.Error(), "task by-user") || !strings.Contains(err.Error(), "a key exceeds a limit of the pattern: 3 runs; there may be 2") {
		t.Errorf("error: %v", err)
	}
}

// TestOptionsOfOnePattern gives one of several patterns a mode of its own.
func TestOptionsOfOnePattern(t *testing.T) {
	spec := weir.NewJob("moves", func(j *weir.Job) {
		in := weir.KeyBy(weir.From[move](j, "in", nil, weir.Ascending(move.time)), "by-user", move.user)
		limits := pattern.WithLimits(pattern.Limits{Runs: 1, Overflow: pattern.DropOldest})
		out := weir.DetectAll(in, "d", []weir.NamedPattern[move]{{Name: "all", Pattern: rise()}, {Name: "last", Pattern: rise(), Options: []pattern.Option{limits}}}, found)
		weir.To(out, "out", connectors.Sink[string]{})
	})
	run := weirtest.New(t, spec, weirtest.Source[move]("in"), weirtest.Sink[string]("out"))
	run.Do(weirtest.Value(move{N: 1, User: "u", Amount: 1, At: 1}), weirtest.Value(move{N: 2, User: "u", Amount: 1, At: 2}), weirtest.Value(move{N: 3, User: "u", Amount: 200, At: 3}), weirtest.EndOfInput())
	same(t, "matches", weirtest.Collect[string](run, "out"), []string{"u all some=1 much=3", "u all some=2 much=3", "u last some=2 much=3"})
}

// TestRollingAndDetectSurviveTogether looks for a pattern in features of the same key,
// without an exchange in between, in every way to run a job.
func TestRollingAndDetectSurviveTogether(t *testing.T) {
	type counted struct {
		Move move
		N    int64
	}
	moves := randomMoves(rand.New(rand.NewPCG(22, 0)), 400)
	var steps []weirtest.Step
	for _, m := range moves {
		steps = append(steps, weirtest.Value(m))
	}
	spec := weir.NewJob("moves", func(j *weir.Job) {
		in := weir.From[move](j, "in", nil, weir.BoundedOutOfOrderness(time.Second, move.time))
		by := weir.KeyBy(in, "by-both", move.both)
		ns := weir.Rolling(by, "n", counting("n").Including(), func(m move, c countOf) counted { return counted{m, c.N} })
		busy := pattern.Begin("busy", func(c counted) bool { return c.N >= 10 }).
			Next("busier", func(c counted) bool { return c.N >= 12 })
		out := weir.Detect(weir.SameKey(by, ns, func(c counted) moveKey { return c.Move.both() }), "busy", busy, func(k moveKey, m *pattern.Match[counted]) string {
			a, _ := m.First("busy")
			b, _ := m.First("busier")
			return fmt.Sprint(k, a.Move.N, a.N, b.Move.N, b.N)
		})
		weir.To(out, "out", connectors.Sink[string]{})
	})
	n := 0
	weirtest.Matrix(t, spec, steps, func(_ testing.TB, r *weirtest.Run) { n = len(weirtest.Collect[string](r, "out")) },
		weirtest.Source[move]("in"), weirtest.Sink[string]("out"))
	if n < 10 {
		t.Errorf("%d matches", n)
	}
}
