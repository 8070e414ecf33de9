package window_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/weirtest"
	"github.com/weirflow/weir/window"
)

// tip is the record of the two-stage cases.
type tip struct {
	Driver int64
	Time   int64
	Tip    float64
}

// best keeps the driver with the largest sum, of equal ones the one with the
// least number.
type best struct{}

type bestSum struct {
	Driver int64
	Sum    float64
	Seen   bool
}

func (best) Add(acc *bestSum, v weir.Windowed[int64, float64]) {
	best{}.Merge(acc, &bestSum{Driver: v.Key, Sum: v.Value, Seen: true})
}

func (best) Merge(dst, src *bestSum) {
	switch {
	case !src.Seen:
	case !dst.Seen, src.Sum > dst.Sum, src.Sum == dst.Sum && src.Driver < dst.Driver:
		*dst = *src
	}
}

func (best) Result(acc *bestSum) bestSum { return *acc }

var _ weir.AggregateFunction[weir.Windowed[int64, float64], bestSum, bestSum] = best{}

type hourly = weir.Windowed[bool, bestSum]

// twoStageJob sums the tips of each driver by window, and keeps the largest sum
// of each window.
func twoStageJob(spec window.Spec, delay time.Duration) weir.JobSpec {
	return weir.NewJob("two-stage", func(j *weir.Job) {
		in := weir.From[tip](j, "in", nil, weir.BoundedOutOfOrderness(delay, func(v tip) time.Time { return time.Unix(0, v.Time) }), weir.WatermarkEveryRecord())
		byDriver := weir.KeyBy(in, "by-driver", func(v tip) int64 { return v.Driver })
		sums := weir.Aggregate(byDriver, "sums", spec, weir.Sum(func(v tip) float64 { return v.Tip }))
		all := weir.KeyBy(sums, "all", func(weir.Windowed[int64, float64]) bool { return true })
		weir.To(weir.Aggregate(all, "best", spec, best{}), "out", noSink[hourly]())
	})
}

func runTwoStage(t *testing.T, c testCase) {
	size, delay := time.Hour, never
	if c.SizeMs > 0 {
		size = dur(c.SizeMs)
	}
	if c.WatermarkDelayMs != nil {
		delay = dur(*c.WatermarkDelayMs)
	}
	var steps []weirtest.Step
	for _, raw := range c.Events {
		var e struct {
			TS     int64
			Driver int64
			Tip    float64
		}
		decode(t, raw, &e)
		steps = append(steps, weirtest.Value(tip{Driver: e.Driver, Time: e.TS * ms, Tip: e.Tip}))
	}
	var want []string
	for _, w := range c.Expected {
		sum, err := w["sum"].(json.Number).Float64()
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("end %v driver %v sum %s", w["end"], w["driver"], number(sum)))
	}
	weirtest.Matrix(t, twoStageJob(window.Tumbling(size), delay), steps, func(tb testing.TB, r *weirtest.Run) {
		var got []string
		for _, w := range weirtest.Collect[hourly](r, "out") {
			got = append(got, fmt.Sprintf("end %d driver %d sum %s", w.End.UnixMilli(), w.Value.Driver, number(w.Value.Sum)))
		}
		compareBags(tb, "best sums", got, want)
	}, weirtest.Source[tip]("in"), weirtest.Sink[hourly]("out"))
}
