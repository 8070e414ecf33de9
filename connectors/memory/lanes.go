package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/protocol"
)

// errUnknown is what an injected unknown outcome looks like to the caller: the
// same whether the write was applied or not.
var errUnknown = errors.New("memory: the outcome of the write is unknown")

// Outcome is what an injected fault makes of a write.
type Outcome uint8

const (
	// Normal lets the write go its way.
	Normal Outcome = iota
	// LostAck applies the write and returns an error, as when the connection
	// breaks after the target wrote.
	LostAck
	// LostWrite returns the same error and writes nothing.
	LostWrite
	// Refused writes nothing and says so (connectors.ErrRejected).
	Refused
)

// Fault is what happens to one write.
type Fault struct {
	Outcome Outcome
	// Delay passes on the job's clock before the write is applied. A context
	// that ends meanwhile leaves it unapplied, with an unknown outcome.
	Delay time.Duration
}

// Attempt describes a write that a fault may hit.
type Attempt struct {
	Lane     int
	Epoch    uint64
	Chunk    uint32 // from 1
	Chunks   uint32
	Messages int
}

// Committed is a message that a reader of the target sees.
type Committed struct {
	connectors.Message
	Lane  int
	Epoch uint64
	Chunk uint32
	// Seq is the place in the target's log, from 1; markers take places too.
	Seq uint64
}

// Lanes is an exactly-once target in memory: one log, in which each chunk is
// appended together with its marker if the lane's last marker is the expected one.
// It is safe for concurrent use, by several jobs at once too.
type Lanes struct {
	lanes  int
	limits connectors.ChunkLimits
	err    error

	mu    sync.Mutex
	log   []Committed
	seq   uint64
	marks map[laneKey]laneMark
	fault func(Attempt) Fault
}

type laneKey struct {
	job, sink string
	lane      int
}

type laneMark struct {
	marker protocol.Marker
	seq    uint64
}

// LaneOption configures Lanes and NewSink.
type LaneOption func(*Lanes)

// WithLanes sets the number of lanes, at least 1; the default is 4.
func WithLanes(n int) LaneOption { return func(l *Lanes) { l.lanes = n } }

// WithLimits sets what one chunk may hold. The default is 999 messages, 8 MiB in
// all and 1 MiB for one.
func WithLimits(limits connectors.ChunkLimits) LaneOption {
	return func(l *Lanes) { l.limits = limits }
}

// NewLanes returns an empty exactly-once target.
func NewLanes(opts ...LaneOption) *Lanes {
	l := &Lanes{
		lanes:  4,
		limits: connectors.ChunkLimits{MaxMessages: 999, MaxBytes: 8 << 20, MaxMessage: 1 << 20},
		marks:  map[laneKey]laneMark{},
	}
	for _, o := range opts {
		o(l)
	}
	if l.lanes < 1 || l.limits.MaxMessages < 1 || l.limits.MaxBytes < 1 || l.limits.MaxMessage < 1 {
		l.err = &base.Error{Code: "WEIR-0540", Where: "memory sink", What: "a target needs at least one lane and limits above 0", Next: "correct WithLanes or WithLimits"}
	}
	return l
}

// Kind implements connectors.Target.
func (l *Lanes) Kind() string { return "memory" }

// Class implements connectors.Target.
func (l *Lanes) Class() connectors.Class { return connectors.ExactlyOnce }

// Lanes implements connectors.LaneTarget.
func (l *Lanes) Lanes() int { return l.lanes }

// BuildError implements connectors.BuildChecker.
func (l *Lanes) BuildError() error { return l.err }

// OpenLanes implements connectors.LaneTarget.
func (l *Lanes) OpenLanes(_ context.Context, env connectors.SinkEnv) (connectors.LaneWriter, error) {
	if l.err != nil {
		return nil, l.err
	}
	return &laneWriter{l: l, env: env, clock: env.Clock}, nil
}

// OnPublish sets what decides about a fault of each write; nil ends it. f is
// called by the goroutine that writes, and may be called concurrently.
func (l *Lanes) OnPublish(f func(Attempt) Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
}

// Messages returns what a reader sees, in the order of the log.
func (l *Lanes) Messages() []Committed {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.log)
}

