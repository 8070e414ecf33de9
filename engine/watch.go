package engine

import (
	"runtime"
	"strings"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
)

// watchEvery is how often the watchdog looks.
const watchEvery = time.Second

// watch complains, once per turn, about a task that does not come back from a
// function of the job.
func (g *generation) watch() {
	opts := &g.job.opts
	told := map[protocol.TaskID]int64{}
	for opts.Clock.Sleep(g.ctx, min(watchEvery, opts.StuckAfter/4)) == nil {
		now := opts.Clock.Mono()
		for _, r := range g.tasks {
			start := r.stats.TurnStart.Load()
			if start == 0 || now-start < int64(opts.StuckAfter) || told[r.id] == start {
				continue
			}
			told[r.id] = start
			opts.Logger.Error("an operator is stuck", "task", r.id.String(), "operator", r.sub.Current(),
				"for", time.Duration(now-start).Round(time.Second).String(), "stacks", stacks())
		}
	}
}

// maxStack bounds the stack dump of the watchdog in bytes.
const maxStack = 256 << 10

// stacks returns the stacks of goroutines that run task turns.
func stacks() string {
	buf := make([]byte, maxStack)
	buf = buf[:runtime.Stack(buf, true)]
	var out []string
	for s := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(s, "engine/task.(*Task).turn") {
			out = append(out, s)
		}
	}
	return strings.Join(out, "\n\n")
}

// TaskInfo describes a subtask of the running generation.
type TaskInfo struct {
	// Task is the task's UID, Index the subtask.
	Task  string
	Index int
	// Operators lists the operators of the chain.
	Operators []string
	Stats     *base.TaskStats
	// Queued is the number of messages in the mailbox; Waiting says that the
	// task has nothing to do.
	Queued  int
	Waiting bool
	// Current is the operator of the chain that has the record in hand, or had
	// it last: a sample, for profiles.
	Current string
}

// Tasks lists the subtasks of the running generation; none between two.
func (j *Job) Tasks() []TaskInfo {
	g := j.running()
	if g == nil {
		return nil
	}
	out := make([]TaskInfo, 0, len(g.tasks))
	for _, r := range g.tasks {
		out = append(out, TaskInfo{
			Task: r.id.Operator, Index: r.id.Index, Operators: r.sub.Operators(), Stats: r.stats,
			Queued: r.mailbox.Len(), Waiting: r.mailbox.Waiting(),
			Current: r.sub.Current(),
		})
	}
	return out
}
