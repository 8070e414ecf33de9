package conformance

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/protocol"
)

// SinkFixture is a target over a fresh store. The suite writes messages whose data
// are small JSON objects on one line, all different.
type SinkFixture struct {
	// Target is a connectors.LaneTarget or a connectors.DirectTarget.
	Target connectors.Target
	// Reopen returns a target over the same store that shares nothing else with
	// Target, as another process has it; nil means Target itself.
	Reopen func() connectors.Target
	// Read returns the data that an independent reader sees, in its order. It is
	// called concurrently with writes.
	Read func(t testing.TB) [][]byte
	// Subject returns a subject that the target takes; nil means "".
	Subject func(i int) string
	// Clock is the job's clock; nil means the real one.
	Clock clock.Clock
	// Context is what the target is called with; nil means the test's own.
	Context context.Context
	// Break makes the next PublishChunk fail with an unknown outcome, applied or
	// not; nil when it cannot be arranged. The suite cuts writes off by their
	// context besides.
	Break func(applied bool)
	// Crash loses what is not durable; nil when there is no such thing.
	Crash func()
}

// Sink runs the suite for targets, the part that fits the class of the target.
func Sink(t *testing.T, factory func(t testing.TB) SinkFixture) {
	t.Helper()
	switch target := factory(t).Target.(type) {
	case connectors.LaneTarget:
		run(t, factory, laneChecks())
	case connectors.DirectTarget:
		run(t, factory, directChecks())
	default:
		t.Fatalf("%T is neither a LaneTarget nor a DirectTarget", target)
	}
}

// The names under which the suite writes.
const (
	jobUID  = "c0ffee00c0ffee00c0ffee00c0ffee00"
	sinkUID = "out"
)

func (f SinkFixture) env() connectors.SinkEnv {
	c := f.Clock
	if c == nil {
		c = clock.Real()
	}
	return connectors.SinkEnv{Job: jobUID, Sink: sinkUID, Clock: c}
}

func (f SinkFixture) ctx(t testing.TB) context.Context {
	if f.Context == nil {
		return t.Context()
	}
	return f.Context
}

func (f SinkFixture) other() connectors.Target {
	if f.Reopen == nil {
		return f.Target
	}
	return f.Reopen()
}

func (f SinkFixture) message(data string, i int) connectors.Message {
	m := connectors.Message{Data: []byte(data)}
	if f.Subject != nil {
		m.Subject = f.Subject(i)
	}
	m.Headers = base.Headers{{Name: connectors.OriginHeader, Value: fmt.Sprintf("%016x-%x-0", 7, i)}}
	return m
}

