package model

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/model/batcher"
	"github.com/weirflow/weir/operators/model/journal"
	"github.com/weirflow/weir/state"
)

// Order says in which order results leave the operator.
type Order uint8

const (
	// PerKey: in the order of the input for each key; keys do not wait for each other.
	PerKey Order = iota
	// Ordered: in the order of the input of the subtask. One slow call holds up all
	// that came after it.
	Ordered
	// Unordered: as they come, but none behind a watermark that it came before.
	Unordered
)

// Batching bounds batches of calls; see package batcher.
type Batching = batcher.Config

// Defaults of Spec.
const (
	DefaultCapacity = 256
	DefaultDeadline = 30 * time.Second
)

// Env is what a client of one subtask may need.
type Env struct {
	// Job and Operator are names, Subtask counts from 0. Arm is the arm that the client
	// is of; "" in an operator without arms.
	Job, Operator, Arm string
	Subtask            int
	Clock              clock.Clock
	Logger             *slog.Logger
	// Figures takes metrics of the client.
	Figures *base.Figures
}

// Spec describes an operator that asks a model about each record T, in the form In,
// and makes a record O of its answer Out.
type Spec[T, In, Out, O any] struct {
	UID string
	// Request makes the input for the model; it must not change the record.
	Request func(*T) In
	// Client makes the client of a subtask; an error stops the job, so it should not
	// need the model to be there. A client that is an io.Closer is closed.
	Client func(Env) (Client[In, Out], error)
	// Arms are several models in place of Client, of which Routing, from the start and
	// until another comes, says which one answers.
	Arms    []Arm[In, Out]
	Routing Routing
	// ShadowCapacity is the number of records at most that wait for one shadow arm; 0:
	// DefaultShadows.
	ShadowCapacity int
	// Make makes the record that is handed on; false hands on none. r.Err is nil.
	Make func(in *T, r *Result[Out], out *O) bool
	// In and Out encode records and predictions.
	In  *codec.Codec[T]
	Out *codec.Codec[Out]

	Order Order
	// Capacity is the number of calls under way at most; 0: DefaultCapacity. When as
	// many records as that wait, the operator wants no more input.
	Capacity int
	// Deadline bounds the time from when a record's call is made, for the first time
	// since the start, to its result, all attempts that the client makes included; 0:
	// DefaultDeadline.
	Deadline time.Duration
	// Batch bounds the batches of each arm. The zero MaxBatch is 1: no batches. The zero
	// InFlight is Capacity, and without batches it is that always.
	Batch Batching
}

// Arm is one of several models of an operator.
type Arm[In, Out any] struct {
	Name string
	// Client is as in Spec.
	Client func(Env) (Client[In, Out], error)
}

// Failed is a record whose call has failed for good.
type Failed[T any] struct {
	Record T
	// Key is the idempotency key of the call without the job's UID and the slash behind
	// it, which another run of the job under test would not have, and without the arm.
	Key string
	// Arm is the arm that failed, by the routing of version Routing; "" without arms.
	Arm     string
	Routing uint64
	// Kind is that of the failure: permanent, unavailable, limited, unknown, invalid.
	Kind string
	// Status is the HTTP or gRPC status; 0 if there was none.
	Status int
	// What is one line on what happened.
	What string
	// Attempts counts the calls that the operator made, at least 1.
	Attempts int
}

// StateName names the keyed state of the operator: the records in flight.
const StateName = "calls"

// States lists the keyed state, for the plan. The type of records may change as that of
// other state may; that of predictions too, but calls that were answered and whose
// records had not left by the checkpoint are made again then.
func (s *Spec[T, In, Out, O]) States() []operators.DeclaredState {
	return []operators.DeclaredState{{Name: StateName, Schema: "list " + s.In.Schema().String()}}
}

