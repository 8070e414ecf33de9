package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/weirflow/weir/engine/checkpoint"
	"github.com/weirflow/weir/engine/exchange"
	"github.com/weirflow/weir/engine/task"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state"
)

// running is a deployed subtask.
type running struct {
	id      protocol.TaskID
	spec    *Task
	sub     *operators.Subtask
	task    *task.Task
	mailbox *exchange.Mailbox
	stats   *base.TaskStats
	// ports are the sending sides of the subtask's output edges.
	ports  [][]*exchange.Port
	inputs []task.Input
}

// deploy builds all subtasks, connects them, and makes the committers and the
// coordinator. Nothing runs yet.
func (g *generation) deploy(writers map[string]operators.LaneWriter) error {
	plan := g.job.plan
	byTask := make([][]*running, len(plan.Tasks))
	for ti := range plan.Tasks {
		spec := &plan.Tasks[ti]
		for i := range spec.Parallelism {
			r := &running{
				id: protocol.TaskID{Operator: spec.UID, Index: i}, spec: spec,
				mailbox: exchange.NewMailbox(), stats: &base.TaskStats{},
			}
			byTask[ti] = append(byTask[ti], r)
			g.tasks = append(g.tasks, r)
		}
	}
	g.connect(byTask)
	g.makeLanes(writers)
	for _, r := range g.tasks {
		if err := g.build(r); err != nil {
			return fmt.Errorf("task %s: %w", r.id, err)
		}
		crash.At(crash.RecMidDeploy)
	}
	g.lend()
	g.open.Store(int32(len(g.tasks)))
	g.makeCoordinator()
	return nil
}

// connect makes the ports of all edges.
func (g *generation) connect(byTask [][]*running) {
	opts := &g.job.opts
	for ti := range g.job.plan.Tasks {
		for _, r := range byTask[ti] {
			for range r.spec.Out {
				r.ports = append(r.ports, nil)
			}
		}
	}
	for ti := range g.job.plan.Tasks {
		to := &g.job.plan.Tasks[ti]
		for head, e := range to.In {
			edge := &g.job.plan.Edges[e]
			out := indexOf(g.job.plan.Tasks[edge.From].Out, e)
			for _, from := range byTask[edge.From] {
				for _, r := range byTask[ti] {
					p := exchange.NewPort(exchange.PortOptions{
						To: r.mailbox, Input: len(r.inputs), Make: edge.Make, Clock: opts.Clock,
						Blocked: &from.stats.BackpressuredNanos, Encode: opts.Encode,
					})
					from.ports[out] = append(from.ports[out], p)
					r.inputs = append(r.inputs, task.Input{Head: head, Port: p})
				}
			}
		}
	}
}

func indexOf(s []int, v int) int {
	for i, x := range s {
		if x == v {
			return i
		}
	}
	return -1
}

// build makes the chain of a subtask and the task around it.
func (g *generation) build(r *running) error {
	j := g.job
	opts := &j.opts
	hr := base.SplitRange(r.id.Index, r.spec.Parallelism)
	env := operators.Env{
		Ctx: g.ctx, JobName: j.plan.Job, JobUID: j.uid, Task: r.spec.UID, Index: r.id.Index,
		Parallelism: r.spec.Parallelism, Range: hr, Clock: opts.Clock, Wake: r.mailbox.Wake,
		Logger: opts.Logger, Stats: r.stats, Sinks: g.sinks, Splits: &g.splits, Sources: &g.sources,
	}
	if opts.JournalDir != "" {
		env.Journal = filepath.Join(opts.JournalDir, j.uid)
	}
	for _, ps := range r.ports {
		out := make([]operators.Port, len(ps))
		for i, p := range ps {
			out[i] = p
		}
		env.Ports = append(env.Ports, out)
	}
	if r.spec.Keyed {
		b, err := g.store.NewBackend(state.BackendOptions{
			Task: r.id.String(), Range: hr,
			OnSnapshot: func(s state.Snapshot, err error) { r.task.StateWritten(s, err) },
		})
		if err != nil {
			return err
		}
		env.Backend = b
	}
	r.sub = operators.NewSubtask(env)
	if err := r.spec.Build(r.sub); err != nil {
		return err
	}
	cfg := task.Config{
		ID: r.id, Job: j.uid, Subtask: r.sub, From: g.plan.Start.Record.Try(), Term: j.term, Gen: g.num,
		Mailbox: r.mailbox, Inputs: r.inputs, Blob: opts.Blob, Clock: opts.Clock, Logger: opts.Logger,
		CreditNanos: opts.creditNanos(), Report: func(m *protocol.Message) { g.coord.Report(m) },
		Opened: g.taskOpened, Staged: g.blocks.put, Uploads: &j.uploads,
	}
	if limit := opts.staged(); !opts.Manual { // whoever makes the checkpoints decides how much waits for them
		cfg.Hold = func() bool { return g.staged.Load() > limit }
	}
	cfg.Restore, cfg.Chains = g.restore(r)
	r.task = task.New(cfg)
	return nil
}

