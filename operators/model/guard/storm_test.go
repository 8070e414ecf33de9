package guard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirflow/weir/operators/model"
)

// Whatever a model does, every call is answered once and by its own answer, is sent no
// more often than allowed, and in time; the counters agree.
func TestStorm(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { bubble(t, func(t *testing.T) { storm(t, seed) }) })
	}
}

// weather is a model of which every request ends in one way of many.
func weather(r *rand.Rand, f *fake, badness float64) func(context.Context, int, []call) ([]result, error) {
	return func(ctx context.Context, _ int, calls []call) ([]result, error) {
		f.mu.Lock()
		what, slow, each := r.Float64(), time.Duration(r.ExpFloat64()*20e6), make([]float64, len(calls))
		for i := range each {
			each[i] = r.Float64()
		}
		f.mu.Unlock()
		if what > badness {
			what = 1
		} else {
			what /= badness
		}
		switch {
		case what < 0.05:
			time.Sleep(20 * time.Second) // deaf
		case what < 0.1:
			return nil, sleep(ctx, time.Hour)
		case what < 0.15:
			panic("storm")
		case what < 0.2:
			return reply(calls)[:len(calls)-1], nil
		case what < 0.3:
			return nil, &model.Failure{Kind: model.Limited, What: "429", RetryAfter: slow}
		case what < 0.4:
			return nil, &model.Failure{Kind: model.Unavailable, What: "503"}
		case what < 0.5:
			return nil, &model.Failure{Kind: model.Unknown, What: "reset"}
		}
		if err := sleep(ctx, slow); err != nil {
			return nil, err
		}
		out := reply(calls)
		for i := range out {
			if what < 1 && each[i] < 0.6 {
				out[i] = result{Err: &model.Failure{Kind: model.Kind(each[i] / 0.6 * 5), What: "this one"}}
			}
		}
		return out, nil
	}
}

func storm(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 77))
	f := &fake{}
	f.do = weather(rand.New(rand.NewPCG(seed, 78)), f, []float64{0.1, 0.5, 1}[seed%3])
	p := Policy{
		Name: "m", Seed: seed + 1, AttemptTimeout: time.Second, Deadline: 8 * time.Second,
		Hedge: Hedge{On: seed%2 == 0, Samples: 5}, InFlight: InFlight{Max: 1 + int(seed)},
		Retry: Retry{MaxAttempts: 1 + int(seed%5), NotUnknown: seed%4 == 3},
	}
	if seed%3 == 0 {
		p.Budgets = Budgets{Calls: Rate{PerSecond: 100}, Tokens: Rate{PerMinute: 60_000}}
	}
	opts := []Option[int, string]{Reconcile(func(_ context.Context, c call) (result, bool, error) {
		switch c.In % 3 {
		case 0:
			return result{Out: fmt.Sprint(c.In)}, true, nil
		case 1:
			return result{}, false, nil
		}
		return result{}, false, errors.New("who knows")
	})}
	if seed%2 == 1 {
		opts = append(opts, Cache[int, string](func(in int) string { return fmt.Sprint(in) }, nil), Stale[int, string]("old"),
			Default[int, string]("zero", "0", func(in int) (string, bool) { return fmt.Sprint(in), in%5 > 0 }))
	}
	c := wrap(t, f, p, opts...)
	var answered, failed, degraded atomic.Int64
	done := make(chan bool)
	const invokes = 400
	key, calls := 0, int64(0)
	for k := range invokes {
		var in []int
		for range 1 + r.IntN(20) {
			in = append(in, key)
			key++
			calls++
		}
		ctx, cancel := context.WithCancel(t.Context())
		if k%10 == 9 {
			time.AfterFunc(time.Duration(r.IntN(3000))*time.Millisecond, cancel)
		}
		go func() {
			defer func() { cancel(); done <- true }()
			start := time.Now()
			res, err := c.Invoke(ctx, inputs(in...))
			if d := time.Since(start); d > p.Deadline+150*time.Millisecond {
				t.Errorf("an answer after %v", d)
			}
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("%v although nobody cancelled", err)
				}
				failed.Add(int64(len(in)))
				return
			}
			for i, x := range res {
				switch {
				case x.Err != nil:
					var f *model.Failure
					if !errors.As(x.Err, &f) || x.Out != "" {
						t.Errorf("%+v", x)
					}
					failed.Add(1)
				case x.Out != fmt.Sprint(in[i]):
					t.Errorf("call %d has the answer %q", in[i], x.Out)
				case x.Degraded:
					degraded.Add(1)
				default:
					answered.Add(1)
				}
			}
		}()
		time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
	}
	for range invokes {
		<-done
	}
	time.Sleep(time.Minute)
	times, attempts := map[string]int{}, int64(0)
	for _, s := range f.asked() {
		for _, c := range s.calls {
			times[c.Key]++
			attempts++
			if n := times[c.Key]; n > p.Retry.MaxAttempts || c.Attempt > p.Retry.MaxAttempts {
				t.Fatalf("%s is sent for the %d. time, attempt %d", c.Key, n, c.Attempt)
			}
		}
	}
	st := c.Stats()
	t.Logf("%d calls: %d answered, %d degraded, %d failed; %+v", calls, answered.Load(), degraded.Load(), failed.Load(), st)
	if answered.Load()+failed.Load()+degraded.Load() != calls || st.Calls != calls || st.Failed != failed.Load() || st.Degraded != degraded.Load() {
		t.Error("the counts of calls differ")
	}
	if st.Attempts != attempts || st.Requests != int64(len(f.asked())) || f.peak() > p.InFlight.Max {
		t.Errorf("%d attempts in %d requests, %d at once", attempts, len(f.asked()), f.peak())
	}
	if st.InFlight != 0 || st.Waiting != 0 {
		t.Error("something is left in flight")
	}
	if st.Hedges > calls/20 {
		t.Errorf("%d hedges for %d calls", st.Hedges, calls)
	}
}
