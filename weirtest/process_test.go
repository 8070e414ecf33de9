package weirtest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/weirtest"
)

// ride is one of the two events of a taxi ride; they may come in either order.
type ride struct {
	ID    uint64
	Start bool
	At    time.Time
}

const longRide = 2 * time.Hour

// longRides alerts once for every ride that takes more than two hours: as soon as
// that is certain, if its end does not come first.
type longRides struct{ first *state.Value[ride] }

func (f *longRides) Declare(d *weir.Declarer) { f.first = weir.ValueState[ride](d, "first") }

func (f *longRides) OnRecord(c *weir.Context[uint64, uint64], r ride) error {
	first, seen := f.first.Get()
	if !seen {
		f.first.Set(r)
		if r.Start {
			c.RegisterEventTimer(r.At.Add(longRide))
		}
		return nil
	}
	start, end := first, r
	if !first.Start {
		start, end = r, first
	}
	c.DeleteEventTimer(start.At.Add(longRide))
	if end.At.Sub(start.At) > longRide {
		c.Emit(c.Key())
	}
	f.first.Clear()
	return nil
}

func (f *longRides) OnTimer(c *weir.Context[uint64, uint64], _ weir.Timer) error {
	c.Emit(c.Key())
	f.first.Clear()
	return nil
}

func rides() weir.JobSpec {
	return weir.NewJob("rides", func(j *weir.Job) {
		in := weir.From(j, "rides", real[ride]{}, weir.BoundedOutOfOrderness(1000*time.Hour, func(r ride) time.Time { return r.At }))
		byRide := weir.KeyBy(in, "by-ride", func(r ride) uint64 { return r.ID })
		alerts := weir.Process(byRide, "long-rides", func() weir.KeyedProcess[uint64, ride, uint64] { return &longRides{} })
		weir.To(alerts, "alerts", realSink[uint64]())
	})
}

var rideDay = time.Date(2020, 1, 1, 12, 0, 0, 0, time.UTC)

func event(id uint64, start bool, after time.Duration) weirtest.Step {
	return weirtest.Value(ride{ID: id, Start: start, At: rideDay.Add(after)})
}

func mark(after time.Duration) weirtest.Step { return weirtest.Watermark(rideDay.Add(after)) }

func TestLongRideAlertsOnTheWatermark(t *testing.T) {
	run := weirtest.New(t, rides(), weirtest.Source[ride]("rides"), weirtest.Sink[uint64]("alerts"))
	want := func(ids ...uint64) {
		t.Helper()
		run.Do(weirtest.Checkpoint())
		if got := weirtest.Collect[uint64](run, "alerts"); !slices.Equal(got, ids) {
			t.Fatalf("alerts: %v, want %v", got, ids)
		}
	}
	run.Do(event(1, true, 0))
	want()
	run.Do(mark(2*time.Hour - 1))
	want()
	run.Do(mark(2 * time.Hour))
	want(1)
	run.Do(weirtest.EndOfInput())
	if got := weirtest.Collect[uint64](run, "alerts"); len(got) != 1 {
		t.Fatalf("at the end: %v", got)
	}
}

func TestLongRidesInTheMatrix(t *testing.T) {
	var steps []weirtest.Step
	want := map[uint64]bool{}
	for id := range uint64(40) {
		at := time.Duration(id) * time.Minute
		takes := time.Duration(100+id%3*20) * time.Minute // 100, 120 or 140 minutes
		start, end := event(id, true, at), event(id, false, at+takes)
		if id%5 == 0 {
			start, end = end, start
		}
		if id%7 == 0 { // the end never comes
			steps = append(steps, event(id, true, at))
			want[id] = true
			continue
		}
		steps = append(steps, start)
		if id%2 == 0 {
			steps = append(steps, mark(at))
		}
		steps = append(steps, end)
		want[id] = want[id] || takes > longRide
	}
	steps = append(steps, mark(130*time.Minute), event(100, true, 130*time.Minute), mark(300*time.Minute))
	want[100] = true
	weirtest.Matrix(t, rides(), steps, func(tb testing.TB, r *weirtest.Run) {
		tb.Helper()
		got := weirtest.Collect[uint64](r, "alerts")
		seen := map[uint64]int{}
		for _, id := range got {
			seen[id]++
		}
		for id, alert := range want {
			if n := seen[id]; alert != (n == 1) || n > 1 {
				tb.Errorf("ride %d: %d alerts, want one: %v", id, n, alert)
			}
		}
	}, weirtest.Source[ride]("rides"), weirtest.Sink[uint64]("alerts"))
}

// alarm rings for a user at a processing time after each click, and says so for
// clicks without a user on a side output.
type alarm struct{ weir.NoState }

var nobody = weir.NewTag[click]("nobody")

