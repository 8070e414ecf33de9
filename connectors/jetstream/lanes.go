package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
)

const (
	// maxChunkBytes bounds one atomic batch: replicated streams hold it in memory.
	maxChunkBytes = 8 << 20
	// maxBlockRecords bounds the records of a chunk in block mode.
	maxBlockRecords = 1 << 18
	// commitTimeout bounds the wait for the answer to one batch.
	commitTimeout = 15 * time.Second
	// busyTries and busyWait bound the tries of a batch that the server refused
	// because too many others are open. An abandoned one ends after 10 s.
	busyTries = 60
	busyWait  = 250 * time.Millisecond
	// hdrMarker marks a commit marker, for readers of a copied stream.
	hdrMarker = "Weir-Marker"
)

// laneTarget is the exactly-once target: one stream.
type laneTarget struct {
	*target
}

// Class implements connectors.Target.
func (laneTarget) Class() connectors.Class { return connectors.ExactlyOnce }

// Lanes implements connectors.LaneTarget.
func (t laneTarget) Lanes() int { return t.lanes }

// OpenLanes implements connectors.LaneTarget. A stream that does not fit fails
// with WEIR-0510, and the job stops.
func (t laneTarget) OpenLanes(ctx context.Context, env connectors.SinkEnv) (connectors.LaneWriter, error) {
	nc, release, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	w := &laneWriter{target: t.target, nc: nc, env: env, release: release}
	if err := w.check(ctx); err != nil {
		release()
		return nil, err
	}
	return w, nil
}

// laneWriter implements connectors.LaneWriter on one stream.
type laneWriter struct {
	*target
	nc       *nats.Conn
	env      connectors.SinkEnv
	limits   connectors.ChunkLimits
	subjects []string
	warnings []string
	release  func()
}

func (w *laneWriter) check(ctx context.Context) error {
	info, err := streamInfo(ctx, w.nc, w.stream)
	if err != nil {
		return streamError(CodeStream, w.stream, err)
	}
	warn := func(msg string) { w.warnings = append(w.warnings, "stream "+w.stream+": "+msg) }
	if err := checkSinkStream(info.Config, w.env.Require.Replicas, warn); err != nil {
		return err
	}
	w.subjects = info.Config.Subjects
	if m := w.marker(0); !inSpace(w.subjects, m) {
		return base.Fatal(&base.Error{Code: CodeStream, What: "the stream does not take commit markers", Where: "subject " + quote(m),
			Next: "add " + markerSpace(w.stream, w.markers) + " to the subjects of stream " + w.stream + ", or name a subject that it takes by MarkerPrefix"})
	}
	if w.blockSubject != "" && !inSpace(w.subjects, w.block(0)) {
		return base.Fatal(subjectError(w.stream, w.block(0), nil))
	}
	w.space.Store(&w.subjects)
	w.limits = w.chunkLimits(int(w.nc.MaxPayload()), int(info.Config.MaxMsgSize))
	return nil
}

// chunkLimits derives the limits from the largest message that connection and
// stream take.
func (t *target) chunkLimits(maxPayload, maxMsgSize int) connectors.ChunkLimits {
	if maxMsgSize > 0 {
		maxPayload = min(maxPayload, maxMsgSize)
	}
	l := connectors.ChunkLimits{MaxMessages: maxBatch - 1, MaxBytes: max(maxChunkBytes, maxPayload), MaxMessage: max(maxPayload-headerReserve, 1)}
	if t.blockSubject != "" {
		// The lengths and counts in a block take a little more than Size counts.
		l.MaxMessages, l.MaxMessage = maxBlockRecords, max(maxPayload-headerReserve-4096, 1)
	}
	return l
}

// marker is the subject of a lane's commit marker.
func (w *laneWriter) marker(lane int) string {
	id := protocol.LaneID{Sink: w.env.Sink, Lane: lane}
	return markerPrefix(w.stream, w.markers) + "." + protocol.MarkerSubject(w.env.Job, id)
}

// block is the subject of a lane's block messages.
func (w *laneWriter) block(lane int) string { return w.blockSubject + "." + strconv.Itoa(lane) }

// Limits implements connectors.LaneWriter.
func (w *laneWriter) Limits() connectors.ChunkLimits { return w.limits }

// Warnings lists what works but may end badly, such as limits that can delete
// markers. It is meant for the log.
func (w *laneWriter) Warnings() []string { return w.warnings }

// Close implements connectors.LaneWriter.
func (w *laneWriter) Close() error {
	w.release()
	return nil
}

// ReadMarker implements connectors.LaneWriter.
func (w *laneWriter) ReadMarker(ctx context.Context, lane int) (m protocol.Marker, seq uint64, found bool, err error) {
	msg, err := lastMsg(ctx, w.nc, w.stream, w.marker(lane))
	if err != nil || msg == nil {
		return m, 0, false, err
	}
	m, err = protocol.DecodeMarker(msg.Data)
	if err != nil {
		return m, 0, false, base.Fatal(&base.Error{Code: CodeStream, What: "a commit marker cannot be read", Where: "subject " + quote(msg.Subject),
			Next: "something else publishes on the marker's subject; find out what before the job goes on", Cause: err})
	}
	return m, msg.Seq, true, nil
}