// lend keeps tasks from blocking for want of credit in a job with operators that
// wait for something outside, so that barriers pass in the meantime.
func (g *generation) lend() {
	if !slices.ContainsFunc(g.tasks, func(r *running) bool { return r.sub.HasAsync() }) {
		return
	}
	for _, r := range g.tasks {
		var outs []*exchange.Port
		for _, ps := range r.ports {
			outs = append(outs, ps...)
		}
		for _, p := range outs {
			p.Lend(r.mailbox.Wake)
		}
		r.task.Async, r.task.Outs = true, outs
	}
}

// restore gathers what a subtask starts from: the named snapshots of all
// subtasks of its operators, the splits of all sources, and the chains of all
// subtasks of its task, to be filtered by hash range.
func (g *generation) restore(r *running) (operators.Restore, []state.Chain) {
	m := g.plan.Start.Manifest
	if m == nil {
		return operators.Restore{}, nil
	}
	out := operators.Restore{Epoch: m.Epoch, Ops: map[string][][]byte{}, Splits: task.Splits(m.Splits)}
	var chains []state.Chain
	for i := range m.Tasks {
		t := &m.Tasks[i]
		for _, n := range t.Named {
			out.Ops[n.Name] = append(out.Ops[n.Name], n.Inline)
		}
		if t.Keyed && t.Task.Operator == r.id.Operator && t.Range.Overlaps(base.SplitRange(r.id.Index, r.spec.Parallelism)) {
			chains = append(chains, state.Chain{Task: t.Task.String(), Range: t.Range, Objects: t.Objects})
		}
	}
	return out, chains
}

// makeLanes makes a committer for every lane of the job.
func (g *generation) makeLanes(writers map[string]operators.LaneWriter) {
	j := g.job
	start := map[protocol.LaneID]protocol.LaneStart{}
	for _, l := range g.plan.Lanes {
		start[l.Lane] = l.Start
	}
	for _, s := range j.plan.Sinks {
		rt := operators.SinkRuntime{Limits: writers[s.UID].Limits(), Staged: &g.staged}
		for l := range s.Lanes {
			id := protocol.LaneID{Sink: s.UID, Lane: l}
			gate := operators.NewLaneGate(j.opts.Clock, int64(j.opts.Interval)/commitShare, g.demand)
			rt.Gates = append(rt.Gates, gate)
			g.lanes[id] = operators.NewLaneCommitter(operators.LaneConfig{
				Job: j.uid, ID: id, Gen: g.num, Start: start[id], Writer: writers[s.UID], Clock: j.opts.Clock, Gate: gate,
				Load: g.loadBlock, ReadRecord: j.rec.ReadManifestOf,
				Done: g.laneDone, Failed: func(err error) { g.fail(g.tasks[0].id, err) },
			})
		}
		if j.opts.Manual {
			rt.Gates = nil // whoever makes the checkpoints decides how large they are
		}
		g.sinks[s.UID] = rt
	}
}

// commitShare is the part of the checkpoint interval that the commit of one epoch
// may take: a third, so that a commit at a third of the usual speed still ends within
// the interval.
const commitShare = 3