// infer is the operator in one subtask. All of it belongs to the subtask's goroutine,
// but what mu guards and the calls themselves.
type infer[T, In, Out, O any] struct {
	s    *operators.Subtask
	spec Spec[T, In, Out, O]
	op   int32
	out  func(*base.Meta, *O)
	// failed takes the records that failed; nil drops them.
	failed func(*base.Meta, *Failed[T])
	arms   []*lane[T, In, Out] // in the order of Spec.Arms
	route  route[T, In, Out]
	table  *state.Table
	log    *journal.Journal // nil: none

	w, told base.Timestamp // last watermark, last one that went on
	seq     uint64
	epoch   base.Epoch // of the last barrier
	// all holds every record that has not left, in the order of their coming, and
	// some that have. live counts the former.
	all    []*call[T, Out]
	head   int
	live   int
	wake   base.Timestamp // when a batcher wants to be asked
	flying int            // calls under way, but those of shadows
	// ready holds records that can be emitted (not with Ordered). last is the last
	// record of each key that has not left (only with PerKey).
	ready []*call[T, Out]
	last  map[uint64]*call[T, Out]

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
	busy atomic.Int64 // records asked for whose answer Turn has not seen

	mu       sync.Mutex
	label    base.Epoch // of results that arrive
	answered []*flight[T, In, Out]

	shadows shadows[T, In, Out]

	enc  []byte
	o    O
	f    Failed[T]
	figs figures
}

// figures are the operator's metrics; those of its arms are in lane.
type figures struct{ pending, lost, version, refused *base.Figure }

// call is one record in the operator.
type call[T, Out any] struct {
	seq   uint64
	since base.Timestamp // the last watermark before it
	id    journal.ID
	meta  base.Meta
	val   T
	phase phase
	choice
	// name is that of the input, once it was made; took is when the operator took the
	// record up in this run, in nanoseconds of the monotonic clock.
	name string
	took int64
	// attempt counts the calls made. maybe says that the record was restored: a call that
	// does not count may have been made after the checkpoint.
	attempt int
	maybe   bool
	// after is the record of the same key that came next, behind says that there is
	// one before.
	after  *call[T, Out]
	behind bool
	// stored says that the state has the record, and resStored that it has the result.
	stored, resStored bool
	// arrived says that res is set; both are guarded by mu until phase is done.
	arrived bool
	res     Result[Out]
}

type phase uint8

const (
	waits phase = iota
	flies
	done // answered, and durably so
	left
)

// Outputs make, in a subtask, what an operator hands on to.
type Outputs[T, Out, O any] struct {
	Results func(*operators.Subtask) operators.Consumer[O]
	// Failed is for records that failed; nil drops them.
	Failed func(*operators.Subtask) operators.Consumer[Failed[T]]
	// Shadows is for what shadow arms say; nil lets no routing have any.
	Shadows func(*operators.Subtask) operators.Consumer[Shadow[Out]]
}

// Infer adds an operator that asks a model. It must be bound in a task with keyed
// state. queue takes a change of the routing, which comes into effect at the next
// barrier; it must be called on the goroutine of the subtask.
//
// Keyed state: the records that have come and not left, as of the last barrier, with
// the arms they were routed to. They are asked for again after a restore, unless the
// checkpoint or the journal has their result. The operator's own snapshot is its
// routing.
func Infer[T, In, Out, O any](s *operators.Subtask, spec Spec[T, In, Out, O], to Outputs[T, Out, O]) (in operators.Consumer[T], queue func(Routing)) {
	spec.setDefaults()
	n := &infer[T, In, Out, O]{
		s: s, spec: spec, w: base.MinTime, told: base.MinTime, wake: base.MaxTime, last: map[uint64]*call[T, Out]{},
	}
	n.shadows.wanted = to.Shadows != nil
	n.register()
	n.ctx, n.stop = context.WithCancel(s.Env.Ctx)
	operators.Branch(s, func() *infer[T, In, Out, O] {
		n.out = to.Results(s).One
		if to.Failed != nil {
			n.failed = to.Failed(s).One
		}
		if to.Shadows != nil {
			n.shadows.out = to.Shadows(s).One
		}
		n.op = s.Register(spec.UID)
		return n
	})
	g, err := s.Env.Backend.Group(state.Decl{
		Operator: spec.UID, Name: StateName, Key: state.KeyBytes, Schema: spec.In.Schema().String(),
	})
	if err != nil {
		s.Fail(err)
		return operators.Consumer[T]{One: func(*base.Meta, *T) {}}, func(Routing) {}
	}
	n.table = g.Namespace(0)
	return operators.Consumer[T]{One: n.one}, n.queueRouting
}

