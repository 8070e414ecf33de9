package engine

import (
	"context"
	"runtime"

	"github.com/weirflow/weir/engine/exchange"
	"github.com/weirflow/weir/internal/base"
)

// Settle waits until the subtasks of the job have nothing left to do, so that a
// test can take the next step. It means something only while nobody else gives
// them work: every source has handed over what it has, the clock stands still,
// and no checkpoint is under way. It fails when the job ends first, with the
// reason for its end if there is one.
//
// It goes through the subtasks in the order of the data flow. A call that went
// through a mailbox has everything before it behind it, and a subtask that waits
// again afterwards has handed on whatever came of that. No subtask upstream can
// be woken any more, so the next one is looked at only after its last message
// was put.
func (j *Job) Settle(ctx context.Context) error {
	g, err := j.deployed(ctx)
	if err != nil {
		return err
	}
	called := make(chan struct{}, 1)
	for _, r := range g.tasks {
		r.mailbox.Put(exchange.Message{Kind: exchange.Call, Call: func() { called <- struct{}{} }})
		select {
		case <-called:
		case <-g.ctx.Done():
			return j.ended(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
		for !r.mailbox.Waiting() || r.mailbox.Len() > 0 {
			if g.ctx.Err() != nil {
				return j.ended(ctx)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			runtime.Gosched()
		}
	}
	return nil
}

// deployed waits for a running generation.
func (j *Job) deployed(ctx context.Context) (*generation, error) {
	for {
		if g := j.running(); g != nil {
			return g, nil
		}
		select {
		case <-j.done:
			return nil, j.ended(ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		default:
			runtime.Gosched()
		}
	}
}

// ended waits for the end of the job, unless it restarts, and says why it came.
func (j *Job) ended(ctx context.Context) error {
	if j.opts.MaxRestarts >= 0 {
		_, err := j.Restarts()
		return &base.Error{Code: "WEIR-0710", What: "the job restarted or ended", Cause: err}
	}
	select {
	case <-j.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if j.err != nil {
		return j.err
	}
	return &base.Error{Code: "WEIR-0710", What: "the job has ended"}
}
