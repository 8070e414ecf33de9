package operators

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state/blob"
)

// LaneConfig describes the committer of one lane.
type LaneConfig struct {
	Job   string
	ID    protocol.LaneID
	Gen   base.Generation
	Start protocol.LaneStart
	// Writer publishes; it is shared by all lanes of the sink.
	Writer connectors.LaneWriter
	// Load returns a block that was staged in this process or an earlier one.
	Load func(ctx context.Context, b protocol.LaneBlock) ([]byte, error)
	// ReadRecord returns the manifest that the record of an epoch names.
	ReadRecord func(ctx context.Context, n base.Epoch) (protocol.SHA, bool, error)
	// Done reports that the lane has committed an epoch and all before it.
	Done func(protocol.LaneID, base.Epoch)
	// Failed reports that the lane must not go on.
	Failed func(error)
	// Gate holds the lane's sink back; may be nil.
	Gate  *LaneGate
	Clock clock.Clock
}

// ErrSuperseded says that a newer deployment of the job commits the lane.
var ErrSuperseded = errors.New("a newer deployment of the job is at work")

// LaneCommitter commits the durable blocks of one lane in order, on a goroutine
// of its own. The decisions are protocol.Lane's; this is their I/O.
type LaneCommitter struct {
	cfg  LaneConfig
	core *protocol.Lane

	mu      sync.Mutex
	queue   []protocol.Claimed
	waiting []protocol.Claimed // submitted and not committed, for the gate
	notify  chan struct{}

	block  []byte // the block under way, and its opened form
	opened *connectors.Block
	sha    protocol.SHA
}

// NewLaneCommitter returns a committer; Run makes it work.
func NewLaneCommitter(cfg LaneConfig) *LaneCommitter {
	return &LaneCommitter{
		cfg: cfg, core: protocol.NewLane(cfg.Job, cfg.ID, cfg.Gen, cfg.Start), notify: make(chan struct{}, 1),
	}
}

// Submit hands in a durable block. Blocks come in the order of their epochs.
func (c *LaneCommitter) Submit(b protocol.Claimed) {
	// The gate first: once the block is in the queue it may be committed at once,
	// and a gate that hears of that before would wait for it for ever.
	if c.cfg.Gate != nil {
		c.cfg.Gate.durable(int(b.State.Block.Count()))
	}
	c.mu.Lock()
	c.queue = append(c.queue, b)
	c.waiting = append(c.waiting, b)
	c.mu.Unlock()
	select {
	case c.notify <- struct{}{}:
	default:
	}
}

// Run commits until ctx ends or the lane must stop.
func (c *LaneCommitter) Run(ctx context.Context) {
	for {
		select {
		case <-c.notify:
		case <-ctx.Done():
			return
		}
		for {
			b, ok := c.take()
			if !ok {
				break
			}
			if !c.drive(ctx, c.core.Step(protocol.BlockClaimed{Claimed: b})) {
				return
			}
		}
	}
}

// passed tells the gate about the blocks that are committed up to an epoch.
func (c *LaneCommitter) passed(n base.Epoch) {
	c.mu.Lock()
	count := 0
	for len(c.waiting) > 0 && c.waiting[0].Epoch <= n {
		count += int(c.waiting[0].State.Block.Count())
		c.waiting = c.waiting[1:]
	}
	c.mu.Unlock()
	if c.cfg.Gate != nil && count > 0 {
		c.cfg.Gate.committed(count)
	}
}

func (c *LaneCommitter) take() (protocol.Claimed, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return protocol.Claimed{}, false
	}
	b := c.queue[0]
	c.queue = c.queue[1:]
	return b, true
}

