package guard

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/operators/model"
)

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	v := clock.NewVirtual(0)
	opened := 0
	b := newBreaker(Policy{}.withDefaults(0, 0).Breaker, v, func() { opened++ })
	ask := func(failed bool) bool {
		turn, again := b.acquire()
		if again == 0 {
			b.record(turn, failed)
		}
		return again == 0
	}
	for i := range 200 { // 45 % of every 20
		if !ask(i%20 < 9) {
			t.Fatalf("open at request %d of a model with fewer failures than half", i)
		}
	}
	for i := range 10 {
		if !ask(true) {
			break
		}
		if i == 9 && b.now() != open {
			t.Fatal("ten failures of the last 20 leave it closed")
		}
	}
	if b.now() != open || ask(false) || opened != 1 {
		t.Fatal(b.now())
	}
	v.Advance(5*time.Second - 1)
	if ask(false) || b.wait() != 1 {
		t.Fatal("probes too early")
	}
	v.Advance(1)
	// Three probes at once and not more; a failure opens it again.
	var turns []uint64
	for range 3 {
		turn, again := b.acquire()
		if again != 0 {
			t.Fatal("no probe")
		}
		turns = append(turns, turn)
	}
	if _, again := b.acquire(); again == 0 || b.now() != halfOpen {
		t.Fatal("a fourth probe")
	}
	b.record(turns[0], false)
	b.record(turns[1], true)
	if b.now() != open || opened != 2 {
		t.Fatal(b.now())
	}
	b.record(turns[2], false) // too late to count
	v.Advance(5 * time.Second)
	turn, _ := b.acquire()
	b.forget(turn) // as if it had not been
	for range 3 {
		if !ask(false) {
			t.Fatal("no probe")
		}
	}
	if b.now() != closed {
		t.Fatal(b.now())
	}
	for range 9 { // the past does not count
		ask(true)
	}
	if b.now() != closed {
		t.Fatal("old failures count after a recovery")
	}
	late, _ := b.acquire()
	ask(true)
	if b.now() != open {
		t.Fatal("ten failures leave it closed")
	}
	v.Advance(5 * time.Second)
	probe, _ := b.acquire()
	b.record(late, true)
	if b.now() != halfOpen {
		t.Fatal("a request from before it opened counts as a probe")
	}
	b.record(probe, false)
	ask(false)
	ask(false)
	for i := range 30 { // good ones push out what was before it opened, which is forgotten
		ask(i >= 20)
	}
	if b.now() != open {
		t.Fatal("failures from before it opened make up for new ones")
	}
}

// A server that is down for a minute: without a fallback calls wait for it and none is
// lost; requests to it while it is down are few.
func TestOutageOfAMinute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		start := time.Now()
		f := &fake{do: func(_ context.Context, _ int, calls []call) ([]result, error) {
			if d := time.Since(start); d > 10*time.Second && d < 70*time.Second {
				return nil, &model.Failure{Kind: model.Unavailable, What: "connection refused"}
			}
			time.Sleep(10 * time.Millisecond)
			return reply(calls), nil
		}}
		c := wrap(t, f, Policy{Deadline: 5 * time.Minute, Retry: Retry{MaxAttempts: 10}})
		answered, down := make(chan bool, 10_000), 0
		for k := range 1000 {
			go func() { answered <- invokeOK(t, c, k)[0].Err == nil }()
			time.Sleep(100 * time.Millisecond)
		}
		good := 0
		for range 1000 {
			if <-answered {
				good++
			}
		}
		for _, s := range f.asked() {
			if d := s.at.Sub(start); d > 10*time.Second && d < 70*time.Second {
				down++
			}
		}
		st := c.Stats()
		t.Logf("%d of 1000 answered, %d requests to the dead server; %+v", good, down, st)
		if good < 980 || down > 80 || st.Breaker != closed || st.BreakerOpened == 0 {
			t.Error("see above")
		}
	})
	// With one, calls do not wait.
	bubble(t, func(t *testing.T) {
		f := &fake{do: failing(model.Unavailable)}
		c := wrap(t, f, Policy{Name: "main"}, Fallback("backup", model.Client[int, string](&fake{do: answers})))
		for k := range 50 {
			invokeOK(t, c, k)
		}
		start := time.Now()
		res := invokeOK(t, c, 50)
		if time.Since(start) != 0 || !res[0].Degraded || res[0].By != "backup" || res[0].Version != "1" {
			t.Errorf("after %v: %+v", time.Since(start), res[0])
		}
		if st := c.Stats(); st.Breaker != open || st.Degraded != 51 || st.BreakerRefused == 0 || st.Failed != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestLimitInFlight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slow := true
		f := &fake{do: func(_ context.Context, _ int, calls []call) ([]result, error) {
			time.Sleep(100 * time.Millisecond)
			if slow {
				return nil, &model.Failure{Kind: model.Limited, What: "429"}
			}
			return reply(calls), nil
		}}
		c := wrap(t, f, Policy{Deadline: time.Hour, InFlight: InFlight{Max: 16}, Retry: Retry{MaxAttempts: 1}})
		run := func(n int) {
			done := make(chan bool)
			for k := range n {
				go func() { invokeOK(t, c, k); done <- true }()
			}
			for range n {
				<-done
			}
		}
		if _, limit, _ := c.flight.load(); limit != 4 {
			t.Errorf("starts at %d", limit)
		}
		run(200)
		if _, limit, _ := c.flight.load(); limit != 1 {
			t.Errorf("limit %d after 200 refusals", limit)
		}
		slow = false
		run(1000)
		in, limit, waiting := c.flight.load()
		if limit != 16 || f.peak() > 16 || in != 0 || waiting != 0 {
			t.Errorf("limit %d, %d at once; %d in flight and %d waiting at the end", limit, f.peak(), in, waiting)
		}
	})
}

