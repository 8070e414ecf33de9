package guard

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/weirflow/weir/internal/base"
)

// CodePolicy is the code of the error for a policy that makes no sense.
const CodePolicy = "WEIR-0645"

// Policy says how calls of one model are guarded. The zero value has all defaults:
// retries, a circuit breaker and an adaptive limit of requests in flight; no budgets,
// no hedging. Budgets and counters are those of one wrapped client: they are not
// shared between processes and begin anew with one.
type Policy struct {
	// Name names the model in results and failures.
	Name string
	// AttemptTimeout bounds one attempt. Default 10 s.
	AttemptTimeout time.Duration
	// Deadline bounds an Invoke: waits, all attempts and fallbacks. Default 60 s.
	Deadline time.Duration
	// FallbackTimeout is what of the deadline is kept for each fallback that is a
	// client. Default: AttemptTimeout, but all of them together at most half of the
	// deadline.
	FallbackTimeout time.Duration
	// FallbackPermanent hands calls that failed for good to the fallbacks too, and not
	// only those that the model could not answer.
	FallbackPermanent bool
	Retry             Retry
	Breaker           Breaker
	Hedge             Hedge
	InFlight          InFlight
	Budgets           Budgets
	Prices            Prices
	Cache             CacheBounds
	// ReconcileFor is for how long, from Wrap on, the reconciler is asked about every
	// call before it is made: a call that was under way when the process died, and whose
	// record had come after the last checkpoint, comes again as a new one. As long as it
	// takes the job to catch up with what it had read before is enough. 0: no time.
	ReconcileFor time.Duration
	// Seed seeds the jitter; 0 takes a random one.
	Seed uint64
}

// Retry says which calls are repeated: those that failed as Unavailable, as Limited
// and, because calls carry idempotency keys, as Unknown.
type Retry struct {
	// MaxAttempts is how often a call is sent at most, hedges included. Default 3; 1
	// for no retries.
	MaxAttempts int
	// Base and Max bound the wait before attempt n+1, which is drawn evenly from 0 to
	// min(Max, Base * 2^(n-1)), and begins after RetryAfter where the model says it.
	// Defaults 100 ms and 10 s.
	Base, Max time.Duration
	// Ratio and Min bound the retries in each Window: at most Ratio times the calls
	// in it, and Min more. Defaults 0.1, 10 and 10 s. Ratio or Min below 0 is none.
	Ratio  float64
	Min    int
	Window time.Duration
	// NotUnknown leaves calls alone of which it is not known whether they happened.
	NotUnknown bool
}

// Breaker stops asking a model that fails. A request fails if at least Ratio of its
// calls end as Unavailable, Unknown or Invalid.
type Breaker struct {
	Off bool
	// Ratio of the last Window requests have to fail to open it. Defaults 0.5 and 20.
	Ratio  float64
	Window int
	// OpenFor is the time until requests probe the model. Default 5 s.
	OpenFor time.Duration
	// Probes is how many requests at once probe it, and how many successes close the
	// breaker; one failure opens it again. Default 3.
	Probes int
	// MaxWait is how long calls wait for an open breaker before they fall through to
	// the fallbacks, or fail. Default: with fallbacks not at all, without until the
	// deadline. Below 0: not at all.
	MaxWait time.Duration
}

// Hedge sends a second request for one that takes unusually long, and takes the
// answer that comes first. It is off by default: calls are made twice.
type Hedge struct {
	On bool
	// Quantile of the learned latency of requests of about the same number of calls,
	// after which the second is sent. Default 0.95.
	Quantile float64
	// Ratio bounds the calls sent twice to a share of the calls of the last minute.
	// Default 0.05.
	Ratio float64
	// Samples is the number of latencies to know first. Default 30, at most 128.
	Samples int
}

// InFlight bounds the requests on their way. The limit starts at Initial, grows by
// one with each round of successes and shrinks to 9/10 when the model is Unavailable,
// Limited or out of time.
type InFlight struct {
	// Max is the highest limit. Default 64.
	Max int
	// Initial is the first limit. Default a quarter of Max.
	Initial int
	// Fixed keeps the limit at Max.
	Fixed bool
}

// Rate bounds an amount in every second, minute and day. 0 is no bound. Days are the
// last 24 hours.
type Rate struct {
	PerSecond, PerMinute, PerDay float64
}

