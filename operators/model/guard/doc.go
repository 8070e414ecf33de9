// Package guard wraps the client of a model with what keeps calls of it in bounds:
// timeouts, retries within a budget, a circuit breaker, hedging, a limit of requests
// in flight, budgets of requests, tokens and money, a cache, and fallbacks. What it
// returns is a model.Client itself, so that guards nest: a fallback may be guarded by
// a policy of its own.
//
// An Invoke goes through these stages:
//
//	cache → [breaker → in-flight limit → budgets → attempt, hedged] → retry … → fallbacks → failure
//
// Within a batch only the calls that failed go on to the next stage. Every call gets
// exactly one result. After a failure of all stages it is a *model.Failure that tells
// the attempts on one line.
//
// An attempt whose time is up is cancelled, and given a little time to say whether it
// was sent at all. A client that ignores that is left behind: its slot in flight stays
// taken until it returns, so that such clients cannot pile up.
//
// Retries, hedges and limits are not those of a general library, because they have to
// work on parts of a batch, share budgets, settle what was reserved, and take the time
// from a clock.Clock.
//
// Not done here: several equal inputs on their way at once are asked for several
// times; the cache helps only once an answer is there. Budgets do not survive the
// process and are not shared between processes.
package guard
