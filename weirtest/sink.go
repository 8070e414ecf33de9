package weirtest

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
)

// sinkLanes is how many lanes a bound sink has: enough for the lanes of one
// subtask to be more than one, and for three subtasks not to divide them.
const sinkLanes = 4

// sinkLimits makes small chunks, so that an epoch often has several.
var sinkLimits = connectors.ChunkLimits{MaxMessages: 8, MaxBytes: 1 << 20, MaxMessage: 1 << 20}

// output is a sink of the kit without its record type.
type output interface {
	bind(b *weir.Bindings, name string) error
	render(tb testing.TB, name string) []line
	// onPublish makes f decide on the fate of writes; nil lets them succeed.
	onPublish(f func(memory.Attempt) memory.Fault)
}

// sink is an exactly-once target in memory. Its messages are records with their
// metadata: the wire form of a batch of one. It outlives the deployments of a run.
type sink[T any] struct {
	lanes *memory.Lanes
	make  func() operators.Batch
}

func newSink[T any]() *sink[T] {
	return &sink[T]{lanes: memory.NewLanes(memory.WithLanes(sinkLanes), memory.WithLimits(sinkLimits))}
}

func (s *sink[T]) bind(b *weir.Bindings, name string) error {
	var err error
	if s.make, err = operators.NewBatch[T](); err != nil {
		return fmt.Errorf("sink %s: records of type %T cannot be kept: %w", name, *new(T), err)
	}
	pool := &sync.Pool{New: func() any { return s.make() }}
	weir.BindSink(b, name, connectors.Sink[T]{
		Target: s.lanes,
		Encode: func(msg *connectors.Message, m *base.Meta, v *T) error {
			b := pool.Get().(*operators.TypedBatch[T])
			defer pool.Put(b)
			b.Reset()
			b.Metas, b.Vals = append(b.Metas, *m), append(b.Vals, *v)
			msg.Data = b.AppendWire(msg.Data[:0])
			return nil
		},
	})
	return nil
}

func (s *sink[T]) onPublish(f func(memory.Attempt) memory.Fault) { s.lanes.OnPublish(f) }

// visible returns what is committed: epoch by epoch, and lane by lane within one.
// Lanes commit beside each other, so this order, unlike that of the commits, does
// not depend on the scheduler.
func (s *sink[T]) visible() []memory.Committed {
	out := s.lanes.Messages()
	slices.SortStableFunc(out, func(a, b memory.Committed) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Lane, b.Lane), cmp.Compare(a.Chunk, b.Chunk))
	})
	return out
}

// Record is one record of a sink's output.
type Record[T any] struct {
	Value T
	// Time is its event time.
	Time time.Time
	// Headers by name; nil when it has none.
	Headers map[string]string

	hash uint64
}

// Collect returns the values that a sink of the run shows to a reader of
// committed records, in the order of their commit. Records of one key are in the
// order in which the job made them; between keys only those of different
// checkpoints have an order that means something.
func Collect[T any](r *Run, name string) []T {
	r.tb.Helper()
	records := CollectRecords[T](r, name)
	out := make([]T, len(records))
	for i := range records {
		out[i] = records[i].Value
	}
	return out
}

// CollectRecords is Collect with the event time and the headers of each record.
func CollectRecords[T any](r *Run, name string) []Record[T] {
	r.tb.Helper()
	o, ok := r.cfg.sinks[name]
	if !ok {
		r.tb.Fatalf("weirtest: the run has no sink %q; give New the option Sink[%T](%q)", name, *new(T), name)
	}
	s, ok := o.(*sink[T])
	if !ok {
		r.tb.Fatalf("weirtest: sink %q is a %T, and records of type %T are asked for", name, o, *new(T))
	}
	return s.records(r.tb, name)
}

// records decodes what is committed.
func (s *sink[T]) records(tb testing.TB, name string) []Record[T] {
	tb.Helper()
	msgs := s.visible()
	b := s.make().(*operators.TypedBatch[T])
	out := make([]Record[T], 0, len(msgs))
	for i := range msgs {
		if err := b.ReadWire(msgs[i].Data); err != nil || b.Len() != 1 {
			tb.Fatalf("weirtest: sink %q: a message cannot be read: %v", name, err)
		}
		meta := b.Metas[0]
		rec := Record[T]{Value: b.Vals[0], Time: time.Unix(0, meta.Time).UTC(), hash: meta.Hash}
		if meta.Headers != nil {
			rec.Headers = map[string]string{}
			for _, h := range *meta.Headers {
				rec.Headers[h.Name] = h.Value
			}
		}
		out = append(out, rec)
	}
	return out
}
