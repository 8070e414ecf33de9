package engine

import (
	"context"
	"runtime"
	"time"

	"github.com/weirflow/weir/engine/exchange"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
)

// settleLimit bounds the time that Settle waits for calls of models.
const settleLimit = 20 * time.Second

// Settle waits until the subtasks of the job have nothing left to do, so that a
// test can take the next step, and returns the processing time at which one has
// something to do by itself: base.MaxTime for never. It means something only
// while nobody else gives them work: every source has handed over what it has,
// the clock stands still, and no checkpoint is under way. It fails when the job
// ends first, with the reason for its end if there is one.
//
// It goes through the subtasks in the order of the data flow. A call that went
// through a mailbox has everything before it behind it, and a subtask that waits
// again afterwards has handed on whatever came of that. No subtask upstream can
// be woken any more, so the next one is looked at only after its last message
// was put.
func (j *Job) Settle(ctx context.Context) (due base.Timestamp, err error) {
	g, err := j.deployed(ctx)
	if err != nil {
		return 0, err
	}
	due = base.MaxTime
	limit, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	called := make(chan base.Timestamp, 1)
	for _, r := range g.tasks {
		r.mailbox.Put(exchange.Message{Kind: exchange.Call, Call: func() { called <- dueOf(r.sub) }})
		select {
		case d := <-called:
			due = min(due, d)
		case <-g.ctx.Done():
			return 0, j.ended(ctx)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		// Busy comes first: when the last answer was taken, the turn that took it is
		// still to end.
		for r.sub.Busy() || !r.mailbox.Waiting() || r.mailbox.Len() > 0 {
			if r.sub.Busy() && limit.Err() != nil {
				return 0, base.Fatal(&base.Error{
					Code: "WEIR-0730", What: "a call of a model has not returned, so that the job does not come to rest", Where: "task " + r.id.String(),
					Next: "let clients of models in tests return by themselves; one that waits for the test's clock waits for ever",
				})
			}
			if g.ctx.Err() != nil {
				return 0, j.ended(ctx)
			}
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			runtime.Gosched()
		}
	}
	return due, nil
}

// dueOf fires what is due in a subtask and returns when something is next. The
// subtask keeps its errors.
func dueOf(s *operators.Subtask) base.Timestamp {
	due, err := s.ProcessingTime(s.Env.Clock.Now())
	if err == nil && s.HasSource() {
		var st operators.SourceStatus
		st, _ = s.Poll()
		due = min(due, st.Due)
	}
	return due
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
