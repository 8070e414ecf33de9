package guard

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirflow/weir/operators/model"
)

func TestWhatIsRetried(t *testing.T) {
	for kind, want := range map[model.Kind]int{
		model.Permanent: 1, model.Invalid: 1, model.Unavailable: 3, model.Limited: 3, model.Unknown: 3,
	} {
		bubble(t, func(t *testing.T) {
			f := &fake{do: failing(kind)}
			c := wrap(t, f, Policy{Name: "m"})
			failure := wantFailure(t, invokeOK(t, c, 7)[0], kind)
			if f.requests() != want {
				t.Errorf("%s: %d requests, want %d", kindName(kind), f.requests(), want)
			}
			if !strings.HasPrefix(failure.What, "m: no answer after ") || strings.Count(failure.What, kindName(kind)) != want {
				t.Errorf("history of %d attempts: %q", want, failure.What)
			}
		})
	}
	bubble(t, func(t *testing.T) {
		f := &fake{do: failing(model.Unknown)}
		c := wrap(t, f, Policy{Retry: Retry{NotUnknown: true}})
		wantFailure(t, invokeOK(t, c, 7)[0], model.Unknown)
		if f.requests() != 1 {
			t.Errorf("%d requests", f.requests())
		}
	})
}

// An attempt that may have happened makes the whole outcome unknown.
func TestUnknownOutlivesLaterAttempts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &fake{do: func(_ context.Context, n int, _ []call) ([]result, error) {
			return nil, &model.Failure{Kind: []model.Kind{model.Unknown, model.Unavailable}[min(n, 2)-1], What: "no"}
		}}
		c := wrap(t, f, Policy{})
		wantFailure(t, invokeOK(t, c, 1)[0], model.Unknown)
	})
}

func TestOnlyFailedCallsAreRetried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &fake{do: func(_ context.Context, n int, calls []call) ([]result, error) {
			out := reply(calls)
			for i, c := range calls {
				if c.In%2 == 0 && n <= 2 && c.In != 10*n {
					out[i] = result{Err: &model.Failure{Kind: model.Unavailable, What: "no"}}
				}
				if c.In == 3 {
					out[i] = result{Err: &model.Failure{Kind: model.Permanent, What: "bad"}}
				}
			}
			return out, nil
		}}
		c := wrap(t, f, Policy{Name: "m"})
		res := invokeOK(t, c, 1, 2, 3, 20, 5)
		for i, want := range []string{"1", "2", "", "20", "5"} {
			if res[i].Out != want || res[i].By != map[bool]string{true: "m"}[want != ""] || res[i].Degraded {
				t.Errorf("result %d is %+v, want %q", i, res[i], want)
			}
		}
		wantFailure(t, res[2], model.Permanent)
		var got []string
		for _, s := range f.asked() {
			for _, c := range s.calls {
				got = append(got, fmt.Sprintf("%s/%d", c.Key, c.Attempt))
			}
		}
		if s := strings.Join(got, " "); s != "k1/1 k2/1 k3/1 k20/1 k5/1 k2/2 k20/2 k2/3" {
			t.Errorf("sent %s", s)
		}
		st := c.Stats()
		if st.Calls != 5 || st.Requests != 3 || st.Attempts != 8 || st.Retries != 3 || st.Failed != 1 || st.InputTokens != 40 {
			t.Errorf("%+v", st)
		}
	})
}