// PublishChunk implements connectors.LaneWriter.
func (w *laneWriter) PublishChunk(ctx context.Context, lane int, msgs []connectors.Message, m protocol.Marker, expect uint64) (uint64, error) {
	body, err := m.Encode()
	if err != nil {
		return 0, fmt.Errorf("encode the marker of lane %d: %w", lane, err)
	}
	if err := w.checkChunk(msgs); err != nil {
		return 0, errors.Join(err, connectors.ErrRejected)
	}
	for try := 1; ; try++ {
		seq, err := w.publish(ctx, lane, msgs, body, expect)
		switch {
		case err == nil:
			return seq, nil
		case apiCode(err) == errCodeWrongLast:
			return 0, fmt.Errorf("lane %d: %w: %w", lane, connectors.ErrConflict, err)
		case !errors.Is(err, errDefinite):
			return 0, fmt.Errorf("lane %d: outcome unknown: %w", lane, err)
		case !errors.Is(err, errTransient):
			return 0, w.rejected(lane, err)
		case try == busyTries:
			return 0, fmt.Errorf("lane %d: refused %d times: %w", lane, try, err)
		}
		if serr := w.env.Clock.Sleep(ctx, busyWait); serr != nil {
			return 0, fmt.Errorf("lane %d: %w, after: %w", lane, serr, err)
		}
	}
}

func (w *laneWriter) rejected(lane int, err error) error {
	e := &base.Error{Code: CodePublish, What: "the server refuses a batch", Where: "stream " + w.stream + ", lane " + strconv.Itoa(lane), Cause: err,
		Next: "correct the stream's configuration or limits; nothing of the batch was stored"}
	return errors.Join(e, connectors.ErrRejected)
}

// checkChunk refuses what the server would refuse or, worse, store elsewhere.
func (w *laneWriter) checkChunk(msgs []connectors.Message) error {
	if len(msgs) > w.limits.MaxMessages {
		return &base.Error{Code: CodePublish, What: fmt.Sprintf("a chunk has %d messages; %d are allowed", len(msgs), w.limits.MaxMessages)}
	}
	if w.blockSubject != "" {
		return nil
	}
	last := ""
	for i := range msgs {
		s := msgs[i].Subject
		if i > 0 && s == last {
			continue
		}
		if err := w.checkSubject(s); err != nil {
			return err
		}
		last = s
	}
	return nil
}

// publish makes one attempt under a fresh batch id.
func (w *laneWriter) publish(ctx context.Context, lane int, msgs []connectors.Message, marker []byte, expect uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	crash.At(crash.CommitBeforeBatch)
	b := newBatch(w.nc, w.stream)
	var err error
	if w.blockSubject != "" {
		err = w.addBlocks(b, lane, msgs)
	} else {
		err = addMessages(b, msgs)
	}
	if err != nil {
		return 0, err
	}
	pass(w.nc, crash.CommitBeforeMarker)
	seq, err := b.commit(ctx, w.marker(lane), marker, nil, nats.Header{
		hdrExpectLast: {utoa(expect)},
		// The marker must outlive MaxAge, or a delayed batch that expects no marker
		// would be let in.
		hdrTTL:    {"never"},
		hdrRollup: {"sub"},
		hdrMarker: {"1"},
	})
	crash.At(crash.CommitAfterMarkerUnacked)
	return seq, err
}

// pass reaches a crash point with everything published so far on its way: a kill
// must not find it in a buffer of this process. Hits is nil unless a test armed
// points.
func pass(nc *nats.Conn, p crash.Point) {
	if crash.Hits() != nil {
		_ = nc.Flush()
	}
	crash.At(p)
}

func addMessages(b *batch, msgs []connectors.Message) error {
	for i := range msgs {
		m := &msgs[i]
		if err := b.add(m.Subject, m.Data, m.Headers); err != nil {
			return err
		}
		if i == len(msgs)/2 {
			pass(b.nc, crash.CommitMidBatch)
		}
	}
	return nil
}

// addBlocks packs the records into as few messages as they need.
func (w *laneWriter) addBlocks(b *batch, lane int, msgs []connectors.Message) error {
	p := packer{max: w.limits.MaxMessage + 4096}
	b.msg.Header[hdrBlock] = []string{"1"}
	defer delete(b.msg.Header, hdrBlock)
	for i := range msgs {
		if !p.fits(&msgs[i]) {
			if err := b.add(w.block(lane), p.finish(), nil); err != nil {
				return err
			}
		}
		p.append(&msgs[i])
		if i == len(msgs)/2 {
			pass(b.nc, crash.CommitMidBatch)
		}
	}
	if p.count == 0 {
		return nil
	}
	return b.add(w.block(lane), p.finish(), nil)
}
