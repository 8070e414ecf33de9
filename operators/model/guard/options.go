package guard

import (
	"context"

	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/operators/model"
)

// Option gives Wrap what a Policy, which is plain data, cannot hold.
type Option[In, Out any] func(*options[In, Out])

type options[In, Out any] struct {
	clock      clock.Clock
	cacheKey   func(In) string
	cacheSize  func(Out) int64
	reconciler Reconciler[In, Out]
	estimate   func(In) model.Usage
	chain      []link[In, Out]
}

// link is one fallback: a client, the stale cache or a value.
type link[In, Out any] struct {
	name, version string
	client        model.Client[In, Out]
	stale         bool
	value         func(In) (Out, bool)
}

// Reconciler finds out whether a call happened whose outcome is Unknown. If it did,
// the result is that of the call, and there is no second one; a result with Err is
// the call's failure. If it did not, the call counts as Unavailable. With an error it
// stays unknown. It must return when ctx is done.
type Reconciler[In, Out any] func(ctx context.Context, call model.Call[In]) (res model.Result[Out], happened bool, err error)

// Reconcile asks r about calls whose outcome is Unknown, and before anything else
// about those that may have been made before a restart: those that come with an Attempt
// above 1, and all for the time of Policy.ReconcileFor.
func Reconcile[In, Out any](r Reconciler[In, Out]) Option[In, Out] {
	return func(o *options[In, Out]) { o.reconciler = r }
}

// Cache answers inputs of equal keys from a cache bounded by Policy.Cache. An input
// whose key is "" is not cached. size returns the bytes of an answer, roughly; nil
// counts keys and overhead only. Answers are shared: nobody may change them.
func Cache[In, Out any](key func(In) string, size func(Out) int64) Option[In, Out] {
	return func(o *options[In, Out]) { o.cacheKey, o.cacheSize = key, size }
}

// Estimate bounds the tokens of a call before it is made, for budgets of tokens and
// cost. If it never falls short, these are never exceeded.
func Estimate[In, Out any](f func(In) model.Usage) Option[In, Out] {
	return func(o *options[In, Out]) { o.estimate = f }
}

// Fallback has another client answer what this one could not: another endpoint, or a
// model in this process. Fallbacks are asked in the order of their options.
func Fallback[In, Out any](name string, c model.Client[In, Out]) Option[In, Out] {
	return func(o *options[In, Out]) { o.chain = append(o.chain, link[In, Out]{name: name, client: c}) }
}

// Stale falls back to an answer of the cache whose time is over.
func Stale[In, Out any](name string) Option[In, Out] {
	return func(o *options[In, Out]) { o.chain = append(o.chain, link[In, Out]{name: name, stale: true}) }
}

// Default falls back to a value computed from the input; ok is false where it has
// none. version is the Version of the results.
func Default[In, Out any](name, version string, value func(In) (out Out, ok bool)) Option[In, Out] {
	return func(o *options[In, Out]) {
		o.chain = append(o.chain, link[In, Out]{name: name, version: version, value: value})
	}
}

// WithClock makes c the time of the guard.
func WithClock[In, Out any](c clock.Clock) Option[In, Out] {
	return func(o *options[In, Out]) { o.clock = c }
}
