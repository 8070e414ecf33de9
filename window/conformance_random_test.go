package window_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/weirtest"
	"github.com/weirflow/weir/window"
	"github.com/weirflow/weir/window/windowtest"
)

// randomJob is a source, of records that arrive in runs with a watermark after
// each, and the windows over it. Each window with the source is a case.
type randomJob struct {
	specs  []window.Spec
	delay  int64
	batch  int
	events []event
}

// maxSpecs is the most cases of one job.
const maxSpecs = 9

func newRandomJob(r *rand.Rand, cases int) *randomJob {
	c := &randomJob{delay: r.Int64N(20), batch: 1 + r.IntN(8)}
	for range min(cases, 1+r.IntN(maxSpecs)) {
		c.specs = append(c.specs, randomSpec(r))
	}
	disorder, keys := 1+r.Int64N(40), 1+r.IntN(5)
	for n := range 1 + r.IntN(40) {
		c.events = append(c.events, event{
			Key: strconv.Itoa(r.IntN(keys)), Time: int64(n*r.IntN(4)) - 30 + r.Int64N(disorder), Value: strconv.Itoa(n),
		})
	}
	return c
}

func randomSpec(r *rand.Rand) window.Spec {
	late := window.AllowedLateness(time.Duration(r.IntN(2) * r.IntN(20)))
	offset := window.Offset(time.Duration(r.IntN(40) - 20))
	switch r.IntN(4) {
	case 0:
		return window.Session(time.Duration(1+r.IntN(8)), late)
	case 1:
		return window.Tumbling(time.Duration(1+r.IntN(20)), offset, late)
	case 2: // many slices in a window
		return window.Sliding(time.Duration(9+r.IntN(30)), time.Duration(1+r.IntN(3)), offset, late)
	}
	size := 1 + r.IntN(20)
	return window.Sliding(time.Duration(size), time.Duration(1+r.IntN(size+5)), offset, late)
}

// steps returns the runs of records as steps.
func (c *randomJob) steps() []weirtest.Step {
	var out []weirtest.Step
	for run := range slices.Chunk(c.events, c.batch) {
		out = append(out, weirtest.Together(fed(run)...))
	}
	return out
}

// want returns what the model makes of a window over the source, one line per
// result and late record.
func (c *randomJob) want(spec window.Spec, seen map[string]int) []string {
	var events []windowtest.Event[event]
	for _, e := range c.events {
		events = append(events, windowtest.Event[event]{Key: e.Key, Time: e.Time, Value: e})
	}
	steps := windowtest.Interleave(events, c.delay, c.batch)
	if n := len(events) % c.batch; n > 0 { // the last run is shorter
		last := windowtest.Interleave(events, c.delay, 1)
		steps = slices.Insert(steps, len(steps)-1, last[len(last)-2])
	}
	res := windowtest.Run(spec, steps)
	var out []string
	for _, f := range res.Firings {
		var values []string
		for _, e := range f.Values {
			values = append(values, e.Value)
		}
		out = append(out, resultLine(f.Key, f.Window.Start, f.Window.End, values))
		if f.ByRecord {
			seen["by record"]++
		}
	}
	for _, e := range res.Late {
		out = append(out, "late "+e.Value.Value)
	}
	seen["firings"] += len(res.Firings)
	seen["late"] += len(res.Late)
	seen["gaps"] += len(res.NoWindow)
	slices.Sort(out)
	return out
}

func resultLine(key string, start, end int64, values []string) string {
	slices.Sort(values)
	return fmt.Sprintf("%s [%d,%d) %v", key, start, end, values)
}

func valuesTo(i int) string { return fmt.Sprintf("values-%d", i) }
func lateTo(i int) string   { return fmt.Sprintf("late-%d", i) }

// build builds the job. Its watermark moves once per run of records.
func (c *randomJob) build(j *weir.Job) {
	in := weir.From[event](j, "in", nil, weir.BoundedOutOfOrderness(time.Duration(c.delay), at))
	keyed := weir.KeyBy(in, "by-key", func(e event) string { return e.Key })
	for i, spec := range c.specs {
		late := weir.NewTag[event]("late")
		out := weir.Aggregate(keyed, fmt.Sprintf("windows-%d", i), spec, weir.Collect(func(e event) string { return e.Value }), weir.LateTo(late))
		weir.To(out, valuesTo(i), noSink[listed]())
		weir.To(weir.SideOutput(out, late), lateTo(i), noSink[event]())
	}
}

func (c *randomJob) options() []weirtest.Option {
	opts := []weirtest.Option{weirtest.Source[event]("in")}
	for i := range c.specs {
		opts = append(opts, weirtest.Sink[listed](valuesTo(i)), weirtest.Sink[event](lateTo(i)))
	}
	return opts
}

// check compares what a run has written with what is wanted.
func (c *randomJob) check(tb testing.TB, r *weirtest.Run, want [][]string) {
	tb.Helper()
	for i, spec := range c.specs {
		var got []string
		for _, w := range weirtest.Collect[listed](r, valuesTo(i)) {
			got = append(got, resultLine(w.Key, w.Start.UnixNano(), w.End.UnixNano(), w.Value))
		}
		for _, e := range weirtest.Collect[event](r, lateTo(i)) {
			got = append(got, "late "+e.Value)
		}
		slices.Sort(got)
		if !slices.Equal(got, want[i]) {
			tb.Fatalf("%v, out-of-orderness %d, runs of %d records, %+v\n got %s\nwant %s", spec, c.delay, c.batch, c.events,
				strings.Join(got, "\n     "), strings.Join(want[i], "\n     "))
		}
	}
}

// TestRandomJobsEqualModel runs random windows over random input as jobs and
// compares all their output with the model; every tenth under the matrix.
// WEIR_SEED sets another seed.
func TestRandomJobsEqualModel(t *testing.T) {
	seed, cases := uint64(20240611), 10_000
	if s := os.Getenv("WEIR_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if testing.Short() {
		cases = 1_000
	}
	t.Logf("seed %d, %d cases", seed, cases)
	seen := map[string]int{}
	for done, n := 0, 0; done < cases && !t.Failed(); n++ {
		r := rand.New(rand.NewPCG(seed, uint64(n)))
		c := newRandomJob(r, cases-done)
		done += len(c.specs)
		var want [][]string
		for _, spec := range c.specs {
			want = append(want, c.want(spec, seen))
		}
		spec := weir.NewJob("random", c.build)
		t.Run(fmt.Sprintf("job-%d", n), func(t *testing.T) {
			if n%10 == 0 {
				weirtest.Matrix(t, spec, c.steps(), func(tb testing.TB, run *weirtest.Run) { c.check(tb, run, want) }, c.options()...)
				seen["under the matrix"] += len(c.specs)
				return
			}
			run := weirtest.New(t, spec, append(c.options(), weirtest.Parallelism(1+r.IntN(3)))...)
			run.Do(c.steps()...)
			run.Do(weirtest.EndOfInput())
			c.check(t, run, want)
		})
	}
	t.Logf("%v", seen)
	for _, what := range []string{"firings", "by record", "late", "gaps"} {
		if seen[what] < cases/10 {
			t.Errorf("only %d %s in %d cases: they are too tame", seen[what], what, cases)
		}
	}
}