// lanesOf opens a lane writer.
func (f SinkFixture) lanesOf(t testing.TB, target connectors.Target) connectors.LaneWriter {
	t.Helper()
	w, err := target.(connectors.LaneTarget).OpenLanes(f.ctx(t), f.env())
	if err != nil {
		t.Fatalf("OpenLanes: %v", err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return w
}

// chain makes the chunks of one lane, one epoch after the other, and remembers
// what must become visible.
type chain struct {
	f     SinkFixture
	lane  int
	epoch base.Epoch
	gen   base.Generation
	total uint64
	seq   uint64 // of the last marker
	last  protocol.Marker
	want  []string
}

// chunk is one write.
type chunk struct {
	msgs   []connectors.Message
	marker protocol.Marker
}

// next makes the chunks of the lane's next epoch, of the given sizes.
func (c *chain) next(sizes ...int) []chunk {
	c.epoch++
	out := make([]chunk, len(sizes))
	for i, n := range sizes {
		m := protocol.Marker{
			Job: jobUID, Lane: protocol.LaneID{Sink: sinkUID, Lane: c.lane}, Epoch: c.epoch,
			Chunk: uint32(i) + 1, Chunks: uint32(len(sizes)), Gen: c.gen + 1,
			Manifest: protocol.SumSHA(fmt.Appendf(nil, "manifest %d", c.epoch)), Count: uint32(n),
		}
		for range n {
			data := fmt.Sprintf(`{"lane":%d,"n":%d}`, c.lane, c.total)
			out[i].msgs = append(out[i].msgs, c.f.message(data, int(c.total)))
			c.want = append(c.want, data)
			c.total++
		}
		m.Total = c.total
		out[i].marker = m
	}
	return out
}

// publish writes a chunk that must succeed.
func (c *chain) publish(t testing.TB, w connectors.LaneWriter, k chunk) {
	t.Helper()
	seq, err := w.PublishChunk(c.f.ctx(t), c.lane, k.msgs, k.marker, c.seq)
	if err != nil {
		t.Fatalf("lane %d epoch %d chunk %d: %v", c.lane, k.marker.Epoch, k.marker.Chunk, err)
	}
	if seq <= c.seq {
		t.Fatalf("the marker's sequence went from %d to %d", c.seq, seq)
	}
	c.seq, c.last = seq, k.marker
}

// errDamaged says that a lane's marker is none that the protocol allows.
var errDamaged = errors.New("the marker is neither ours nor the one before")

// resolve writes a chunk by the rules of the protocol: on an unknown outcome the
// lane's marker decides between done and once more. A break is how an attempt is
// disturbed beforehand.
func (c *chain) resolve(ctx context.Context, w connectors.LaneWriter, k chunk, attempt func(n int) (context.Context, context.CancelFunc)) error {
	for n := 0; ; n++ {
		actx, cancel := attempt(n)
		seq, err := w.PublishChunk(actx, c.lane, k.msgs, k.marker, c.seq)
		cancel()
		if err == nil {
			c.seq, c.last = seq, k.marker
			return nil
		}
		if errors.Is(err, connectors.ErrRejected) {
			return err
		}
		m, seq, found, err := w.ReadMarker(ctx, c.lane)
		switch {
		case err != nil:
			return err
		case found && m == k.marker:
			c.seq, c.last = seq, m
			return nil
		case found != (c.seq > 0) || seq != c.seq || m != c.last:
			return fmt.Errorf("%w: found %v, seq %d, %+v", errDamaged, found, seq, m)
		case n > 50:
			return errors.New("the chunk does not go through")
		}
	}
}

// mustConflict demands that a write loses against the marker that is there.
func (c *chain) mustConflict(t testing.TB, w connectors.LaneWriter, k chunk, expect uint64) {
	t.Helper()
	seq, err := w.PublishChunk(c.f.ctx(t), c.lane, k.msgs, k.marker, expect)
	if !errors.Is(err, connectors.ErrConflict) {
		t.Fatalf("a write of lane %d that expects marker %d, where the last is %d, gave %d, %v; want ErrConflict", c.lane, expect, c.seq, seq, err)
	}
}

// mustStand demands that the lane's marker is the last one that was written.
func (c *chain) mustStand(t testing.TB, w connectors.LaneWriter) {
	t.Helper()
	m, seq, found, err := w.ReadMarker(c.f.ctx(t), c.lane)
	if err != nil || found != (c.seq > 0) || seq != c.seq || m != c.last {
		t.Fatalf("lane %d: marker %+v, seq %d, found %v, %v; want %+v, seq %d", c.lane, m, seq, found, err, c.last, c.seq)
	}
}

// mustSee demands that a reader sees exactly what the chains wrote, each lane in
// its order.
func mustSee(t testing.TB, f SinkFixture, chains ...*chain) {
	t.Helper()
	owner := map[string]int{}
	for i, c := range chains {
		for _, d := range c.want {
			owner[d] = i
		}
	}
	at := make([]int, len(chains))
	for _, d := range f.Read(t) {
		i, known := owner[string(d)]
		if !known {
			t.Fatalf("a reader sees %s, which was never committed", d)
		}
		c := chains[i]
		if at[i] == len(c.want) || c.want[at[i]] != string(d) {
			t.Fatalf("message %d of lane %d is %s; want %.60q", at[i], c.lane, d, c.want[min(at[i], len(c.want)-1)])
		}
		at[i]++
	}
	for i, c := range chains {
		if at[i] != len(c.want) {
			t.Fatalf("a reader sees %d of %d messages of lane %d", at[i], len(c.want), c.lane)
		}
	}
}
