package feature

import (
	"math"
	"runtime"
	"time"
	"unsafe"
)

// Number is the type of a value that a feature can calculate with.
type Number interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

// Value is the type of a value that a feature can keep.
type Value interface{ Number | ~string }

// kind is what a feature computes.
type kind uint8

const (
	kCount kind = iota
	kSum
	kMean
	kMin
	kMax
	kVariance
	kStddev
	kRate
	kTrend
	kFirst
	kDelta
	kLast
	kSince
	kFirstK
	kLastK
	kTop
	kBottom
	kDistinct
	kPercentile
	kHistogram
	kDecayCount
	kDecaySum
	kRatio
	kDerived
)

// column is a value taken from records: a number or a text.
type column[T any] struct {
	// id identifies the function that the user gave: equal functions share.
	id   unsafe.Pointer
	num  func(*T) float64
	text func(*T) string
}

// predicate is a condition on records.
type predicate[T any] struct {
	id unsafe.Pointer
	f  func(T) bool
}

// funcID identifies a function value: the address of its closure. Two function
// values with one closure are the same function with the same captured variables.
func funcID[F any](f F) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&f)) }

// Feature is the declaration of one feature over records T: an aggregate, and
// over which horizons. Declare the functions that take a value from a record once,
// as a variable or function, and use them in several features: features with the
// same function, and the same conditions, share their state.
//
// Its methods change it and return it. Mistakes are reported by [Group.Compile].
type Feature[T any] struct {
	name     string
	kind     kind
	col      *column[T]
	by       *column[T]
	where    []predicate[T]
	horizons []time.Duration
	lifetime bool
	exact    bool
	unique   bool
	def      *float64
	defText  *string
	limit    int
	k        int
	qs       []float64
	alpha    float64
	prec     int
	halfLife time.Duration
	num, den *Feature[T]
	derive   func(View) float64
	at       string // file:line
}

// caller returns the place of the call into this package.
func caller(skip int) string {
	_, file, line, ok := runtime.Caller(skip + 1)
	if !ok {
		return ""
	}
	return file + ":" + itoa(line)
}

func newFeature[T any](name string, k kind) *Feature[T] {
	return &Feature[T]{name: name, kind: k, at: caller(2)}
}

// numOf makes a column of numbers; what is not finite is null.
func numOf[T any, V Number](f func(T) V) *column[T] {
	if f == nil {
		return nil
	}
	return &column[T]{id: funcID(f), num: func(r *T) float64 { return float64(f(*r)) }}
}

func textOf[T any, V ~string](f func(T) V) *column[T] {
	if f == nil {
		return nil
	}
	return &column[T]{id: funcID(f), text: func(r *T) string { return string(f(*r)) }}
}

// valueOf makes a column of whatever f returns.
func valueOf[T any, V Value](f func(T) V) *column[T] {
	if f == nil {
		return nil
	}
	c := &column[T]{id: funcID(f)}
	// The conversions below are chosen once, by the type.
	switch g := any(f).(type) {
	case func(T) string:
		c.text = func(r *T) string { return g(*r) }
	case func(T) float64:
		c.num = func(r *T) float64 { return g(*r) }
	case func(T) int:
		c.num = func(r *T) float64 { return float64(g(*r)) }
	case func(T) int64:
		c.num = func(r *T) float64 { return float64(g(*r)) }
	default:
		read, isText := reader[V]()
		if isText {
			c.text = func(r *T) string { v := f(*r); return *(*string)(unsafe.Pointer(&v)) }
			return c
		}
		c.num = func(r *T) float64 { v := f(*r); return read(unsafe.Pointer(&v)) }
	}
	return c
}

// Count is the number of records: 0, or null, when there are none.
func Count[T any](name string) *Feature[T] { return newFeature[T](name, kCount) }

// Sum is the sum of a value.
func Sum[T any, V Number](name string, value func(T) V) *Feature[T] {
	return numeric(newFeature[T](name, kSum), value)
}

// Mean is the mean of a value.
func Mean[T any, V Number](name string, value func(T) V) *Feature[T] {
	return numeric(newFeature[T](name, kMean), value)
}

// Min is the least value.
func Min[T any, V Number](name string, value func(T) V) *Feature[T] {
	return numeric(newFeature[T](name, kMin), value)
}

