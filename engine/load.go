package engine

import "github.com/weirflow/weir/internal/base"

// Load is how a subtask spent an interval, in shares of it. Busy, Idle and
// Backpressured add up to 1, less a turn that is under way; Sink is the part of
// Backpressured that it waited for the target of one of its sinks.
type Load struct {
	Task                            string
	Index                           int
	Busy, Idle, Backpressured, Sink float64
}

// Meter measures the loads of a job's subtasks between its readings. It is used by
// one goroutine.
type Meter struct {
	job  *Job
	at   int64
	last map[*base.TaskStats][4]int64
}

// NewMeter returns a meter that measures from now on.
func NewMeter(j *Job) *Meter {
	m := &Meter{job: j}
	m.Read()
	return m
}

// Read returns the loads since the last reading. Subtasks that were deployed
// meanwhile count from their start; between two deployments there are none.
func (m *Meter) Read() []Load {
	now := m.job.opts.Clock.Mono()
	span := max(float64(now-m.at), 1)
	next := map[*base.TaskStats][4]int64{}
	var out []Load
	for _, t := range m.job.Tasks() {
		s := t.Stats
		v := [4]int64{s.BusyNanos.Load(), s.IdleNanos.Load(), s.BackpressuredNanos.Load(), s.SinkNanos.Load()}
		was := m.last[s]
		next[s] = v
		share := func(i int) float64 { return min(float64(v[i]-was[i])/span, 1) }
		out = append(out, Load{Task: t.Task, Index: t.Index, Busy: share(0), Idle: share(1), Backpressured: share(2), Sink: share(3)})
	}
	m.at, m.last = now, next
	return out
}

// Shares from which on a subtask counts as held up, and as working without pause.
const (
	heldUp  = 0.1
	atLimit = 0.9
)

// Bottleneck names the task that holds the job up: one that waits for the target of
// its sink, which sink then says; else the busiest one that waits for nobody and
// that others wait for; else a source that works without pause. "" is for none.
func (p *Plan) Bottleneck(loads []Load) (task string, sink bool) {
	worst := make([]Load, len(p.Tasks)) // the most delayed and the busiest subtask
	for i := range p.Tasks {
		for _, l := range loads {
			if l.Task == p.Tasks[i].UID {
				w := &worst[i]
				w.Busy, w.Backpressured, w.Sink = max(w.Busy, l.Busy), max(w.Backpressured, l.Backpressured), max(w.Sink, l.Sink)
			}
		}
	}
	at := -1
	for i := range worst {
		if worst[i].Sink >= heldUp && (at < 0 || worst[i].Sink > worst[at].Sink) {
			at = i
		}
	}
	if at >= 0 {
		return p.Tasks[at].UID, true
	}
	for i := range worst {
		delays := false
		for _, e := range p.Tasks[i].In {
			delays = delays || worst[p.Edges[e].From].Backpressured >= heldUp
		}
		if delays && worst[i].Backpressured < heldUp && (at < 0 || worst[i].Busy > worst[at].Busy) {
			at = i
		}
	}
	for i := range worst {
		if at < 0 && p.Tasks[i].Source && worst[i].Busy >= atLimit {
			at = i
		}
	}
	if at < 0 {
		return "", false
	}
	return p.Tasks[at].UID, false
}