// demand asks for an epoch before its time.
func (g *generation) demand() { g.coord.Submit(protocol.TriggerDue{}) }

func (g *generation) laneDone(id protocol.LaneID, n base.Epoch) {
	g.coord.Report(&protocol.Message{
		Kind: protocol.KindCommitted, Job: g.job.uid, Term: g.job.term, Gen: g.num, Epoch: n, Lane: &id,
	})
}

func (g *generation) loadBlock(ctx context.Context, b protocol.LaneBlock) ([]byte, error) {
	if data, ok := g.blocks.take(b.SHA); ok {
		return data, nil
	}
	return g.job.opts.Blob.Get(ctx, protocol.ObjectKey(g.job.uid, b.SHA))
}

func (g *generation) makeCoordinator() {
	j := g.job
	opts := &j.opts
	core := protocol.CoordinatorConfig{
		Job: j.uid, Term: j.term, Gen: g.num, PlanHash: planSHA(j.plan), Schemas: schemas(j.plan),
		Interval: int64(opts.Interval), Timeout: int64(opts.Timeout), RetryDelay: int64(opts.Interval) / 4,
		MaxUncommitted: opts.MaxUncommitted, AlarmAfter: 3,
	}
	if opts.Manual {
		core.Interval = 1 << 62
	}
	byID := map[protocol.TaskID]*running{}
	for _, r := range g.tasks {
		byID[r.id] = r
		core.Tasks = append(core.Tasks, protocol.TaskSlot{Task: r.id, Gen: g.num, Source: r.spec.Source})
	}
	for id := range g.lanes {
		core.Lanes = append(core.Lanes, id)
	}
	g.coord = checkpoint.New(checkpoint.Config{
		Core: core, Start: g.plan.Start, Records: j.rec, Clock: opts.Clock, Logger: opts.Logger,
		Encode: opts.Encode, Retain: opts.Retain, Stats: j.ckpt, Manual: opts.Manual,
		Send: func(to protocol.TaskID, m *protocol.Message) {
			byID[to].mailbox.Put(exchange.Message{Kind: exchange.Control, Order: m})
		},
		Commit: g.commit,
	})
}

// commit hands the blocks of a durable epoch to their lanes.
func (g *generation) commit(t protocol.Try, c *protocol.Complete) {
	for i := range c.Lanes {
		l := &c.Lanes[i]
		g.blocks.claim(l.Block.SHA)
		if lane := g.lanes[l.Block.Lane]; lane != nil {
			lane.Submit(protocol.Claimed{Epoch: t.Epoch, Manifest: c.Manifest, State: *l})
		}
	}
}

// blockCache holds the staged blocks of this process until they are committed,
// so that a commit need not read them back. It is bounded in bytes; what does not
// fit is read from the store.
type blockCache struct {
	mu    sync.Mutex
	bytes int64
	limit int64
	m     map[protocol.SHA]*cachedBlock
}

type cachedBlock struct {
	data []byte
	// claimed: a durable epoch names it, so it will be taken. Others may belong to
	// attempts that were given up.
	claimed bool
}

func newBlockCache(limit int64) *blockCache {
	return &blockCache{limit: limit, m: map[protocol.SHA]*cachedBlock{}}
}

func (c *blockCache) put(sha protocol.SHA, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m[sha] != nil {
		return
	}
	if c.bytes+int64(len(b)) > c.limit {
		for s, old := range c.m {
			if !old.claimed {
				c.removeLocked(s)
			}
		}
	}
	if c.bytes+int64(len(b)) <= c.limit {
		c.m[sha] = &cachedBlock{data: b}
		c.bytes += int64(len(b))
	}
}

func (c *blockCache) claim(sha protocol.SHA) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.m[sha]; b != nil {
		b.claimed = true
	}
}

func (c *blockCache) removeLocked(sha protocol.SHA) {
	c.bytes -= int64(len(c.m[sha].data))
	delete(c.m, sha)
}

// take returns a block and forgets it.
func (c *blockCache) take(sha protocol.SHA) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.m[sha]
	if b == nil {
		return nil, false
	}
	c.removeLocked(sha)
	return b.data, true
}
