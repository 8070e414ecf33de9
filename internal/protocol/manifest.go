package protocol

import "github.com/weirflow/weir/internal/base"

// Manifest describes one attempt at epoch n completely: whoever holds it and the
// objects it names can restore the job. It is immutable, stored under
// ManifestKey, and becomes the checkpoint when an EpochRecord names its sum.
//
// It follows section 1.1 of the protocol with one deliberate change: chains of
// base and deltas are listed per task, not per process. A task is what moves on
// rescale and what acknowledges, so a process needs no identity in the
// checkpoint, one task's chain can be cut without its neighbours, and restoring
// at another parallelism is a filter by hash range over some tasks' chains.
type Manifest struct {
	Job      string
	Epoch    base.Epoch
	Attempt  Attempt
	Term     base.Term
	Gen      base.Generation
	PlanHash SHA
	// Prev is the sum of the encoded record of epoch n-1; zero for epoch 1.
	Prev SHA
	// Final says that the job stopped at this epoch.
	Final Final
	// Tasks is ordered by TaskID and lists every task of the deployment.
	Tasks []TaskState
	// Splits is ordered by source and split.
	Splits []SplitState
	// Lanes is ordered by LaneID and lists every lane of the deployment, also
	// those without records in this epoch.
	Lanes []LaneState
	// Control are the events that take effect right after this epoch's barrier.
	Control []ControlEvent
	// Schemas is ordered by operator and state name.
	Schemas []Schema
}

// Final says whether, and how, an epoch is the last one of a run.
type Final uint8

const (
	// NotFinal is an ordinary epoch.
	NotFinal Final = 0
	// FinalStop ends the run on request: sources stop after the barrier, and
	// what is in flight in asynchronous operators stays state.
	FinalStop Final = 1
	// FinalEnd ends the run because every source has ended: operators flush
	// before they forward the barrier.
	FinalEnd Final = 2
)

// TaskState is one task's part of a checkpoint.
type TaskState struct {
	Task TaskID
	// Gen is the generation under which this task ran.
	Gen base.Generation
	// Keyed says that the task owns Range; Range is zero otherwise.
	Keyed bool
	Range base.HashRange
	// Objects are applied in this order to an empty table, each filtered by
	// its own range. CheckChain states what makes the list complete.
	Objects []ObjectRef
	// Named are opaque snapshots: watermarks, queued inputs of asynchronous
	// operators, operator state. Ordered by name, names unique in the task.
	Named []NamedState
}

// ObjectKind tells what an object of a state chain holds.
type ObjectKind uint8

const (
	// KindBase is a complete copy of a range; several base objects of one
	// epoch that cover the same range are the files of one base.
	KindBase ObjectKind = 1
	// KindDelta holds every entry that changed after barrier Since and up to
	// barrier Epoch, with its value at barrier Epoch, and deletions.
	KindDelta ObjectKind = 2
)

// ObjectRef names one object of a state chain. A small delta may travel inline:
// then Inline holds its bytes and no object is stored, while SHA and Size
// describe the bytes all the same.
type ObjectRef struct {
	Kind ObjectKind
	// SHA is the sum of the content and names the object in the store.
	SHA SHA
	// Size is the length of the content in bytes.
	Size uint64
	// Range is the part of the content that counts: entries outside are
	// skipped. Moving a task to another range narrows it.
	Range base.HashRange
	// Since is the epoch whose barrier this object starts from: 0 for a base
	// and for a delta that starts from an empty table.
	Since base.Epoch
	// Epoch is the epoch at whose barrier the content was frozen.
	Epoch base.Epoch
	// Name is a file name within a base of several files; may be "".
	Name string
	// Inline holds the content when it is not stored as an object.
	Inline []byte
}

// NamedState is an opaque snapshot of an operator, inline or as a stored object
// (then Inline is empty and SHA is set).
type NamedState struct {
	Name   string
	SHA    SHA
	Size   uint64
	Inline []byte
}

// SplitState is the position of a source in one split.
type SplitState struct {
	Source string
	Split  string
	// Identity tells apart two incarnations of a split under one name, such as
	// the creation time of a stream. Offsets compare only within one.
	Identity string
	// Offset is the position after the last record that epoch n covers.
	Offset uint64
	// Finished says that the split has no further records.
	Finished bool
	// Watermark is the split's watermark at the barrier.
	Watermark base.Timestamp
	// State is the source's own: watermark generator, position detail.
	State []byte
}

// MarkerID names one commit marker of a lane: chunk c (from 1) of epoch n, as
// described by one manifest. The zero value means "no marker yet".
type MarkerID struct {
	Epoch    base.Epoch
	Chunk    uint32
	Manifest SHA
}