func TestLimitShrinksOnceForARound(t *testing.T) {
	f := newFlight(InFlight{Max: 100, Initial: 100})
	for range 50 {
		f.observe(0, 10, true)
	}
	if f.limit != 90 {
		t.Fatalf("limit %v after one bad moment", f.limit)
	}
	if f.observe(11, 20, true); f.limit != 81 {
		t.Fatalf("limit %v", f.limit)
	}
}

// The slot comes and the waiter goes at the same moment: no slot is lost.
func TestSlotsAreNotLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFlight(InFlight{Max: 1, Fixed: true})
		left := 0
		for range 200 {
			ctx, cancel := context.WithCancel(t.Context())
			if !f.tryAcquire() {
				t.Fatal("a slot is lost")
			}
			errs := make(chan error)
			go func() { errs <- f.acquire(ctx) }()
			time.Sleep(time.Nanosecond)
			f.mu.Lock() // so that both happen before the waiter looks
			cancel()
			f.inUse--
			f.grant()
			f.mu.Unlock()
			if <-errs == nil {
				f.release()
			} else {
				left++
			}
		}
		if left == 0 {
			t.Error("no waiter went when its slot came: the test tests nothing")
		}
	})
}

func TestWaitersForASlotMayLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFlight(InFlight{Max: 1, Fixed: true})
		if f.acquire(t.Context()) != nil {
			t.Fatal()
		}
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		go func() { errs <- f.acquire(ctx) }()
		time.Sleep(time.Nanosecond)
		go func() { errs <- f.acquire(t.Context()) }()
		time.Sleep(time.Nanosecond)
		cancel()
		if <-errs == nil {
			t.Fatal("a cancelled waiter got the slot")
		}
		f.release()
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
		if f.tryAcquire() {
			t.Fatal("two in one slot")
		}
	})
}