// Budgets bound what is sent to the model, retries and hedges included. Requests and
// Calls are never exceeded in any second, minute or day. Tokens and Cost are reserved
// by the option Estimate, or else by the mean of earlier calls, and settled by what
// the answers say: they are exceeded by no more than estimates fall short.
type Budgets struct {
	// Requests counts invocations of the client, Calls the calls in them.
	Requests, Calls Rate
	// Tokens counts input and output.
	Tokens Rate
	// Cost is in the currency of Prices.
	Cost Rate
	// MaxWait is how long calls wait for a spent budget, or for a model that takes no
	// calls for now, before they fall through to the fallbacks, or fail. Default: with
	// fallbacks 1 s, without until the deadline. Below 0: not at all.
	MaxWait time.Duration
}

// Prices make costs of usages, in any currency.
type Prices struct {
	PerMillionInput, PerMillionOutput float64
	PerCall                           float64
}

// CacheBounds bound the cache that the option Cache switches on.
type CacheBounds struct {
	// TTL is how long an answer is used. Default 5 min.
	TTL time.Duration
	// StaleFor is how much longer it is kept for the fallback Stale. Default 1 h.
	StaleFor time.Duration
	// Entries and Bytes bound it; the least recently used go first. Defaults 10,000
	// and 64 MiB.
	Entries int
	Bytes   int64
}

