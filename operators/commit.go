package operators

import (
	"context"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/clock"
)

// LaneWriter publishes the chunks of a sink's lanes; ChunkLimits bounds them. The
// engine carries both between operators without knowing connectors.
type (
	LaneWriter  = connectors.LaneWriter
	ChunkLimits = connectors.ChunkLimits
)

// LaneSink is an exactly-once sink as the engine sees it: lanes of staged
// messages, to be committed after their epoch is durable.
type LaneSink struct {
	// UID is the sink operator's name, Kind its connector.
	UID, Kind string
	// Lanes is the number of lanes, fixed for the life of the job.
	Lanes  int
	target connectors.LaneTarget
}

// NewLaneSink describes an exactly-once sink.
func NewLaneSink(uid string, t connectors.LaneTarget) LaneSink {
	return LaneSink{UID: uid, Kind: t.Kind(), Lanes: t.Lanes(), target: t}
}

// Open opens the sink's target for a job, given by its UID as 32 hexadecimal
// digits.
func (s LaneSink) Open(ctx context.Context, job string, clk clock.Clock) (connectors.LaneWriter, error) {
	return s.target.OpenLanes(ctx, connectors.SinkEnv{Job: job, Sink: s.UID, Clock: clk})
}

// ChunkCounts returns the number of messages of each chunk of a sealed block.
func ChunkCounts(block []byte) ([]uint32, error) {
	b, err := connectors.OpenBlock(block)
	if err != nil {
		return nil, err
	}
	counts := make([]uint32, b.Chunks())
	for i := range counts {
		counts[i] = uint32(len(b.Chunk(i)))
	}
	return counts, nil
}
