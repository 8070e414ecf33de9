package weirtest_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/weirtest"
)

// twoTimers has a timer of each kind for every record.
type twoTimers struct {
	weir.NoState
	good *atomic.Bool
}

func (f *twoTimers) OnRecord(c *weir.Context[string, string], _ order) error {
	c.RegisterEventTimer(c.Timestamp().Add(time.Second))
	c.RegisterProcessingTimer(c.ProcessingTime().Add(time.Minute))
	return nil
}

func (f *twoTimers) OnTimer(c *weir.Context[string, string], t weir.Timer) error {
	if !f.good.Load() {
		return errors.New("not yet")
	}
	c.Emit(map[bool]string{true: "processing", false: "event"}[t.Kind == weir.ProcessingTimer])
	return nil
}

// TestRetriedTimersEmitOnTime sends timers of both kinds back: what they emit has the
// event time that it would have if they fired now, so that windows do not find it late.
func TestRetriedTimersEmitOnTime(t *testing.T) {
	var good atomic.Bool
	spec := weir.NewJob("alarms", func(j *weir.Job) {
		in := weir.From(j, "in", memory.NewSource[order](), weir.BoundedOutOfOrderness[order](0, nil))
		by := weir.KeyBy(in, "by-user", func(o order) string { return o.User })
		out := weir.Process(by, "alarms", func() weir.KeyedProcess[string, order, string] { return &twoTimers{good: &good} }, weir.OnError(weir.DeadLetter))
		weir.To(out, "out", memory.NewSink[string]().Sink())
		weir.DeadLetters(j, "dead", memory.NewSink[weir.DeadLetterRecord]().Sink())
	})
	r := weirtest.New(t, spec, retryOptionsOf()...)
	weirtest.Feed(r, "in", weirtest.AtMillis(1000, order{User: "a"}), weirtest.WatermarkMillis(50_000))
	r.Do(weirtest.AdvanceClock(2*time.Minute), weirtest.Checkpoint())
	good.Store(true)
	if n := retryAll(r, 0); n != 2 {
		t.Fatalf("%d letters, want 2", n)
	}
	r.Do(weirtest.Checkpoint())
	for _, d := range weirtest.Collect[weir.DeadLetterRecord](r, "dead")[2:] {
		t.Errorf("letter: %s %s %s", d.Kind, d.Code, d.Error)
	}
	var got []string
	for _, rec := range weirtest.CollectRecords[string](r, "out") {
		got = append(got, rec.Value)
		if want := time.UnixMilli(50_000).UTC(); !rec.Time.Equal(want) {
			t.Errorf("the %s timer emitted at %v, want the watermark, %v", rec.Value, rec.Time.UTC(), want)
		}
	}
	slices.Sort(got)
	if want := []string{"event", "processing"}; !slices.Equal(got, want) {
		t.Errorf("output %q, want %q", got, want)
	}
}

func retryOptionsOf() []weirtest.Option {
	return []weirtest.Option{
		weirtest.Source[order]("in"), weirtest.Source[weir.DeadLetterRetry]("dead-retries"),
		weirtest.Sink[string]("out"), weirtest.Sink[weir.DeadLetterRecord]("dead"),
	}
}

// TestTimeFunctionsThatPanicMakeLetters lets a source's function of the event time panic.
func TestTimeFunctionsThatPanicMakeLetters(t *testing.T) {
	var good atomic.Bool
	spec := weir.NewJob("times", func(j *weir.Job) {
		in := weir.From(j, "in", memory.NewSource[order](), weir.BoundedOutOfOrderness(0, func(o order) time.Time {
			if o.Note == "panic" && !good.Load() {
				panic("no time")
			}
			return time.UnixMilli(int64(o.N))
		}), weir.OnError(weir.DeadLetter))
		weir.To(weir.Map(in, "user", func(o order) string { return o.User }), "out", memory.NewSink[string]().Sink())
		weir.DeadLetters(j, "dead", memory.NewSink[weir.DeadLetterRecord]().Sink())
	})
	r := weirtest.New(t, spec, retryOptionsOf()...)
	weirtest.Feed(r, "in", weirtest.Value(order{"a", 1000, ""}), weirtest.WithHeaders(weirtest.Value(order{"b", 2000, "panic"}), map[string]string{"n": "1"}), weirtest.Value(order{"c", 3000, ""}))
	r.Do(weirtest.Checkpoint())
	retryAll(r, 0)
	r.Do(weirtest.Checkpoint())
	letters := weirtest.Collect[weir.DeadLetterRecord](r, "dead")
	if len(letters) != 2 {
		t.Fatalf("%d letters, want 2", len(letters))
	}
	for i, d := range letters {
		if d.Operator != "in" || d.Kind != "record" || d.Code != "WEIR-0701" || d.Attempt != i+1 || len(d.Raw) == 0 || d.Headers.Get("n") != "1" || d.Stack == "" {
			t.Errorf("letter %d: %+v", i, d)
		}
	}
	good.Store(true)
	retryAll(r, 1)
	r.Do(weirtest.Checkpoint())
	var got []string
	for _, rec := range weirtest.CollectRecords[string](r, "out") {
		got = append(got, rec.Value+" "+rec.Time.UTC().Format("05"))
	}
	if want := []string{"a 01", "c 03", "b 02"}; !slices.Equal(got, want) {
		t.Errorf("output %q, want %q", got, want)
	}
}
