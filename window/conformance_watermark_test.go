package window_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/weirtest"
	"github.com/weirflow/weir/window"
)

// wmStep is a step of a watermark case: an event, wall time that passes, or the
// end of input, and the watermark after it.
type wmStep struct {
	Event       *int64
	WallAdvance int64 `json:"wall_advance_ms"`
	EndOfInput  bool  `json:"end_of_input"`
	Watermark   *int64
}

func runWatermark(t *testing.T, c testCase) {
	var steps []wmStep
	for _, raw := range c.Steps {
		var s wmStep
		decode(t, raw, &s)
		steps = append(steps, s)
	}
	trackWatermark(t, dur(c.DelayMs), steps)
	if len(steps) == 0 || steps[0].Event == nil {
		return // a job has nothing to see a watermark by
	}
	for _, leg := range []struct {
		name        string
		parallelism int
		crash       bool
		opts        []weirtest.Option
	}{
		{name: "straight", parallelism: 1}, {name: "checkpoints", parallelism: 2}, {name: "crash", parallelism: 2, crash: true},
		{name: "encoded", parallelism: 2, opts: []weirtest.Option{weirtest.Encoded()}},
	} {
		t.Run(leg.name, func(t *testing.T) {
			opts := append(leg.opts, weirtest.Source[probe]("in"), weirtest.Sink[int64]("reached"), weirtest.Parallelism(leg.parallelism))
			run := weirtest.New(t, watermarkJob(dur(c.DelayMs)), opts...)
			for i, s := range steps {
				if leg.crash && i == len(steps)/2 {
					run.Do(weirtest.Crash(), weirtest.Restore(3))
				}
				takeWatermarkStep(t, run, steps, i, s)
			}
		})
	}
}

// trackWatermark runs the steps on the strategy alone.
func trackWatermark(t *testing.T, delay time.Duration, steps []wmStep) {
	tr := window.WallClockBounded(delay).NewTracker()
	wall := int64(1_000_000)
	for i, s := range steps {
		wall += s.WallAdvance * ms
		if s.Event != nil {
			tr.Observe(*s.Event*ms, wall)
		}
		if s.EndOfInput {
			tr.End()
		}
		got := tr.Advance(wall)
		switch {
		case s.EndOfInput && got != base.MaxTime:
			t.Errorf("step %d: the watermark is %s at the end of input", i+1, base.FormatTime(got))
		case s.Watermark == nil || s.EndOfInput:
		case got != *s.Watermark*ms:
			t.Errorf("step %d: watermark %d, want %d", i+1, got/ms, *s.Watermark)
		}
	}
	tr.End()
	if tr.Advance(wall+1) != base.MaxTime {
		t.Error("the end of input must give +inf")
	}
}

// probe is an event; the first also sets timers, at each expected watermark and
// at the millisecond after it, which show where the watermark of the job is.
type probe struct {
	Time   int64
	Timers []int64
}

type prober struct{ weir.NoState }

func (prober) OnRecord(c *weir.Context[bool, int64], p probe) error {
	for _, at := range p.Timers {
		c.RegisterEventTimer(time.Unix(0, at))
	}
	return nil
}

func (prober) OnTimer(c *weir.Context[bool, int64], t weir.Timer) error {
	c.Emit(t.Time.UnixNano())
	return nil
}

func watermarkJob(delay time.Duration) weir.JobSpec {
	return weir.NewJob("watermark", func(j *weir.Job) {
		in := weir.From[probe](j, "in", nil, weir.WallClockBounded(delay, func(p probe) time.Time { return time.Unix(0, p.Time) }))
		one := weir.KeyBy(in, "one", func(probe) bool { return true })
		out := weir.Process(one, "probe", func() weir.KeyedProcess[bool, probe, int64] { return prober{} })
		weir.To(out, "reached", noSink[int64]())
	})
}

// takeWatermarkStep takes step i and checks which timers have fired after it.
func takeWatermarkStep(t *testing.T, run *weirtest.Run, steps []wmStep, i int, s wmStep) {
	timers := map[int64]bool{}
	for _, s := range steps {
		if s.Watermark != nil {
			timers[*s.Watermark*ms], timers[(*s.Watermark+1)*ms] = true, true
		}
	}
	switch {
	case s.Event != nil:
		p := probe{Time: *s.Event * ms}
		for at := range timers {
			if i == 0 {
				p.Timers = append(p.Timers, at)
			}
		}
		run.Do(weirtest.Value(p))
	case s.EndOfInput:
		run.Do(weirtest.EndOfInput())
	default:
		run.Do(weirtest.AdvanceClock(dur(s.WallAdvance)))
	}
	if s.Watermark == nil && !s.EndOfInput {
		return
	}
	if !s.EndOfInput {
		run.Do(weirtest.Checkpoint())
	}
	var want []string
	for at := range timers {
		if s.EndOfInput || at <= *s.Watermark*ms {
			want = append(want, fmt.Sprint(at))
		}
	}
	compareBags(t, fmt.Sprintf("step %d: timers that the watermark has reached", i+1), numbers(weirtest.Collect[int64](run, "reached")), want)
}