// 3 % of the requests take a hundred times longer: with hedging the 99th percentile is
// that of the others, for at most one call of twenty made twice.
func TestHedging(t *testing.T) {
	for _, on := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			f := &fake{}
			f.do = func(ctx context.Context, _ int, calls []call) ([]result, error) {
				f.mu.Lock()
				d := time.Duration((8 + 4*r.Float64()) * 1e6)
				if r.Float64() < 0.03 {
					d = time.Second
				}
				f.mu.Unlock()
				if err := sleep(ctx, d); err != nil {
					return nil, err
				}
				return reply(calls), nil
			}
			c := wrap(t, f, Policy{Hedge: Hedge{On: on}})
			slow := 0
			const calls = 4000
			for k := range calls {
				start := time.Now()
				if res := invokeOK(t, c, k); res[0].Err != nil {
					t.Fatal(res[0].Err)
				}
				if time.Since(start) > 30*time.Millisecond {
					slow++
				}
			}
			synctest.Wait() // what ends a call may come after its answer
			st := c.Stats()
			t.Logf("hedging %v: %d of %d slow; %d hedges, %d won", on, slow, calls, st.Hedges, st.HedgesWon)
			if on && (slow > calls/100 || st.Hedges > calls/20 || st.HedgesWon == 0) || !on && slow < calls/50 {
				t.Error("see above")
			}
			if st.Breaker != closed || st.InFlight != 0 || st.Attempts != calls+st.Hedges {
				t.Errorf("%+v", st)
			}
			if q, ok := c.latencies.quantile(1, 0.95, 30); !ok || q < 11500*time.Microsecond {
				t.Errorf("the 95th percentile is learned as %v; requests that lost count", q)
			}
			if n := int64(c.latencies.classes[0].n); n != calls+st.HedgesWon {
				t.Errorf("%d latencies of %d calls: those of hedges that lost say nothing", n, calls)
			}
			seen := map[string]int{}
			for _, s := range f.asked() {
				if seen[s.calls[0].Key]++; s.calls[0].Attempt != seen[s.calls[0].Key] {
					t.Fatal("two attempts of one number")
				}
			}
		})
	}
}

// Of two requests for a batch, each answers what the other could not; what is answered
// stays.
func TestHedgesAreMerged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &fake{do: func(ctx context.Context, n int, calls []call) ([]result, error) {
			out := reply(calls)
			switch n {
			case 41:
				time.Sleep(50 * time.Millisecond)
				out[1] = result{Err: &model.Failure{Kind: model.Unavailable, What: "no"}}
			case 42:
				time.Sleep(60 * time.Millisecond)
				out[0].Out = "late"
			default:
				time.Sleep(10 * time.Millisecond)
			}
			return out, nil
		}}
		c := wrap(t, f, Policy{Hedge: Hedge{On: true}})
		for k := range 41 {
			res := invokeOK(t, c, 2*k, 2*k+1)
			if k == 40 && (res[0].Out != "80" || res[1].Out != "81") {
				t.Errorf("%+v", res)
			}
		}
		if st := c.Stats(); st.Hedges != 2 || st.HedgesWon != 1 || st.Retries != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestLatencyClasses(t *testing.T) {
	var l latencies
	for i := range 100 {
		l.observe(1, int64(i))
		l.observe(100, int64(1000+i))
	}
	if q, ok := l.quantile(1, 0.95, 30); !ok || q != 95 {
		t.Error(q, ok)
	}
	if q, ok := l.quantile(64, 0.5, 30); !ok || q != 1050 {
		t.Error(q, ok)
	}
	if _, ok := l.quantile(10, 0.95, 30); ok {
		t.Error("nothing is known of ten calls")
	}
}

func TestPolicy(t *testing.T) {
	if err := (Policy{}).Validate(); err != nil {
		t.Fatal(err)
	}
	for want, p := range map[string]Policy{
		"AttemptTimeout":    {AttemptTimeout: -1},
		"Retry.MaxAttempts": {Retry: Retry{MaxAttempts: -1}},
		"Retry.Max is":      {Retry: Retry{Base: time.Minute, Max: time.Second}},
		"Breaker.Ratio":     {Breaker: Breaker{Ratio: 1.5}},
		"Hedge.Quantile":    {Hedge: Hedge{Quantile: 1}},
		"InFlight.Initial":  {InFlight: InFlight{Max: 2, Initial: 3}},
		"no price is":       {Budgets: Budgets{Cost: Rate{PerDay: 10}}},
		"longer period":     {Budgets: Budgets{Calls: Rate{PerSecond: 0.1}}},
		"Budgets.Tokens":    {Budgets: Budgets{Tokens: Rate{PerDay: -1}}},
		"Cache.StaleFor":    {Cache: CacheBounds{StaleFor: -1}},
		"the cache is":      {Cache: CacheBounds{Entries: -1}},
	} {
		err := p.Validate()
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), CodePolicy) {
			t.Errorf("want an error of %s, got %v", want, err)
		}
	}
	f := &fake{do: answers}
	if _, err := Wrap(f, Policy{}, Stale[int, string]("old")); err == nil {
		t.Error("Stale without Cache")
	}
	if _, err := Wrap(f, Policy{Deadline: time.Second, FallbackTimeout: time.Second}, Fallback("b", model.Client[int, string](f))); err == nil {
		t.Error("no time is left for the model")
	}
}
