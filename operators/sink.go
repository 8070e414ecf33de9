package operators

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
)

// laneSink stages messages in one block per lane until the barrier.
type laneSink[T any] struct {
	s      *Subtask
	uid    string
	op     int32
	encode func(*connectors.Message, *base.Meta, *T) error
	limits connectors.ChunkLimits
	gates  []*LaneGate
	lanes  []*connectors.BlockBuilder
	// demanded: the open block of the lane was full, and an epoch was asked for.
	demanded []bool
	keyed    bool
	msg      connectors.Message
	out      int64 // staged records not counted yet
	// staged is where the bytes of all blocks are added up, bytes what this sink
	// added last, and sealedBytes its part of sealed blocks.
	staged             *atomic.Int64
	bytes, sealedBytes int64
	// sealed holds the blocks of tries that are not confirmed yet.
	sealed []sealedTry
}

type sealedTry struct {
	try    protocol.Try
	blocks []LaneStage
}

// LaneSinkOf returns the consumer of an exactly-once sink. The lane of a record
// is the part of the hash space that its key hash lies in, or, when the stream
// is not keyed, that of its source split: the order of a key or split is kept.
func LaneSinkOf[T any](s *Subtask, uid string, sink connectors.Sink[T], lanes int, keyed bool) Consumer[T] {
	n := &laneSink[T]{
		s: s, uid: uid, op: s.operator(uid), encode: sink.Encode, limits: s.Env.Sinks[uid].Limits,
		gates: s.Env.Sinks[uid].Gates, lanes: make([]*connectors.BlockBuilder, lanes), keyed: keyed, demanded: make([]bool, lanes),
		staged: s.Env.Sinks[uid].Staged,
	}
	s.Add(n)
	s.edges = append(s.edges, n)
	return Consumer[T]{One: n.one}
}

// UID implements Node.
func (n *laneSink[T]) UID() string { return n.uid }

func (n *laneSink[T]) one(m *base.Meta, v *T) {
	n.s.at = n.op
	n.msg.Subject, n.msg.Data, n.msg.Headers = "", n.msg.Data[:0], nil
	if m.Headers != nil {
		n.msg.Headers = *m.Headers
	}
	if err := n.encode(&n.msg, m, v); err != nil {
		n.refuse(m, err)
		return
	}
	lane := 0
	if len(n.lanes) > 1 {
		h := m.Hash
		if !n.keyed {
			h = m.Origin.Split
		}
		lane = base.OwnerOf(h, len(n.lanes))
	}
	b := n.lanes[lane]
	if b == nil {
		b = connectors.NewBlock(n.limits)
		n.lanes[lane] = b
	}
	if err := b.Append(&n.msg); err != nil {
		n.refuse(m, err)
		return
	}
	n.out++
	if n.gates != nil && int64(b.Count()) >= n.gates[lane].Limit() {
		n.full(lane)
	}
}

// full waits at the gate of a lane whose block is full.
func (n *laneSink[T]) full(lane int) {
	g := n.gates[lane]
	n.flush(true)
	if !n.demanded[lane] {
		n.demanded[lane] = true
		g.demand()
	}
	waited := g.wait(n.s.Env.Ctx)
	n.s.Env.Stats.SinkNanos.Add(waited)
	n.s.Env.Stats.BackpressuredNanos.Add(waited)
}

// flush publishes the count of records that were staged, and of their bytes;
// counting each by itself would cost more than staging it.
func (n *laneSink[T]) flush(bool) {
	if n.out > 0 {
		n.s.Env.Stats.RecordsOut.Add(n.out)
		n.out = 0
		n.measure()
	}
}

// measure adds up what the sink holds in memory.
func (n *laneSink[T]) measure() {
	if n.staged == nil {
		return
	}
	now := n.sealedBytes
	for _, b := range n.lanes {
		if b != nil {
			now += int64(b.Bytes())
		}
	}
	n.staged.Add(now - n.bytes)
	n.bytes = now
}

func (n *laneSink[T]) watermark(base.Timestamp) {}
func (n *laneSink[T]) markIdle()                {}
func (n *laneSink[T]) barrier(protocol.Barrier) { n.flush(true) }
func (n *laneSink[T]) end()                     { n.flush(true) }

func (n *laneSink[T]) refuse(m *base.Meta, err error) {
	n.s.refuse(connectors.FailOnBad, m, unwritable(err))
}

// unwritable is the error for a record that a sink cannot turn into a message.
func unwritable(err error) *base.Error {
	return &base.Error{
		Code: "WEIR-0503", What: "the sink cannot write a record", Cause: err,
		Next: "filter such records out before the sink, or mend what makes them",
	}
}

// seal implements stager.
func (n *laneSink[T]) seal(t protocol.Try) []LaneStage {
	crash.At(crash.SinkBeforeSeal)
	var out []LaneStage
	for i, b := range n.lanes {
		if b == nil {
			continue
		}
		out = append(out, LaneStage{Sink: n.uid, Lane: i, Block: b.Seal(), Count: b.Count()})
		n.lanes[i], n.demanded[i] = nil, false
		n.sealedBytes += int64(len(out[len(out)-1].Block))
	}
	n.sealed = append(n.sealed, sealedTry{t, out})
	n.measure()
	crash.At(crash.SinkAfterSeal)
	return out
}