func orDefault[T int | int64 | float64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// withDefaults fills in what is 0, for a chain with so many fallbacks, of which some
// are clients.
func (p Policy) withDefaults(fallbacks, clients int) Policy {
	orDefault(&p.AttemptTimeout, 10*time.Second)
	orDefault(&p.Deadline, 60*time.Second)
	if clients > 0 {
		orDefault(&p.FallbackTimeout, min(p.AttemptTimeout, p.Deadline/time.Duration(2*clients)))
	}
	orDefault(&p.Retry.MaxAttempts, 3)
	orDefault(&p.Retry.Base, 100*time.Millisecond)
	orDefault(&p.Retry.Max, 10*time.Second)
	orDefault(&p.Retry.Ratio, 0.1)
	orDefault(&p.Retry.Min, 10)
	orDefault(&p.Retry.Window, 10*time.Second)
	p.Retry.Ratio, p.Retry.Min = max(p.Retry.Ratio, 0), max(p.Retry.Min, 0)
	orDefault(&p.Breaker.Ratio, 0.5)
	orDefault(&p.Breaker.Window, 20)
	orDefault(&p.Breaker.OpenFor, 5*time.Second)
	orDefault(&p.Breaker.Probes, 3)
	orDefault(&p.Hedge.Quantile, 0.95)
	orDefault(&p.Hedge.Ratio, 0.05)
	orDefault(&p.Hedge.Samples, 30)
	orDefault(&p.InFlight.Max, 64)
	orDefault(&p.InFlight.Initial, (p.InFlight.Max+3)/4)
	orDefault(&p.Cache.TTL, 5*time.Minute)
	orDefault(&p.Cache.StaleFor, time.Hour)
	orDefault(&p.Cache.Entries, 10_000)
	orDefault(&p.Cache.Bytes, 64<<20)
	if fallbacks > 0 {
		orDefault(&p.Breaker.MaxWait, -1)
		orDefault(&p.Budgets.MaxWait, time.Second)
	}
	orDefault(&p.Breaker.MaxWait, p.Deadline)
	orDefault(&p.Budgets.MaxWait, p.Deadline)
	return p
}

// Validate reports what of the policy makes no sense, as a *base.Error with the code
// CodePolicy. Fields of 0 are defaults and fine.
func (p Policy) Validate() error { return p.withDefaults(0, 0).check(0) }

// check judges a policy whose defaults are filled in.
func (p Policy) check(clients int) error {
	var wrong []error
	demand := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	positive := func(name string, d time.Duration) { demand(d > 0, "%s is %v, want more than 0", name, d) }
	share := func(name string, v float64, most float64) {
		demand(v >= 0 && v <= most, "%s is %v, want 0 to %v", name, v, most)
	}
	positive("AttemptTimeout", p.AttemptTimeout)
	positive("Deadline", p.Deadline)
	demand(p.ReconcileFor >= 0, "ReconcileFor is %v", p.ReconcileFor)
	demand(p.FallbackTimeout >= 0, "FallbackTimeout is %v", p.FallbackTimeout)
	demand(p.Deadline <= 0 || time.Duration(clients)*p.FallbackTimeout < p.Deadline,
		"%d fallbacks of FallbackTimeout %v leave nothing of the deadline of %v", clients, p.FallbackTimeout, p.Deadline)
	demand(p.Retry.MaxAttempts >= 1 && p.Retry.MaxAttempts <= 100, "Retry.MaxAttempts is %d, want 1 to 100", p.Retry.MaxAttempts)
	positive("Retry.Base", p.Retry.Base)
	demand(p.Retry.Max >= p.Retry.Base, "Retry.Max is %v, less than Base, %v", p.Retry.Max, p.Retry.Base)
	share("Retry.Ratio", p.Retry.Ratio, 1)
	positive("Retry.Window", p.Retry.Window)
	demand(p.Breaker.Ratio > 0 && p.Breaker.Ratio <= 1, "Breaker.Ratio is %v, want more than 0 and at most 1", p.Breaker.Ratio)
	demand(p.Breaker.Window >= 1 && p.Breaker.Window <= 100_000, "Breaker.Window is %d, want 1 to 100,000", p.Breaker.Window)
	positive("Breaker.OpenFor", p.Breaker.OpenFor)
	demand(p.Breaker.Probes >= 1 && p.Breaker.Probes <= 1000, "Breaker.Probes is %d, want 1 to 1000", p.Breaker.Probes)
	demand(p.Hedge.Quantile > 0 && p.Hedge.Quantile < 1, "Hedge.Quantile is %v, want between 0 and 1", p.Hedge.Quantile)
	share("Hedge.Ratio", p.Hedge.Ratio, 1)
	demand(p.Hedge.Samples >= 1 && p.Hedge.Samples <= samplesKept, "Hedge.Samples is %d, want 1 to %d", p.Hedge.Samples, samplesKept)
	demand(p.InFlight.Max >= 1, "InFlight.Max is %d, want 1 or more", p.InFlight.Max)
	demand(p.InFlight.Initial >= 1 && p.InFlight.Initial <= max(p.InFlight.Max, 1), "InFlight.Initial is %d, want 1 to InFlight.Max", p.InFlight.Initial)
	positive("Cache.TTL", p.Cache.TTL)
	demand(p.Cache.StaleFor >= 0, "Cache.StaleFor is %v", p.Cache.StaleFor)
	demand(p.Cache.Entries >= 1 && p.Cache.Bytes >= 1, "the cache is bound to %d entries and %d bytes", p.Cache.Entries, p.Cache.Bytes)
	wrong = append(wrong, p.Budgets.check()...)
	prices := [...]float64{p.Prices.PerMillionInput, p.Prices.PerMillionOutput, p.Prices.PerCall}
	for _, v := range prices {
		demand(finite(v), "Prices has %v", v)
	}
	demand(p.Budgets.Cost == Rate{} || p.Prices != Prices{}, "Budgets.Cost is set, but no price is")
	return policyError(p.Name, wrong)
}

func finite(v float64) bool { return v >= 0 && !math.IsInf(v, 1) }

func (b Budgets) check() (wrong []error) {
	for _, r := range []struct {
		name string
		rate Rate
	}{{"Requests", b.Requests}, {"Calls", b.Calls}, {"Tokens", b.Tokens}, {"Cost", b.Cost}} {
		for _, v := range []float64{r.rate.PerSecond, r.rate.PerMinute, r.rate.PerDay} {
			if !finite(v) {
				wrong = append(wrong, fmt.Errorf("the budget Budgets.%s has %v", r.name, v))
			}
			if r.name != "Tokens" && r.name != "Cost" && v > 0 && v < 1 {
				wrong = append(wrong, fmt.Errorf("the budget Budgets.%s has %v: not one would ever be sent; use a longer period", r.name, v))
			}
		}
	}
	return wrong
}

func policyError(where string, wrong []error) error {
	if len(wrong) == 0 {
		return nil
	}
	return &base.Error{
		Code: CodePolicy, What: "the policy for calls of a model makes no sense", Where: where,
		Next: "correct the fields named; see the documentation of operators/model/guard.Policy", Cause: errors.Join(wrong...),
	}
}
