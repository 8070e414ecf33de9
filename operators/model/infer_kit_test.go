package model_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// item is a record of the tests.
type item struct {
	ID  string
	N   int
	Pad []byte
}

type answer struct{ Text string }

type outcome struct {
	ID, Text string
	N        int
	Asked    model.Asked
}

// armed is an arm whose answers a test gives: they end in the name of the arm.
type armed struct {
	*oracle
	arm string
}

func (a armed) Invoke(ctx context.Context, calls []model.Call[string]) ([]model.Result[answer], error) {
	out, err := a.oracle.Invoke(ctx, calls)
	for i := range out {
		out[i].Out.Text += " by " + a.arm
	}
	return out, err
}

// arms makes an operator have arms, by name, which oracles answer.
func arms(first model.Routing, of map[string]*oracle) func(*spec) {
	return func(s *spec) {
		s.Routing = first
		for _, name := range slices.Sorted(maps.Keys(of)) {
			s.Arms = append(s.Arms, model.Arm[string, answer]{Name: name, Client: func(e model.Env) (model.Client[string, answer], error) {
				return armed{of[name], e.Arm}, nil
			}})
		}
	}
}

// oracle is a model whose answers a test gives one by one, by the name of the record.
type oracle struct {
	mu    sync.Mutex
	open  map[string]chan error
	all   chan struct{} // closed: everything is answered at once
	calls []model.Call[string]
	sizes []int
	text  func(in string) string
}

func newOracle() *oracle { return &oracle{open: map[string]chan error{}, all: make(chan struct{})} }

func (o *oracle) gate(in string) chan error {
	if o.open[in] == nil {
		o.open[in] = make(chan error, 40)
	}
	return o.open[in]
}

func (o *oracle) answer(in ...string) {
	for _, s := range in {
		o.fail(s, nil)
	}
}

func (o *oracle) fail(in string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gate(in) <- err
}

func (o *oracle) asked() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var s []string
	for _, c := range o.calls {
		s = append(s, c.In)
	}
	return s
}

func (o *oracle) Invoke(ctx context.Context, calls []model.Call[string]) ([]model.Result[answer], error) {
	o.mu.Lock()
	o.calls = append(o.calls, calls...)
	o.sizes = append(o.sizes, len(calls))
	var gates []chan error
	for _, c := range calls {
		gates = append(gates, o.gate(c.In))
	}
	o.mu.Unlock()
	out := make([]model.Result[answer], len(calls))
	for i, g := range gates {
		select {
		case out[i].Err = <-g:
		case <-o.all:
		case <-ctx.Done():
			return nil, &model.Failure{Kind: model.Unknown, What: "given up", Cause: ctx.Err()}
		}
		if out[i].Err == nil {
			out[i].Out.Text = "re " + calls[i].In
			if o.text != nil {
				out[i].Out.Text = o.text(calls[i].In)
			}
			out[i].Version = "v1"
		}
	}
	return out, nil
}

// world is what outlives a deployment.
type world struct {
	blobs blob.Store
	chain []state.Chain
	ops   map[string][][]byte
	epoch base.Epoch
}

// rig is a subtask with the operator, driven by hand.
type rig struct {
	t      *testing.T
	s      *operators.Subtask
	clk    *clock.Virtual
	oracle *oracle
	port   *port
	woken  chan struct{}
	mk     func() operators.Batch
	keys   *codec.KeyCodec[string]
	out    []string
	metas  []base.Meta
	failed []model.Failed[item]
	// shadows and shadowTimes are what shadows said, and when.
	shadows     []model.Shadow[answer]
	shadowTimes []int64
	shadowMetas []base.Meta
	queue       func(model.Routing)
	outs        []outcome
	snaps       chan state.Snapshot
	w           *world
	back        *state.Backend
	stats       *base.TaskStats
	close       func()
	pos         uint64
}

type spec = model.Spec[item, string, answer, outcome]

type setup struct {
	spec    func(*spec)
	world   *world
	oracle  *oracle
	rng     base.HashRange
	index   int
	journal string
	drop    bool
	// noShadows leaves the stream for what shadows say out; log takes what is logged.
	noShadows bool
	log       slog.Handler
}

