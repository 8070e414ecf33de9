package weirtest_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/weirtest"
)

// moody refuses what begins with "bad" until it is good.
type moody struct{ good *atomic.Bool }

func (c moody) Invoke(_ context.Context, calls []model.Call[string]) ([]model.Result[string], error) {
	out := make([]model.Result[string], len(calls))
	for i, call := range calls {
		if strings.HasPrefix(call.In, "bad") && !c.good.Load() {
			out[i].Err = &model.Failure{Kind: model.Permanent, Status: 400, What: "bad mood"}
			continue
		}
		out[i].Out = strings.ToUpper(call.In)
	}
	return out, nil
}

// checkpointUntil takes checkpoints until something holds: what is asked of a model may
// be answered behind a barrier.
func checkpointUntil(r *weirtest.Run, holds func() bool) bool {
	for range 500 {
		if r.Do(weirtest.Checkpoint()); holds() {
			return true
		}
		time.Sleep(2 * time.Millisecond)
	}
	return false
}

func TestFailedCallsAreDeadLettersAndComeBack(t *testing.T) {
	var good atomic.Bool
	spec := weir.NewJob("moody", func(j *weir.Job) {
		in := weir.From(j, "in", memory.NewSource[order](), weir.BoundedOutOfOrderness[order](0, nil))
		by := weir.KeyBy(in, "by-user", func(o order) string { return o.User })
		answers := weir.Infer(by, "ask", func(model.Env) (model.Client[string, string], error) { return moody{&good}, nil },
			func(o order) string { return o.Note }, func(o order, r model.Result[string]) string { return o.User + " " + r.Out }, weir.OnError(weir.DeadLetter))
		weir.To(answers, "out", memory.NewSink[string]().Sink())
		weir.DeadLetters(j, "dead", memory.NewSink[weir.DeadLetterRecord]().Sink())
	})
	r := weirtest.New(t, spec, weirtest.Parallelism(2), weirtest.Source[order]("in"), weirtest.Source[weir.DeadLetterRetry]("dead-retries"),
		weirtest.Sink[string]("out"), weirtest.Sink[weir.DeadLetterRecord]("dead"))
	count := func(n int) func() bool {
		return func() bool { return len(weirtest.Collect[weir.DeadLetterRecord](r, "dead")) >= n }
	}
	weirtest.Feed(r, "in", steps("x", "bad-1", "y", "bad-2")...)
	checkpointUntil(r, count(2))
	n := retryAll(r, 0)
	letters := weirtest.Collect[weir.DeadLetterRecord](r, "dead")
	if n != 2 || letters[0].Code != "WEIR-0741" || !strings.Contains(letters[0].Error, "bad mood") || !strings.Contains(letters[0].Error, "status 400") || letters[0].Operator != "ask" {
		t.Fatalf("letters: %+v", letters)
	}
	checkpointUntil(r, count(4))
	letters = weirtest.Collect[weir.DeadLetterRecord](r, "dead")
	for _, d := range letters[n:] {
		if d.Attempt != 2 || len(d.Headers) != 1 || d.Headers.Get("n") == "" {
			t.Errorf("letter after a retry: attempt %d, headers %v", d.Attempt, d.Headers)
		}
	}
	n = retryAll(r, n)
	good.Store(true)
	r.Do(weirtest.Crash(), weirtest.Restore(3))
	checkpointUntil(r, func() bool { return len(weirtest.Collect[string](r, "out")) >= 4 })
	if got := len(weirtest.Collect[weir.DeadLetterRecord](r, "dead")); n != 4 || got != 4 {
		t.Errorf("%d letters, and %d before the model was good; want 4", got, n)
	}
	var got []string
	for _, rec := range weirtest.CollectRecords[string](r, "out") {
		got = append(got, rec.Value)
		if len(rec.Headers) != 1 || rec.Headers["n"] == "" {
			t.Errorf("%s has the headers %v", rec.Value, rec.Headers)
		}
	}
	slices.Sort(got)
	if want := []string{"a BAD-2", "a X", "b BAD-1", "c Y"}; !slices.Equal(got, want) {
		t.Errorf("output %q, want %q", got, want)
	}
}

