package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/weirflow/weir/engine/checkpoint"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state"
)

// generation is one deployment of the plan: tasks, committers, coordinator.
type generation struct {
	job     *Job
	num     base.Generation
	ctx     context.Context
	stop    context.CancelFunc
	plan    protocol.RecoveryPlan
	store   *state.Store
	coord   *checkpoint.Coordinator
	tasks   []*running
	lanes   map[protocol.LaneID]*operators.LaneCommitter
	sinks   map[string]operators.SinkRuntime
	splits  operators.SplitNames
	sources operators.SourceCount
	staged  atomic.Int64 // bytes of output that no durable epoch covers
	blocks  *blockCache
	open    atomic.Int32  // tasks that are not restored yet
	opened  chan struct{} // closed when there are none
	wg      sync.WaitGroup
}

// generation runs one deployment. It returns nil when the final epoch is
// committed.
func (j *Job) generation(ctx context.Context) error {
	gctx, stop := context.WithCancel(ctx)
	defer stop()
	g := &generation{job: j, ctx: gctx, stop: stop, lanes: map[protocol.LaneID]*operators.LaneCommitter{},
		sinks: map[string]operators.SinkRuntime{}, blocks: newBlockCache(j.opts.staged()), opened: make(chan struct{})}
	writers, err := j.openSinks(gctx)
	defer closeSinks(writers)
	if err != nil {
		return err
	}
	if err := g.recover(gctx, writers); err != nil {
		return err
	}
	if g.store, err = state.OpenStore(state.Options{
		FS: j.opts.FS, Dir: j.opts.StateDir, Memory: j.opts.Memory, Blob: j.opts.Blob, Job: j.uid,
		Clock: j.opts.Clock, Logger: j.opts.Logger, DropState: j.opts.DropState,
	}); err != nil {
		return err
	}
	if err := g.deploy(writers); err != nil {
		return errors.Join(err, g.shutdown())
	}
	err = g.run()
	return errors.Join(err, g.shutdown())
}

// openSinks opens the writers of all exactly-once sinks.
func (j *Job) openSinks(ctx context.Context) (map[string]operators.LaneWriter, error) {
	out := map[string]operators.LaneWriter{}
	for _, s := range j.plan.Sinks {
		w, err := s.Open(ctx, j.uid, j.opts.Clock)
		if err != nil {
			return out, fmt.Errorf("sink %s: %w", s.UID, err)
		}
		out[s.UID] = w
		if c, ok := w.(interface{ Warnings() []string }); ok && !j.swept {
			for _, m := range c.Warnings() {
				j.opts.Logger.Warn("the sink's target may lose what exactly-once needs", "sink", s.UID, "warning", m)
			}
		}
	}
	return out, nil
}

func closeSinks(ws map[string]operators.LaneWriter) {
	for _, w := range ws {
		_ = w.Close() // nothing is buffered in a lane writer
	}
}

// recover claims the generation and finds what it starts from (R2 to R4).
func (g *generation) recover(ctx context.Context, writers map[string]operators.LaneWriter) error {
	j := g.job
	var err error
	if g.num, err = j.rec.ClaimGeneration(ctx, protocol.GenRecord{Term: j.term, PlanHash: planSHA(j.plan)}); err != nil {
		return err
	}
	crash.At(crash.RecAfterGen)
	var lanes []protocol.LaneID
	for _, s := range j.plan.Sinks {
		for l := range s.Lanes {
			lanes = append(lanes, protocol.LaneID{Sink: s.UID, Lane: l})
		}
	}
	rctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	g.plan, err = checkpoint.Recover(rctx, j.rec, g.num, lanes, func(ctx context.Context, id protocol.LaneID) protocol.MarkerRead {
		w := writers[id.Sink]
		if w == nil {
			err := lostSink(id)
			stop(err)
			return protocol.MarkerRead{Err: err}
		}
		m, seq, found, err := w.ReadMarker(ctx, id.Lane)
		return protocol.MarkerRead{Found: found, Marker: m, Seq: seq, Err: err}
	}, j.opts.Clock)
	if err != nil {
		if cause := context.Cause(rctx); cause != nil {
			return cause
		}
		return err
	}
	if err := g.checkPlan(); err != nil {
		return err
	}
	if !j.swept {
		j.swept = true
		if err := checkpoint.Sweep(ctx, j.rec, g.plan.Start.Record.Epoch); err != nil {
			j.opts.Logger.Warn("garbage of earlier runs could not be deleted", "error", err)
		}
	}
	return nil
}

// lostSink is the error for a sink that the checkpoint knows and the job does not.
func lostSink(id protocol.LaneID) error {
	return base.Fatal(&base.Error{
		Code: "WEIR-0385", Where: "sink " + id.Sink,
		What: "the checkpoint has output for a sink that the job no longer has",
		Next: "put the sink back under its name, or start the job under a new name",
	})
}

