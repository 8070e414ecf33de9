// Package base is the vocabulary that every layer of Weir shares: time, key
// hashes and hash ranges, record metadata, operator UIDs and errors. It imports
// nothing of Weir and almost nothing else.
package base

import (
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Timestamp is a point in event time or processing time: nanoseconds since
// 1970-01-01T00:00:00Z, UTC.
type Timestamp = int64

const (
	// MinTime is the watermark before anything was seen.
	MinTime Timestamp = math.MinInt64
	// MaxTime is the watermark after the end of input: no record follows.
	MaxTime Timestamp = math.MaxInt64
)

// FormatTime renders a timestamp for people; the two sentinels read "-inf" and "+inf".
func FormatTime(t Timestamp) string {
	switch t {
	case MinTime:
		return "-inf"
	case MaxTime:
		return "+inf"
	}
	return time.Unix(0, t).UTC().Format(time.RFC3339Nano)
}

// AddTime adds d nanoseconds to t and saturates at the sentinels instead of
// wrapping around.
func AddTime(t, d int64) Timestamp {
	s := t + d
	switch {
	case d > 0 && s < t:
		return MaxTime
	case d < 0 && s > t:
		return MinTime
	}
	return s
}

// HashKey is the pinned hash of an encoded key: XXH64 with seed 0. It must not
// change, because it places keys on tasks, lanes and state segments, and is
// stored in checkpoints.
func HashKey(encoded []byte) uint64 { return xxhash.Sum64(encoded) }

// HashString is HashKey for the bytes of a string.
func HashString(s string) uint64 { return xxhash.Sum64String(s) }

// HashUint64 is the pinned hash of a key that is an unsigned integer: the
// SplitMix64 finaliser (Steele, Lea, Flood 2014). It must not change, for the
// same reason as HashKey. Integer keys use it instead of HashKey.
func HashUint64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

// Mix combines two 64-bit values into one well-mixed value. It must not change:
// origins of derived records, and with them idempotency keys, are built from it.
func Mix(a, b uint64) uint64 { return HashUint64(a ^ bits.RotateLeft64(b*0x9e3779b97f4a7c15, 31)) }

// HashRange is an inclusive range of key hashes. A task owns one range; the
// ranges of an operator's tasks partition the whole hash space.
type HashRange struct {
	Lo, Hi uint64
}

// FullRange covers every hash.
var FullRange = HashRange{0, math.MaxUint64}

// Contains reports whether h lies in the range.
func (r HashRange) Contains(h uint64) bool { return r.Lo <= h && h <= r.Hi }

// Overlaps reports whether the two ranges share a hash.
func (r HashRange) Overlaps(o HashRange) bool { return r.Lo <= o.Hi && o.Lo <= r.Hi }

// String renders the range as two hexadecimal bounds.
func (r HashRange) String() string { return fmt.Sprintf("%016x-%016x", r.Lo, r.Hi) }

// OwnerOf returns which of n tasks owns the hash: floor(h*n / 2^64). It agrees
// with SplitRange.
func OwnerOf(h uint64, n int) int {
	hi, _ := bits.Mul64(h, uint64(n))
	return int(hi)
}

// SplitRange returns the range that task i of n owns.
func SplitRange(i, n int) HashRange {
	return HashRange{lowestOf(i, n), lowestOf(i+1, n) - 1}
}

// lowestOf returns ceil(i*2^64 / n), and 0 (that is, 2^64) for i == n.
func lowestOf(i, n int) uint64 {
	if i == 0 || i >= n {
		return 0
	}
	q, r := bits.Div64(uint64(i), 0, uint64(n))
	if r != 0 {
		q++
	}
	return q
}

// Epoch numbers a checkpoint of a job: 1, 2, 3, … without gaps. 0 is "none yet".
type Epoch uint64

// Generation numbers the deployments of a job, strictly increasing.
type Generation uint64

// Term numbers the coordinators of a job, strictly increasing.
type Term uint64

// Origin names the record from which this one derives. It is the same in every
// replay, so job/operator/origin is an idempotency key for outside effects.
type Origin struct {
	// Split is the hash of "source uid/split id", or of the operator's uid for
	// records that a timer or a window made.
	Split uint64
	// Pos is the position in the split, or the time of the timer or window.
	Pos uint64
	// Emit tells apart the records derived from one (Split, Pos): 0 for the
	// record itself, mixed with the index at each operator that multiplies.
	Emit uint64
}

// Derive returns the origin of the i-th output of an operator that emits many
// records for one. Output 0 keeps the origin's own Emit only when it is the sole
// one, which an operator cannot know; therefore every output is mixed.
func (o Origin) Derive(i int) Origin {
	o.Emit = Mix(o.Emit, uint64(i)+1)
	return o
}

// String renders the origin as three hexadecimal words.
func (o Origin) String() string { return fmt.Sprintf("%016x-%x-%x", o.Split, o.Pos, o.Emit) }

// Header is one name and value that travels with a record.
type Header struct {
	Name, Value string
}

// Headers are optional headers of a record: correlation, causation,
// traceparent, the user's own. They are immutable once attached.
type Headers []Header

// Get returns the value of the first header of that name, or "".
func (h Headers) Get(name string) string {
	for i := range h {
		if h[i].Name == name {
			return h[i].Value
		}
	}
	return ""
}

// Meta is what a record carries besides its value. Operators pass it by pointer
// from hand to hand and copy it when they keep it.
type Meta struct {
	// Time is the event time.
	Time Timestamp
	// Hash is the key hash, valid after KeyBy. It serves exchange, placement
	// and the state table.
	Hash uint64
	// Ingest is the wall-clock time at which a source handed the record over,
	// in nanoseconds since the epoch.
	Ingest Timestamp
	// Origin identifies the record across replays.
	Origin Origin
	// Headers is nil when the record has none.
	Headers *Headers
}
