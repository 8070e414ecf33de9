package window_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/weirtest"
)

// rideEvent is the start or the end of a ride.
type rideEvent struct {
	Ride  int64
	Start bool
	Time  int64
}

func rideAt(e rideEvent) time.Time { return time.Unix(0, e.Time).UTC() }

// longRides is the rule of the keyed-timer cases: a ride of more than two hours
// is reported, at once when its end is missing by then, and otherwise when its
// second event comes.
type longRides struct{ first *state.Value[rideEvent] }

const longRide = 2 * time.Hour

func (f *longRides) Declare(d *weir.Declarer) { f.first = weir.ValueState[rideEvent](d, "first") }

func (f *longRides) OnRecord(c *weir.Context[int64, int64], e rideEvent) error {
	first, ok := f.first.Get()
	switch {
	case !ok:
		f.first.Set(e)
		if e.Start {
			c.RegisterEventTimer(rideAt(e).Add(longRide))
		}
		return nil
	case first.Start == e.Start:
		return nil
	case first.Start:
		c.DeleteEventTimer(rideAt(first).Add(longRide))
	default:
		first, e = e, first
	}
	if rideAt(e).Sub(rideAt(first)) > longRide {
		c.Emit(e.Ride)
	}
	f.first.Clear()
	return nil
}

func (f *longRides) OnTimer(c *weir.Context[int64, int64], _ weir.Timer) error {
	c.Emit(c.Key())
	f.first.Clear()
	return nil
}

func longRidesJob() weir.JobSpec {
	return weir.NewJob("long-rides", func(j *weir.Job) {
		in := weir.From[rideEvent](j, "in", nil, weir.BoundedOutOfOrderness(never, rideAt))
		byRide := weir.KeyBy(in, "by-ride", func(e rideEvent) int64 { return e.Ride })
		alerts := weir.Process(byRide, "long", func() weir.KeyedProcess[int64, rideEvent, int64] { return &longRides{} })
		weir.To(alerts, "alerts", noSink[int64]())
	})
}

// rideStep is a step of a keyed-timer case.
type rideStep struct {
	Ride       *int64
	Start      bool
	TS         int64
	Watermark  *int64
	Expect     *[]int64 `json:"expect_alerts"`
	EndOfInput bool     `json:"end_of_input"`
}

// runKeyedTimer runs a case in the four ways of the matrix. It places the steps
// itself, because a case may expect alerts on the way, and may end without the
// end of input.
func runKeyedTimer(t *testing.T, c testCase) {
	for _, leg := range []struct {
		name        string
		parallelism int
		opts        []weirtest.Option
		// before says what happens before step i of n.
		before func(i, n int) []weirtest.Step
	}{
		{name: "straight", parallelism: 1},
		{name: "checkpoints", parallelism: 2, before: func(int, int) []weirtest.Step { return []weirtest.Step{weirtest.Checkpoint()} }},
		{name: "crash", parallelism: 2, before: func(i, n int) []weirtest.Step {
			var steps []weirtest.Step
			if i == n/4 {
				steps = append(steps, weirtest.Checkpoint())
			}
			if i == n/2 {
				steps = append(steps, weirtest.Crash(), weirtest.Restore(3))
			}
			return steps
		}},
		{name: "encoded", parallelism: 2, opts: []weirtest.Option{weirtest.Encoded()}},
	} {
		t.Run(leg.name, func(t *testing.T) {
			opts := append(leg.opts, weirtest.Source[rideEvent]("in"), weirtest.Sink[int64]("alerts"), weirtest.Parallelism(leg.parallelism))
			run := weirtest.New(t, longRidesJob(), opts...)
			ended, seen := false, 0
			for i, raw := range c.Steps {
				var s rideStep
				decode(t, raw, &s)
				if leg.before != nil {
					run.Do(leg.before(i, len(c.Steps))...)
				}
				ended = s.EndOfInput
				seen = takeRideStep(t, run, i, s, seen)
			}
			if !ended {
				run.Do(weirtest.Checkpoint())
			}
			compareBags(t, "alerts", numbers(weirtest.Collect[int64](run, "alerts")), numbers(c.Alerts))
		})
	}
}

// takeRideStep takes a step; seen is the number of alerts at the expectation
// before.
func takeRideStep(t *testing.T, run *weirtest.Run, i int, s rideStep, seen int) int {
	switch {
	case s.Ride != nil:
		run.Do(weirtest.Value(rideEvent{Ride: *s.Ride, Start: s.Start, Time: s.TS * ms}))
	case s.Watermark != nil:
		// The other engine's watermark is inclusive: no event at or before it follows.
		run.Do(weirtest.Watermark(time.Unix(0, *s.Watermark*ms+1)))
	case s.EndOfInput:
		run.Do(weirtest.EndOfInput())
	case s.Expect != nil:
		run.Do(weirtest.Checkpoint())
		got := numbers(weirtest.Collect[int64](run, "alerts"))
		// All alerts so far, or those since the expectation before.
		want := numbers(*s.Expect)
		if !sameBag(got, want) && !sameBag(got[seen:], want) {
			t.Errorf("step %d: alerts %v, want %v", i+1, got, want)
		}
		return len(got)
	default:
		t.Fatalf("step %d is of no known form", i+1)
	}
	return seen
}

func numbers(in []int64) []string {
	out := make([]string, 0, len(in))
	for _, n := range in {
		out = append(out, fmt.Sprint(n))
	}
	return out
}
