package weirtest_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/weirtest"
)

func retryOptions() []weirtest.Option {
	return []weirtest.Option{
		weirtest.Source[order]("in"), weirtest.SourceDecoder("in", parseOrder), weirtest.Source[weir.DeadLetterRetry]("dead-retries"),
		weirtest.Sink[string]("out"), weirtest.Sink[weir.DeadLetterRecord]("dead"),
	}
}

// parseOrder decodes USER N.
func parseOrder(raw []byte) (o order, err error) {
	user, n, ok := strings.Cut(string(raw), " ")
	if !ok {
		return o, errors.New("no number")
	}
	o.User = user
	o.N, err = strconv.Atoi(n)
	return o, err
}

// mended is a job whose functions refuse and panic until they are mended.
func mended(good *atomic.Bool) weir.JobSpec {
	bad := weir.OnError(weir.DeadLetter)
	return weir.NewJob("mended", func(j *weir.Job) {
		in := weir.From(j, "in", memory.NewSource[order](), weir.BoundedOutOfOrderness[order](0, nil), bad)
		tried := weir.TryMap(in, "try", func(o order) (order, error) {
			if o.Note == "try" && !good.Load() {
				return o, errors.New("not yet")
			}
			return o, nil
		}, bad)
		by := weir.KeyBy(tried, "by-user", func(o order) string { return o.User })
		weir.To(weir.Process(by, "sums", func() weir.KeyedProcess[string, order, string] { return &mendedSums{good: good} }, bad), "out", memory.NewSink[string]().Sink())
		weir.DeadLetters(j, "dead", memory.NewSink[weir.DeadLetterRecord]().Sink())
	})
}

type mendedSums struct {
	fussy
	good *atomic.Bool
}

func (f *mendedSums) OnRecord(c *weir.Context[string, string], o order) error {
	if o.Note == "panic" && !f.good.Load() {
		panic("not yet")
	}
	sum, _ := f.sum.Get()
	f.sum.Set(sum + o.N)
	c.Emit(fmt.Sprintf("%s +%d at %d, n %s", o.User, o.N, c.Timestamp().UnixMilli(), c.Header("n")))
	if o.Note == "timer" {
		c.RegisterEventTimer(c.Timestamp().Add(time.Second))
	}
	return nil
}

func (f *mendedSums) OnTimer(c *weir.Context[string, string], t weir.Timer) error {
	if !f.good.Load() {
		return errors.New("not yet")
	}
	sum, _ := f.sum.Get()
	c.Emit(fmt.Sprintf("%s timer at %d: %d", c.Key(), t.Time.UnixMilli(), sum))
	return nil
}

// retryAll feeds the letters that came behind the first n to the retry stream, and
// returns how many there are now.
func retryAll(r *weirtest.Run, n int) int {
	letters := weirtest.Collect[weir.DeadLetterRecord](r, "dead")
	for _, d := range letters[n:] {
		weirtest.Feed(r, "dead-retries", weirtest.Value(weir.RetryOf(d)))
	}
	return len(letters)
}

func TestRetriedLettersDrainOnceTheJobIsMended(t *testing.T) {
	for _, parallelism := range []int{1, 3} {
		t.Run(fmt.Sprint(parallelism), func(t *testing.T) {
			var good atomic.Bool
			r := weirtest.New(t, mended(&good), append(retryOptions(), weirtest.Parallelism(parallelism))...)
			weirtest.Feed(r, "in", steps("", "try", "panic", "malformed", "timer", "", "panic")...)
			weirtest.Feed(r, "in", weirtest.Malformed([]byte("c 100"), errors.New("not yet")))
			r.Do(weirtest.Checkpoint())
			n := retryAll(r, 0)
			if n != 6 {
				t.Fatalf("%d letters, want 6", n)
			}
			// Not mended: what is refused again comes back with the next attempt, once.
			r.Do(weirtest.Checkpoint())
			letters := weirtest.Collect[weir.DeadLetterRecord](r, "dead")
			if len(letters) != 11 { // one of the source is decoded now
				t.Fatalf("%d letters after a retry, want 11", len(letters))
			}
			for _, d := range letters[n:] {
				if d.Attempt != 2 || d.Operator == "in" && (d.Error != "no number" || d.Code != "WEIR-0605") {
					t.Errorf("letter after a retry: %s attempt %d, %s", d.Operator, d.Attempt, d.Error)
				}
			}
			// A crash takes the retry back, and the next start does it again.
			n = retryAll(r, n)
			r.Do(weirtest.Crash())
			good.Store(true)
			r.Do(weirtest.Restore(2), weirtest.Checkpoint())
			letters = weirtest.Collect[weir.DeadLetterRecord](r, "dead")
			if len(letters) != n+1 || letters[n].Attempt != 3 || string(letters[n].Raw) != "{no" {
				t.Errorf("letters once it is mended: %+v", letters[n:])
			}
			want := []string{
				"a +0 at 1000, n 0", "b timer at 6000: 4", "b +1 at 2000, n 1", "b +4 at 5000, n 4", "c +100 at 0, n ", "c +2 at 3000, n 2", "c +5 at 6000, n 5", "a +6 at 7000, n 6",
			}
			got := weirtest.Collect[string](r, "out")
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("output\n%q, want\n%q", got, want)
			}
			r.Do(weirtest.EndOfInput())
		})
	}
}