// IsZero reports whether m is "no marker yet".
func (m MarkerID) IsZero() bool { return m == MarkerID{} }

// LaneBlock is what one lane publishes for an epoch: an immutable object that
// holds Count messages, cut into chunks that are published one batch each.
// A block without chunks means that the lane has no records in the epoch.
type LaneBlock struct {
	Lane LaneID
	// SHA names the object with the messages.
	SHA SHA
	// Bytes is the size of that object.
	Bytes uint64
	// Chunks holds the number of messages of each chunk; none is 0.
	Chunks []uint32
}

// Empty reports whether the lane has no records in the epoch.
func (b LaneBlock) Empty() bool { return len(b.Chunks) == 0 }

// Count returns the number of messages of the block.
func (b LaneBlock) Count() uint64 {
	var n uint64
	for _, c := range b.Chunks {
		n += uint64(c)
	}
	return n
}

// LaneState is one lane's part of a manifest.
type LaneState struct {
	// Block is what the epoch publishes. Block.Lane is always set.
	Block LaneBlock
	// Pred is the marker that must stand before this block's first chunk, or,
	// without a block, before the first chunk of the lane's next block.
	Pred MarkerID
	// Before is the number of messages the lane published up to Pred.
	Before uint64
	// Committed is the highest epoch that was known to be committed in this
	// lane when the manifest was written. A marker below it has been lost.
	Committed base.Epoch
}

// End returns the marker that stands after the lane has committed epoch n, and
// the lane's message count there, where manifest is the sum of n's manifest.
func (l LaneState) End(n base.Epoch, manifest SHA) (MarkerID, uint64) {
	if l.Block.Empty() {
		return l.Pred, l.Before
	}
	return MarkerID{n, uint32(len(l.Block.Chunks)), manifest}, l.Before + l.Block.Count()
}

// ControlEvent changes how operators behave from a barrier on: canary weights, a
// model or a pattern swap. Receivers apply an event once, by ID.
type ControlEvent struct {
	// ID is unique in the job and increases.
	ID uint64
	// Target is the operator that the event is for.
	Target string
	// Name and Body are the operator's own.
	Name string
	Body []byte
}

// Schema describes one state of one operator, so that a restore can match,
// migrate or refuse it before any task starts.
type Schema struct {
	Operator string
	State    string
	// Fingerprint is equal exactly when the stored form is.
	Fingerprint string
	// Detail describes the form for people and for field-wise migration.
	Detail string
}

// EpochRecord makes epoch n durable: it is created under EpochKey if absent.
type EpochRecord struct {
	Job     string
	Epoch   base.Epoch
	Gen     base.Generation
	Attempt Attempt
	// Manifest is the sum of the encoded manifest.
	Manifest SHA
	// Prev is the sum of the encoded record of epoch n-1; zero for epoch 1.
	Prev SHA
}

// Try returns the attempt that the record made durable.
func (r EpochRecord) Try() Try { return Try{r.Epoch, r.Attempt} }

// TermRecord is created under TermKey if absent by each winner of the lease.
type TermRecord struct {
	Job  string
	Term base.Term
	// Holder describes the process for people.
	Holder string
}

// GenRecord is created under GenKey if absent for each deployment.
type GenRecord struct {
	Job      string
	Gen      base.Generation
	Term     base.Term
	PlanHash SHA
	// From is the epoch the deployment restores; 0 for none.
	From base.Epoch
	// Tasks is the placement, ordered by task.
	Tasks []Placement
}

// Placement says which worker runs a task, and under which generation: a task
// that was kept from an earlier deployment runs on under the lower one.
type Placement struct {
	Task   TaskID
	Worker string
	Gen    base.Generation
}

// FloorRecord is written under FloorKey before records of lower epochs are
// deleted. All lanes have committed every epoch below it.
type FloorRecord struct {
	Job   string
	Floor base.Epoch
}

// Marker is the body of a commit marker, the last message of each batch.
type Marker struct {
	Job    string
	Lane   LaneID
	Epoch  base.Epoch
	Chunk  uint32
	Chunks uint32
	Gen    base.Generation
	// Manifest is the sum of the manifest of Epoch.
	Manifest SHA
	// Count is the number of data messages of this chunk, Total the number in
	// the lane's life up to and including it.
	Count uint32
	Total uint64
}

// ID returns the marker's identity.
func (m Marker) ID() MarkerID { return MarkerID{m.Epoch, m.Chunk, m.Manifest} }
