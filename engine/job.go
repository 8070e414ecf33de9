package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/weirflow/weir/engine/checkpoint"
	"github.com/weirflow/weir/engine/exchange"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators"
)

// Job is a running job: generation after generation of the same plan, until it
// ends, is stopped, or cannot go on.
type Job struct {
	plan *Plan
	opts Options
	uid  string
	rec  *checkpoint.Records
	term base.Term
	// ckpt outlives the generations.
	ckpt *checkpoint.Stats
	// uploads counts those under way, of any generation.
	uploads sync.WaitGroup

	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid after done

	mu       sync.Mutex
	gen      *generation // the running one, or nil
	stopping bool
	restarts []int64 // monotonic times
	total    int
	swept    bool
	lastErr  error
}

// Start begins to run a plan. It returns once the job is registered; ctx ends
// the job like a crash, Stop with a final checkpoint.
func Start(ctx context.Context, plan *Plan, opts Options) (*Job, error) {
	opts.setDefaults()
	if opts.Blob == nil {
		return nil, errors.New("engine: Options.Blob is required")
	}
	uid, err := checkpoint.JobUID(ctx, opts.Blob, plan.Job)
	if err != nil {
		return nil, err
	}
	rec := &checkpoint.Records{Blob: opts.Blob, Job: uid}
	term, err := rec.ClaimTerm(ctx, opts.Holder)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	j := &Job{
		plan: plan, opts: opts, uid: uid, rec: rec, term: term, cancel: cancel,
		done: make(chan struct{}), ckpt: &checkpoint.Stats{},
	}
	go j.supervise(ctx)
	return j, nil
}

// Run runs a plan until it ends. When ctx ends, it stops with a final checkpoint
// and returns nil if that succeeded.
func Run(ctx context.Context, plan *Plan, opts Options) error {
	j, err := Start(context.WithoutCancel(ctx), plan, opts)
	if err != nil {
		return err
	}
	defer j.cancel()
	select {
	case <-j.done:
	case <-ctx.Done():
		return j.Stop(context.WithoutCancel(ctx))
	}
	return j.err
}

// UID returns the job's UID, 32 hexadecimal digits.
func (j *Job) UID() string { return j.uid }

// Wait waits for the end of the job and returns why it ended; nil for the end of
// input or a stop with a final checkpoint.
func (j *Job) Wait() error {
	<-j.done
	return j.err
}

// Done is closed when the job has ended.
func (j *Job) Done() <-chan struct{} { return j.done }

// Kill ends the job like a crash: nothing is flushed, nothing is committed.
func (j *Job) Kill() {
	j.cancel()
	<-j.done
}

// Stop ends the job with a final checkpoint that is committed in every sink. If
// ctx ends first, the job ends like in a crash and ctx's error is returned.
func (j *Job) Stop(ctx context.Context) error {
	j.mu.Lock()
	j.stopping = true
	if j.gen != nil {
		j.gen.coord.Submit(protocol.StopRequested{})
	}
	j.mu.Unlock()
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		j.Kill()
		return ctx.Err()
	}
}

// Checkpoint makes an epoch that covers everything processed before the call and
// waits until every sink has committed it.
func (j *Job) Checkpoint(ctx context.Context) error {
	for {
		g := j.running()
		if g == nil {
			select {
			case <-j.done:
				return errors.Join(errors.New("the job has ended"), j.err)
			case <-ctx.Done():
				return ctx.Err()
			default:
			}
			if err := j.opts.Clock.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
			continue
		}
		return g.coord.Checkpoint(ctx)
	}
}

func (j *Job) running() *generation {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.gen
}

// Call runs f on the goroutine of a subtask, between two batches, and waits for
// it. It is how state is read while the job runs.
func (j *Job) Call(ctx context.Context, task string, index int, f func(*operators.Subtask)) error {
	g := j.running()
	if g == nil {
		return &base.Error{Code: "WEIR-0710", What: "the job is not running", Next: "try again when it is"}
	}
	r := g.find(protocol.TaskID{Operator: task, Index: index})
	if r == nil {
		return &base.Error{Code: "WEIR-0711", What: fmt.Sprintf("the job has no task %s/%d", task, index)}
	}
	done := make(chan struct{})
	r.mailbox.Put(exchange.Message{Kind: exchange.Call, Call: func() {
		f(r.sub)
		close(done)
	}})
	select {
	case <-done:
		return nil
	case <-g.ctx.Done():
		return &base.Error{Code: "WEIR-0710", What: "the job restarted", Next: "try again"}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// supervise runs generations until one ends for good.
func (j *Job) supervise(ctx context.Context) {
	defer close(j.done)
	defer j.awaitUploads()
	defer j.cancel()
	for {
		err := j.generation(ctx)
		if ctx.Err() != nil {
			j.err = context.Cause(ctx)
			return
		}
		if err == nil {
			return
		}
		if final := j.giveUp(err); final != nil {
			j.err = final
			return
		}
		d := j.backoff()
		j.opts.Logger.Warn("the job restarts", "cause", err, "in", d, "restarts", j.total)
		if j.opts.Clock.Sleep(ctx, d) != nil {
			j.err = context.Cause(ctx)
			return
		}
	}
}

// uploadPatience is how long a job that has ended waits for uploads that its tasks
// left behind.
const uploadPatience = 10 * time.Second

// awaitUploads lets uploads end, so that nothing writes to the checkpoint store once
// the job has ended, unless the store hangs.
func (j *Job) awaitUploads() {
	settled := make(chan struct{})
	go func() {
		j.uploads.Wait()
		close(settled)
	}()
	timer := j.opts.Clock.NewTimer(uploadPatience)
	defer timer.Stop()
	select {
	case <-settled:
	case <-timer.C():
		j.opts.Logger.Warn("the checkpoint store does not take an object; the job ends without waiting for it")
	}
}

// giveUp returns the error to end with, or nil to restart.
func (j *Job) giveUp(err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lastErr = err
	if errors.Is(err, base.ErrFatal) || errors.Is(err, checkpoint.ErrSuperseded) || errors.Is(err, operators.ErrSuperseded) || j.opts.MaxRestarts < 0 {
		return err
	}
	now := j.opts.Clock.Mono()
	j.total++
	j.restarts = append(j.restarts, now)
	for len(j.restarts) > 0 && now-j.restarts[0] > int64(j.opts.RestartWindow) {
		j.restarts = j.restarts[1:]
	}
	if len(j.restarts) > j.opts.MaxRestarts {
		return &base.Error{
			Code: "WEIR-0703", What: fmt.Sprintf("the job failed %d times within %v", len(j.restarts), j.opts.RestartWindow),
			Where: "job " + j.plan.Job, Cause: err,
			Next: "mend the cause and start the job again; it goes on from its last checkpoint",
		}
	}
	return nil
}

// Back-off between restarts doubles from backoffMin to backoffMax.
const (
	backoffMin = 500 * time.Millisecond
	backoffMax = 30 * time.Second
)

// backoff returns how long to wait before the next generation: exponential in
// the recent restarts, with a jitter of a fifth.
func (j *Job) backoff() time.Duration {
	d := min(backoffMin<<min(len(j.restarts)-1, 6), backoffMax)
	return d - d/10 + rand.N(d/5+1)
}

// Restarts returns how often the job restarted, and why it did last.
func (j *Job) Restarts() (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.total, j.lastErr
}

// Ready reports whether a generation runs with all its tasks restored.
func (j *Job) Ready() bool {
	g := j.running()
	return g != nil && g.ready()
}
