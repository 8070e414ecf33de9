package guard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weirflow/weir/operators/model"
)

func byInput(in int) string {
	if in < 0 {
		return ""
	}
	return fmt.Sprint("in", in%10)
}

func TestCacheAnswersOnceInItsTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &fake{do: answers}
		c := wrap(t, f, Policy{Name: "m", Cache: CacheBounds{TTL: time.Minute}}, Cache(byInput, func(s string) int64 { return int64(len(s)) }))
		if r := invokeOK(t, c, 1, 2); r[0].Cached || r[0].Out != "1" {
			t.Errorf("%+v", r)
		}
		time.Sleep(59 * time.Second)
		r := invokeOK(t, c, 11, 3, 2)
		if !r[0].Cached || r[0].Out != "1" || r[0].Version != "1" || r[0].By != "m" || r[0].Degraded || r[0].Usage != (model.Usage{}) {
			t.Errorf("%+v", r[0])
		}
		if r[1].Cached || !r[2].Cached || len(f.asked()[1].calls) != 1 {
			t.Errorf("%+v, asked %v", r, f.asked()[1].calls)
		}
		time.Sleep(time.Second)
		if r := invokeOK(t, c, 1); r[0].Cached {
			t.Error("the answer's time is over")
		}
		invokeOK(t, c, -1)
		invokeOK(t, c, -1)
		if st := c.Stats(); st.CacheHits != 2 || st.CallsAvoided != 2 || st.Requests != 5 || st.CacheEntries != 3 {
			t.Errorf("%+v", st)
		}
	})
}

// The cache against a list of all that was ever put in: it never exceeds its bounds,
// never gives an old or a wrong answer, and throws away what was used least recently.
func TestCacheProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := CacheBounds{TTL: 100, StaleFor: 50, Entries: rapid.IntRange(1, 5).Draw(t, "entries"), Bytes: rapid.Int64Range(100, 1500).Draw(t, "bytes")}
		c := newCache(b, func(s string) int64 { return int64(len(s)) })
		type item struct {
			key, out string
			made     int64
		}
		var recent []item // the last was used last
		size := func() (n int64) {
			for _, i := range recent {
				n += int64(len(i.key)+len(i.out)) + entryOverhead
			}
			return n
		}
		now := int64(0)
		for step := range rapid.IntRange(1, 150).Draw(t, "steps") {
			now += rapid.Int64Range(0, 20).Draw(t, "time")
			key := string(rune('a' + rapid.IntRange(0, 7).Draw(t, "key")))
			at := -1
			for i := range recent {
				if recent[i].key == key {
					at = i
				}
			}
			if rapid.Bool().Draw(t, "put") {
				out := strings.Repeat("x", rapid.IntRange(0, 300).Draw(t, "size")) + fmt.Sprint(step)
				c.put(key, model.Result[string]{Out: out}, now)
				if at >= 0 {
					recent = append(recent[:at], recent[at+1:]...)
				}
				if int64(1+len(out))+entryOverhead <= b.Bytes {
					recent = append(recent, item{key, out, now})
					for len(recent) > b.Entries || size() > b.Bytes {
						recent = recent[1:]
					}
				}
			} else {
				stale := rapid.Bool().Draw(t, "stale")
				res, ok := c.get(key, now, stale)
				want := at >= 0 && (now-recent[at].made < 100 || stale && now-recent[at].made < 150)
				if ok != want || ok && (res.Out != recent[at].out || !res.Cached) {
					t.Fatalf("%q at %d: %v %+v, want %v", key, now, ok, res, want)
				}
				if at >= 0 && ok {
					i := recent[at]
					recent = append(append(recent[:at:at], recent[at+1:]...), i)
				} else if at >= 0 && now-recent[at].made >= 150 {
					recent = append(recent[:at], recent[at+1:]...)
				}
			}
			if n, bytes := c.load(); n != len(recent) || bytes != size() || bytes > b.Bytes || n > b.Entries || c.recent.Len() != n {
				t.Fatalf("%d entries of %d bytes, want %d of %d", n, bytes, len(recent), size())
			}
		}
	})
}