// Max is the greatest value.
func Max[T any, V Number](name string, value func(T) V) *Feature[T] {
	return numeric(newFeature[T](name, kMax), value)
}

// Variance is the population variance of a value: the mean squared distance from
// the mean. It is 0 for a single record.
func Variance[T any, V Number](name string, value func(T) V) *Feature[T] {
	return numeric(newFeature[T](name, kVariance), value)
}

// Stddev is the population standard deviation of a value.
func Stddev[T any, V Number](name string, value func(T) V) *Feature[T] {
	return numeric(newFeature[T](name, kStddev), value)
}

// Rate is the number of records per second of the horizon. It has no Lifetime.
func Rate[T any](name string) *Feature[T] { return newFeature[T](name, kRate) }

// Trend is the slope of the line fitted to a value over time by least squares, in
// units per second; null below two records or when all have one time. Times are told
// apart to about 1e-14 of the age of the key's state.
func Trend[T any, V Number](name string, value func(T) V) *Feature[T] {
	return numeric(newFeature[T](name, kTrend), value)
}

// First is the value of the earliest record in the horizon. Among records of one
// time it is the one that came first.
func First[T any, V Value](name string, value func(T) V) *Feature[T] {
	f := newFeature[T](name, kFirst)
	f.col, f.k = valueOf(value), 1
	return f
}

// Last is the value of the latest record in the horizon. Among records of one
// time it is the one that came last.
func Last[T any, V Value](name string, value func(T) V) *Feature[T] {
	f := newFeature[T](name, kLast)
	f.col, f.k = valueOf(value), 1
	return f
}

// Delta is the last value minus the first one in the horizon.
func Delta[T any, V Number](name string, value func(T) V) *Feature[T] {
	return numeric(newFeature[T](name, kDelta), value)
}

// SinceLast is the time from the latest record to the clock, in seconds.
func SinceLast[T any](name string) *Feature[T] {
	f := newFeature[T](name, kSince)
	f.k = 1
	return f
}

// FirstK is the list of the values of the k earliest records, earliest first. See
// [Feature.Unique].
func FirstK[T any, V Value](name string, value func(T) V, k int) *Feature[T] {
	f := newFeature[T](name, kFirstK)
	f.col, f.k = valueOf(value), k
	return f
}

// LastK is the list of the values of the k latest records, latest first. See
// [Feature.Unique].
func LastK[T any, V Value](name string, value func(T) V, k int) *Feature[T] {
	f := newFeature[T](name, kLastK)
	f.col, f.k = valueOf(value), k
	return f
}

// TopK is the list of the k greatest values, greatest first.
func TopK[T any, V Number](name string, value func(T) V, k int) *Feature[T] {
	f := numeric(newFeature[T](name, kTop), value)
	f.k = k
	return f
}

// BottomK is the list of the k least values, least first.
func BottomK[T any, V Number](name string, value func(T) V, k int) *Feature[T] {
	f := numeric(newFeature[T](name, kBottom), value)
	f.k = k
	return f
}

// Distinct is the number of different values. It is exact while the longest
// horizon holds at most [Feature.Limit] of them, 128 by default; from then on it
// is an estimate by HyperLogLog with a standard error of 6.5 %, or see
// [Feature.Precision], until the key has been silent for its longest horizon.
// Values are told apart by a 64-bit hash.
func Distinct[T any, V Value](name string, value func(T) V) *Feature[T] {
	f := newFeature[T](name, kDistinct)
	f.col, f.limit, f.prec = valueOf(value), 128, 8
	return f
}

// Percentile is an estimate of the quantiles qs, each in [0, 1], of a value, with
// a relative error of at most 1 %, or see [Feature.Accuracy]: one field for each,
// named name_p50, name_p99_9, and so on. The quantile q of n values is the one of
// rank ⌊q·(n−1)⌋ in ascending order. Values within 1e-9 of 0 count as 0.
func Percentile[T any, V Number](name string, value func(T) V, qs ...float64) *Feature[T] {
	f := numeric(newFeature[T](name, kPercentile), value)
	f.qs, f.alpha, f.limit = qs, 0.01, 4096
	return f
}

// Histogram is a map from the k most frequent texts to how often they occur; k = 0
// gives all. Ties go to the text that sorts first.
func Histogram[T any, V ~string](name string, text func(T) V, k int) *Feature[T] {
	f := newFeature[T](name, kHistogram)
	f.by, f.k, f.limit = textOf(text), k, 64
	return f
}