func newRig(t *testing.T, o setup) *rig {
	t.Helper()
	if o.world == nil {
		o.world = &world{blobs: blob.Memory()}
	}
	if o.oracle == nil {
		o.oracle = newOracle()
	}
	if o.log == nil {
		o.log = slog.DiscardHandler
	}
	if o.rng == (base.HashRange{}) {
		o.rng = base.FullRange
	}
	r := &rig{t: t, clk: clock.NewVirtual(1_000_000), oracle: o.oracle, woken: make(chan struct{}, 1), w: o.world, snaps: make(chan state.Snapshot, 10), port: &port{}, stats: &base.TaskStats{}}
	r.keys, _ = codec.KeyFor[string]()
	r.mk, _ = operators.NewBatch[item]()
	mkOut, _ := operators.NewBatch[outcome]()
	r.port.mk = mkOut
	store, err := state.OpenStore(state.Options{FS: vfs.NewMem(), Dir: "state", Memory: 16 << 20, Blob: r.w.blobs, Job: "job", Clock: r.clk, Logger: slog.New(slog.DiscardHandler)})
	r.must(err)
	r.back, err = store.NewBackend(state.BackendOptions{Task: fmt.Sprintf("by-key/%d", o.index), Range: o.rng, OnSnapshot: func(s state.Snapshot, err error) {
		if err != nil {
			t.Error(err)
		}
		r.snaps <- s
	}})
	r.must(err)
	r.s = operators.NewSubtask(operators.Env{
		Ctx: t.Context(), JobName: "test", JobUID: "0123", Task: "by-key", Index: o.index, Parallelism: 1, Range: o.rng, Clock: r.clk,
		Backend: r.back, Logger: slog.New(o.log), Stats: r.stats, Ports: [][]operators.Port{{r.port}}, Journal: o.journal,
		Wake: func() {
			select {
			case r.woken <- struct{}{}:
			default:
			}
		},
	})
	in, _ := codec.For[item]()
	out, _ := codec.For[answer]()
	sp := spec{
		UID: "ask", Request: func(i *item) string { return i.ID }, In: in, Out: out,
		Client: func(model.Env) (model.Client[string, answer], error) { return r.oracle, nil },
		Make: func(i *item, r *model.Result[answer], o *outcome) bool {
			*o = outcome{ID: i.ID, Text: r.Out.Text, N: i.N, Asked: r.Asked}
			return r.Out.Text != "drop"
		},
	}
	if o.spec != nil {
		o.spec(&sp)
	}
	failed := func(*operators.Subtask) operators.Consumer[model.Failed[item]] {
		return operators.Consumer[model.Failed[item]]{One: func(_ *base.Meta, f *model.Failed[item]) { r.failed = append(r.failed, *f) }}
	}
	if o.drop {
		failed = nil
	}
	results := func(s *operators.Subtask) operators.Consumer[outcome] {
		edge := operators.ToEdge[outcome](s, 0, operators.Partition{})
		return operators.Consumer[outcome]{One: func(m *base.Meta, v *outcome) {
			r.out, r.outs, r.metas = append(r.out, v.ID), append(r.outs, *v), append(r.metas, *m)
			edge.One(m, v)
		}}
	}
	shadows := func(*operators.Subtask) operators.Consumer[model.Shadow[answer]] {
		return operators.Consumer[model.Shadow[answer]]{One: func(m *base.Meta, v *model.Shadow[answer]) {
			r.shadows, r.shadowTimes, r.shadowMetas = append(r.shadows, *v), append(r.shadowTimes, m.Time), append(r.shadowMetas, *m)
		}}
	}
	if o.noShadows {
		shadows = nil
	}
	c, queue := model.Infer(r.s, sp, model.Outputs[item, answer, outcome]{Results: results, Failed: failed, Shadows: shadows})
	r.queue = queue
	operators.Head(r.s, c)
	r.must(r.s.Err())
	r.must(r.back.Restore(context.Background(), r.w.chain))
	r.must(r.s.Open(operators.Restore{Epoch: r.w.epoch, Ops: r.w.ops}))
	r.close = sync.OnceFunc(func() { r.must(errors.Join(r.s.Close(), r.back.Close(), store.Close())) })
	t.Cleanup(r.close)
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// feed processes records; the key is the letter that a name begins with.
func (r *rig) feed(ids ...string) {
	r.t.Helper()
	b := r.mk().(*operators.TypedBatch[item])
	for _, id := range ids {
		r.pos++
		b.Vals = append(b.Vals, item{ID: id, N: int(r.pos)})
		b.Metas = append(b.Metas, base.Meta{Time: int64(r.pos), Hash: r.keys.Hash(id[:1]), Origin: base.Origin{Split: 7, Pos: r.pos}})
	}
	r.must(r.s.Process(0, b))
	r.turn()
}

func (r *rig) turn() {
	r.t.Helper()
	for {
		more, err := r.s.Turn()
		r.must(err)
		if !more {
			break
		}
	}
	_, err := r.s.ProcessingTime(r.clk.Now())
	r.must(err)
	r.s.Flush(true)
}

// until takes turns until a condition holds.
func (r *rig) until(what string, cond func() bool) {
	r.t.Helper()
	limit := time.After(10 * time.Second)
	for r.turn(); !cond(); r.turn() {
		select {
		case <-r.woken:
		case <-time.After(5 * time.Millisecond):
		case <-limit:
			r.t.Fatalf("waited in vain for: %s; out %q", what, r.out)
		}
	}
}

func (r *rig) wants(ids ...string) {
	r.t.Helper()
	r.until(fmt.Sprintf("%q", ids), func() bool { return len(r.out) >= len(ids) })
	r.turn()
	if !slices.Equal(r.out, ids) {
		r.t.Fatalf("emitted %q, want %q", r.out, ids)
	}
}

// settled takes turns until the client has been asked n times.
func (r *rig) asked(n int) {
	r.t.Helper()
	r.until(fmt.Sprintf("%d calls", n), func() bool { return len(r.oracle.asked()) >= n })
}

// checkpoint takes a snapshot and returns what a restore starts from.
func (r *rig) checkpoint() {
	r.t.Helper()
	r.w.epoch++
	snap, err := r.s.Snapshot(protocol.Barrier{Try: protocol.Try{Epoch: r.w.epoch, Attempt: 1}})
	r.must(err)
	r.back.Freeze(r.w.epoch)
	r.back.CopyAll()
	s := <-r.snaps
	r.w.ops = map[string][][]byte{}
	for uid, b := range snap.Ops {
		r.w.ops[uid] = [][]byte{b}
	}
	r.w.chain = []state.Chain{{Task: r.back.String(), Range: r.s.Env.Range, Objects: s.Chain}}
}

// port takes down what goes over the output edge.
type port struct {
	mk  func() operators.Batch
	log []string
}

func (p *port) New() operators.Batch { return p.mk() }
func (p *port) Idle() bool           { return true }
func (p *port) Send(b operators.Batch) (operators.Batch, error) {
	for _, v := range b.(*operators.TypedBatch[outcome]).Vals {
		p.log = append(p.log, v.ID)
	}
	return p.mk(), nil
}
func (p *port) Watermark(w base.Timestamp) { p.log = append(p.log, wm(w)) }
func (p *port) MarkIdle()                  { p.log = append(p.log, "idle") }
func (p *port) Barrier(b protocol.Barrier) {
	p.log = append(p.log, fmt.Sprintf("barrier %d", b.Try.Epoch))
}
func (p *port) End() { p.log = append(p.log, "end") }

func (r *rig) logged(want ...string) {
	r.t.Helper()
	if !slices.Equal(r.port.log, want) {
		r.t.Fatalf("the edge got %q, want %q", r.port.log, want)
	}
	r.port.log = nil
}

func wm(w base.Timestamp) string {
	if w == base.MaxTime {
		return "w end"
	}
	return fmt.Sprintf("w%d", w)
}