func TestNotBeforeRetryAfter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		start := time.Now()
		f := &fake{do: func(_ context.Context, n int, calls []call) ([]result, error) {
			if n == 1 {
				return nil, &model.Failure{Kind: model.Limited, What: "slow down", RetryAfter: 7 * time.Second}
			}
			return reply(calls), nil
		}}
		c := wrap(t, f, Policy{})
		go func() {
			time.Sleep(time.Second)
			invokeOK(t, c, 2) // it was told to another, but it holds for all
		}()
		invokeOK(t, c, 1)
		synctest.Wait()
		time.Sleep(time.Minute)
		for _, s := range f.asked()[1:] {
			if d := s.at.Sub(start); d < 7*time.Second || d > 8*time.Second {
				t.Errorf("a request %v after the start", d)
			}
		}
		if f.requests() != 3 {
			t.Errorf("%d requests", f.requests())
		}
	})
	// No time for it is left: the failure comes at once.
	bubble(t, func(t *testing.T) {
		start := time.Now()
		f := &fake{do: func(context.Context, int, []call) ([]result, error) {
			return nil, &model.Failure{Kind: model.Limited, What: "tomorrow", RetryAfter: 24 * time.Hour}
		}}
		c := wrap(t, f, Policy{})
		wantFailure(t, invokeOK(t, c, 1)[0], model.Limited)
		if time.Since(start) != 0 {
			t.Errorf("waited %v for nothing", time.Since(start))
		}
	})
}

func TestPauses(t *testing.T) {
	// Who waits for a slot in flight does not take it into a pause.
	bubble(t, func(t *testing.T) {
		start := time.Now()
		f := &fake{do: func(_ context.Context, n int, calls []call) ([]result, error) {
			time.Sleep(time.Second)
			if n == 1 {
				return nil, &model.Failure{Kind: model.Limited, What: "429", RetryAfter: 5 * time.Second}
			}
			return reply(calls), nil
		}}
		c := wrap(t, f, Policy{InFlight: InFlight{Max: 1}})
		for k := range 5 {
			go invokeOK(t, c, k)
		}
		time.Sleep(time.Minute)
		for _, s := range f.asked()[1:] {
			if d := s.at.Sub(start); d < 6*time.Second {
				t.Errorf("a request %v after the start", d)
			}
		}
		if f.requests() != 6 {
			t.Errorf("%d requests", f.requests())
		}
	})
	// A model that is wrong about how long is asked again after a while.
	bubble(t, func(t *testing.T) {
		f := &fake{do: func(_ context.Context, n int, calls []call) ([]result, error) {
			if n == 1 {
				return nil, &model.Failure{Kind: model.Limited, What: "429", RetryAfter: 1e6 * time.Hour}
			}
			return reply(calls), nil
		}}
		c := wrap(t, f, Policy{Deadline: 10 * time.Second})
		wantFailure(t, invokeOK(t, c, 1)[0], model.Limited)
		time.Sleep(time.Second)
		if r := invokeOK(t, c, 2)[0]; r.Out != "2" {
			t.Errorf("%+v", r)
		}
	})
}

func TestFullJitter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &fake{do: failing(model.Unavailable)}
		c := wrap(t, f, Policy{Deadline: time.Hour, Breaker: Breaker{Off: true},
			Retry: Retry{MaxAttempts: 6, Base: time.Second, Max: 5 * time.Second, Ratio: 1, Min: 1000}})
		low, high := 0, 0
		for k := range 200 {
			f.forget()
			invokeOK(t, c, k)
			if len(f.asked()) != 6 {
				t.Fatalf("%d attempts", len(f.asked()))
			}
			for i := 1; i < len(f.asked()); i++ {
				wait, most := f.asked()[i].at.Sub(f.asked()[i-1].at), min(5*time.Second, time.Second<<(i-1))
				if wait < 0 || wait > most {
					t.Fatalf("wait %d is %v, at most %v", i, wait, most)
				}
				if wait < most/4 {
					low++
				}
				if wait > most*3/4 {
					high++
				}
			}
		}
		if low < 180 || low > 320 || high < 180 || high > 320 {
			t.Errorf("of 1000 waits %d are in the lowest and %d in the highest quarter", low, high)
		}
	})
}

