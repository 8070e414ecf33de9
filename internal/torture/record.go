package torture

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Class says what a record is there for.
type Class string

// The classes of records. Event time means the time that the generator has
// reached; see Script.
const (
	// Normal records come within the bound of disorder.
	Normal Class = "n"
	// Mild ones come behind the watermark, yet within the allowed lateness.
	Mild Class = "m"
	// Late ones come when their windows should be gone; each has a key of its own.
	Late Class = "l"
	// Visit records come to a key that is visited three times: twice within the
	// time to live of j8's state, and again long after it.
	Visit Class = "v"
	// Flush records end the input: far in the future, they move event time past
	// everything before them.
	Flush Class = "f"
)

// Record is one line of input.jsonl and one message of the input stream.
type Record struct {
	// ID numbers all records from 1, Seq those of a key.
	ID    uint64 `json:"id"`
	Key   string `json:"key"`
	Seq   uint64 `json:"seq"`
	Class Class  `json:"class"`
	// At is the event time in milliseconds since the epoch.
	At    int64 `json:"at"`
	Value int64 `json:"value"`
	// Pad is how many bytes Fill has; the log leaves Fill out.
	Pad  int    `json:"pad"`
	Fill string `json:"fill,omitempty"`
}

// bigPad is the least Pad of a record whose Fill j2 keeps in its state.
const bigPad = 1024

// fill returns the Fill that a record of that ID has.
func fill(id uint64, n int) string { return strings.Repeat(string(rune('a'+id%26)), n) }

// Output is one result of the job: the data of a line of output.jsonl. Which
// fields are in use depends on Job.
type Output struct {
	Job string `json:"job"`
	Key string `json:"key"`
	// ID is that of the record that the result answers; 0 for timers and windows.
	ID uint64 `json:"id,omitempty"`
	// N numbers the results of job and key from 1; Prev is the Hash of the one
	// before. Both come from state. See ChainHash.
	N    uint64 `json:"n,omitempty"`
	Prev string `json:"prev,omitempty"`
	Hash string `json:"hash,omitempty"`
	// Count and Sum are those of the key's records so far (j2), of a window (j3)
	// or of a bucket (j8). IDs is the sum modulo 2^64 of the ids in a window.
	Count uint64 `json:"count,omitempty"`
	Sum   int64  `json:"sum,omitempty"`
	IDs   string `json:"ids,omitempty"`
	// Start and End bound a window or bucket, in milliseconds.
	Start int64 `json:"start,omitempty"`
	End   int64 `json:"end,omitempty"`
	// Latest lists, in every eighth result of j2, the ids of the latest eight.
	Latest []uint64 `json:"latest,omitempty"`
	// Last is the id of the latest record of the key before this one whose Pad is
	// at least 1024, as far as the state of j2 knows; 0 for none.
	Last uint64 `json:"last,omitempty"`
	// Nonce is random, Now the wall clock, and Tick the processing time at which a
	// timer was set or has fired (j7), all in decimal or nanoseconds.
	Nonce uint64 `json:"nonce,omitempty"`
	Now   int64  `json:"now,omitempty"`
	Tick  int64  `json:"tick,omitempty"`
	// Seen is the id of the visit that the state with a time to live remembered
	// (j8); 0 for none.
	Seen uint64 `json:"seen,omitempty"`
}

// Names of the branches of the job: Output.Job.
const (
	JobEcho     = "j1"
	JobCount    = "j2"
	JobTumbling = "j3t"
	JobSliding  = "j3s"
	JobLate     = "j3l"
	JobNonce    = "j7"
	JobTimers   = "j8"
)

// chained lists the branches whose results form hash chains.
var chained = map[string]bool{JobCount: true, JobNonce: true, JobTimers: true}

// sum is the value of a chain after some result; the zero value is before the
// first.
type sum [8]byte

// String returns 16 hexadecimal digits, or "" for the zero value.
func (s sum) String() string {
	if s == (sum{}) {
		return ""
	}
	return hex.EncodeToString(s[:])
}

// chainHash returns the first eight bytes of the SHA-256 sum of
//
//	prev|job|key|n|id|count|sum|start|end|latest|nonce|now|tick|seen|last
//
// in decimal, with latest separated by commas and prev as hexadecimal digits.
func chainHash(o *Output) sum {
	latest := make([]string, len(o.Latest))
	for i, id := range o.Latest {
		latest[i] = fmt.Sprint(id)
	}
	text := fmt.Sprintf("%s|%s|%s|%d|%d|%d|%d|%d|%d|%s|%d|%d|%d|%d|%d",
		o.Prev, o.Job, o.Key, o.N, o.ID, o.Count, o.Sum, o.Start, o.End, strings.Join(latest, ","), o.Nonce, o.Now, o.Tick, o.Seen, o.Last)
	full := sha256.Sum256([]byte(text))
	return sum(full[:8])
}

// ChainHash returns the Hash that a result must have.
func ChainHash(o *Output) string { return chainHash(o).String() }