// drive carries out actions until there are none; false ends the lane.
func (c *LaneCommitter) drive(ctx context.Context, acts []protocol.LaneAction) bool {
	for len(acts) > 0 {
		act := acts[0]
		acts = acts[1:]
		switch a := act.(type) {
		case protocol.LaneDone:
			crash.At(crash.CommitBetweenLanes)
			c.passed(a.Epoch)
			c.cfg.Done(c.cfg.ID, a.Epoch)
		case protocol.LaneSuperseded:
			c.cfg.Failed(fmt.Errorf("lane %s: %w: epoch %d of generation %d is committed", c.cfg.ID, ErrSuperseded, a.By.Epoch, a.By.Gen))
			return false
		case protocol.LaneBroken:
			c.cfg.Failed(a.Err)
			return false
		case protocol.Publish:
			ev, err := c.publish(ctx, a)
			if err != nil {
				c.fail(ctx, err)
				return false
			}
			acts = append(acts, c.core.Step(ev)...)
		case protocol.ReadMarker:
			if !c.pause(ctx, a.Tries) {
				return false
			}
			acts = append(acts, c.core.Step(c.readMarker(ctx))...)
		case protocol.ReadRecord:
			if !c.pause(ctx, a.Tries) {
				return false
			}
			sha, found, err := c.cfg.ReadRecord(ctx, a.Epoch)
			acts = append(acts, c.core.Step(protocol.RecordRead{Found: found, Manifest: sha, Err: err})...)
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return true
}

func (c *LaneCommitter) fail(ctx context.Context, err error) {
	if ctx.Err() == nil {
		c.cfg.Failed(fmt.Errorf("lane %s: %w", c.cfg.ID, err))
	}
}

// Pauses between tries grow from pauseMin to pauseMax.
const (
	pauseMin = 10 * time.Millisecond
	pauseMax = 2 * time.Second
)

func (c *LaneCommitter) pause(ctx context.Context, tries int) bool {
	if tries <= 1 {
		return ctx.Err() == nil
	}
	d := pauseMin << min(tries-2, 10)
	return c.cfg.Clock.Sleep(ctx, min(d, pauseMax)) == nil
}

func (c *LaneCommitter) readMarker(ctx context.Context) protocol.MarkerRead {
	m, seq, found, err := c.cfg.Writer.ReadMarker(ctx, c.cfg.ID.Lane)
	return protocol.MarkerRead{Found: found, Marker: m, Seq: seq, Err: err}
}

// publish writes one chunk. Its error is final; what may have happened anyway is
// in the event.
func (c *LaneCommitter) publish(ctx context.Context, p protocol.Publish) (protocol.LaneEvent, error) {
	if err := c.load(ctx, p.Block); err != nil {
		return nil, err
	}
	if !c.pause(ctx, p.Tries) {
		return nil, ctx.Err()
	}
	crash.At(crash.CommitBeforeBatch)
	msgs := c.opened.Chunk(int(p.Marker.Chunk) - 1)
	seq, err := c.cfg.Writer.PublishChunk(ctx, c.cfg.ID.Lane, msgs, p.Marker, p.Expect)
	switch {
	case err == nil:
		crash.At(crash.CommitAfterAck)
		if p.Marker.Chunk < p.Marker.Chunks {
			crash.At(crash.CommitBetweenChunks)
		}
		return protocol.PublishOK{Seq: seq}, nil
	case errors.Is(err, connectors.ErrConflict):
		return protocol.PublishConflict{}, nil
	case errors.Is(err, connectors.ErrRejected):
		return nil, err
	}
	return protocol.PublishUnknown{Err: err}, nil
}

// load makes the block the one under way.
func (c *LaneCommitter) load(ctx context.Context, b protocol.LaneBlock) error {
	if c.opened != nil && c.sha == b.SHA {
		return nil
	}
	broken := func(what string, cause error) error {
		return base.Fatal(&base.Error{
			Code: "WEIR-0382", What: what, Where: "checkpoint store, " + protocol.ObjectKey(c.cfg.Job, b.SHA), Cause: cause,
			Next: "restore the checkpoint store from a copy; the block belongs to a checkpoint whose output is not all published",
		})
	}
	data, err := c.cfg.Load(ctx, b)
	if errors.Is(err, blob.ErrNotFound) {
		return broken("a staged block is missing", err)
	}
	if err != nil {
		return fmt.Errorf("load the block %s of the epoch: %w", b.SHA.Short(), err)
	}
	if protocol.SumSHA(data) != b.SHA {
		return broken("a staged block is damaged", nil)
	}
	opened, err := connectors.OpenBlock(data)
	if err != nil {
		return broken("a staged block cannot be read", err)
	}
	c.block, c.opened, c.sha = data, opened, b.SHA
	return nil
}
