package weirtest

import (
	"time"

	"github.com/weirflow/weir/internal/base"
)

// Step is something that happens to a run: a record arrives, event time moves, a
// checkpoint is made, the process dies. Steps are plain values and can be used in
// many runs.
type Step interface{ step() }

type (
	recordStep struct {
		value   any
		time    base.Timestamp
		headers base.Headers
		raw     []byte
		bad     error
	}
	watermarkStep struct{ time base.Timestamp }
	togetherStep  struct{ steps []Step }
	intoStep      struct {
		source, split string
		steps         []Step
	}
	endStep        struct{}
	checkpointStep struct{}
	crashStep      struct{ inCommit bool }
	restoreStep    struct{ parallelism int }
	clockStep      struct{ d time.Duration }
)

func (recordStep) step()     {}
func (watermarkStep) step()  {}
func (togetherStep) step()   {}
func (intoStep) step()       {}
func (endStep) step()        {}
func (checkpointStep) step() {}
func (crashStep) step()      {}
func (restoreStep) step()    {}
func (clockStep) step()      {}

// Value is a record without a time of its own: the job takes its event time from
// the value. v must have the type of the source's records.
func Value(v any) Step { return recordStep{value: v} }

// At is a record that the source stamps with a time. A job that takes event time
// from the value ignores it.
func At(t time.Time, v any) Step { return recordStep{value: v, time: t.UnixNano()} }

// AtMillis is At for a time in milliseconds since the epoch.
func AtMillis(ms int64, v any) Step {
	return recordStep{value: v, time: ms * int64(time.Millisecond)}
}

// WithHeaders adds headers to a record made by Value or At; it leaves other steps
// as they are.
func WithHeaders(s Step, headers map[string]string) Step {
	r, ok := s.(recordStep)
	if !ok {
		return s
	}
	for name, v := range headers {
		r.headers = append(r.headers, base.Header{Name: name, Value: v})
	}
	sortHeaders(r.headers)
	return r
}

// Malformed is a record that the source cannot decode, for the given reason.
func Malformed(raw []byte, reason error) Step { return recordStep{raw: raw, bad: reason} }

// Watermark says that no record with an event time before t follows in the split,
// whatever the job's watermark strategy makes of the records.
func Watermark(t time.Time) Step { return watermarkStep{t.UnixNano()} }

// WatermarkMillis is Watermark for a time in milliseconds since the epoch.
func WatermarkMillis(ms int64) Step { return watermarkStep{ms * int64(time.Millisecond)} }

// Together makes the source hand over several records and watermarks in one run,
// as it does when it is behind, instead of one by one.
func Together(steps ...Step) Step { return togetherStep{steps} }

// Into feeds records and watermarks to a source of the job by its name, for lists
// of steps that feed more than one. Other steps in it are as good as outside.
func Into(source string, steps ...Step) Step { return intoStep{source: source, steps: steps} }

// Split is Into for one split of the source; see Splits.
func Split(source, split string, steps ...Step) Step {
	return intoStep{source: source, split: split, steps: steps}
}

// EndOfInput ends all sources. The job fires what is left, makes its last
// checkpoint and ends. It is the last step of a run, but for Crash and Restore.
func EndOfInput() Step { return endStep{} }

// Checkpoint makes a checkpoint and waits until its output is visible.
func Checkpoint() Step { return checkpointStep{} }

// Crash ends the job like kill -9: what no checkpoint covers is gone. Records fed
// afterwards wait in their sources until Restore.
func Crash() Step { return crashStep{} }

// CrashInCommit makes a checkpoint and ends the job while its output is being
// committed: the checkpoint is durable, the first write to a sink was carried out
// and its answer lost, and all others were not carried out. Without new output it
// is a checkpoint and a crash.
func CrashInCommit() Step { return crashStep{inCommit: true} }

// Restore starts a crashed job again from its last checkpoint, with the given
// parallelism of keyed operators; 0 keeps what it was.
func Restore(parallelism int) Step { return restoreStep{parallelism} }

// AdvanceClock lets processing time pass: d, in as many steps as timers fall due.
func AdvanceClock(d time.Duration) Step { return clockStep{d} }