func (s *Spec[T, In, Out, O]) setDefaults() {
	if s.Capacity <= 0 {
		s.Capacity = DefaultCapacity
	}
	if s.Deadline <= 0 {
		s.Deadline = DefaultDeadline
	}
	if s.Batch.MaxBatch <= 0 {
		s.Batch.MaxBatch = 1
	}
	if s.Batch.InFlight <= 0 || s.Batch.MaxBatch == 1 {
		s.Batch.InFlight = s.Capacity
	}
	if s.ShadowCapacity <= 0 {
		s.ShadowCapacity = DefaultShadows
	}
	if len(s.Arms) == 0 {
		s.Arms, s.Routing = []Arm[In, Out]{{Client: s.Client}}, Everything("")
	}
}

// register makes the arms and the metrics.
func (n *infer[T, In, Out, O]) register() {
	f := func(name string) *base.Figure { return n.s.Env.Stats.Figures.New(name, n.spec.UID, "") }
	n.figs = figures{pending: f("model_records_pending"), lost: f("model_journal_failed_total")}
	for _, a := range n.spec.Arms {
		n.arms = append(n.arms, n.newLane(a.Name))
		if n.shadows.wanted {
			n.shadows.lanes = append(n.shadows.lanes, n.newShadowLane(a.Name))
		}
	}
	if n.routed() {
		n.figs.version, n.figs.refused = f("model_routing_version"), f("model_routings_refused_total")
	}
	n.follow(n.spec.Routing)
}

// UID implements operators.Node.
func (n *infer[T, In, Out, O]) UID() string { return n.spec.UID }

// Open implements operators.Opener: it makes the client, reads the journal, and takes
// up the records that were in flight.
func (n *infer[T, In, Out, O]) Open() error {
	env := n.s.Env
	n.epoch = n.s.Restored()
	n.label = n.epoch + 1
	for i, a := range n.spec.Arms {
		client, err := a.Client(Env{
			Job: env.JobName, Operator: n.spec.UID, Arm: a.Name, Subtask: env.Index, Clock: env.Clock, Logger: env.Logger, Figures: &env.Stats.Figures,
		})
		if err != nil {
			where := "operator " + n.spec.UID
			if a.Name != "" {
				where += ", arm " + a.Name
			}
			return base.Fatal(&base.Error{
				Code: "WEIR-0731", What: "the client of a model cannot be made", Where: where, Cause: err,
				Next: "correct the configuration of the model",
			})
		}
		n.arms[i].client = client
		if n.shadows.wanted {
			n.shadows.lanes[i].client = client
		}
	}
	if env.Journal != "" {
		var err error
		n.log, err = journal.Open(journal.Options{
			Dir: filepath.Join(env.Journal, filepath.FromSlash(n.spec.UID)), Subtask: env.Index, Parallelism: env.Parallelism, Epoch: n.epoch,
			Keep: env.Range.Contains, Freed: env.Wake, Logger: env.Logger,
		})
		if err != nil {
			return &base.Error{
				Code: "WEIR-0732", What: "the journal of model calls cannot be opened", Where: "operator " + n.spec.UID, Cause: err,
				Next: "check the data directory and the free space; without its journal directory the job starts, and makes again the calls that were answered since the last checkpoint",
			}
		}
	}
	if err := n.restore(); err != nil {
		return err
	}
	env.Wake()
	return nil
}

// Close implements operators.Closer. It ends the calls under way and waits for them
// for a while.
func (n *infer[T, In, Out, O]) Close() error {
	n.stop()
	ended := make(chan struct{})
	go func() {
		n.wg.Wait()
		close(ended)
	}()
	timer := n.s.Env.Clock.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C():
		n.s.Env.Logger.Warn("a client of a model does not return when its context ends", "operator", n.spec.UID)
		if n.log != nil { // results that come now have nowhere to go: their calls are made again
			return n.log.Close()
		}
		return nil // the client stays open, for the call uses it
	}
	var err error
	if n.log != nil {
		err = n.log.Close()
	}
	for _, l := range n.arms {
		if c, ok := l.client.(io.Closer); ok {
			if cerr := c.Close(); err == nil {
				err = cerr
			}
		}
	}
	return err
}

// closeWait is how long Close waits for clients.
const closeWait = 5 * time.Second
