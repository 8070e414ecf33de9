package protocol

import (
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// CoordinatorConfig describes the deployment that a Coordinator drives. Times
// are nanoseconds on any monotonic clock.
type CoordinatorConfig struct {
	Job      string
	Term     base.Term
	Gen      base.Generation
	PlanHash SHA
	// Tasks lists every task, in any order.
	Tasks []TaskSlot
	// Lanes lists every sink lane, in any order.
	Lanes []LaneID
	// Schemas goes into every manifest.
	Schemas []Schema
	// Interval is the time from the start of one epoch to the start of the
	// next. 0 starts an epoch whenever something moved.
	Interval int64
	// Timeout aborts an attempt that has not all acks and its manifest written
	// by then. 0 never does.
	Timeout int64
	// RetryDelay is the pause before a failed attempt or store access is
	// repeated. 0 repeats at once.
	RetryDelay int64
	// MaxUncommitted is the number of durable epochs that may wait for a sink;
	// while that many do, no epoch starts. At least 1.
	MaxUncommitted int
	// AlarmAfter is the number of failed attempts in a row that raise an Alarm,
	// again at every multiple. At least 1.
	AlarmAfter int
}

// TaskSlot is one task of a deployment.
type TaskSlot struct {
	Task TaskID
	// Gen is the generation under which the task runs: that of the deployment,
	// or a lower one when it was kept from an earlier deployment.
	Gen base.Generation
	// Source says that the task has no inputs: it gets triggers instead of
	// barriers.
	Source bool
}

// Start is where a Coordinator goes on from; the zero value is a new job.
type Start struct {
	// Record is the newest durable epoch, RecordSHA the sum of its encoding and
	// Manifest its manifest.
	Record    EpochRecord
	RecordSHA SHA
	Manifest  *Manifest
	// Uncommitted lists, ascending, the durable epochs that some lane has not
	// committed yet, with those lanes only (RecoveryPlan.Uncommitted).
	Uncommitted []Uncommitted
	// Abort and Finished are set when a running generation is adopted: open
	// tries of the coordinator before, and sources that have ended (Adoption).
	Abort    []Try
	Finished []TaskID
}

// Uncommitted is a durable epoch that still has to be committed in some lanes.
type Uncommitted struct {
	Try      Try
	Complete Complete
}

// Coordinator is the checkpoint coordinator of one generation (C1-C10), as a
// pure step function: facts in, actions out. It is owned by one goroutine. Time
// is a parameter of every step; NextWake says when the next Tick is of use.
//
// The actions of one step are carried out in order. Messages are sent in order
// to each task, and a connection that loses one is closed.
type Coordinator struct {
	cfg    CoordinatorConfig
	groups []sendGroup

	// The newest durable epoch.
	tip    EpochRecord
	tipSHA SHA
	prev   *Manifest // nil when none
	lanes  []laneTrack

	// The open attempt; valid unless phase is idle.
	phase       phase
	try         Try
	counter     uint32
	acks        []*Ack // parallel to cfg.Tasks
	missing     int
	startedAt   int64
	final       Final
	controls    int // leading events of control that the attempt carries
	manifest    *Manifest
	manifestSHA SHA
	record      EpochRecord
	recordBody  []byte
	// retryAt repeats the claim or the fence read; valid while retry.
	retryAt int64
	retry   bool

	// When to start the next one.
	lastStart int64
	notBefore int64
	moved     bool // something happened that no epoch covers
	due       bool // asked for, whatever the interval
	begun     bool // an epoch was started in this run
	want      Final
	control   []ControlEvent
	failures  int

	finished    []bool // sources, parallel to cfg.Tasks
	doneThrough base.Epoch
	// finalDurable says that this run's last epoch is durable; endSent that it
	// is committed as well and FinalDone was issued.
	finalDurable bool
	endSent      bool
	stopped      bool
}

type phase uint8

const (
	phaseIdle       phase = iota
	phaseCollecting       // triggered, acks are missing
	phaseWriting          // the manifest is being written
	phaseClaiming         // the record is being created; no way back
	phaseVerifying        // the record exists; checking that we were still entitled
)

// laneTrack is what the coordinator knows of one lane.
type laneTrack struct {
	id        LaneID
	tip       MarkerID // the marker after every durable epoch is committed
	total     uint64
	pending   []base.Epoch // durable epochs with a block, not committed yet
	committed base.Epoch
}

// sendGroup is the tasks of one generation; messages carry the task's.
type sendGroup struct {
	gen          base.Generation
	all, sources []TaskID
}

// NewCoordinator returns the coordinator of a generation whose tasks were
// deployed from, or continue from, start, and its first actions: open tries of
// an earlier coordinator are given up, and the news of durable epochs is
// repeated until every lane has committed them. now is the current time.
func NewCoordinator(cfg CoordinatorConfig, start Start, now int64) (*Coordinator, []Action) {
	cfg.Tasks = slices.Clone(cfg.Tasks)
	slices.SortFunc(cfg.Tasks, func(a, b TaskSlot) int { return order(a.Task.Less(b.Task)) })
	cfg.Lanes = slices.Clone(cfg.Lanes)
	slices.SortFunc(cfg.Lanes, func(a, b LaneID) int { return order(a.Less(b)) })
	cfg.Schemas = slices.Clone(cfg.Schemas)
	slices.SortFunc(cfg.Schemas, func(a, b Schema) int {
		return order(a.Operator < b.Operator || a.Operator == b.Operator && a.State < b.State)
	})
	cfg.MaxUncommitted, cfg.AlarmAfter = max(cfg.MaxUncommitted, 1), max(cfg.AlarmAfter, 1)
	c := &Coordinator{
		cfg: cfg, tip: start.Record, tipSHA: start.RecordSHA, prev: start.Manifest,
		acks: make([]*Ack, len(cfg.Tasks)), finished: make([]bool, len(cfg.Tasks)), lastStart: now,
	}
	for _, t := range cfg.Tasks {
		i := slices.IndexFunc(c.groups, func(g sendGroup) bool { return g.gen == t.Gen })
		if i < 0 {
			i = len(c.groups)
			c.groups = append(c.groups, sendGroup{gen: t.Gen})
		}
		c.groups[i].all = append(c.groups[i].all, t.Task)
		if t.Source {
			c.groups[i].sources = append(c.groups[i].sources, t.Task)
		}
	}
	for _, id := range cfg.Lanes {
		c.lanes = append(c.lanes, newLaneTrack(id, &start))
	}
	c.doneThrough = c.committedThrough()
	if m := start.Manifest; m != nil {
		// Only an adopted generation goes on from its own final epoch.
		c.finalDurable = m.Final != NotFinal && m.Gen == cfg.Gen
	}
	for i, t := range c.cfg.Tasks {
		if slices.Contains(start.Finished, t.Task) {
			c.onTaskFinished(TaskFinished{t.Task, c.cfg.Tasks[i].Gen})
		}
	}
	return c, c.opening(&start)
}

// opening returns the first actions.
func (c *Coordinator) opening(start *Start) []Action {
	var acts []Action
	for _, t := range start.Abort {
		acts = c.sendAbort(acts, t, "the coordinator changed")
	}
	for i := range start.Uncommitted {
		u := &start.Uncommitted[i]
		acts = c.sendComplete(acts, u.Try, &u.Complete)
	}
	return c.finishRun(acts)
}

func order(less bool) int {
	if less {
		return -1
	}
	return 1
}

func newLaneTrack(id LaneID, start *Start) laneTrack {
	l := laneTrack{id: id}
	if start.Manifest == nil {
		return l
	}
	for i := range start.Manifest.Lanes {
		if s := &start.Manifest.Lanes[i]; s.Block.Lane == id {
			l.tip, l.total = s.End(start.Record.Epoch, start.Record.Manifest)
		}
	}
	l.committed = l.tip.Epoch
	for _, u := range start.Uncommitted {
		for i := range u.Complete.Lanes {
			if s := &u.Complete.Lanes[i]; s.Block.Lane == id {
				if len(l.pending) == 0 {
					l.committed = s.Pred.Epoch
				}
				l.pending = append(l.pending, u.Try.Epoch)
			}
		}
	}
	return l
}

// Tip returns the newest epoch this coordinator knows to be durable; the zero
// record when there is none.
func (c *Coordinator) Tip() EpochRecord { return c.tip }

// Uncommitted returns how many durable epochs wait for a lane.
func (c *Coordinator) Uncommitted() int { return int(c.tip.Epoch - c.committedThrough()) }

// Stopped reports whether the coordinator has stopped or resigned; it then
// ignores every event.
func (c *Coordinator) Stopped() bool { return c.stopped }

// Open returns the open attempt, if any.
func (c *Coordinator) Open() (Try, bool) { return c.try, c.phase != phaseIdle }

// committedThrough returns the newest epoch up to which every lane has committed.
func (c *Coordinator) committedThrough() base.Epoch {
	n := c.tip.Epoch
	for i := range c.lanes {
		if p := c.lanes[i].pending; len(p) > 0 {
			n = min(n, p[0]-1)
		}
	}
	return n
}

// NextWake returns the time at which a Tick is of use; ok is false when only an
// event can change anything.
func (c *Coordinator) NextWake() (at int64, ok bool) {
	switch {
	case c.stopped:
	case c.retry:
		return c.retryAt, true
	case c.phase == phaseIdle:
		return c.startTime()
	case c.phase <= phaseWriting && c.cfg.Timeout > 0:
		return base.AddTime(c.startedAt, c.cfg.Timeout), true
	}
	return 0, false
}

// startTime returns when the next epoch may start; ok is false when there is no
// reason to start one, or too many wait for their commit.
func (c *Coordinator) startTime() (at int64, ok bool) {
	switch {
	case c.stopped || c.finalDurable || c.Uncommitted() >= c.cfg.MaxUncommitted:
		return 0, false
	case c.want != NotFinal || c.due:
		return c.notBefore, true
	case c.moved || len(c.control) > 0:
		return max(c.notBefore, base.AddTime(c.lastStart, c.cfg.Interval)), true
	}
	return 0, false
}
