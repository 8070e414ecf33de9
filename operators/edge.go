package operators

import (
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
)

// Port hands batches and control to one subtask at the other end of an edge. It
// is owned by the sending subtask.
type Port interface {
	// New returns the first empty batch to fill.
	New() Batch
	// Idle reports that the receiver waits for work and has none queued.
	Idle() bool
	// Send hands the batch over and returns an empty one. It blocks while the
	// receiver's credit is used up, and fails only when the task must stop.
	Send(b Batch) (Batch, error)
	// Watermark, Barrier and End need no credit and keep their place among the
	// batches sent before.
	Watermark(w base.Timestamp)
	// MarkIdle says that the sender expects no records for now: until its next
	// record or watermark it does not hold the receiver's event time back.
	MarkIdle()
	Barrier(b protocol.Barrier)
	End()
}

// Partition says which subtask of the receiving task gets a record.
type Partition struct {
	Kind PartitionKind
	// Lanes is the number of lanes, for ByLane.
	Lanes int
}

// PartitionKind is a rule of partitioning.
type PartitionKind uint8

const (
	// ByHash sends a record to the owner of its key hash.
	ByHash PartitionKind = iota
	// Forward sends to the subtask of the same index; where the parallelism of
	// the two sides differs, by the origin's split, which keeps the order of
	// each split.
	Forward
	// ByLane sends a keyed record to the subtask that owns the sink lane of its
	// key hash.
	ByLane
	// BySplitLane is ByLane for streams without a key: the lane is that of the
	// record's origin split.
	BySplitLane
)

// LaneOwner returns which of n subtasks owns a lane. Lanes never straddle
// subtasks.
func LaneOwner(lane, lanes, n int) int { return lane * n / lanes }

// target returns the subtask of n that gets the record.
func (p Partition) target(m *base.Meta, n int) int {
	switch p.Kind {
	case ByLane:
		return LaneOwner(base.OwnerOf(m.Hash, p.Lanes), p.Lanes, n)
	case BySplitLane:
		return LaneOwner(base.OwnerOf(m.Origin.Split, p.Lanes), p.Lanes, n)
	case Forward:
		return base.OwnerOf(m.Origin.Split, n)
	default:
		return base.OwnerOf(m.Hash, n)
	}
}

// edgeWriter copies records into the batches of one output edge.
type edgeWriter[T any] struct {
	sub    *Subtask
	ports  []Port
	fill   []*TypedBatch[T]
	part   Partition
	hashed bool
	single int
}

// ToEdge returns the consumer that writes to output edge number out of the
// subtask.
func ToEdge[T any](s *Subtask, out int, part Partition) Consumer[T] {
	w := &edgeWriter[T]{sub: s, ports: s.Env.Ports[out], part: part, single: -1, hashed: part.Kind == ByHash}
	for _, p := range w.ports {
		w.fill = append(w.fill, p.New().(*TypedBatch[T]))
	}
	if part.Kind == Forward && len(w.ports) == s.Env.Parallelism {
		w.single = s.Env.Index
	}
	if len(w.ports) == 1 {
		w.single = 0
	}
	s.edges = append(s.edges, w)
	return Consumer[T]{One: w.one}
}

func (w *edgeWriter[T]) one(m *base.Meta, v *T) {
	i := w.single
	if i < 0 {
		if w.hashed {
			i = base.OwnerOf(m.Hash, len(w.ports))
		} else {
			i = w.part.target(m, len(w.ports))
		}
	}
	if w.fill[i].add(m, v) >= MaxBatch {
		w.send(i)
	}
}

func (w *edgeWriter[T]) send(i int) {
	if w.sub.err != nil {
		w.fill[i].Reset()
		return
	}
	b, err := w.ports[i].Send(w.fill[i])
	if err != nil {
		w.sub.Fail(err)
		w.fill[i].Reset()
		return
	}
	w.fill[i] = b.(*TypedBatch[T])
}

// flush hands on what is there: to every receiver when force is set, else only
// to those that wait.
func (w *edgeWriter[T]) flush(force bool) {
	for i, b := range w.fill {
		if len(b.Vals) > 0 && (force || w.ports[i].Idle()) {
			w.send(i)
		}
	}
}

func (w *edgeWriter[T]) watermark(t base.Timestamp) {
	for i, p := range w.ports {
		// A watermark must not overtake records; a partial batch goes first. To
		// a busy receiver that costs a small batch per watermark, and sources
		// emit few of them.
		if len(w.fill[i].Vals) > 0 {
			w.send(i)
		}
		p.Watermark(t)
	}
}

func (w *edgeWriter[T]) markIdle() {
	w.flush(true)
	for _, p := range w.ports {
		p.MarkIdle()
	}
}

func (w *edgeWriter[T]) barrier(b protocol.Barrier) {
	for i, p := range w.ports {
		if len(w.fill[i].Vals) > 0 {
			w.send(i)
		}
		p.Barrier(b)
	}
}

func (w *edgeWriter[T]) end() {
	for i, p := range w.ports {
		if len(w.fill[i].Vals) > 0 {
			w.send(i)
		}
		p.End()
	}
}

// outEdge is an edgeWriter of any type.
type outEdge interface {
	flush(force bool)
	watermark(t base.Timestamp)
	markIdle()
	barrier(b protocol.Barrier)
	end()
}
