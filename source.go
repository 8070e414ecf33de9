package weir

import (
	"fmt"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/window"
)

// Watermarks says where event time comes from and how a source's watermark
// follows it.
type Watermarks[T any] struct {
	strategy   window.Strategy
	time       func(T) time.Time
	processing bool
}

// BoundedOutOfOrderness is for records that come at most d after records with a
// later time. time returns the event time; nil takes the source's own timestamp.
func BoundedOutOfOrderness[T any](d time.Duration, time func(T) time.Time) Watermarks[T] {
	return Watermarks[T]{strategy: window.BoundedOutOfOrderness(d), time: time}
}

// Ascending is for records whose event times never decrease within a split.
func Ascending[T any](time func(T) time.Time) Watermarks[T] {
	return Watermarks[T]{strategy: window.Ascending(), time: time}
}

// WallClockBounded is BoundedOutOfOrderness whose watermark also runs on with
// the wall clock while no records come. Results then depend on when records
// arrive.
func WallClockBounded[T any](d time.Duration, time func(T) time.Time) Watermarks[T] {
	return Watermarks[T]{strategy: window.WallClockBounded(d), time: time}
}

// ProcessingTime takes the time of arrival for the event time: the explicit way
// to do without event time.
func ProcessingTime[T any]() Watermarks[T] { return Watermarks[T]{processing: true} }

// defaultMaxAhead is how far ahead of the wall clock a record may be.
const defaultMaxAhead = 24 * time.Hour

// From reads a source.
func From[T any](j *Job, name string, src connectors.Source[T], w Watermarks[T], opts ...FromOption) Stream[T] {
	where := caller(1)
	o := fromOptions{parallelism: 1, limits: connectors.DefaultLimits, maxAhead: defaultMaxAhead}
	if b, ok := boundSource[T](j, name, where); ok {
		src, o.maxAhead = b, 0
	}
	if _, ok := src.(connectors.Timeless); ok {
		o.maxAhead = 0
	}
	for _, opt := range opts {
		opt.from(&o)
	}
	c := j.newChain(j.scope+name, o.parallelism)
	c.source = true
	if src == nil {
		j.fail(where, "WEIR-0110", fmt.Sprintf("source %s is nil", name), "use a source made by a connector package")
		return newStream[T](j, c, name, false)
	}
	detail := src.Kind() + ", " + w.strategy.String()
	if w.processing {
		detail = src.Kind() + ", processing time"
	}
	uid := j.declare(c, name, "from", detail, where)
	if err := w.strategy.Validate(); err != nil {
		j.fail(where, "WEIR-0111", "source "+uid+": "+err.Error(), "")
	}
	if o.parallelism < 1 || o.parallelism > MaxParallelism {
		j.fail(where, "WEIR-0102", fmt.Sprintf("source %s: the parallelism is %d", uid, o.parallelism), fmt.Sprintf("use 1 to %d", MaxParallelism))
	}
	checkBuild(j, where, "source "+uid, src)
	if o.limits.MaxRecord < 1 {
		j.fail(where, "WEIR-0112", fmt.Sprintf("source %s: the largest record has %d bytes", uid, o.limits.MaxRecord), "give MaxRecord a number of bytes above 0, or leave it out for 1 MiB")
	}
	out := newStream[T](j, c, uid, false)
	spec := operators.SourceSpec[T]{
		UID: uid, Source: src, Strategy: w.strategy.WithMaxSkew(o.maxAhead), ProcessingTime: w.processing, Time: w.time,
		OnBad: o.onBad, OnFuture: o.onFuture, Limits: o.limits, EveryRecord: o.everyRecord,
	}
	if o.onBad == DeadLetter || o.onFuture == DeadLetter {
		spec.Letters = sourceLetters[T](j, c, where, uid, o.onFuture == DeadLetter)
	}
	c.heads = append(c.heads, func(s *operators.Subtask) error {
		spec := spec
		if q := j.dead.queue; q != nil && spec.Letters.Out != nil {
			spec.Retries = q.retries
		}
		operators.SourceHead(s, spec, out.bind(s))
		return nil
	})
	return out
}

// checkBuild reports the mistakes that a connector found in its own options.
func checkBuild(j *Job, where, what string, connector any) {
	if c, ok := connector.(connectors.BuildChecker); ok {
		if err := c.BuildError(); err != nil {
			j.errs = append(j.errs, fmt.Errorf("%s: %s: %w", where, what, err))
		}
	}
}