// At every retry, the retries of the last window are within their share of the calls
// of it.
func TestRetryBudget(t *testing.T) {
	for seed := range uint64(4) {
		bubble(t, func(t *testing.T) {
			const window = 10 * time.Second
			f := &fake{do: func(_ context.Context, n int, calls []call) ([]result, error) {
				if n%10 < 3+int(seed) {
					return nil, &model.Failure{Kind: model.Unavailable, What: "503"}
				}
				return reply(calls), nil
			}}
			c := wrap(t, f, Policy{Seed: seed + 1, Breaker: Breaker{Off: true}, InFlight: InFlight{Max: 1000, Fixed: true}, Retry: Retry{Min: 5}})
			for k := range 3000 {
				go invokeOK(t, c, k)
				time.Sleep(time.Duration(1+k%7*k%31) * time.Millisecond)
			}
			time.Sleep(2 * time.Minute)
			refused := c.Stats().RetriesRefused
			if refused == 0 || c.Stats().Retries < 300 {
				t.Errorf("%+v", c.Stats())
			}
			log := f.asked()
			at := func(i int) time.Time { return log[i].at }
			for i := range log {
				first, again := 0, 0
				for k := i; k >= 0 && at(i).Sub(at(k)) <= window+window/50; k-- {
					if log[k].calls[0].Attempt == 1 {
						first++
					} else if at(i).Sub(at(k)) <= window-time.Second {
						// A retry is granted up to the backoff before it is sent.
						again++
					}
				}
				if float64(again) > 0.1*float64(first)+5+3 {
					t.Fatalf("%d retries beside %d calls in the window before request %d", again, first, i)
				}
			}
		})
	}
}

func TestShare(t *testing.T) {
	s := newShare(0.1, 2, time.Second, 0)
	s.called(0, 100)
	if !s.take(0, 12) || s.take(0, 1) {
		t.Fatal("12 are a tenth of 100, and 2")
	}
	if s.take(999e6, 1) {
		t.Fatal("the second is not over")
	}
	if !s.take(1100e6, 2) || s.take(1100e6, 1) {
		t.Fatal("nothing but 2 after the window")
	}
}

func TestTimeouts(t *testing.T) {
	// A client that hangs, but returns when it is told to.
	bubble(t, func(t *testing.T) {
		start := time.Now()
		f := &fake{do: func(ctx context.Context, _ int, _ []call) ([]result, error) { return nil, sleep(ctx, time.Hour) }}
		c := wrap(t, f, Policy{AttemptTimeout: 5 * time.Second, Deadline: 12 * time.Second})
		wantFailure(t, invokeOK(t, c, 1)[0], model.Unknown)
		if d := time.Since(start); d > 12*time.Second || f.requests() < 2 {
			t.Errorf("%d requests in %v", f.requests(), d)
		}
	})
	// One that does not even that: it keeps its slot, and callers get their answer.
	bubble(t, func(t *testing.T) {
		start := time.Now()
		f := &fake{do: func(context.Context, int, []call) ([]result, error) {
			time.Sleep(time.Hour)
			return nil, &model.Failure{What: "late"}
		}}
		c := wrap(t, f, Policy{AttemptTimeout: time.Second, Deadline: 10 * time.Second, Breaker: Breaker{Off: true},
			InFlight: InFlight{Max: 4, Fixed: true}, Retry: Retry{Min: 1000}})
		done := make(chan bool)
		for k := range 20 {
			go func() {
				res := invokeOK(t, c, k)
				if res[0].Err == nil {
					t.Error("an answer from nowhere")
				}
				done <- true
			}()
		}
		for range 20 {
			<-done
		}
		if d := time.Since(start); d > 10*time.Second+200*time.Millisecond {
			t.Errorf("answered after %v", d)
		}
		if f.peak() > 4 {
			t.Errorf("%d stuck requests at once, the limit is 4", f.peak())
		}
		time.Sleep(2 * time.Hour)
		if st := c.Stats(); st.InFlight != 0 || st.Waiting != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A client that ignores the end of an attempt costs the attempt and not the call. What
// it says when it returns comes too late to count again.
func TestAttemptsLeftBehind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		start := time.Now()
		f := &fake{do: func(_ context.Context, n int, calls []call) ([]result, error) {
			if n == 1 {
				time.Sleep(time.Hour)
				return nil, &model.Failure{Kind: model.Unavailable, What: "late"}
			}
			return reply(calls), nil
		}}
		c := wrap(t, f, Policy{AttemptTimeout: time.Second, Deadline: 10 * time.Second, Breaker: Breaker{Window: 2, Ratio: 1}})
		if r := invokeOK(t, c, 1)[0]; r.Out != "1" || time.Since(start) > 1300*time.Millisecond {
			t.Errorf("%+v after %v", r, time.Since(start))
		}
		if st := c.Stats(); st.InFlight != 1 {
			t.Errorf("%+v: it still has its slot", st)
		}
		time.Sleep(2 * time.Hour)
	})
	bubble(t, func(t *testing.T) {
		f := &fake{do: func(context.Context, int, []call) ([]result, error) {
			time.Sleep(time.Hour)
			return nil, &model.Failure{Kind: model.Unavailable, What: "late"}
		}}
		c := wrap(t, f, Policy{Retry: Retry{MaxAttempts: 1}, Breaker: Breaker{Window: 3, Ratio: 1}})
		invokeOK(t, c, 1)
		invokeOK(t, c, 2)
		time.Sleep(2 * time.Hour)
		if st := c.Stats(); st.Breaker != closed || st.InFlight != 0 {
			t.Errorf("%+v: two failed requests count as three", st)
		}
	})
}

