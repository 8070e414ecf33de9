package protocol

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/weirflow/weir/internal/base"
)

// SHA is a SHA-256 sum. The zero value means "none".
type SHA [sha256.Size]byte

// SumSHA returns the SHA-256 sum of b.
func SumSHA(b []byte) SHA { return sha256.Sum256(b) }

// IsZero reports whether s is "none".
func (s SHA) IsZero() bool { return s == SHA{} }

// String renders the sum as 64 hexadecimal digits.
func (s SHA) String() string { return hex.EncodeToString(s[:]) }

// Short renders the first 12 hexadecimal digits, for messages to people.
func (s SHA) Short() string { return hex.EncodeToString(s[:6]) }

// TaskID names one parallel task of a deployment: the uid of the operator that
// heads its chain, and its index among that operator's tasks, from 0.
type TaskID struct {
	Operator string
	Index    int
}

// String renders the id as "operator#index".
func (t TaskID) String() string { return t.Operator + "#" + strconv.Itoa(t.Index) }

// Less orders tasks by operator, then index.
func (t TaskID) Less(o TaskID) bool {
	if t.Operator != o.Operator {
		return t.Operator < o.Operator
	}
	return t.Index < o.Index
}

// LaneID names one lane of a sink. The number of lanes of a sink is fixed for
// the job's life; lanes are numbered from 0.
type LaneID struct {
	Sink string
	Lane int
}

// String renders the id as "sink/lane".
func (l LaneID) String() string { return l.Sink + "/" + strconv.Itoa(l.Lane) }

// Less orders lanes by sink, then number.
func (l LaneID) Less(o LaneID) bool {
	if l.Sink != o.Sink {
		return l.Sink < o.Sink
	}
	return l.Lane < o.Lane
}

// Attempt numbers the tries to make a checkpoint. The term of the coordinator is
// its upper part, so two coordinators that drive the same generation never use
// the same number, and a later coordinator's attempts are newer.
type Attempt uint64

// attemptBits is the width of the counter within a term. It must not change,
// because attempts are parts of stored object names.
const attemptBits = 24

// NewAttempt returns the k-th attempt (from 1) of the coordinator of a term.
func NewAttempt(t base.Term, k uint32) Attempt {
	return Attempt(uint64(t)<<attemptBits | uint64(k)&(1<<attemptBits-1))
}

// Term returns the term of the coordinator that made the attempt.
func (a Attempt) Term() base.Term { return base.Term(a >> attemptBits) }

// String renders the attempt as "term.counter".
func (a Attempt) String() string {
	return fmt.Sprintf("%d.%d", a>>attemptBits, a&(1<<attemptBits-1))
}

// Try is one attempt at one epoch. Tries are ordered: a later epoch is newer,
// within an epoch a later attempt.
type Try struct {
	Epoch   base.Epoch
	Attempt Attempt
}

// Newer reports whether t comes after o.
func (t Try) Newer(o Try) bool {
	return t.Epoch > o.Epoch || t.Epoch == o.Epoch && t.Attempt > o.Attempt
}

// String renders the try as "epoch/term.counter".
func (t Try) String() string { return fmt.Sprintf("%d/%s", t.Epoch, t.Attempt) }

// The functions below name objects in the checkpoint store, relative to its
// root. The names must not change, because stores outlive binaries.

// TermKey names the record of a coordinator's term.
func TermKey(job string, t base.Term) string { return fmt.Sprintf("jobs/%s/term/%d", job, t) }

// GenKey names the record of a deployment.
func GenKey(job string, g base.Generation) string { return fmt.Sprintf("jobs/%s/gen/%d", job, g) }

// ObjectKey names an immutable state file or staged sink block.
func ObjectKey(job string, sha SHA) string { return "jobs/" + job + "/obj/" + sha.String() }

// ManifestKey names the manifest of one attempt.
func ManifestKey(job string, t Try, g base.Generation) string {
	return fmt.Sprintf("jobs/%s/man/%d-%d-%d", job, t.Epoch, g, t.Attempt)
}

// epochsPerFolder bounds the entries of one folder of epoch records.
const epochsPerFolder = 10_000

// EpochKey names the record whose creation makes epoch n durable.
func EpochKey(job string, n base.Epoch) string {
	return fmt.Sprintf("jobs/%s/epochs/%d/%d", job, uint64(n)/epochsPerFolder, n)
}

// DoneKey names the hint that every lane has committed epoch n.
func DoneKey(job string, n base.Epoch) string { return fmt.Sprintf("jobs/%s/done/%d", job, n) }

// FloorKey names the lowest epoch whose record is kept.
func FloorKey(job string) string { return "jobs/" + job + "/floor" }

// MarkerSubject names the subject, below a stream's own prefix, that holds the
// last commit marker of a lane.
func MarkerSubject(job string, l LaneID) string {
	return fmt.Sprintf("commit.%s.%s.%d", job, l.Sink, l.Lane)
}