// giveUp implements stager.
func (n *laneSink[T]) giveUp(t protocol.Try) error {
	i := slices.IndexFunc(n.sealed, func(s sealedTry) bool { return s.try == t })
	if i < 0 {
		return nil
	}
	blocks := n.sealed[i].blocks
	n.sealed = slices.Delete(n.sealed, i, i+1)
	for _, st := range blocks {
		n.sealedBytes -= int64(len(st.Block))
		merged := connectors.NewBlock(n.limits)
		if err := restage(merged, st.Block); err != nil {
			return err
		}
		if open := n.lanes[st.Lane]; open != nil {
			if err := restage(merged, open.Seal()); err != nil {
				return err
			}
		}
		n.lanes[st.Lane] = merged
	}
	n.measure()
	return nil
}

// restage appends the messages of a sealed block to a builder.
func restage(to *connectors.BlockBuilder, sealed []byte) error {
	b, err := connectors.OpenBlock(sealed)
	if err != nil {
		return err
	}
	for i := range b.Chunks() {
		msgs := b.Chunk(i)
		for k := range msgs {
			if err := to.Append(&msgs[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

// confirm implements stager.
func (n *laneSink[T]) confirm(t protocol.Try) {
	n.sealed = slices.DeleteFunc(n.sealed, func(s sealedTry) bool {
		if s.try.Newer(t) {
			return false
		}
		for _, b := range s.blocks {
			n.sealedBytes -= int64(len(b.Block))
		}
		return true
	})
	n.measure()
}

// directSink writes messages as they come.
type directSink[T any] struct {
	s      *Subtask
	uid    string
	op     int32
	encode func(*connectors.Message, *base.Meta, *T) error
	target connectors.DirectTarget
	w      connectors.Writer
	buf    []connectors.Message
	used   int
}

// directBatch is how many messages an at-least-once sink gathers while records
// keep coming.
const directBatch = 64

// DirectSinkOf returns the consumer of an at-least-once sink. Each message
// carries its origin in a header.
func DirectSinkOf[T any](s *Subtask, uid string, sink connectors.Sink[T]) Consumer[T] {
	n := &directSink[T]{
		s: s, uid: uid, op: s.operator(uid), encode: sink.Encode,
		target: sink.Target.(connectors.DirectTarget), buf: make([]connectors.Message, directBatch),
	}
	s.Add(n)
	s.edges = append(s.edges, n)
	return Consumer[T]{One: n.one}
}

// UID implements Node.
func (n *directSink[T]) UID() string { return n.uid }

// Open implements Opener.
func (n *directSink[T]) Open() error {
	e := &n.s.Env
	w, err := n.target.OpenWriter(e.Ctx, connectors.SinkEnv{Job: e.JobUID, Sink: n.uid, Clock: e.Clock}, e.Index)
	n.w = w
	return err
}

func (n *directSink[T]) one(m *base.Meta, v *T) {
	n.s.at = n.op
	msg := &n.buf[n.used]
	msg.Subject, msg.Data = "", msg.Data[:0]
	msg.Headers = append(msg.Headers[:0], base.Header{Name: connectors.OriginHeader, Value: m.Origin.String()})
	if m.Headers != nil {
		msg.Headers = append(msg.Headers, *m.Headers...)
	}
	if err := n.encode(msg, m, v); err != nil {
		n.s.refuse(connectors.FailOnBad, m, unwritable(err))
		return
	}
	n.s.Env.Stats.RecordsOut.Add(1)
	if n.used++; n.used == len(n.buf) {
		n.flush(true)
	}
}

// flush writes what is gathered; a sink is never behind an idle receiver.
func (n *directSink[T]) flush(bool) {
	if n.used == 0 || n.s.err != nil {
		return
	}
	msgs := n.buf[:n.used]
	n.used = 0
	if err := n.w.Write(n.s.Env.Ctx, msgs); err != nil {
		n.s.Fail(fmt.Errorf("sink %s: %w", n.uid, err))
	}
}

func (n *directSink[T]) watermark(base.Timestamp) {}
func (n *directSink[T]) markIdle()                {}
func (n *directSink[T]) barrier(protocol.Barrier) {}
func (n *directSink[T]) end()                     { n.flush(true) }

// Barrier implements Barrierer: an epoch is acknowledged only after everything
// before it is durable at the target.
func (n *directSink[T]) Barrier(base.Epoch) error {
	n.flush(true)
	if n.s.err != nil {
		return n.s.err
	}
	return n.w.Flush(n.s.Env.Ctx)
}

// Close implements Closer.
func (n *directSink[T]) Close() error {
	if n.w == nil {
		return nil
	}
	return n.w.Close()
}