// Down the chain: the other endpoint knows even inputs, the stale cache 3, and the
// default is not for 99.
func TestFallbackChain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		down := false
		f := &fake{do: func(_ context.Context, _ int, calls []call) ([]result, error) {
			if down {
				return nil, &model.Failure{Kind: model.Unavailable, What: "down"}
			}
			return reply(calls), nil
		}}
		other := &fake{do: func(_ context.Context, _ int, calls []call) ([]result, error) {
			out := reply(calls)
			for i := range out {
				out[i].Version = "other-7"
				if calls[i].In%2 == 1 {
					out[i] = result{Err: &model.Failure{Kind: model.Permanent, What: "no"}}
				}
			}
			return out, nil
		}}
		c := wrap(t, f, Policy{Name: "m", Cache: CacheBounds{TTL: time.Minute}},
			Cache[int, string](func(in int) string { return fmt.Sprint(in) }, nil),
			Fallback("other", model.Client[int, string](other)), Stale[int, string]("old"),
			Default[int, string]("zero", "v0", func(in int) (string, bool) { return "0", in != 99 }))
		invokeOK(t, c, 3)
		down = true
		time.Sleep(2 * time.Minute)
		r := invokeOK(t, c, 1, 2, 3, 99)
		want := []result{
			{Out: "0", By: "zero", Version: "v0", Degraded: true},
			{Out: "2", By: "other", Version: "other-7", Degraded: true, Usage: model.Usage{InputTokens: 10, OutputTokens: 5}},
			{Out: "3", By: "old", Version: "1", Degraded: true, Cached: true},
		}
		for i := range want {
			if r[i] != want[i] {
				t.Errorf("got %+v, want %+v", r[i], want[i])
			}
		}
		wantFailure(t, r[3], model.Unavailable)
		if len(other.asked()) != 1 || len(other.asked()[0].calls) != 4 || other.asked()[0].calls[0].Attempt != 1 || other.asked()[0].calls[0].Key != "k1" {
			t.Errorf("the other endpoint was asked %v", other.asked())
		}
		// Degraded answers do not get into the cache.
		down = false
		if r := invokeOK(t, c, 2)[0]; r.Degraded || r.Cached {
			t.Errorf("%+v", r)
		}
		if st := c.Stats(); st.Degraded != 3 || st.Failed != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// A guarded client in a guard: its degraded answers are passed on as such, and are not
