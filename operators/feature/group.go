package feature

import (
	"fmt"
	"strings"
	"time"

	"github.com/weirflow/weir/internal/base"
)

// Group declares a set of features over one key of records T, and what they have
// in common. Its methods change it and return it.
type Group[T any] struct {
	features  []*Feature[T]
	including bool
	nullEmpty bool
	period    time.Duration
	offset    time.Duration
	tiles     int
	hops      func(time.Duration) time.Duration
	prefix    string
}

// Set returns a group of the features.
func Set[T any](features ...*Feature[T]) *Group[T] {
	return &Group[T]{features: features, tiles: 24}
}

// Features returns the features of the group.
func (g *Group[T]) Features() []*Feature[T] { return g.features }

// Including makes what happened at the clock of the key count, the record in hand
// among it. By default only what happened strictly before the clock does.
func (g *Group[T]) Including() *Group[T] {
	g.including = true
	return g
}

// EmptyIsNull makes counts and sums of nothing null. By default they are 0, as are
// rates, distinct and decayed ones; all others are null.
func (g *Group[T]) EmptyIsNull() *Group[T] {
	g.nullEmpty = true
	return g
}

// SnapshotEvery makes the group one of snapshots: the vector is that of the last
// calendar boundary, a multiple of period plus offset since 1970 in UTC, and what
// happened since counts only at the next. SnapshotEvery(24*time.Hour, 0) is a
// snapshot at midnight UTC. Hops are multiples of period. It does not go with
// Including.
func (g *Group[T]) SnapshotEvery(period, offset time.Duration) *Group[T] {
	g.period, g.offset = period, offset
	return g
}

// Tiles sets the least number of tiles of a horizon, from 1 to 1,024; 24 by
// default. The tail is longer than the horizon by less than 1/n of it: see
// [Program.Horizons].
func (g *Group[T]) Tiles(n int) *Group[T] {
	g.tiles = n
	return g
}

// Hops sets the hop of each horizon instead of Tiles. Each must be a multiple of
// those of the shorter horizons, and cut its horizon into at most 65,536 tiles.
func (g *Group[T]) Hops(hop func(horizon time.Duration) time.Duration) *Group[T] {
	g.hops = hop
	return g
}

// Prefix is put before the name of each field, for vectors of several groups.
func (g *Group[T]) Prefix(p string) *Group[T] {
	g.prefix = p
	return g
}

// levelOf makes a level; below is the hop of the horizon before.
func (g *Group[T]) levelOf(w time.Duration, below int64) (level, error) {
	if g.hops == nil {
		return newLevel(int64(w), below*max(1, int64(w)/(int64(g.tiles)*below))), nil
	}
	hop := g.hops(w)
	if hop <= 0 || hop > w || int64(hop)%below != 0 {
		return level{}, fmt.Errorf("the hop %v of the horizon %v is not a multiple of the one below, %v, and at most the horizon", hop, w, time.Duration(below))
	}
	l := newLevel(int64(w), int64(hop))
	if l.n > maxTiles {
		return l, fmt.Errorf("the hop %v cuts the horizon %v into %d tiles, more than %d", hop, w, l.n, maxTiles)
	}
	return l, nil
}

// maxTiles bounds the state of a key.
const maxTiles = 1 << 16

// maxHorizon keeps sums of times within 64 bits.
const maxHorizon = 100 * 365 * 24 * time.Hour

