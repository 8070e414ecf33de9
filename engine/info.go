package engine

import (
	"github.com/weirflow/weir/engine/checkpoint"
	"github.com/weirflow/weir/state"
)

// Phase is what a job is doing.
type Phase uint8

const (
	// Restoring: a deployment is being made, or reads its state back.
	Restoring Phase = iota
	// Running: every task is restored and works.
	Running
	// Restarting: a deployment has failed and the next one is awaited.
	Restarting
	// Ended: the job has ended, for whatever reason.
	Ended
)

// Phases lists all phases.
var Phases = [...]Phase{Restoring, Running, Restarting, Ended}

// String returns the phase's name, such as "running".
func (p Phase) String() string {
	return [...]string{"restoring", "running", "restarting", "ended"}[p]
}

// Phase returns what the job is doing; from any goroutine.
func (j *Job) Phase() Phase {
	select {
	case <-j.done:
		return Ended
	default:
	}
	j.mu.Lock()
	g, failed := j.gen, j.lastErr != nil
	j.mu.Unlock()
	switch {
	case g != nil && g.ready():
		return Running
	case g == nil && failed:
		return Restarting
	}
	return Restoring
}

// Checkpoints returns the figures of the job's checkpoints as they are now.
func (j *Job) Checkpoints() checkpoint.Figures { return j.ckpt.Read() }

// CommitQuantile returns the q-quantile of the time, in nanoseconds, that the last
// epochs took from durable to committed in every sink.
func (j *Job) CommitQuantile(q float64) int64 { return j.ckpt.CommitQuantile(q) }

// Plan returns the plan that the job runs.
func (j *Job) Plan() *Plan { return j.plan }

// Limits are the bounds that a job keeps.
type Limits struct {
	// Memory bounds keyed state in memory, in bytes.
	Memory int64
	// Uncommitted is the number of durable epochs that may wait for a sink.
	Uncommitted int
	// Staged is the number of bytes of output that may wait in memory for a durable
	// epoch before sources pause.
	Staged int64
	// Restarts within the restart window end the job; -1 when it never restarts.
	Restarts int
}

// Limits returns the bounds that the job keeps.
func (j *Job) Limits() Limits {
	return Limits{
		Memory: j.opts.Memory, Uncommitted: j.opts.MaxUncommitted, Staged: j.opts.staged(), Restarts: max(j.opts.MaxRestarts, -1),
	}
}

// Staged returns how many bytes of output wait in memory for a durable epoch.
func (j *Job) Staged() int64 {
	if g := j.running(); g != nil {
		return g.staged.Load()
	}
	return 0
}

// State returns the figures of the job's keyed state; zero ones while it restarts.
func (j *Job) State() state.Figures {
	if g := j.running(); g != nil {
		return g.store.Figures()
	}
	return state.Figures{}
}
