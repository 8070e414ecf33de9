package operators

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/state"
)

// Env is what the engine gives a subtask to work with.
type Env struct {
	// Ctx ends when the subtask must stop.
	Ctx context.Context
	// JobName and JobUID (32 hexadecimal digits) name the job.
	JobName, JobUID string
	// Task is the task's UID; Index and Parallelism place the subtask in it.
	Task               string
	Index, Parallelism int
	// Range is the range of key hashes that the subtask owns.
	Range base.HashRange
	Clock clock.Clock
	// Backend holds the keyed state; nil for tasks without any.
	Backend *state.Backend
	// Ports holds, for every output edge, a port for each receiving subtask.
	Ports [][]Port
	// Wake makes the task loop take a turn soon, from any goroutine.
	Wake   func()
	Logger *slog.Logger
	Stats  *base.TaskStats
	// Sinks gives what exactly-once sinks need to stage, by UID.
	Sinks map[string]SinkRuntime
	// Splits takes the names of the splits that sources of the deployment read,
	// for messages; may be nil.
	Splits *SplitNames
	// Sources counts the source subtasks of the deployment; may be nil.
	Sources *SourceCount
	// Journal is the directory of what operators keep on this machine until a
	// checkpoint covers it; "" for none.
	Journal string
}

// SplitNames tells people which split of which source a record came from: an
// origin has only a hash of the two. It is safe for concurrent use.
type SplitNames struct{ m sync.Map }

func (n *SplitNames) add(hash uint64, source, split string) {
	if n != nil {
		n.m.Store(hash, "source "+source+", split "+split)
	}
}

func (n *SplitNames) of(hash uint64) (string, bool) {
	if n == nil {
		return "", false
	}
	v, ok := n.m.Load(hash)
	name, _ := v.(string)
	return name, ok
}

// SinkRuntime is what an exactly-once sink needs to stage messages.
type SinkRuntime struct {
	Limits connectors.ChunkLimits
	// Gates holds the gate of every lane; nil lets everything pass.
	Gates []*LaneGate
	// Staged adds up the bytes that the sinks of the deployment hold in memory
	// because no durable epoch covers them; may be nil.
	Staged *atomic.Int64
}

// Subtask is one parallel instance of a task: the typed chain behind a typeless
// face. All methods belong to the goroutine of the subtask, except where said.
type Subtask struct {
	Env Env
	err error
	// cur is the record in hand and at the operator that has it, for the
	// attribution of errors and panics.
	cur *base.Meta
	at  int32
	ops []string

	// nodes are the operators that care for time, snapshots or the end. They
	// register after what they hand on to, so downstream comes first.
	nodes []Node
	edges []outEdge
	heads []func(Batch)
	src   source
	// restored is the epoch that the subtask started from.
	restored base.Epoch
	adv      advance
	// branches are the stages behind Async nodes, owners the stages that edges
	// belong to, as far as that is not the first one. branch and stage are where
	// the chain is being built.
	branches []*branch
	owners   []*advance
	branch   *branch
	stage    *advance
	// retried takes dead letters that are sent back, by the operator.
	retried map[string]func(*DeadLetter)
}

// Node is an operator with a life beyond its records. It implements those of
// the role interfaces below that it needs.
type Node interface{ UID() string }

// Watermarker is a Node that acts when event time advances. It may stop at the
// deadline (monotonic nanoseconds) and return false; it is then called again
// with the same watermark.
type Watermarker interface {
	Node
	Advance(w base.Timestamp, deadline int64) (done bool)
}

// ProcessingTimer is a Node with processing-time timers. It fires those due and
// returns the time of the next one, or base.MaxTime.
type ProcessingTimer interface {
	Node
	ProcessingTime(now base.Timestamp) (next base.Timestamp)
}

// Snapshotter is a Node with state that is not keyed. Snapshot runs at the
// barrier and must be quick; Restore gets the snapshots of all subtasks of the
// previous deployment, before the first record.
type Snapshotter interface {
	Node
	Snapshot() []byte
	Restore(parts [][]byte) error
}

// Opener is a Node that prepares itself after state was restored.
type Opener interface {
	Node
	Open() error
}

// Barrierer is a Node that must act right before the barrier goes on.
type Barrierer interface {
	Node
	Barrier(n base.Epoch) error
}

// Closer is a Node that releases something when the subtask ends.
type Closer interface {
	Node
	Close() error
}

// NewSubtask returns an empty subtask, for a chain to be built on.
func NewSubtask(env Env) *Subtask {
	s := &Subtask{Env: env, adv: newAdvance()}
	s.stage = &s.adv
	return s
}

// operator registers an operator for attribution and returns its index.
func (s *Subtask) operator(uid string) int32 {
	s.ops = append(s.ops, uid)
	return int32(len(s.ops) - 1)
}

// Add registers a node. A chain is built from its tails up, so a node is added
// after everything it hands on to.
func (s *Subtask) Add(n Node) {
	s.nodes = append(s.nodes, n)
	s.stage.nodes = append(s.stage.nodes, n)
}