// check reports what is wrong with the group itself.
func (g *Group[T]) check(report func(at, what, next string)) {
	if len(g.features) == 0 {
		report("", "the feature group has no features", "give Set at least one")
	}
	if g.tiles < 1 || g.tiles > 1024 {
		report("", fmt.Sprintf("Tiles(%d) is not possible", g.tiles), "give 1 to 1,024")
	}
	if g.period < 0 || g.period > 0 && (g.offset < 0 || g.offset >= g.period) {
		report("", fmt.Sprintf("SnapshotEvery(%v, %v) is not possible", g.period, g.offset), "give a positive period and an offset from 0 to less than the period")
	}
	if g.period > 0 && g.including {
		report("", "a group of snapshots cannot be Including", "leave one of the two out")
	}
	for i := range len(g.prefix) {
		if c := g.prefix[i]; !nameByte(c) && c != ':' && c != '.' {
			report("", fmt.Sprintf("the prefix %q has %q at position %d", g.prefix, c, i+1), "use a-z, A-Z, 0-9, _, -, : and .")
			return
		}
	}
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// declared is an error of a declaration.
func declared(at, what, next string) error {
	return &base.Error{Code: "WEIR-0170", What: what, Where: at, Next: next}
}

// checkFeature reports what is wrong with one feature.
func checkFeature[T any](f *Feature[T], report func(what, next string)) {
	if f.name == "" || strings.ContainsFunc(f.name, func(r rune) bool { return r > 127 || !nameByte(byte(r)) }) {
		report("is not a name", "use a-z, A-Z, 0-9, _ and -")
	}
	if f.kind == kDerived {
		checkDerived(f, report)
		checkDefault(f, report)
		return
	}
	decays := f.kind == kDecayCount || f.kind == kDecaySum
	switch {
	case decays && (len(f.horizons) > 0 || f.lifetime):
		report("decays and has horizons", "leave Over and Lifetime out")
	case decays && f.halfLife <= 0:
		report("has no half-life", "give a positive duration")
	case !decays && len(f.horizons) == 0 && !f.lifetime:
		report("has no horizon", "say Over(…) or Lifetime()")
	}
	for _, h := range f.horizons {
		if h <= 0 || h > maxHorizon {
			report(fmt.Sprintf("has the horizon %v", h), "give a positive one of at most 100 years")
		}
	}
	if f.kind == kRate && f.lifetime {
		report("is a rate over a lifetime", "give it a horizon")
	}
	checkValues(f, report)
	checkOptions(f, report)
}

// checkValues reports functions that are missing.
func checkValues[T any](f *Feature[T], report func(what, next string)) {
	switch f.kind {
	case kCount, kRate, kSince, kDecayCount, kRatio:
	case kHistogram:
		if f.by == nil {
			report("has no function", "give it one that returns a text")
		}
	default:
		if f.col == nil {
			report("has no function", "give it one that returns a value")
		}
	}
	for _, w := range f.where {
		if w.f == nil {
			report("has a Where without a condition", "give it a function")
		}
	}
	if f.kind == kRatio {
		for _, p := range []*Feature[T]{f.num, f.den} {
			if p == nil || !scalar(p.kind) || p.by != nil {
				report("is a ratio of something that is not a scalar feature", "use Count, Sum, Mean, Min, Max, Variance, Stddev, Rate or Trend")
			} else {
				checkValues(p, report)
			}
		}
	}
}

// scalar says that a feature is computed from parts alone.
func scalar(k kind) bool { return k <= kTrend }

// bounded reports n outside of [lo, hi].
func bounded(what string, n, lo, hi int, report func(what, next string)) {
	if n < lo || n > hi {
		report(fmt.Sprintf("has %s %d", what, n), fmt.Sprintf("give %d to %d", lo, hi))
	}
}

// checkOptions reports options that do not fit the kind.
func checkOptions[T any](f *Feature[T], report func(what, next string)) {
	switch f.kind {
	case kFirstK, kLastK, kTop, kBottom:
		bounded("k =", f.k, 1, 255, report)
	case kHistogram:
		bounded("k =", f.k, 0, 65535, report)
	case kDistinct:
		bounded("precision", f.prec, 4, 12, report)
		bounded("the limit", f.limit, 1, 65535, report)
	case kPercentile:
		if !(f.alpha >= 0.001 && f.alpha <= 0.2) {
			report(fmt.Sprintf("has the accuracy %v", f.alpha), "give 0.001 to 0.2")
		}
		if len(f.qs) == 0 {
			report("names no quantile", "give some from 0 to 1")
		}
		for _, q := range f.qs {
			if !(q >= 0 && q <= 1) {
				report(fmt.Sprintf("has the quantile %v", q), "give some from 0 to 1")
			}
		}
		bounded("the limit", f.limit, 64, 1_000_000, report)
	}
	if f.by != nil || f.kind == kHistogram {
		bounded("the limit", f.limit, 1, 65535, report)
	}
	if f.by != nil && f.kind != kHistogram && (!scalar(f.kind) || f.exact) {
		report("has By, which goes with scalar features without Exact", "leave it out, or declare a feature for each bucket")
	}
	if f.exact {
		switch {
		case scalar(f.kind) || f.kind == kFirst || f.kind == kDelta || f.kind == kRatio:
			if f.limit != 0 {
				bounded("the limit", f.limit, 16, 10_000_000, report)
			}
		case f.kind != kLast && f.kind != kLastK && f.kind != kSince && f.kind != kDistinct:
			report("has Exact", "it goes with scalar features, Ratio, First, Delta, Last, LastK, SinceLast and Distinct; others are cut to the hop of the group, which Hops can make shorter")
		}
		if f.lifetime {
			report("is exact over a lifetime", "declare the Lifetime apart: it needs no Exact")
		}
	}
	if f.unique && f.kind != kLastK && f.kind != kFirstK {
		report("has Unique", "it goes with LastK and FirstK")
	}
	checkDefault(f, report)
}

// checkDefault reports a default that is none.
func checkDefault[T any](f *Feature[T], report func(what, next string)) {
	if f.def != nil && !finite(*f.def) {
		report("has a default that is not finite", "give a number")
	}
}