// DecayCount is the number of records, each weighted by 2^(−age/halfLife). It has
// no horizons; what is 64 half-lives old is forgotten when nothing newer came.
func DecayCount[T any](name string, halfLife time.Duration) *Feature[T] {
	f := newFeature[T](name, kDecayCount)
	f.halfLife = halfLife
	return f
}

// DecaySum is the sum of a value, weighted as in [DecayCount].
func DecaySum[T any, V Number](name string, value func(T) V, halfLife time.Duration) *Feature[T] {
	f := numeric(newFeature[T](name, kDecaySum), value)
	f.halfLife = halfLife
	return f
}

// Ratio is one scalar feature divided by another, over the same horizons; null
// when either is null or the denominator is 0. Of num and den only the aggregate,
// its value and its Where count. Scalar features are Count, Sum, Mean, Min, Max,
// Variance, Stddev, Rate and Trend.
func Ratio[T any](name string, num, den *Feature[T]) *Feature[T] {
	f := newFeature[T](name, kRatio)
	f.num, f.den = num, den
	return f
}

func numeric[T any, V Number](f *Feature[T], value func(T) V) *Feature[T] {
	f.col = numOf(value)
	return f
}

// Where restricts the feature to records for which the condition holds. Several
// conditions must all hold. A value is only taken from records that pass.
func (f *Feature[T]) Where(cond func(T) bool) *Feature[T] {
	f.where = append(f.where, predicate[T]{funcID(cond), cond})
	return f
}

// Over adds horizons. The field of each is named name_1m, name_24h, name_7d.
func (f *Feature[T]) Over(horizons ...time.Duration) *Feature[T] {
	f.horizons = append(f.horizons, horizons...)
	return f
}

// Lifetime adds a horizon without a beginning; its field has the feature's name.
// A key with such a feature never expires.
func (f *Feature[T]) Lifetime() *Feature[T] {
	f.lifetime = true
	return f
}

// By makes a map of the feature: from each value of bucket among the records in
// the horizon to the feature over those. For scalar features without Exact. See
// [Feature.Limit].
func (f *Feature[T]) By(bucket func(T) string) *Feature[T] {
	f.by, f.limit = textOf(bucket), 64
	return f
}

// Default is the value of a number where there would be null.
func (f *Feature[T]) Default(v float64) *Feature[T] {
	f.def = &v
	return f
}

// DefaultText is the value of a text, a First or Last, where there would be null.
func (f *Feature[T]) DefaultText(s string) *Feature[T] {
	f.defText = &s
	return f
}

// Exact makes the horizons exact to the nanosecond, by keeping each event time for
// as long as the longest of them: up to [Feature.Limit] of them, 10,000 by default.
// Beyond, older ones are cut to tiles. Last, LastK, SinceLast and Distinct keep
// times anyway, and bear it at no price.
func (f *Feature[T]) Exact() *Feature[T] {
	f.exact = true
	return f
}

// Unique keeps only the latest record of each value, in a LastK, or the earliest,
// in a FirstK.
func (f *Feature[T]) Unique() *Feature[T] {
	f.unique = true
	return f
}

// Limit bounds what the state of a key keeps for the feature.
//
//   - Distinct: the values up to which it counts exactly. Default 128.
//   - By, Histogram: the different buckets in the longest horizon. Default 64;
//     further ones are counted under the name [Other].
//   - Percentile: the cells (a tile and a bucket of values). Default 4,096; beyond
//     it the buckets are made twice as wide, and the error about doubles.
//   - Exact: the event times. Default 10,000; beyond it the older half is cut to
//     tiles of 1/32 of the longest exact horizon.
func (f *Feature[T]) Limit(n int) *Feature[T] {
	f.limit = n
	return f
}

// Precision sets the number of HyperLogLog registers, 2^p, of a Distinct; the
// standard error is 1.04/√2^p. From 4 to 12; default 8.
func (f *Feature[T]) Precision(p int) *Feature[T] {
	f.prec = p
	return f
}

// Accuracy sets the relative error of a Percentile, from 0.001 to 0.2.
func (f *Feature[T]) Accuracy(alpha float64) *Feature[T] {
	f.alpha = alpha
	return f
}

// Other is the bucket of what exceeds the limit of a By or Histogram.
const Other = "~other"

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
