package protocol

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// Lane commits the blocks of one sink lane, in order, exactly once (S1-S5), as a
// pure step function. Chunk c of epoch n is published in one atomic batch with
// its marker, on condition that the lane's last marker is still the one before
// it. The condition is a sequence, and the sequence is always that of marker
// (n, c-1), or of the block's named predecessor: never of whatever marker is
// there now. So at most one of any number of lanes, processes and delayed
// batches gets a chunk in, and none gets it in twice.
//
// A Lane has at most one store access open, the last one it asked for, and is
// owned by one goroutine. Several processes may run a Lane for the same lane at
// the same time.
type Lane struct {
	job      string
	id       LaneID
	gen      base.Generation
	restored base.Epoch

	queue     []Claimed // blocks to commit, ascending; head is under way
	chunk     uint32    // next chunk of the head, from 1; 0 when the queue is empty
	last      MarkerID  // the marker after the newest block taken in, once taken
	taken     bool
	committed base.Epoch // every block up to it is committed

	// The marker before the next chunk is tip, at sequence seq, when known.
	known bool
	tip   MarkerID
	seq   uint64

	state laneState
	tries int
	newer Marker // while laneVerifying
}

type laneState uint8

const (
	laneIdle       laneState = iota
	lanePublishing           // a batch is under way
	laneReading              // the marker is being read
	laneVerifying            // the record of a newer marker's epoch is being read
	laneStopped
)

// Claimed is a durable epoch's block of a lane: one line of a Complete.
type Claimed struct {
	Epoch    base.Epoch
	Manifest SHA
	State    LaneState
}

// LaneStart is what is known of a lane when a task takes it over; the zero value
// is nothing.
type LaneStart struct {
	// Restored is the epoch that the task was restored from. A marker up to it
	// is another process's replay of the same blocks, not a newer deployment.
	Restored base.Epoch
	// Known says that the lane's marker was read: it was Marker at sequence Seq,
	// or there was none (zero).
	Known  bool
	Marker MarkerID
	Seq    uint64
}

// NewLane returns the committer of a lane for a task of generation gen.
func NewLane(job string, id LaneID, gen base.Generation, start LaneStart) *Lane {
	return &Lane{job: job, id: id, gen: gen, restored: start.Restored, known: start.Known, tip: start.Marker, seq: start.Seq}
}

// LaneEvent is a fact for a Lane.
type LaneEvent interface{ laneEvent() }

// BlockClaimed hands in a durable block (S1). Blocks come in order; one that was
// handed in before is answered again with LaneDone if it is committed.
type BlockClaimed struct{ Claimed }

// PublishOK answers Publish: the batch is stored, its marker at sequence Seq.
type PublishOK struct{ Seq uint64 }

// PublishConflict answers Publish: the server refused the batch because the last
// marker's sequence is not the expected one.
type PublishConflict struct{}

// PublishUnknown answers Publish: an error after which the batch may be stored,
// may yet be stored, or may not.
type PublishUnknown struct{ Err error }

// MarkerRead answers ReadMarker, read from the stream's leader.
type MarkerRead struct {
	Found  bool
	Marker Marker
	Seq    uint64
	// Err set: nothing is known.
	Err error
}

// RecordRead answers ReadRecord: the manifest that the record of the epoch names.
type RecordRead struct {
	Found    bool
	Manifest SHA
	// Err set: nothing is known.
	Err error
}

func (BlockClaimed) laneEvent()    {}
func (PublishOK) laneEvent()       {}
func (PublishConflict) laneEvent() {}
func (PublishUnknown) laneEvent()  {}
func (MarkerRead) laneEvent()      {}
func (RecordRead) laneEvent()      {}

// LaneAction is an order of a Lane.
type LaneAction interface{ laneAction() }

// Publish: store the messages of one chunk and Marker in one atomic batch, on
// condition that the lane's last marker has sequence Expect (0: there is none).
type Publish struct {
	// Block is the object with the messages; First and Count select the chunk's.
	Block LaneBlock
	First uint64
	Count uint32
	// Marker is the last message of the batch.
	Marker Marker
	Expect uint64
	// Tries is how often this chunk was tried before: pause accordingly.
	Tries int
}

// ReadMarker: read the lane's last marker from the leader.
type ReadMarker struct{ Tries int }

// ReadRecord: read the record of the epoch from the checkpoint store.
type ReadRecord struct {
	Epoch base.Epoch
	Tries int
}

// LaneDone: the lane has committed the epoch and all before it; report it.
type LaneDone struct{ Epoch base.Epoch }

// LaneSuperseded: a newer deployment has committed By. Stop this task.
type LaneSuperseded struct{ By Marker }

// LaneBroken: continuing would lose or duplicate output. Err is fatal to the job.
type LaneBroken struct{ Err error }

func (Publish) laneAction()        {}
func (ReadMarker) laneAction()     {}
func (ReadRecord) laneAction()     {}
func (LaneDone) laneAction()       {}
func (LaneSuperseded) laneAction() {}
func (LaneBroken) laneAction()     {}

