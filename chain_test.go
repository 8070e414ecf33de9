package weir_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/weirtest"
)

// chainStart is the processing time at which weirtest starts.
var chainStart = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func chainEvent(t testing.TB, id string) weir.Event {
	t.Helper()
	e, err := weir.NewEvent("asked", id, "k-"+id, chainStart, map[string]string{"question": id})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// failing makes the failure of an attempt: "unavailable", or the kind behind the
// colon of the correlation.
func failing(a weir.Attempt) model.Failed[weir.Attempt] {
	_, kind, _ := strings.Cut(a.Event.Correlation, ":")
	if kind == "" {
		kind = "unavailable"
	}
	return model.Failed[weir.Attempt]{Record: a, Kind: kind, What: fmt.Sprintf("attempt %d", a.N), Attempts: 1}
}

// chainJob tries each event and fails each attempt. Its control events go nowhere but
// to the sink: the test feeds them.
func chainJob(p weir.RetryPolicy) weir.JobSpec {
	return weir.NewJob("chain", func(j *weir.Job) {
		in := weir.From(j, "events", memory.NewSource[weir.Event](), weir.ProcessingTime[weir.Event]())
		retries := weir.From(j, "retries", memory.NewSource[weir.Event](), weir.ProcessingTime[weir.Event]())
		attempts := weir.Attempts(in, retries, "think", weir.OnError(weir.Skip))
		weir.To(weir.Map(attempts.Stream, "seen", func(a weir.Attempt) weir.Attempt { return a }), "attempts", memory.NewSink[weir.Attempt]().Sink())
		failed := weir.Map(attempts.Stream, "fail", failing)
		weir.To(weir.RetryOrGiveUp(failed, "think", p), "control", memory.NewSink[weir.Event]().Sink())
	})
}

func chainOptions() []weirtest.Option {
	return []weirtest.Option{
		weirtest.Source[weir.Event]("events"), weirtest.Source[weir.Event]("retries"),
		weirtest.Sink[weir.Attempt]("attempts"), weirtest.Sink[weir.Event]("control"),
	}
}

func chainRetry(t testing.TB, of weir.Event, step string, n int, notBefore time.Time) weir.Event {
	t.Helper()
	e, err := of.Next(weir.RetryRequestedType, chainStart, weir.RetryRequested{Step: step, Attempt: n, NotBefore: notBefore.UnixMilli(), Event: of})
	if err != nil {
		t.Fatal(err)
	}
	e.ID = fmt.Sprintf("%s-%s-%d", of.Correlation, step, n)
	return e
}

func attemptsSeen(r *weirtest.Run) []string {
	var out []string
	for _, a := range weirtest.Collect[weir.Attempt](r, "attempts") {
		out = append(out, fmt.Sprintf("%s %d", a.Event.Correlation, a.N))
	}
	slices.Sort(out)
	return out
}

// TestAttemptsWaitForTheirTime: a retry is tried when its time has come and no earlier,
// those for other steps never, whatever crashes in between.
func TestAttemptsWaitForTheirTime(t *testing.T) {
	a, b := chainEvent(t, "a"), chainEvent(t, "b")
	bad := chainRetry(t, a, "think", 2, chainStart)
	bad.Payload = json.RawMessage(`[]`)
	events := []weirtest.Step{
		weirtest.Into("events", weirtest.At(chainStart, a), weirtest.At(chainStart, b)),
		weirtest.Into("retries",
			weirtest.At(chainStart, chainRetry(t, a, "think", 2, chainStart.Add(10*time.Second))),
			weirtest.At(chainStart, chainRetry(t, a, "think", 3, chainStart.Add(20*time.Second))),
			weirtest.At(chainStart, chainRetry(t, b, "other", 2, chainStart)),
			weirtest.At(chainStart, bad),
			weirtest.At(chainStart, chainRetry(t, b, "think", 2, chainStart.Add(-time.Second)))),
	}
	run := weirtest.New(t, chainJob(weir.RetryPolicy{}), chainOptions()...)
	run.Do(events...)
	for _, c := range []struct {
		step weirtest.Step
		want []string
	}{
		{weirtest.Checkpoint(), []string{"a 1", "b 1", "b 2"}},
		{weirtest.AdvanceClock(9 * time.Second), []string{"a 1", "b 1", "b 2"}},
		{weirtest.AdvanceClock(time.Second), []string{"a 1", "a 2", "b 1", "b 2"}},
		{weirtest.Crash(), nil},
		{weirtest.Restore(2), nil},
		{weirtest.AdvanceClock(10 * time.Second), []string{"a 1", "a 2", "a 3", "b 1", "b 2"}},
	} {
		run.Do(c.step)
		if c.want == nil {
			continue
		}
		run.Do(weirtest.Checkpoint())
		if got := attemptsSeen(run); !slices.Equal(got, c.want) {
			t.Fatalf("attempts %v, want %v", got, c.want)
		}
	}
	for _, a := range weirtest.Collect[weir.Attempt](run, "attempts") {
		want := a.Event.ID
		if a.N > 1 {
			want = fmt.Sprintf("%s-think-%d", a.Event.Correlation, a.N)
		}
		if a.Cause != want || a.Event.Type != "asked" {
			t.Errorf("attempt %d of %s is caused by %s, want %s", a.N, a.Event.Correlation, a.Cause, want)
		}
	}
	weirtest.Matrix(t, chainJob(weir.RetryPolicy{}), append(events, weirtest.AdvanceClock(time.Minute)), nil, chainOptions()...)
}

// TestRetryOrGiveUp: what is requested after which attempt, and when.
func TestRetryOrGiveUp(t *testing.T) {
	p := weir.RetryPolicy{Attempts: 4, Backoff: time.Second, MaxBackoff: 3 * time.Second, Within: 100 * time.Second}
	old := chainEvent(t, "old")
	old.At -= 99_500
	a := chainEvent(t, "a")
	run := weirtest.New(t, chainJob(p), chainOptions()...)
	run.Do(weirtest.Into("events", weirtest.At(chainStart, a), weirtest.At(chainStart, chainEvent(t, "b:permanent")), weirtest.At(chainStart, old)))
	for n := 2; n <= 4; n++ {
		run.Do(weirtest.Into("retries", weirtest.At(chainStart, chainRetry(t, a, "think", n, chainStart))))
	}
	run.Do(weirtest.Checkpoint())
	got := map[string]string{}
	ids := map[string]bool{}
	for _, e := range weirtest.Collect[weir.Event](run, "control") {
		if ids[e.ID] {
			t.Errorf("two events have the ID %s", e.ID)
		}
		ids[e.ID] = true
		key := fmt.Sprintf("%s %d", e.Correlation, e.Attempt)
		if f, err := weir.EventPayload[weir.StepFailed](e); e.Type == weir.StepFailedType {
			if err != nil || f.Attempts != e.Attempt || f.Why != fmt.Sprintf("attempt %d", e.Attempt) || f.Event.Correlation != e.Correlation {
				t.Errorf("%s: %+v, %v", key, f, err)
			}
			got[key] = "failed"
			continue
		}
		r, err := weir.EventPayload[weir.RetryRequested](e)
		if err != nil || r.Attempt != e.Attempt+1 || r.Step != "think" || e.Causation == "" {
			t.Errorf("%s: %+v, %v", key, r, err)
		}
		wait := time.UnixMilli(r.NotBefore).Sub(chainStart)
		most := min(time.Second<<(e.Attempt-1), 3*time.Second)
		if wait > most || wait < most/2-time.Millisecond {
			t.Errorf("%s: waits %v, want half of %v to all of it", key, wait, most)
		}
		got[key] = "retry"
	}
	want := map[string]string{"a 1": "retry", "a 2": "retry", "a 3": "retry", "a 4": "failed", "b:permanent 1": "failed", "old 1": "failed"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestEvents(t *testing.T) {
	for _, c := range []struct{ typ, id string }{{"", "a"}, {"asked", ""}, {"as.ked", "a"}, {"asked", "a b"}, {"asked", ">"}, {"asked", "*"}, {"asked", strings.Repeat("a", 129)},
		{"asked", "a\vb"}, {"asked\f", "a"}, {"asked", "a\u00a0b"}, {"asked", "a\x01"}, {"asked", "a\xff"}} {
		if _, err := weir.NewEvent(c.typ, c.id, "k", chainStart, 1); err == nil || !strings.Contains(err.Error(), weir.CodeEvent) {
			t.Errorf("%q %q: %v", c.typ, c.id, err)
		}
	}
	if _, err := weir.NewEvent("asked", "a", "k", chainStart, func() {}); err == nil {
		t.Error("a function is a payload")
	}
	a := chainEvent(t, "a")
	b, err := a.Next("answered", chainStart.Add(time.Second), 7)
	if err != nil || b.Correlation != "a" || b.Causation != a.ID || b.Key != a.Key || b.Subject("x") != "x.answered.a" || b.At-a.At != 1000 {
		t.Errorf("%+v, %v", b, err)
	}
	for _, typ := range []string{"", "an.swered", "answered >", "answered\u00a0"} {
		if _, err := a.Next(typ, chainStart, 7); err == nil || !strings.Contains(err.Error(), weir.CodeEvent) {
			t.Errorf("%q: %v", typ, err)
		}
	}
	again, _ := a.Next("answered", chainStart, 8)
	if other, _ := a.Next("noticed", chainStart, 7); again.ID != b.ID || other.ID == b.ID || b.ID == a.ID {
		t.Errorf("IDs %s, %s, %s of %s", b.ID, again.ID, other.ID, a.ID)
	}
	if n, err := weir.EventPayload[int](b); n != 7 || err != nil {
		t.Errorf("payload %d, %v", n, err)
	}
	if _, err := weir.EventPayload[string](b); err == nil || !strings.Contains(err.Error(), "answered") {
		t.Errorf("a number as a text: %v", err)
	}
}

// TestDeadLettersOfAChain: what is given up is one dead letter, through a crash; sent
// back, it is tried once more, and given up again.
func TestDeadLettersOfAChain(t *testing.T) {
	bad := weir.OnError(weir.DeadLetter)
	job := weir.NewJob("chain", func(j *weir.Job) {
		in := weir.From(j, "events", memory.NewSource[weir.Event](), weir.ProcessingTime[weir.Event]())
		retries := weir.From(j, "retries", memory.NewSource[weir.Event](), weir.ProcessingTime[weir.Event]())
		failed := weir.Map(weir.Attempts(in, retries, "think", bad).Stream, "fail", failing)
		weir.To(weir.RetryOrGiveUp(failed, "think", weir.RetryPolicy{Attempts: 1, DeadLetters: true}), "control", memory.NewSink[weir.Event]().Sink())
		weir.DeadLetters(j, "dead", memory.NewSink[weir.DeadLetterRecord]().Sink())
	})
	run := weirtest.New(t, job, weirtest.Source[weir.Event]("events"), weirtest.Source[weir.Event]("retries"), weirtest.Source[weir.DeadLetterRetry]("dead-retries"),
		weirtest.Sink[weir.Event]("control"), weirtest.Sink[weir.DeadLetterRecord]("dead"))
	control := func(n int) weir.Event {
		t.Helper()
		all := weirtest.Collect[weir.Event](run, "control")
		if len(all) != n {
			t.Fatalf("%d control events, want %d: %+v", len(all), n, all)
		}
		return all[n-1]
	}
	letters := func(n int) weir.DeadLetterRecord {
		t.Helper()
		all := weirtest.Collect[weir.DeadLetterRecord](run, "dead")
		if len(all) != n || all[n-1].Operator != "think/given-up" || all[n-1].Code != weir.CodeEvent {
			t.Fatalf("%d dead letters, want %d: %+v", len(all), n, all)
		}
		return all[n-1]
	}
	run.Do(weirtest.Into("events", weirtest.At(chainStart, chainEvent(t, "a"))), weirtest.Checkpoint(), weirtest.Crash(), weirtest.Restore(2))
	gone := control(1)
	if gone.Type != weir.StepFailedType {
		t.Fatalf("%+v", gone)
	}
	run.Do(weirtest.Into("dead-retries", weirtest.At(chainStart, weir.RetryOf(letters(1)))), weirtest.Checkpoint())
	again := control(2)
	r, err := weir.EventPayload[weir.RetryRequested](again)
	if err != nil || again.Type != weir.RetryRequestedType || again.Causation != gone.ID || r.Attempt != 2 || r.Step != "think" || r.Event.Correlation != "a" {
		t.Fatalf("%+v, %+v, %v", again, r, err)
	}
	run.Do(weirtest.Into("retries", weirtest.At(chainStart, again)), weirtest.Checkpoint())
	if last := control(3); last.Type != weir.StepFailedType || last.Attempt != 2 || last.Causation != again.ID || last.ID == gone.ID {
		t.Fatalf("%+v", last)
	}
	letters(2)
}
