package torture_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/weirtest"
)

// item is a record of the small jobs that reproduce what storms have found.
type item struct {
	Key string
	N   int64
}

func itemTime(i item) time.Time { return time.UnixMilli(i.N * 1000) }

func items(n int) (steps []weirtest.Step, all []string) {
	for i := range int64(n) {
		v := item{fmt.Sprint("k", i%7), i}
		steps = append(steps, weirtest.Value(v))
		all = append(all, fmt.Sprintf("%s %d", v.Key, v.N))
	}
	return steps, all
}

// TestUnionBuildsWhatFollowsOnce: what reads a union was built once for every
// input of it, so its sink sealed two blocks of one lane, and its outgoing edge
// let barriers overtake records.
func TestUnionBuildsWhatFollowsOnce(t *testing.T) {
	spec := weir.NewJob("union", func(j *weir.Job) {
		in := weir.From(j, "in", memory.NewSource[item](), weir.Ascending(itemTime))
		byKey := weir.KeyBy(in, "by-key", func(i item) string { return i.Key })
		odd := weir.Filter(byKey.Stream, "odd", func(i item) bool { return i.N%2 == 1 })
		even := weir.Filter(byKey.Stream, "even", func(i item) bool { return i.N%2 == 0 })
		shown := weir.Map(weir.Union("both", odd, even), "show", func(i item) string { return fmt.Sprintf("%s %d", i.Key, i.N) })
		weir.To(shown, "out", memory.NewSink[string]().Sink())
	})
	steps, want := items(60)
	slices.Sort(want)
	weirtest.Matrix(t, spec, steps, func(tb testing.TB, r *weirtest.Run) {
		tb.Helper()
		got := weirtest.Collect[string](r, "out")
		slices.Sort(got)
		if !slices.Equal(got, want) {
			tb.Errorf("output: %v\nwant: %v", got, want)
		}
	}, weirtest.Source[item]("in"), weirtest.Sink[string]("out"))
}

// clockReader emits the watermark that it sees at each record.
type clockReader struct {
	weir.NoTimers[string, int64]
	weir.NoState
}

// OnRecord emits the watermark in milliseconds.
func (clockReader) OnRecord(c *weir.Context[string, int64], _ item) error {
	c.Emit(c.Watermark().UnixMilli())
	return nil
}

// TestWatermarkIsRestored: event time stands after a restore where it stood at the
// checkpoint, or later.
func TestWatermarkIsRestored(t *testing.T) {
	spec := weir.NewJob("clock", func(j *weir.Job) {
		in := weir.From(j, "in", memory.NewSource[item](), weir.BoundedOutOfOrderness(10*time.Second, itemTime))
		byKey := weir.KeyBy(in, "by-key", func(i item) string { return i.Key })
		seen := weir.Process(byKey, "clock", func() weir.KeyedProcess[string, item, int64] { return clockReader{} })
		weir.To(seen, "out", memory.NewSink[int64]().Sink())
	})
	run := weirtest.New(t, spec, weirtest.Source[item]("in"), weirtest.Sink[int64]("out"))
	at := func(n int64) weirtest.Step { return weirtest.Value(item{"k", n}) }
	run.Do(at(100), at(200), weirtest.Checkpoint(), weirtest.Crash(), weirtest.Restore(2), at(195), weirtest.Checkpoint())
	got := weirtest.Collect[int64](run, "out")
	if len(got) != 3 || got[2] != 190_000 {
		t.Errorf("watermarks: %v; the last must be 190000", got)
	}
}
