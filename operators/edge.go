package operators

import (
	"math/bits"

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
	// Timeless edges carry no event time, as those of Broadcast: the receivers' goes
	// by their other inputs.
	Timeless bool
}

func (p Partition) timeless() bool { return p.Timeless || p.Kind == Broadcast }

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
	// Broadcast sends every record to all subtasks. It carries no event time: the
	// receivers' goes by their other inputs.
	Broadcast
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
	fill   []filling[T]
	part   Partition
	hashed bool
	single int
}

// filling is a batch under way to one receiver. The columns are those of the
// batch, as arrays: one counter instead of two lengths to keep per record, and no
// bounds to check.
type filling[T any] struct {
	metas *[MaxBatch]base.Meta
	vals  *[MaxBatch]T
	n     int
	// headers says that a record of the batch has some.
	headers bool
	batch   *TypedBatch[T]
}

func (f *filling[T]) set(b Batch) {
	f.batch = b.(*TypedBatch[T])
	f.metas, f.vals, f.n = (*[MaxBatch]base.Meta)(f.batch.Metas[:MaxBatch]), (*[MaxBatch]T)(f.batch.Vals[:MaxBatch]), 0
	f.headers = false
}

// add copies a record and reports whether the batch is full.
func (f *filling[T]) add(m *base.Meta, v *T, hash uint64) bool {
	n := f.n & (MaxBatch - 1)
	d := &f.metas[n]
	d.Time, d.Hash, d.Ingest, d.Origin = m.Time, hash, m.Ingest, m.Origin
	if m.Headers != nil { // seldom: a pointer store costs a write barrier
		d.Headers, f.headers = m.Headers, true
	}
	f.vals[n] = *v
	f.n = n + 1
	return n == MaxBatch-1
}

// ToEdge returns the consumer that writes to output edge number out of the
// subtask.
func ToEdge[T any](s *Subtask, out int, part Partition) Consumer[T] {
	w := newEdgeWriter[T](s, out, part)
	if part.timeless() {
		// For the receiver's event time the input has ended before it began.
		for _, p := range w.ports {
			p.Watermark(base.MaxTime)
		}
	}
	if part.Kind == Broadcast {
		return Consumer[T]{One: w.all}
	}
	return Consumer[T]{One: w.one}
}

// KeyBy returns the consumer that sets the key hash of every record and writes it
// to output edge number out, to the owner of that hash. It is one step, because
// the record's metadata would otherwise be copied twice.
func KeyBy[T any, K comparable](s *Subtask, uid string, out int, key func(T) K, hash func(K) uint64) Consumer[T] {
	op, w := s.operator(uid), newEdgeWriter[T](s, out, Partition{Kind: ByHash})
	fill, n := w.fill, uint64(len(w.ports))
	one := func(m *base.Meta, v *T) {
		s.at = op
		h := hash(key(*v))
		i, _ := bits.Mul64(h, n) // base.OwnerOf
		if fill[i].add(m, v, h) {
			w.send(int(i))
		}
	}
	ints, isInt := any(key).(func(T) uint64)
	return Consumer[T]{One: one, Batch: func(metas []base.Meta, vals []T) {
		s.at = op
		for k := range vals {
			s.cur = &metas[k]
			var h uint64
			if isInt { // the commonest key: one call less
				h = base.HashUint64(ints(vals[k]))
			} else {
				h = hash(key(vals[k]))
			}
			i, _ := bits.Mul64(h, n)
			if fill[i].add(&metas[k], &vals[k], h) {
				w.send(int(i))
			}
		}
	}}
}

func newEdgeWriter[T any](s *Subtask, out int, part Partition) *edgeWriter[T] {
	w := &edgeWriter[T]{sub: s, ports: s.Env.Ports[out], part: part, single: -1, hashed: part.Kind == ByHash}
	w.fill = make([]filling[T], len(w.ports))
	for i, p := range w.ports {
		w.fill[i].set(p.New())
	}
	if part.Kind == Forward && len(w.ports) == s.Env.Parallelism {
		w.single = s.Env.Index
	}
	if len(w.ports) == 1 {
		w.single = 0
	}
	s.edges = append(s.edges, w)
	return w
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
	if w.fill[i].add(m, v, m.Hash) {
		w.send(i)
	}
}

// all gives a record to every receiver.
func (w *edgeWriter[T]) all(m *base.Meta, v *T) {
	for i := range w.fill {
		if w.fill[i].add(m, v, m.Hash) {
			w.send(i)
		}
	}
}

// send hands the records gathered for a receiver over, if there are any.
func (w *edgeWriter[T]) send(i int) {
	f := &w.fill[i]
	if f.n == 0 {
		return
	}
	if w.sub.err != nil {
		f.n, f.headers = 0, false
		clear(f.metas[:])
		return
	}
	f.batch.Metas, f.batch.Vals, f.batch.headers = f.metas[:f.n], f.vals[:f.n], f.headers
	b, err := w.ports[i].Send(f.batch)
	if err != nil {
		w.sub.Fail(err)
	}
	f.set(b)
}

// flush hands on what is there: to every receiver when force is set, else only
// to those that wait.
func (w *edgeWriter[T]) flush(force bool) {
	for i := range w.fill {
		if w.fill[i].n > 0 && (force || w.ports[i].Idle()) {
			w.send(i)
		}
	}
}

// watermark sends event time on. It must not overtake records, so a partial batch
// goes first; that costs a busy receiver a small batch per watermark, and sources
// emit few of them.
func (w *edgeWriter[T]) watermark(t base.Timestamp) {
	for i, p := range w.ports {
		w.send(i)
		if !w.part.timeless() {
			p.Watermark(t)
		}
	}
}

func (w *edgeWriter[T]) markIdle() {
	w.flush(true)
	if w.part.timeless() {
		return
	}
	for _, p := range w.ports {
		p.MarkIdle()
	}
}

func (w *edgeWriter[T]) barrier(b protocol.Barrier) {
	for i, p := range w.ports {
		w.send(i)
		p.Barrier(b)
	}
}

func (w *edgeWriter[T]) end() {
	for i, p := range w.ports {
		w.send(i)
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