// TestRetriesInTheMatrix sends letters back while the job crashes.
func TestRetriesInTheMatrix(t *testing.T) {
	var letters []weir.DeadLetterRecord
	var good atomic.Bool
	r := weirtest.New(t, mended(&good), retryOptions()...)
	in := steps("", "try", "panic", "malformed", "timer", "try", "panic", "", "", "panic")
	weirtest.Feed(r, "in", in...)
	r.Do(weirtest.Checkpoint())
	letters = weirtest.Collect[weir.DeadLetterRecord](r, "dead")
	if len(letters) != 7 {
		t.Fatalf("%d letters", len(letters))
	}
	all := []weirtest.Step{weirtest.Into("in", in...)}
	for _, d := range letters {
		all = append(all, weirtest.Into("dead-retries", weirtest.Value(weir.RetryOf(d))))
	}
	gone := weir.RetryOf(letters[0])
	gone.Letter.Operator = "gone"
	drop := weir.DeadLetterRetry{ID: letters[1].ID, Action: "drop"}
	all = append(all, weirtest.AdvanceClock(time.Second), weirtest.Into("dead-retries", weirtest.Value(gone), weirtest.Value(drop)))
	weirtest.Matrix(t, mended(&good), all, func(tb testing.TB, r *weirtest.Run) {
		attempts := map[int]int{}
		for _, d := range weirtest.Collect[weir.DeadLetterRecord](r, "dead") {
			attempts[d.Attempt]++
			if d.Operator == "gone" && (d.Code != "WEIR-0740" || !strings.Contains(d.Error, `no operator "gone"`)) {
				tb.Errorf("letter of an operator that is gone: %s %s", d.Code, d.Error)
			}
		}
		if attempts[1] != 7 || attempts[2] != 8 || len(attempts) != 2 {
			tb.Errorf("letters by attempt: %v, want 7 and 8", attempts)
		}
	}, retryOptions()...)
}

// TestLettersAreCutToWhatTheSinkTakes refuses a record that is larger than the sink of
// the dead letters takes: the job goes on, and the letter cannot be sent back.
func TestLettersAreCutToWhatTheSinkTakes(t *testing.T) {
	spec := weir.NewJob("large", func(j *weir.Job) {
		in := weir.From(j, "in", memory.NewSource[order](), weir.BoundedOutOfOrderness[order](0, nil))
		small := weir.TryMap(in, "try", func(o order) (int, error) {
			if len(o.Note) > 1000 {
				return 0, errors.New(strings.Repeat("large ", 10_000))
			}
			return o.N, nil
		}, weir.OnError(weir.DeadLetter))
		weir.To(small, "out", memory.NewSink[int]().Sink())
		weir.DeadLetters(j, "dead", memory.NewSink[weir.DeadLetterRecord]().Sink())
	})
	r := weirtest.New(t, spec, weirtest.Source[order]("in"), weirtest.Source[weir.DeadLetterRetry]("dead-retries"),
		weirtest.Sink[int]("out"), weirtest.Sink[weir.DeadLetterRecord]("dead"))
	const size = 3 << 20
	weirtest.Feed(r, "in", steps("", strings.Repeat("x", size), "")...)
	r.Do(weirtest.Checkpoint())
	retryAll(r, 0)
	r.Do(weirtest.Checkpoint())
	letters := weirtest.Collect[weir.DeadLetterRecord](r, "dead")
	if len(letters) != 2 {
		t.Fatalf("%d letters", len(letters))
	}
	for i, d := range letters {
		if !d.Truncated() || d.Size < size || len(d.Raw) == 0 || len(d.Error) > 5000 || d.Attempt != i+1 {
			t.Errorf("letter %d: %d of %d bytes, %d bytes of error", i, len(d.Raw), d.Size, len(d.Error))
		}
	}
	if d := letters[1]; d.Code != "WEIR-0740" || !strings.Contains(d.Error, "bytes of the record") {
		t.Errorf("letter that was sent back: %s %s", d.Code, d.Error)
	}
	if out := weirtest.Collect[int](r, "out"); !slices.Equal(out, []int{0, 2}) {
		t.Errorf("output %v", out)
	}
}

// TestTwinsHaveOneID refuses the records of a stream and a copy of it: two letters of
// one ID, each of which goes back.
func TestTwinsHaveOneID(t *testing.T) {
	var good atomic.Bool
	spec := weir.NewJob("twins", func(j *weir.Job) {
		in := weir.From(j, "in", memory.NewSource[order](), weir.BoundedOutOfOrderness[order](0, nil))
		tried := weir.TryMap(weir.Union("both", in, in), "try", func(o order) (int, error) {
			if !good.Load() {
				return 0, errors.New("not yet")
			}
			return o.N, nil
		}, weir.OnError(weir.DeadLetter))
		weir.To(tried, "out", memory.NewSink[int]().Sink())
		weir.DeadLetters(j, "dead", memory.NewSink[weir.DeadLetterRecord]().Sink())
	})
	r := weirtest.New(t, spec, weirtest.Source[order]("in"), weirtest.Source[weir.DeadLetterRetry]("dead-retries"),
		weirtest.Sink[int]("out"), weirtest.Sink[weir.DeadLetterRecord]("dead"))
	weirtest.Feed(r, "in", steps("")...)
	r.Do(weirtest.Checkpoint())
	letters := weirtest.Collect[weir.DeadLetterRecord](r, "dead")
	if len(letters) != 2 || letters[0].ID != letters[1].ID {
		t.Fatalf("letters: %+v", letters)
	}
	good.Store(true)
	both := weir.RetryOf(letters[0])
	both.Times = 2
	other := both
	other.Letter.Job = "another"
	weirtest.Feed(r, "dead-retries", weirtest.Value(both), weirtest.Value(other))
	r.Do(weirtest.Checkpoint())
	if out := weirtest.Collect[int](r, "out"); !slices.Equal(out, []int{0, 0}) {
		t.Errorf("output %v", out)
	}
}
