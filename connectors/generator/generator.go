// Package generator makes records from their index: a source without an outside
// system, for demonstrations, benchmarks and tests. Record i is fn(i), so a replay
// from any position gives the same records, whatever the batch sizes were.
//
// Shard s of n makes the records s, s+n, s+2n, …; the position of record i is
// i+1. Records are made flat out, or at a rate (Rate) by an open loop: record i is
// due at t0 + i/rate, however late the reader is, so that a measured latency
// contains the waiting. t0 is the time of the first Open; it travels in the
// position, so a restored job owes what fell due while it was down.
package generator

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

// MaxShards bounds Shards.
const MaxShards = 4096

// endless is the count of a source without an end: it leaves room for one stride,
// so that the next index cannot wrap around.
const endless = math.MaxUint64 - MaxShards

// Option configures a generator.
type Option interface{ apply(*config) }

type optionFunc func(*config)

func (f optionFunc) apply(c *config) { f(c) }

type config struct {
	shards int
	rate   float64 // records per second over all shards; 0: flat out
	count  uint64  // over all shards
	at     func(uint64) time.Time
	start  time.Time
	truth  string
	plant  func(uint64) any
	err    error
}

// Shards splits the records over n splits, which may be read in parallel. The
// default is 1. The number must not change while a job keeps its state.
func Shards(n int) Option {
	return optionFunc(func(c *config) {
		if n < 1 || n > MaxShards {
			c.fail("Shards(%d): use 1 to %d", n, MaxShards)
			return
		}
		c.shards = n
	})
}

// Rate makes records at perSecond records per second, all shards together. The
// default is as fast as they are read.
func Rate(perSecond float64) Option {
	return optionFunc(func(c *config) {
		if !(perSecond > 0) || perSecond > 1e9 {
			c.fail("Rate(%v): use a number above 0 and up to 1e9 records per second", perSecond)
			return
		}
		c.rate = perSecond
	})
}

// Count ends the source after n records, all shards together. Without it the
// source has no end.
func Count(n uint64) Option { return optionFunc(func(c *config) { c.count = min(n, endless) }) }

// At gives record i the source timestamp at(i); at must depend on i alone.
// Without it the timestamp is the time at which the record is due, or none when
// there is no Rate.
func At(at func(i uint64) time.Time) Option { return optionFunc(func(c *config) { c.at = at }) }

// StartAt fixes t0, at which record 0 is due; it has a meaning with Rate only.
func StartAt(t time.Time) Option { return optionFunc(func(c *config) { c.start = t }) }

// Truth writes what was planted among the records to a file, so that a checker
// can judge the job's results without asking the job: for each i for which
// plant(i) is not nil, one line {"i":…,"planted":…} with plant(i) as JSON. The
// line is written before record i is handed over. A replay or restart adds no line
// twice and leaves none out. With several shards, shard s writes a file of its
// own, with -s before the extension of path. plant must depend on i alone.
func Truth(path string, plant func(i uint64) any) Option {
	return optionFunc(func(c *config) {
		if path == "" || plant == nil {
			c.fail("Truth(%q): give a file and a function", path)
			return
		}
		c.truth, c.plant = path, plant
	})
}

func (c *config) fail(format string, args ...any) {
	if c.err == nil {
		c.err = &base.Error{Code: "WEIR-0430", Where: "generator", What: fmt.Sprintf(format, args...), Next: "correct the option"}
	}
}

// Source is a generator of T. It is safe for concurrent use.
type Source[T any] struct {
	config
	fn func(uint64) T

	mu sync.Mutex
	t0 base.Timestamp // of this process, once startSet
	// startSet tells a t0 of 0, the first instant of a virtual clock, from none.
	startSet bool
}

// New returns a source whose record i is fn(i). fn must depend on i alone and be
// safe for concurrent use; see Roll for randomness of that kind.
func New[T any](fn func(i uint64) T, opts ...Option) *Source[T] {
	s := &Source[T]{config: config{shards: 1, count: endless}, fn: fn}
	for _, o := range opts {
		o.apply(&s.config)
	}
	if fn == nil {
		s.fail("New: the function is nil")
	}
	return s
}

// Kind implements connectors.Source.
func (s *Source[T]) Kind() string { return "generator" }

// Timeless implements connectors.Timeless.
func (s *Source[T]) Timeless() {}

// BuildError implements connectors.BuildChecker.
func (s *Source[T]) BuildError() error { return s.err }

// Splits implements connectors.Source: one split for each shard.
func (s *Source[T]) Splits(context.Context) ([]connectors.Split, error) {
	splits := make([]connectors.Split, s.shards)
	for i := range splits {
		splits[i] = connectors.Split{ID: fmt.Sprintf("shard-%04d", i), Identity: s.identity()}
	}
	return splits, s.err
}

func (s *Source[T]) identity() string { return "shards=" + strconv.Itoa(s.shards) }

// Open implements connectors.Source.
func (s *Source[T]) Open(_ context.Context, split connectors.Split, after connectors.Position, env connectors.ReaderEnv) (connectors.Reader[T], error) {
	if s.err != nil {
		return nil, s.err
	}
	shard, err := strconv.Atoi(strings.TrimPrefix(split.ID, "shard-"))
	if err != nil || shard < 0 || shard >= s.shards {
		return nil, base.Fatal(&base.Error{Code: "WEIR-0431", Where: split.ID, What: "the generator has no such shard", Next: "keep Shards as it was", Cause: connectors.ErrIdentity})
	}
	r := &reader[T]{s: s, clock: env.Clock, stride: uint64(s.shards), next: uint64(shard), last: after.Offset}
	identity, t0, hasT0 := strings.Cut(after.Identity, " t0=")
	if identity != "" && identity != s.identity() || after.Offset > 0 && (after.Offset-1)%r.stride != r.next {
		return nil, base.Fatal(&base.Error{
			Code: "WEIR-0431", Where: split.ID, Cause: connectors.ErrIdentity,
			What: fmt.Sprintf("the stored position %d was written with another number of shards (%q, now %q)", after.Offset, identity, s.identity()),
			Next: "keep Shards as it was, or start the job without its state",
		})
	}
	if after.Offset > 0 {
		r.next = after.Offset - 1 + r.stride
	}
	r.identity = s.identity()
	if s.rate > 0 {
		if r.t0, err = s.zero(r, t0, hasT0); err != nil {
			return nil, err
		}
		r.identity += " t0=" + strconv.FormatInt(r.t0, 10)
	}
	if s.plant != nil {
		if r.truth, err = openTruth(s.truthPath(shard), uint64(shard), r.stride, r.next, s.plant); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// zero returns t0: the configured one, else that of the stored position, else
// that of an earlier Open in this process, else one that makes the next record
// due now.
func (s *Source[T]) zero(r *reader[T], stored string, has bool) (base.Timestamp, error) {
	if !s.start.IsZero() {
		return s.start.UnixNano(), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if has {
		t0, err := strconv.ParseInt(stored, 10, 64)
		if err != nil {
			return 0, base.Fatal(&base.Error{Code: "WEIR-0431", What: "the stored position has a damaged start time", Next: "restore another checkpoint", Cause: err})
		}
		s.t0, s.startSet = t0, true
	}
	if !s.startSet {
		s.t0, s.startSet = r.clock.Now()-s.offset(r.next-r.next%r.stride), true
	}
	return s.t0, nil
}

// offset is the time from t0 to when record i is due, in nanoseconds.
func (s *Source[T]) offset(i uint64) int64 {
	return int64(min(float64(i)*(1e9/s.rate), math.MaxInt64/2))
}
