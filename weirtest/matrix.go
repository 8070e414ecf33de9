package weirtest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
)

// InKeyOrder makes Matrix compare the output of a sink key by key in order,
// instead of as a bag of records. Records that never had a key count as one key's.
func InKeyOrder(sinks ...string) Option {
	return func(c *config) {
		for _, s := range sinks {
			c.inOrder[s] = true
		}
	}
}

// Matrix runs a job on the same steps in four ways, each a subtest:
//
//   - straight: parallelism 1, no checkpoint before the last;
//   - checkpoints: parallelism 2, checkpoints part-way;
//   - crash: parallelism 2, crashes before the first checkpoint, amid its commit
//     and after the next one, and on from there at parallelism 3;
//   - encoded: parallelism 2, every message and every batch encoded, a checkpoint
//     half-way.
//
// golden is called with each finished run and compares what Collect returns with
// what is right; it may be nil. Whatever it does, the output of every sink must
// be that of the straight run: the same records with the same event times, in any
// order, or in order by key with the option InKeyOrder; only the time at which a dead
// letter was refused may differ. An option Parallelism is ignored.
//
// The steps feed records and watermarks and advance the clock. The matrix places
// checkpoints, crashes and restores itself, leaves those in steps out, and ends
// the input after the last step.
func Matrix(t *testing.T, spec weir.JobSpec, steps []Step, golden func(testing.TB, *Run), opts ...Option) {
	t.Helper()
	runMatrix(func(name string, leg func(testing.TB)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			leg(t)
		})
	}, spec, steps, golden, opts)
}

// runMatrix is Matrix with a sub that runs one leg.
func runMatrix(sub func(string, func(testing.TB)), spec weir.JobSpec, steps []Step, golden func(testing.TB, *Run), opts []Option) {
	steps = inputs(nil, steps, intoStep{})
	var want map[string][]string
	for _, leg := range matrixLegs {
		sub(leg.name, func(tb testing.TB) {
			tb.Helper()
			r := newRun(tb, spec, append(slices.Clone(opts), Parallelism(leg.parallelism)))
			r.cfg.encode = r.cfg.encode || leg.encode
			if err := r.restore(0); err != nil {
				tb.Fatalf("weirtest: %v", err)
			}
			leg.run(r, steps)
			if golden != nil {
				golden(tb, r)
			}
			got := r.outputs()
			if want == nil {
				want = got
			}
			compare(tb, want, got)
		})
	}
}

type matrixLeg struct {
	name        string
	parallelism int
	encode      bool
	run         func(r *Run, steps []Step)
}

var matrixLegs = []matrixLeg{
	{name: "straight", parallelism: 1, run: func(r *Run, steps []Step) {
		r.tb.Helper()
		r.Do(steps...)
		r.Do(EndOfInput())
	}},
	{name: "checkpoints", parallelism: 2, run: func(r *Run, steps []Step) {
		r.tb.Helper()
		n := len(steps)
		r.Do(steps[:n/4]...)
		r.Do(Checkpoint())
		r.Do(steps[n/4 : n/2]...)
		r.Do(Checkpoint(), Checkpoint())
		r.Do(steps[n/2:]...)
		r.Do(Checkpoint(), EndOfInput())
	}},
	{name: "crash", parallelism: 2, run: func(r *Run, steps []Step) {
		r.tb.Helper()
		n := len(steps)
		r.Do(steps[:n/6]...)
		r.Do(Crash(), Restore(0))
		r.Do(steps[n/6 : n/3]...)
		r.Do(CrashInCommit(), Restore(0))
		r.Do(steps[n/3 : n/2]...)
		r.Do(Checkpoint())
		r.Do(steps[n/2 : n-n/6]...)
		r.Do(Crash(), Restore(3))
		r.Do(steps[n-n/6:]...)
		r.Do(EndOfInput())
	}},
	{name: "encoded", parallelism: 2, encode: true, run: func(r *Run, steps []Step) {
		r.tb.Helper()
		n := len(steps)
		r.Do(steps[:n/2]...)
		r.Do(Checkpoint())
		r.Do(steps[n/2:]...)
		r.Do(EndOfInput())
	}},
}

// inputs flattens steps to those that stand for input or time, each with its
// source.
func inputs(dst, steps []Step, in intoStep) []Step {
	for _, s := range steps {
		switch s := s.(type) {
		case intoStep:
			dst = inputs(dst, s.steps, s)
		case recordStep, watermarkStep, togetherStep:
			in.steps = []Step{s}
			dst = append(dst, in)
		case clockStep:
			dst = append(dst, s)
		}
	}
	return dst
}

// outputs returns, for every sink, what is visible in a form in which equal
// outputs are equal.
func (r *Run) outputs() map[string][]string {
	out := map[string][]string{}
	for name, s := range r.cfg.sinks {
		lines := s.render(r.tb, name)
		if r.cfg.inOrder[name] {
			slices.SortStableFunc(lines, func(a, b line) int { return strings.Compare(a.key, b.key) })
		} else {
			slices.SortStableFunc(lines, func(a, b line) int { return strings.Compare(a.text, b.text) })
		}
		for _, l := range lines {
			out[name] = append(out[name], l.text)
		}
	}
	return out
}

// line is one output record, made comparable and readable.
type line struct{ key, text string }

// address is a pointer as %+v shows it within a value: another one in every run.
var address = regexp.MustCompile(`\b0x[0-9a-f]{6,16}\b`)

// render implements output. Values are shown with a sum of their encoding, for
// %+v follows no pointers within them.
func (s *sink[T]) render(tb testing.TB, name string) []line {
	tb.Helper()
	records := s.records(tb, name)
	lines := make([]line, 0, len(records))
	b := s.make().(*operators.TypedBatch[T])
	var wire []byte
	for i := range records {
		r := &records[i]
		b.Reset()
		if d, ok := any(&r.Value).(*weir.DeadLetterRecord); ok {
			d.Refused = time.Time{} // the clock's, which a replay finds elsewhere
		}
		b.Metas, b.Vals = append(b.Metas, base.Meta{}), append(b.Vals, r.Value)
		wire = b.AppendWire(wire[:0])
		lines = append(lines, line{
			key:  fmt.Sprintf("%016x", r.hash),
			text: fmt.Sprintf("%s %s [%08x]", base.FormatTime(r.Time.UnixNano()), address.ReplaceAllString(fmt.Sprintf("%+v", r.Value), "…"), base.HashKey(wire)>>32),
		})
	}
	return lines
}

// maxDiff bounds how many differing records a failure shows.
const maxDiff = 10

// compare fails the test when the outputs differ.
func compare(tb testing.TB, want, got map[string][]string) {
	tb.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w, g := want[name], got[name]
		if slices.Equal(w, g) {
			continue
		}
		count := map[string]int{}
		for _, l := range w {
			count[l]++
		}
		for _, l := range g {
			count[l]--
		}
		var diff []string
		for _, l := range slices.Sorted(maps.Keys(count)) {
			switch n := count[l]; {
			case n > 0:
				diff = append(diff, fmt.Sprintf("missing %d times: %s", n, l))
			case n < 0:
				diff = append(diff, fmt.Sprintf("%d times too often: %s", -n, l))
			}
		}
		if len(diff) == 0 {
			diff = append(diff, "the records are the same, and the order within a key is not")
		}
		if len(diff) > maxDiff {
			diff = append(diff[:maxDiff], fmt.Sprintf("and %d more", len(diff)-maxDiff))
		}
		tb.Errorf("weirtest: sink %s shows %d records and the straight run %d:\n\t%s", name, len(g), len(w), strings.Join(diff, "\n\t"))
	}
}
