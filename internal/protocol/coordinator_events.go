package protocol

import "github.com/weirflow/weir/internal/base"

// Event is a fact for a Coordinator.
type Event interface{ event() }

// Tick says that time has passed: attempts time out, epochs fall due, retries run.
type Tick struct{}

// TriggerDue asks for an epoch at once, whatever the interval. It starts as soon
// as the open attempt and the bound of uncommitted epochs allow.
type TriggerDue struct{}

// Moved says that a source read a record, or a timer fired, since its barrier.
type Moved struct{}

// OutputStaged says that a sink staged its first record of this run: the first
// epoch starts at once.
type OutputStaged struct{}

// AckReceived is a task's ack of a try.
type AckReceived struct {
	Task TaskID
	Gen  base.Generation
	Try  Try
	Ack  *Ack
}

// Declined says that a task could not finish its snapshot but goes on.
type Declined struct {
	Task  TaskID
	Gen   base.Generation
	Try   Try
	Cause string
}

// TaskFailed says that a task died.
type TaskFailed struct {
	Task    TaskID
	Gen     base.Generation
	Failure Failure
}

// TaskFinished says that a source task has read its last record. When all have,
// the final epoch follows.
type TaskFinished struct {
	Task TaskID
	Gen  base.Generation
}

// Timeout says that a try took too long. Tick produces it by itself.
type Timeout struct{ Try Try }

// ManifestWritten answers WriteManifest. Err is nil when the object is durable.
type ManifestWritten struct {
	Try Try
	Err error
}

// ClaimOutcome is the result of creating an epoch record.
type ClaimOutcome uint8

const (
	// ClaimCreated: the record was absent and is there now, durably.
	ClaimCreated ClaimOutcome = iota + 1
	// ClaimIdentical: a record with the same bytes was there; our own earlier
	// try to create it had succeeded.
	ClaimIdentical
	// ClaimOther: another record was there.
	ClaimOther
	// ClaimUnknown: an error; the record may be there now, or appear later.
	ClaimUnknown
	// ClaimStale: the record of a newer generation was seen before the claim,
	// which was not tried.
	ClaimStale
)

// ClaimResult answers ClaimEpoch.
type ClaimResult struct {
	Try     Try
	Outcome ClaimOutcome
	// Err describes ClaimUnknown.
	Err error
}

// FenceRead answers ReadFence: the highest term and generation that have a
// record, and the floor (0 when none was published). Err set: nothing is known.
type FenceRead struct {
	Try   Try
	Term  base.Term
	Gen   base.Generation
	Floor base.Epoch
	Err   error
}

// LaneCommitted says that a lane has committed an epoch and all before it.
type LaneCommitted struct {
	Lane  LaneID
	Epoch base.Epoch
}

// StopRequested asks for a final epoch after which the job stops and can resume.
type StopRequested struct{}

// EndOfInput asks for a final epoch because nothing more will come.
// TaskFinished of every source produces it by itself.
type EndOfInput struct{}

// ControlSubmitted hands in a control event for the next epoch.
type ControlSubmitted struct{ Event ControlEvent }

func (Tick) event()             {}
func (TriggerDue) event()       {}
func (Moved) event()            {}
func (OutputStaged) event()     {}
func (AckReceived) event()      {}
func (Declined) event()         {}
func (TaskFailed) event()       {}
func (TaskFinished) event()     {}
func (Timeout) event()          {}
func (ManifestWritten) event()  {}
func (ClaimResult) event()      {}
func (FenceRead) event()        {}
func (LaneCommitted) event()    {}
func (StopRequested) event()    {}
func (EndOfInput) event()       {}
func (ControlSubmitted) event() {}

// Action is an order of a Coordinator.
type Action interface{ action() }

// SendTrigger: send Msg to the sources To.
type SendTrigger struct {
	To  []TaskID
	Msg Message
}

// WriteManifest: store Body under Key, durably; answer ManifestWritten.
type WriteManifest struct {
	Try      Try
	Key      string
	Body     []byte
	SHA      SHA
	Manifest *Manifest
}

// ClaimEpoch: if the record of NextGen exists answer ClaimStale; otherwise create
// Key with Body if absent and answer ClaimResult. When Key exists, compare its
// bytes with Body: equal is ClaimIdentical.
type ClaimEpoch struct {
	Try     Try
	Key     string
	Body    []byte
	NextGen base.Generation
}

// ReadFence: read the highest term and generation and the floor, and answer
// FenceRead. It guards against a claim below a published floor, where the
// records that would have refused it are gone.
type ReadFence struct{ Try Try }

// SendComplete: send Msg to the tasks To. The first one for a try means that it
// is durable.
type SendComplete struct {
	To  []TaskID
	Msg Message
}

// AbortAttempt: send Msg to the tasks To; the try was given up because of Cause.
type AbortAttempt struct {
	To    []TaskID
	Msg   Message
	Cause string
}

// MarkDone: store the hint Key, that every lane has committed Epoch. It may fail.
type MarkDone struct {
	Epoch base.Epoch
	Key   string
}

// StopReason says why a generation must stop.
type StopReason uint8

const (
	// Superseded: another generation, or another coordinator's attempt, owns the
	// next epoch. Restart under a new generation from the newest durable epoch.
	Superseded StopReason = iota + 1
	// TaskDied: a task failed. Restart, unless Err is fatal.
	TaskDied
	// Broken: an invariant does not hold. Err is fatal.
	Broken
)

// String returns "superseded", "task failed" or "invariant broken".
func (r StopReason) String() string {
	return [...]string{"", "superseded", "task failed", "invariant broken"}[r]
}

// StopGeneration: stop every task of the generation. The coordinator ignores all
// further events; whether an open claim succeeded is found out by recovery.
type StopGeneration struct {
	Reason StopReason
	Err    error
}

// Resign: another coordinator took over. Stop coordinating, leave the tasks alone.
type Resign struct{ Term base.Term }

// Alarm: that many attempts in a row have failed, the last one because of Cause.
type Alarm struct {
	Failures int
	Cause    string
}

// FinalDone: the final epoch is durable and committed in every lane; the job ends.
type FinalDone struct{ Epoch base.Epoch }

func (SendTrigger) action()    {}
func (WriteManifest) action()  {}
func (ClaimEpoch) action()     {}
func (ReadFence) action()      {}
func (SendComplete) action()   {}
func (AbortAttempt) action()   {}
func (MarkDone) action()       {}
func (StopGeneration) action() {}
func (Resign) action()         {}
func (Alarm) action()          {}
func (FinalDone) action()      {}