func (alarm) OnRecord(c *weir.Context[string, string], v click) error {
	if v.User == "" {
		weir.EmitTo(c, nobody, v)
		return nil
	}
	c.RegisterProcessingTimer(c.ProcessingTime().Add(time.Duration(v.N) * time.Second))
	return nil
}

func (alarm) OnTimer(c *weir.Context[string, string], t weir.Timer) error {
	c.Emit(c.Key() + " " + t.Time.Format(time.TimeOnly))
	return nil
}

func alarms() weir.JobSpec {
	return weir.NewJob("alarms", func(j *weir.Job) {
		in := weir.From(j, "clicks", real[click]{}, weir.Ascending(clickTime))
		byUser := weir.KeyBy(in, "by-user", func(c click) string { return c.User })
		rung := weir.Process(byUser, "alarm", func() weir.KeyedProcess[string, click, string] { return alarm{} }, weir.WritesTo(nobody))
		weir.To(rung, "rung", realSink[string]())
		weir.To(weir.SideOutput(rung, nobody), "nobody", realSink[click]())
	})
}

func alarmRun(t *testing.T) *weirtest.Run {
	t.Helper()
	return weirtest.New(t, alarms(), weirtest.Source[click]("clicks"), weirtest.Sink[string]("rung"), weirtest.Sink[click]("nobody"), logs())
}

func TestProcessingTimersFollowTheClock(t *testing.T) {
	run := alarmRun(t)
	run.Do(
		weirtest.Value(click{User: "b", N: 20}), weirtest.Value(click{User: "a", N: 10}), weirtest.Value(click{}),
		weirtest.AdvanceClock(9*time.Second), weirtest.Checkpoint(),
	)
	if got := weirtest.Collect[string](run, "rung"); len(got) != 0 {
		t.Fatalf("too early: %v", got)
	}
	run.Do(weirtest.AdvanceClock(24*time.Hour), weirtest.Checkpoint())
	if got := weirtest.Collect[string](run, "rung"); !slices.Equal(sortedStrings(got), []string{"a 00:00:10", "b 00:00:20"}) {
		t.Fatalf("rung: %v", got)
	}
	if got := weirtest.Collect[click](run, "nobody"); len(got) != 1 {
		t.Fatalf("side output: %v", got)
	}
}

func sortedStrings(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

// TestProcessingTimersDueWhileDownFireOnRestore: in the order of their times.
func TestProcessingTimersDueWhileDownFireOnRestore(t *testing.T) {
	run := alarmRun(t)
	for _, n := range []int{30, 10, 20, 500} {
		run.Do(weirtest.Value(click{User: "a", N: n}))
	}
	run.Do(weirtest.Checkpoint(), weirtest.Crash(), weirtest.AdvanceClock(time.Minute), weirtest.Restore(3), weirtest.Checkpoint())
	if got := weirtest.Collect[string](run, "rung"); !slices.Equal(got, []string{"a 00:00:10", "a 00:00:20", "a 00:00:30"}) {
		t.Fatalf("after the restore: %v", got)
	}
	run.Do(weirtest.EndOfInput())
	if got := weirtest.Collect[string](run, "rung"); len(got) != 4 || got[3] != "a 00:08:20" {
		t.Fatalf("at the end of input: %v", got)
	}
}

// session counts the clicks of a user; the count lives for ten seconds of event
// time after the last one.
type session struct {
	weir.NoTimers[string, string]
	n *state.Value[int]
}

func (f *session) Declare(d *weir.Declarer) {
	f.n = weir.ValueState[int](d, "n", state.TTL(10*time.Second))
}

func (f *session) OnRecord(c *weir.Context[string, string], v click) error {
	n, _ := f.n.Get()
	f.n.Set(n + 1)
	c.Emit(strings.Repeat("+", n+1))
	return nil
}

func TestStateExpiresInEventTime(t *testing.T) {
	spec := weir.NewJob("sessions", func(j *weir.Job) {
		in := weir.From(j, "clicks", real[click]{}, weir.Ascending(clickTime))
		byUser := weir.KeyBy(in, "by-user", func(c click) string { return c.User })
		out := weir.Process(byUser, "session", func() weir.KeyedProcess[string, click, string] { return &session{} })
		weir.To(out, "out", realSink[string]())
	})
	var steps []weirtest.Step
	for _, sec := range []int64{0, 5, 14, 24, 100, 101} {
		steps = append(steps, weirtest.WatermarkMillis(sec*1000), weirtest.Value(click{User: "a", At: sec * 1000}))
	}
	weirtest.Matrix(t, spec, steps, func(tb testing.TB, r *weirtest.Run) {
		tb.Helper()
		want := []string{"+", "++", "+++", "+", "+", "++"}
		if got := weirtest.Collect[string](r, "out"); !slices.Equal(got, want) {
			tb.Errorf("%q, want %q", got, want)
		}
	}, weirtest.Source[click]("clicks"), weirtest.Sink[string]("out"))
}