// Step takes one event and returns the actions to carry out, in order. Answers
// to accesses that are no longer open must not be fed.
func (l *Lane) Step(ev LaneEvent) []LaneAction {
	if l.state == laneStopped {
		return nil
	}
	switch ev := ev.(type) {
	case BlockClaimed:
		return l.onBlock(ev.Claimed)
	case PublishOK:
		if l.state != lanePublishing {
			return nil
		}
		l.tip, l.seq, l.known = l.target(), ev.Seq, true
		l.tries = 0
		return l.advance(nil)
	case PublishConflict, PublishUnknown:
		if l.state != lanePublishing {
			return nil
		}
		l.tries++
		return l.read()
	case MarkerRead:
		if l.state != laneReading {
			return nil
		}
		if ev.Err != nil {
			l.tries++
			return l.read()
		}
		return l.onMarker(ev)
	case RecordRead:
		if l.state != laneVerifying {
			return nil
		}
		return l.onRecord(ev)
	}
	return nil
}

// Committed returns the newest marker known to stand in the lane, and whether
// one is known.
func (l *Lane) Committed() (MarkerID, bool) { return l.tip, l.known }

// Pending returns the number of blocks that are not committed.
func (l *Lane) Pending() int { return len(l.queue) }

// target returns the marker of the chunk under way.
func (l *Lane) target() MarkerID {
	return MarkerID{l.queue[0].Epoch, l.chunk, l.queue[0].Manifest}
}

// pred returns the marker that must stand before the chunk under way.
func (l *Lane) pred() MarkerID {
	if l.chunk == 1 {
		return l.queue[0].State.Pred
	}
	return MarkerID{l.queue[0].Epoch, l.chunk - 1, l.queue[0].Manifest}
}

func (l *Lane) onBlock(b Claimed) []LaneAction {
	if b.State.Block.Lane != l.id || b.State.Block.Empty() {
		return l.broken("a block of lane %s with %d chunks reached it", b.State.Block.Lane, len(b.State.Block.Chunks))
	}
	end, _ := b.State.End(b.Epoch, b.Manifest)
	if l.taken && b.Epoch <= l.last.Epoch {
		return l.repeated(b, end)
	}
	if l.taken && b.State.Pred != l.last {
		return l.broken("the block of epoch %d follows %v, but the lane stands at %v", b.Epoch, b.State.Pred, l.last)
	}
	l.last, l.taken = end, true
	l.queue = append(l.queue, b)
	if len(l.queue) > 1 {
		return nil
	}
	l.chunk = 1
	if l.known && l.tip == b.State.Pred {
		return l.publish()
	}
	return l.read()
}

// repeated answers a block that was handed in before.
func (l *Lane) repeated(b Claimed, end MarkerID) []LaneAction {
	i := slices.IndexFunc(l.queue, func(q Claimed) bool { return q.Epoch == b.Epoch })
	if i >= 0 && l.queue[i].Manifest != b.Manifest || end.Epoch == l.last.Epoch && end != l.last {
		return l.broken("epoch %d was handed in with manifests %s and %s", b.Epoch, b.Manifest.Short(), l.last.Manifest.Short())
	}
	if i >= 0 || l.committed == 0 {
		return nil
	}
	return []LaneAction{LaneDone{l.committed}}
}

// read asks for the lane's marker.
func (l *Lane) read() []LaneAction {
	l.state = laneReading
	return []LaneAction{ReadMarker{l.tries}}
}

// publish sends the chunk under way. known holds and tip is its predecessor.
func (l *Lane) publish() []LaneAction {
	l.state = lanePublishing
	b := &l.queue[0]
	chunks := b.State.Block.Chunks
	var first uint64
	for _, n := range chunks[:l.chunk-1] {
		first += uint64(n)
	}
	count := chunks[l.chunk-1]
	return []LaneAction{Publish{
		Block: b.State.Block, First: first, Count: count, Expect: l.seq, Tries: l.tries,
		Marker: Marker{
			Job: l.job, Lane: l.id, Epoch: b.Epoch, Chunk: l.chunk, Chunks: uint32(len(chunks)), Gen: l.gen,
			Manifest: b.Manifest, Count: count, Total: b.State.Before + first + uint64(count),
		},
	}}
}

// advance goes on behind tip, which is a marker of a queued block: later chunks
// of that block, then the blocks after it. acts are the actions so far.
func (l *Lane) advance(acts []LaneAction) []LaneAction {
	for len(l.queue) > 0 {
		b := &l.queue[0]
		end, _ := b.State.End(b.Epoch, b.Manifest)
		if l.tip.Epoch == b.Epoch && l.tip != end {
			l.chunk = l.tip.Chunk + 1
			return append(acts, l.publish()...)
		}
		if l.tip.Epoch < b.Epoch { // tip is the end of the block before
			l.chunk = 1
			return append(acts, l.publish()...)
		}
		l.committed = b.Epoch
		l.queue = slices.Delete(l.queue, 0, 1)
		acts = append(acts, LaneDone{l.committed})
	}
	l.state, l.chunk = laneIdle, 0
	return acts
}