// DropMarkers forgets all markers, as a target does that was purged. The messages
// stay.
func (l *Lanes) DropMarkers() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.marks)
}

type laneWriter struct {
	l     *Lanes
	env   connectors.SinkEnv
	clock clock.Clock
}

func (w *laneWriter) key(lane int) laneKey { return laneKey{w.env.Job, w.env.Sink, lane} }

// Limits implements connectors.LaneWriter.
func (w *laneWriter) Limits() connectors.ChunkLimits { return w.l.limits }

// Close implements connectors.LaneWriter.
func (w *laneWriter) Close() error { return nil }

// ReadMarker implements connectors.LaneWriter.
func (w *laneWriter) ReadMarker(ctx context.Context, lane int) (protocol.Marker, uint64, bool, error) {
	if err := ctx.Err(); err != nil {
		return protocol.Marker{}, 0, false, err
	}
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	m, ok := w.l.marks[w.key(lane)]
	return m.marker, m.seq, ok, nil
}

// PublishChunk implements connectors.LaneWriter.
func (w *laneWriter) PublishChunk(ctx context.Context, lane int, msgs []connectors.Message, m protocol.Marker, expect uint64) (uint64, error) {
	if err := w.check(lane, msgs, m); err != nil {
		return 0, err
	}
	w.l.mu.Lock()
	decide := w.l.fault
	w.l.mu.Unlock()
	var fault Fault
	if decide != nil {
		fault = decide(Attempt{lane, uint64(m.Epoch), m.Chunk, m.Chunks, len(msgs)})
	}
	if fault.Delay > 0 {
		if err := w.clock.Sleep(ctx, fault.Delay); err != nil {
			return 0, err
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	switch fault.Outcome {
	case LostWrite:
		return 0, errUnknown
	case Refused:
		return 0, fmt.Errorf("memory: refused as the test asked: %w", connectors.ErrRejected)
	}
	seq, err := w.l.apply(w.key(lane), msgs, m, expect)
	if err == nil && fault.Outcome == LostAck {
		return 0, errUnknown
	}
	return seq, err
}

// check refuses what a correct caller never writes.
func (w *laneWriter) check(lane int, msgs []connectors.Message, m protocol.Marker) error {
	size, largest := 0, 0
	for i := range msgs {
		n := msgs[i].Size()
		size, largest = size+n, max(largest, n)
	}
	lim := w.l.limits
	var why string
	switch {
	case lane < 0 || lane >= w.l.lanes || m.Lane.Lane != lane:
		why = fmt.Sprintf("lane %d, and lane %d in the marker, of %d lanes", lane, m.Lane.Lane, w.l.lanes)
	case len(msgs) > lim.MaxMessages || size > lim.MaxBytes || largest > lim.MaxMessage:
		why = fmt.Sprintf("a chunk of %d messages, %d bytes, the largest %d, is over the limits %+v", len(msgs), size, largest, lim)
	case int(m.Count) != len(msgs):
		why = fmt.Sprintf("the marker counts %d messages of %d", m.Count, len(msgs))
	default:
		return nil
	}
	return fmt.Errorf("memory: %s: %w", why, connectors.ErrRejected)
}

// apply appends the messages and the marker, if the marker before is expect.
func (l *Lanes) apply(k laneKey, msgs []connectors.Message, m protocol.Marker, expect uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := l.marks[k].seq; last != expect {
		return 0, fmt.Errorf("memory: the last marker is %d, not %d: %w", last, expect, connectors.ErrConflict)
	}
	for i := range msgs {
		l.seq++
		l.log = append(l.log, Committed{copyMessage(&msgs[i]), k.lane, uint64(m.Epoch), m.Chunk, l.seq})
	}
	l.seq++
	l.marks[k] = laneMark{m, l.seq}
	return l.seq, nil
}

// copyMessage takes a message out of memory that the caller uses again.
func copyMessage(m *connectors.Message) connectors.Message {
	c := connectors.Message{Subject: string([]byte(m.Subject)), Data: append([]byte{}, m.Data...)}
	for _, h := range m.Headers {
		c.Headers = append(c.Headers, base.Header{Name: string([]byte(h.Name)), Value: string([]byte(h.Value))})
	}
	return c
}