// keyed fails calls and notes their keys.
type keyed struct {
	mu   *sync.Mutex
	keys *[]string
}

func (c keyed) Invoke(_ context.Context, calls []model.Call[string]) ([]model.Result[string], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]model.Result[string], len(calls))
	for i, call := range calls {
		*c.keys = append(*c.keys, call.Key)
		out[i].Err = &model.Failure{Kind: model.Permanent, What: "never"}
	}
	return out, nil
}

// TestRetriedCallsHaveKeysOfTheirOwn sends a letter back twice: every attempt has another
// idempotency key, and what shadows say has the headers of the record and no others.
func TestRetriedCallsHaveKeysOfTheirOwn(t *testing.T) {
	var good atomic.Bool
	var mu sync.Mutex
	var keys []string
	good.Store(true)
	spec := weir.NewJob("keyed", func(j *weir.Job) {
		in := weir.From(j, "in", memory.NewSource[order](), weir.BoundedOutOfOrderness[order](0, nil))
		by := weir.KeyBy(in, "by-user", func(o order) string { return o.User })
		arms := weir.Arms[string, string]{
			"main":   func(model.Env) (model.Client[string, string], error) { return keyed{&mu, &keys}, nil },
			"shadow": func(model.Env) (model.Client[string, string], error) { return moody{&good}, nil },
		}
		routing := model.Everything("main")
		routing.Shadows = []string{"shadow"}
		shadows := weir.NewTag[model.Shadow[string]]("shadows")
		answers := weir.InferRouted(by, "ask", arms, routing, func(o order) string { return o.Note },
			func(o order, r model.Result[string]) string { return o.User + " " + r.Out }, weir.OnError(weir.DeadLetter), weir.ShadowTo(shadows))
		said := weir.Map(weir.SideOutput(answers, shadows), "said", func(s model.Shadow[string]) string { return s.Out })
		weir.To(weir.Union("all", answers, said), "out", memory.NewSink[string]().Sink())
		weir.DeadLetters(j, "dead", memory.NewSink[weir.DeadLetterRecord]().Sink())
	})
	r := weirtest.New(t, spec, weirtest.Source[order]("in"), weirtest.Source[weir.DeadLetterRetry]("dead-retries"),
		weirtest.Sink[string]("out"), weirtest.Sink[weir.DeadLetterRecord]("dead"))
	// A message may have a header of any name that messages can have.
	weirtest.Feed(r, "in", weirtest.WithHeaders(weirtest.AtMillis(1000, order{User: "a", Note: "x"}), map[string]string{"Weir-Attempt": "7"}), weirtest.WatermarkMillis(9000))
	// What comes of a call may be in a later checkpoint than its record.
	for n := range 3 {
		if !checkpointUntil(r, func() bool { return len(weirtest.Collect[weir.DeadLetterRecord](r, "dead")) > n }) {
			t.Fatalf("no letter of attempt %d", n+1)
		}
		if n < 2 {
			retryAll(r, n)
		}
	}
	checkpointUntil(r, func() bool { return len(weirtest.Collect[string](r, "out")) >= 3 })
	for i, d := range weirtest.Collect[weir.DeadLetterRecord](r, "dead") {
		if d.Attempt != i+1 || len(d.Headers) != 1 || d.Headers.Get("Weir-Attempt") != "7" {
			t.Errorf("letter %d: attempt %d, headers %v", i, d.Attempt, d.Headers)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(keys)
	if len(slices.Compact(slices.Clone(keys))) != 3 || len(keys) != 3 {
		t.Errorf("keys %q, want three different ones", keys)
	}
	said := weirtest.CollectRecords[string](r, "out")
	if len(said) != 3 {
		t.Errorf("%d answers of shadows, want 3", len(said))
	}
	for _, rec := range said {
		if rec.Value != "X" || len(rec.Headers) != 1 {
			t.Errorf("shadow %q with the headers %v", rec.Value, rec.Headers)
		}
	}
}