// checkPlan refuses a checkpoint whose sinks or states do not fit the plan.
func (g *generation) checkPlan() error {
	m := g.plan.Start.Manifest
	if m == nil {
		return nil
	}
	lanes := map[string]int{}
	for i := range m.Lanes {
		lanes[m.Lanes[i].Block.Lane.Sink]++
	}
	for _, s := range g.job.plan.Sinks {
		if n, ok := lanes[s.UID]; ok && n != s.Lanes {
			return base.Fatal(&base.Error{
				Code: "WEIR-0384", Where: "sink " + s.UID,
				What: fmt.Sprintf("the checkpoint has %d lanes and the job %d", n, s.Lanes),
				Next: "a sink keeps its number of lanes for the life of the job; set it back, or give the sink a new name",
			})
		}
	}
	changes, err := protocol.MatchSchemas(m.Schemas, schemas(g.job.plan), g.job.opts.DropState)
	if err != nil {
		return base.Fatal(err)
	}
	return checkChanges(changes)
}

// checkChanges refuses the restore of states whose types no longer fit, all of
// them at once. Fields that were added or removed fit.
func checkChanges(changes []protocol.SchemaChange) error {
	var errs []error
	for _, c := range changes {
		if err := operators.CheckSchema(c.Have.Detail, c.Want.Detail); err != nil {
			errs = append(errs, fmt.Errorf("%s/%s: %w", c.Have.Operator, c.Have.State, err))
		}
	}
	if errs == nil {
		return nil
	}
	return base.Fatal(&base.Error{
		Code: "WEIR-0306", What: "the checkpoint's state does not fit the types of the job", Cause: errors.Join(errs...),
		Where: "job and checkpoint", Next: "restore the old types, give the changed fields or states new names, or drop the states by name; nothing was started",
	})
}

// schemas lists the plan's states for the manifest.
func schemas(p *Plan) []protocol.Schema {
	var out []protocol.Schema
	for _, o := range p.Operators {
		for _, s := range o.States {
			out = append(out, protocol.Schema{
				Operator: o.UID, State: s.Name, Detail: s.Schema, Fingerprint: fmt.Sprintf("%016x", base.HashString(s.Schema)),
			})
		}
	}
	return out
}

func planSHA(p *Plan) protocol.SHA {
	return protocol.SumSHA(fmt.Appendf(nil, "%016x", p.Hash()))
}

// run runs the deployment to its end.
func (g *generation) run() error {
	j := g.job
	for _, c := range g.lanes {
		g.wg.Go(func() { c.Run(g.ctx) })
	}
	for _, r := range g.tasks {
		g.wg.Go(func() { g.runTask(r) })
	}
	g.wg.Go(g.watch)
	j.mu.Lock()
	j.gen = g
	if j.stopping {
		g.coord.Submit(protocol.StopRequested{})
	}
	j.mu.Unlock()
	crash.At(crash.RecMidReplay)
	err := g.coord.Run(g.ctx)
	j.mu.Lock()
	j.gen = nil
	j.mu.Unlock()
	return err
}

func (g *generation) runTask(r *running) {
	if err := r.task.Run(g.ctx); err != nil && g.ctx.Err() == nil {
		g.job.opts.Logger.Error("task failed", "task", r.id.String(), "error", err)
		g.fail(r.id, err)
	}
}

// fail makes the coordinator stop the generation because of a task.
func (g *generation) fail(id protocol.TaskID, err error) {
	g.coord.Report(&protocol.Message{
		Kind: protocol.KindFailed, Job: g.job.uid, Term: g.job.term, Gen: g.num, Task: id,
		Failure: protocol.FailureOf(err),
	})
}

// shutdown stops everything and waits for it.
func (g *generation) shutdown() error {
	g.stop()
	for _, r := range g.tasks {
		for _, ps := range r.ports {
			for _, p := range ps {
				p.Stop()
			}
		}
		r.mailbox.Wake()
	}
	g.wg.Wait()
	return g.store.Close()
}

func (g *generation) find(id protocol.TaskID) *running {
	for _, r := range g.tasks {
		if r.id == id {
			return r
		}
	}
	return nil
}

// taskOpened notes that a task is restored, and holds it until all are: what
// refuses the restore of one task comes before any has processed a record.
func (g *generation) taskOpened() {
	if g.open.Add(-1) == 0 {
		close(g.opened)
	}
	select {
	case <-g.opened:
	case <-g.ctx.Done():
	}
}

func (g *generation) ready() bool { return g.open.Load() == 0 }