// Fail makes the subtask fail with err as soon as the record in hand is through.
// The first error wins.
func (s *Subtask) Fail(err error) {
	if s.err == nil && err != nil {
		s.err = err
	}
}

// Err returns the error that the subtask failed with, or nil.
func (s *Subtask) Err() error {
	if s.err == nil && s.Env.Backend != nil {
		s.err = s.Env.Backend.Err()
	}
	return s.err
}

// Current names the operator that has the record in hand. It may be called from
// any goroutine and is a guess then: the watchdog's only clue to a function that
// does not return, which no synchronised counter may slow down.
//
//go:norace
func (s *Subtask) Current() string {
	if i := int(s.at); i < len(s.ops) {
		return s.ops[i]
	}
	return s.Env.Task
}

// Operators lists the UIDs of the chain's operators by index.
func (s *Subtask) Operators() []string { return s.ops }

// Head adds an input whose batches go to c. Inputs are numbered in the order of
// these calls.
func Head[T any](s *Subtask, c Consumer[T]) {
	s.heads = append(s.heads, func(b Batch) {
		tb := b.(*TypedBatch[T])
		c.run(s, tb.Metas, tb.Vals)
	})
}

// Open restores the nodes' own state and opens them, upstream last, so that a
// node may emit from Open.
func (s *Subtask) Open(r Restore) error {
	s.restored = r.Epoch
	for _, n := range s.nodes {
		if sn, ok := n.(Snapshotter); ok {
			if parts := r.Ops[n.UID()]; len(parts) > 0 {
				if err := sn.Restore(parts); err != nil {
					return fmt.Errorf("operator %s: restore: %w", n.UID(), err)
				}
			}
		}
	}
	for _, n := range s.nodes {
		if o, ok := n.(Opener); ok {
			if err := o.Open(); err != nil {
				return fmt.Errorf("operator %s: open: %w", n.UID(), err)
			}
		}
	}
	if s.src != nil {
		return s.src.open(r)
	}
	return nil
}

// Process takes one batch of an input.
func (s *Subtask) Process(input int, b Batch) (err error) {
	defer s.guard(&err)
	s.heads[input](b)
	s.cur = nil
	s.Env.Stats.RecordsIn.Add(int64(b.Len()))
	return s.Err()
}

// guard turns a panic into an error that names the record and the operator.
func (s *Subtask) guard(err *error) {
	r := recover()
	if r == nil {
		return
	}
	e := &base.Error{
		Code: codePanic, What: fmt.Sprintf("a function of the job panicked: %v", r), Where: s.where(),
		Next: "fix the function, or guard it against this record, or give the operator the option OnError(DeadLetter); the job restarts from the last checkpoint meanwhile",
	}
	s.Env.Logger.Error("panic in user code", "where", e.Where, "panic", r, "stack", string(debug.Stack()))
	*err = e
	s.Fail(e)
}

// where names the operator and the record in hand.
func (s *Subtask) where() string {
	w := fmt.Sprintf("job %s, task %s#%d", s.Env.JobName, s.Env.Task, s.Env.Index)
	if int(s.at) < len(s.ops) {
		w += ", operator " + s.ops[s.at]
	}
	m := s.cur
	if m == nil {
		return w
	}
	from, ok := s.Env.Splits.of(m.Origin.Split)
	switch {
	case ok:
		w += fmt.Sprintf(", record %d of %s", m.Origin.Pos, from)
	default:
		w += fmt.Sprintf(", record of origin %v", m.Origin)
	}
	if m.Time != 0 {
		w += " at " + base.FormatTime(m.Time)
	}
	if m.Hash != 0 {
		w += fmt.Sprintf(" (key hash %016x)", m.Hash)
	}
	return w
}

// ErrorPolicy says what happens to a record for which a function returned an
// error.
type ErrorPolicy = connectors.RecordPolicy

// bad makes the subtask fail because a function of the job refused a record.
func (s *Subtask) bad(m *base.Meta, err error) {
	s.refuse(connectors.FailOnBad, m, &base.Error{
		Code: codeRefused, What: "a function of the job refused a record", Cause: err,
		Next: "fix the function or the record, or give the operator the option OnError(Skip) or OnError(DeadLetter)",
	})
}

// refuse counts a record that cannot be processed and makes the subtask fail with
// e, which gets its Where, unless the policy is to skip the record.
func (s *Subtask) refuse(p ErrorPolicy, m *base.Meta, e *base.Error) {
	s.Env.Stats.BadRecords.Add(1)
	if p == connectors.SkipBad {
		return
	}
	s.cur = m
	e.Where = s.where()
	s.Fail(e)
}

// Flush hands on partial batches: all of them when force is set, else only
// those whose receiver waits.
func (s *Subtask) Flush(force bool) {
	for _, e := range s.edges {
		e.flush(force)
	}
}

// Close releases what the nodes hold. It returns the first error.
func (s *Subtask) Close() error {
	var first error
	if s.src != nil {
		first = s.src.close()
	}
	for _, n := range s.nodes {
		if c, ok := n.(Closer); ok {
			if err := c.Close(); err != nil && first == nil {
				first = fmt.Errorf("operator %s: close: %w", n.UID(), err)
			}
		}
	}
	return first
}