// kept.
func TestNestedGuards(t *testing.T) {
	bubble(t, func(t *testing.T) {
		inner := wrap(t, &fake{do: failing(model.Unavailable)}, Policy{Name: "inner"},
			Default[int, string]("zero", "v0", func(int) (string, bool) { return "0", true }))
		c := wrap(t, inner, Policy{Name: "outer"}, Cache[int, string](byInput, nil))
		for range 2 {
			if r := invokeOK(t, c, 1)[0]; !r.Degraded || r.By != "zero" || r.Version != "v0" || r.Cached {
				t.Errorf("%+v", r)
			}
		}
		if st := c.Stats(); st.CacheEntries != 0 || st.Degraded != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestBadInputsAreNotPaperedOver(t *testing.T) {
	for _, even := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			c := wrap(t, &fake{do: failing(model.Permanent)}, Policy{FallbackPermanent: even},
				Default[int, string]("zero", "", func(int) (string, bool) { return "0", true }))
			r := invokeOK(t, c, 1)[0]
			if even != r.Degraded || even == (r.Err != nil) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// The model hangs and so does the first fallback, which moreover ignores the end of
// its context; the next is a guarded client. All is over at the deadline.
func TestFallbacksWithinTheDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hang := &fake{do: func(ctx context.Context, _ int, _ []call) ([]result, error) { return nil, sleep(ctx, time.Hour) }}
		deaf := &fake{do: func(context.Context, int, []call) ([]result, error) {
			time.Sleep(10 * time.Minute)
			return nil, errors.New("late")
		}}
		local := wrap(t, &fake{do: answers}, Policy{Name: "local"})
		c := wrap(t, hang, Policy{AttemptTimeout: 3 * time.Second, Deadline: 12 * time.Second, FallbackTimeout: 2 * time.Second},
			Fallback("deaf", model.Client[int, string](deaf)), Fallback("backup", model.Client[int, string](local)))
		start := time.Now()
		r := invokeOK(t, c, 1)[0]
		if d := time.Since(start); !r.Degraded || r.By != "local" || d > 12*time.Second || d < 8*time.Second {
			t.Errorf("%+v after %v", r, d)
		}
		time.Sleep(time.Hour)
	})
}

func TestReconciler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &fake{do: func(_ context.Context, n int, calls []call) ([]result, error) {
			if n == 1 {
				return nil, &model.Failure{Kind: model.Unknown, What: "connection reset"}
			}
			return reply(calls), nil
		}}
		c := wrap(t, f, Policy{Name: "m", Retry: Retry{NotUnknown: true}}, Reconcile(func(_ context.Context, c call) (result, bool, error) {
			switch c.In {
			case 1:
				return result{Out: "was 1"}, true, nil
			case 2:
				return result{}, false, nil
			case 3:
				return result{Err: &model.Failure{Kind: model.Permanent, What: "refused"}}, true, nil
			case 4:
				return result{}, false, errors.New("who knows")
			}
			panic("oops")
		}))
		r := invokeOK(t, c, 1, 2, 3, 4, 5)
		if r[0].Out != "was 1" || r[0].By != "m" || r[1].Out != "2" {
			t.Errorf("%+v", r[:2])
		}
		wantFailure(t, r[2], model.Permanent)
		wantFailure(t, r[3], model.Unknown)
		wantFailure(t, r[4], model.Unknown)
		if f.requests() != 2 || len(f.asked()[1].calls) != 1 {
			t.Errorf("asked %v: only the call that did not happen is repeated", f.asked())
		}
		// A call from before a restart is looked for before it is made again.
		again := inputs(1, 2)
		again[0].Attempt, again[1].Attempt = 2, 2
		got, err := c.Invoke(t.Context(), again)
		if err != nil || got[0].Out != "was 1" || got[1].Out != "2" || len(f.asked()) != 3 || f.asked()[2].calls[0].Attempt != 2 {
			t.Errorf("%+v, %v, %v", got, err, f.asked())
		}
		if st := c.Stats(); st.Reconciled != 2 || st.CallsAvoided != 2 {
			t.Errorf("%+v", st)
		}
	})
}

func TestStatsWhileCallsAreMade(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := wrap(t, &fake{do: answers}, Policy{Prices: Prices{PerCall: 0.5}}, Cache[int, string](byInput, nil))
		for k := range 50 {
			go invokeOK(t, c, k)
			go c.Stats()
		}
		synctest.Wait()
		time.Sleep(time.Second)
		if st := c.Stats(); st.Calls != 50 || st.Attempts+st.CacheHits != 50 || st.Cost != 0.5*float64(st.Attempts) {
			t.Errorf("%+v", st)
		}
	})
}

// TestReconcilerAtTheStart: for a while every call may be one from before a crash.
func TestReconcilerAtTheStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &fake{do: answers}
		var about []int
		c := wrap(t, f, Policy{Name: "m", ReconcileFor: 10 * time.Second}, Reconcile(func(_ context.Context, c call) (result, bool, error) {
			about = append(about, c.In)
			return result{Out: "from before"}, c.In == 1, nil
		}))
		first := invokeOK(t, c, 1)
		second := invokeOK(t, c, 2)
		time.Sleep(10 * time.Second)
		third := invokeOK(t, c, 1)
		if first[0].Out != "from before" || second[0].Out != "2" || third[0].Out != "1" || len(about) != 2 || f.requests() != 2 {
			t.Errorf("%+v %+v %+v, asked about %v, %d requests", first, second, third, about, f.requests())
		}
	})
}