func TestCancelled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &fake{do: func(ctx context.Context, _ int, _ []call) ([]result, error) { return nil, sleep(ctx, time.Hour) }}
		c := wrap(t, f, Policy{}, Default[int, string]("zero", "0", func(int) (string, bool) { return "zero", true }))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		res, err := c.Invoke(ctx, inputs(1, 2))
		if res != nil || failureOf(err).Kind != model.Unknown {
			t.Errorf("%v, %v: a job that stops is no reason for default values", res, err)
		}
		if st := c.Stats(); st.Breaker != closed || st.Degraded != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// Events with little time left say nothing of the model.
func TestShortDeadlinesDoNotOpenTheBreaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &fake{do: func(ctx context.Context, _ int, calls []call) ([]result, error) {
			if err := sleep(ctx, 100*time.Millisecond); err != nil {
				return nil, err
			}
			return reply(calls), nil
		}}
		c := wrap(t, f, Policy{}, Default[int, string]("zero", "", func(in int) (string, bool) { return "zero", in > 0 }))
		for k := range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			res, err := c.Invoke(ctx, inputs(k))
			cancel()
			if k == 0 && failureOf(err).Kind != model.Unknown || k > 0 && (err != nil || res[0].Out != "zero") {
				t.Fatal(k, res, err)
			}
		}
		synctest.Wait()
		if st := c.Stats(); st.Breaker != closed || st.Limit != 16 || st.InFlight != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestClientsThatBreakTheContract(t *testing.T) {
	bubble(t, func(t *testing.T) {
		short := wrap(t, &fake{do: func(_ context.Context, _ int, calls []call) ([]result, error) { return reply(calls[1:]), nil }}, Policy{})
		wantFailure(t, invokeOK(t, short, 1, 2)[0], model.Invalid)
		panics := wrap(t, &fake{do: func(context.Context, int, []call) ([]result, error) { panic("oops") }}, Policy{})
		if f := wantFailure(t, invokeOK(t, panics, 1)[0], model.Permanent); !strings.Contains(f.Error(), "oops") {
			t.Error(f)
		}
		plain := wrap(t, &fake{do: func(context.Context, int, []call) ([]result, error) { return nil, fmt.Errorf("plain") }}, Policy{})
		wantFailure(t, invokeOK(t, plain, 1)[0], model.Permanent)
		if res, err := plain.Invoke(t.Context(), nil); res != nil || err != nil {
			t.Error(res, err)
		}
	})
}