var errNewer = errors.New("newer marker")

// onMarker decides what the marker that stands in the lane means (S5).
func (l *Lane) onMarker(ev MarkerRead) []LaneAction {
	id := MarkerID{}
	if ev.Found {
		id = ev.Marker.ID()
		if ev.Marker.Job != l.job || ev.Marker.Lane != l.id {
			return l.broken("the marker belongs to lane %s of job %s", ev.Marker.Lane, ev.Marker.Job)
		}
	}
	err := l.judge(id, ev.Seq)
	switch {
	case errors.Is(err, errNewer):
		l.state, l.newer = laneVerifying, ev.Marker
		return []LaneAction{ReadRecord{id.Epoch, l.tries}}
	case err != nil:
		return l.broken("%v", err)
	}
	l.tip, l.seq, l.known = id, ev.Seq, true
	if id == l.pred() {
		return l.publish()
	}
	return l.advance(nil)
}

// judge returns nil when the marker is the predecessor of the chunk under way,
// or stands at it or behind it within the queued blocks: then going on behind
// the marker is right. Everything else must not happen, except errNewer.
func (l *Lane) judge(id MarkerID, seq uint64) error {
	head, pred := &l.queue[0], l.pred()
	if l.known && (id.Epoch < l.tip.Epoch || id.Epoch == l.tip.Epoch && id.Chunk < l.tip.Chunk) {
		return fmt.Errorf("the marker was %s and is %s: the stream lost it", l.tip, id)
	}
	switch {
	case l.known && id == l.tip && seq != l.seq && !id.IsZero():
		return fmt.Errorf("marker %s was at sequence %d and is at %d: the stream was replaced", id, l.seq, seq)
	case id == pred:
		return nil
	case id.IsZero():
		return fmt.Errorf("the lane has no marker, but %s was committed: the stream lost it", pred)
	case id.Epoch < head.Epoch, id.Epoch == head.Epoch && id.Manifest == head.Manifest && id.Chunk < l.chunk:
		return fmt.Errorf("marker %s is older than %s, which was committed: the stream lost it", id, pred)
	}
	for i := range l.queue {
		b := &l.queue[i]
		if b.Epoch != id.Epoch {
			continue
		}
		if b.Manifest != id.Manifest || int(id.Chunk) > len(b.State.Block.Chunks) {
			return fmt.Errorf("marker %s is foreign: epoch %d has manifest %s", id, b.Epoch, b.Manifest.Short())
		}
		return nil
	}
	if id.Epoch < l.last.Epoch {
		return fmt.Errorf("marker %s is foreign: the lane has no records in that epoch", id)
	}
	return errNewer
}

// onRecord takes the record of a newer marker's epoch: if it names the marker's
// manifest, a newer deployment is at work; otherwise nobody knows who wrote it.
func (l *Lane) onRecord(ev RecordRead) []LaneAction {
	switch {
	case ev.Err != nil:
		l.tries++
		return []LaneAction{ReadRecord{l.newer.Epoch, l.tries}}
	case !ev.Found:
		return l.broken("marker %s is ahead of the checkpoint store", l.newer.ID())
	case ev.Manifest != l.newer.Manifest:
		return l.broken("marker %s is foreign: epoch %d has manifest %s", l.newer.ID(), l.newer.Epoch, ev.Manifest.Short())
	case l.newer.Epoch <= l.restored:
		// The blocks up to the marker were replayed by another process before
		// this one was handed them. The sequence is not taken over: the next
		// block reads the marker again.
		l.tip, l.known = l.newer.ID(), false
		return l.advance(nil)
	}
	l.state = laneStopped
	return []LaneAction{LaneSuperseded{l.newer}}
}

func (l *Lane) broken(format string, args ...any) []LaneAction {
	l.state = laneStopped
	return []LaneAction{LaneBroken{laneError(l.id, fmt.Errorf(format, args...))}}
}

// laneError is the fatal error of a lane whose marker contradicts the durable
// epochs.
func laneError(id LaneID, cause error) error {
	return base.Fatal(&base.Error{
		Code: "WEIR-0580", Where: "lane " + id.String(),
		What:  "the commit marker in the sink contradicts the checkpoints; the job stops rather than lose or duplicate output",
		Cause: cause,
		Next:  "find out whether the stream or the checkpoint store was purged, restored or shared with another job, before starting the job again",
	})
}

// String renders the marker as "epoch/chunk (manifest)".
func (m MarkerID) String() string {
	if m.IsZero() {
		return "none"
	}
	return fmt.Sprintf("%d/%d (%s)", m.Epoch, m.Chunk, m.Manifest.Short())
}
