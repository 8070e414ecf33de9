package weir

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/engine/checkpoint"
	"github.com/weirflow/weir/internal/base"
)

const (
	// progressEvery is the time between two lines.
	progressEvery = 5 * time.Second
	// sampleEvery is how often a line's interval is looked at to see which
	// operators of a fused chain the time goes to.
	sampleEvery = 100 * time.Millisecond
)

// say writes one line of progress.
func (r *runner) say(text string) {
	if r.opts.Progress != nil {
		fmt.Fprintf(r.opts.Progress, "%s: %s\n", r.spec.name, text)
	}
}

// reportProgress writes lines until the returned function is called with the
// job's error, which writes the last one.
func (r *runner) reportProgress(j *engine.Job) (stop func(error)) {
	if r.opts.Progress == nil {
		return func(error) {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := newProgress(r.plan)
		p.observe(r.reading(j))
		for next := r.clk.Mono() + int64(progressEvery); r.clk.Sleep(ctx, sampleEvery) == nil; {
			p.sample(j.Tasks())
			if r.clk.Mono() >= next {
				next += int64(progressEvery)
				r.say(p.line(r.reading(j)))
			}
		}
	}()
	return func(err error) {
		cancel()
		<-done
		f := j.Checkpoints()
		switch {
		case err != nil:
			r.say("stopped by an error")
		case f.LastEpoch > 0:
			r.say(fmt.Sprintf("done; checkpoint %d took %s; run again to go on from there", f.LastEpoch, formatDuration(f.LastNanos)))
		default:
			r.say("done")
		}
	}
}

// reading is what a job's counters say at one moment.
type reading struct {
	mono, wall int64
	phase      engine.Phase
	restarts   int
	cause      error
	limit      int
	ckpt       checkpoint.Figures
	tasks      []taskReading // in the order of the plan
}

// taskReading adds up the subtasks of a task.
type taskReading struct {
	in, out, late, bad int64
	// watermark is the least of the subtasks', or base.MaxTime when none has one.
	watermark base.Timestamp
	subs      []subReading
}

type subReading struct{ busy, back, turn int64 }

func (r *runner) reading(j *engine.Job) reading {
	restarts, cause := j.Restarts()
	rd := reading{
		mono: r.clk.Mono(), wall: r.clk.Now(), phase: j.Phase(), restarts: restarts, cause: cause,
		limit: j.Limits().Uncommitted, ckpt: j.Checkpoints(),
	}
	return readTasks(rd, r.plan, j.Tasks())
}

func readTasks(rd reading, plan *engine.Plan, infos []engine.TaskInfo) reading {
	rd.tasks = make([]taskReading, len(plan.Tasks))
	index := map[string]int{}
	for i := range plan.Tasks {
		index[plan.Tasks[i].UID] = i
		rd.tasks[i].watermark = base.MaxTime
	}
	for _, t := range infos {
		tr := &rd.tasks[index[t.Task]]
		s := t.Stats
		tr.in += s.RecordsIn.Load()
		tr.out += s.RecordsOut.Load()
		tr.late += s.LateRecords.Load()
		tr.bad += s.BadRecords.Load()
		if w := s.Watermark.Load(); w != base.MinTime {
			tr.watermark = min(tr.watermark, w)
		}
		sub := subReading{busy: s.BusyNanos.Load(), back: s.BackpressuredNanos.Load()}
		if start := s.TurnStart.Load(); start > 0 {
			sub.turn = rd.mono - start
		}
		tr.subs = append(tr.subs, sub)
	}
	return rd
}

// progress turns readings into lines.
type progress struct {
	plan *engine.Plan
	last reading
	// at counts, by task and operator, the samples that found it at work.
	at []map[string]int
}

func newProgress(plan *engine.Plan) *progress {
	p := &progress{plan: plan, at: make([]map[string]int, len(plan.Tasks))}
	p.forget()
	return p
}

func (p *progress) forget() {
	for i := range p.at {
		p.at[i] = map[string]int{}
	}
}

func (p *progress) observe(rd reading) {
	p.last = rd
	p.forget()
}

// sample notes which operators have a record in hand.
func (p *progress) sample(tasks []engine.TaskInfo) {
	for _, t := range tasks {
		if t.Waiting {
			continue
		}
		for i := range p.plan.Tasks {
			if p.plan.Tasks[i].UID == t.Task {
				p.at[i][t.Current]++
			}
		}
	}
}

// line describes what happened since the last reading.
func (p *progress) line(now reading) string {
	defer p.observe(now)
	switch now.phase {
	case engine.Restoring:
		return "restoring"
	case engine.Restarting:
		return fmt.Sprintf("restarting for the %s time after: %v", ordinal(now.restarts), now.cause)
	}
	secs := max(float64(now.mono-p.last.mono)/1e9, 1e-9)
	var in, out, late, bad int64
	watermark := base.MaxTime
	for i := range now.tasks {
		was := p.before(i, now)
		t := &now.tasks[i]
		if p.plan.Tasks[i].Source {
			in += t.in - was.in
		}
		out += t.out - was.out
		late += t.late - was.late
		bad += t.bad - was.bad
		watermark = min(watermark, t.watermark)
	}
	parts := []string{formatRate(float64(in)/secs) + " rec/s in", formatRate(float64(out)/secs) + " out"}
	if watermark != base.MaxTime {
		parts = append(parts, "watermark lag "+formatDuration(now.wall-watermark))
	}
	parts = append(parts, checkpointPart(now))
	if late > 0 {
		parts = append(parts, formatCount(late)+" late")
	}
	if bad > 0 {
		parts = append(parts, formatCount(bad)+" bad")
	}
	parts = append(parts, p.loadPart(now)...)
	parts = append(parts, "restarts "+strconv.Itoa(now.restarts))
	return strings.Join(parts, " · ")
}

// before returns the last reading of a task, or zeros when the task was deployed
// anew since.
func (p *progress) before(i int, now reading) taskReading {
	var was taskReading
	if i < len(p.last.tasks) {
		was = p.last.tasks[i]
	}
	if t := &now.tasks[i]; len(was.subs) != len(t.subs) || t.in < was.in || t.out < was.out || now.restarts != p.last.restarts {
		return taskReading{subs: make([]subReading, len(t.subs))}
	}
	return was
}

func checkpointPart(now reading) string {
	f := &now.ckpt
	if f.LastEpoch == 0 {
		return "no checkpoint yet"
	}
	s := fmt.Sprintf("checkpoint %d in %s, %s", f.LastEpoch, formatDuration(f.LastNanos), formatBytes(f.NewBytes))
	if age := now.wall - f.LastAt; age > int64(progressEvery) {
		s += ", " + formatDuration(age) + " ago"
	}
	return s
}

// load is how a task spent the interval, as shares of it: those of its busiest
// and of its most delayed subtask.
type load struct{ busy, back float64 }

func (p *progress) loads(now reading) []load {
	span := max(float64(now.mono-p.last.mono), 1)
	out := make([]load, len(now.tasks))
	for i := range now.tasks {
		was := p.before(i, now)
		for k, s := range now.tasks[i].subs {
			busy, back := float64(s.busy-was.subs[k].busy), float64(s.back-was.subs[k].back)
			// A turn that has not ended is not counted yet. Without outputs
			// nothing can hold it up but its own work.
			if len(p.plan.Tasks[i].Out) == 0 && float64(s.turn) > busy {
				busy = float64(s.turn)
			}
			out[i].busy = max(out[i].busy, min(busy/span, 1))
			out[i].back = max(out[i].back, min(back/span, 1))
		}
	}
	return out
}

// Shares of the time from which on a task counts as slowed down by a receiver,
// and as working without pause.
const (
	heldUp   = 0.1
	atLimit  = 0.9
	busyness = 0.01
)

// loadPart names the busiest operator, and the bottleneck if there is one.
func (p *progress) loadPart(now reading) []string {
	loads := p.loads(now)
	busiest := 0
	for i := range loads {
		if loads[i].busy > loads[busiest].busy {
			busiest = i
		}
	}
	if loads[busiest].busy < busyness {
		return []string{"idle"}
	}
	parts := []string{fmt.Sprintf("busiest %s %s", p.operator(busiest), percent(loads[busiest].busy))}
	if b := p.bottleneck(now, loads); b != "" {
		parts = append(parts, "bottleneck "+b)
	}
	return parts
}

// bottleneck says in words what holds the job up: sinks that do not keep up with
// publishing, the busiest task that others wait for and that waits for nobody, or
// a source chain that is at its limit itself.
func (p *progress) bottleneck(now reading, loads []load) string {
	if n := now.ckpt.Uncommitted; n > 2 {
		return fmt.Sprintf("the sinks: %d checkpoints of at most %d wait to be published", n, now.limit)
	}
	worst, waits := -1, ""
	for i := range loads {
		if loads[i].back >= heldUp {
			continue
		}
		sender := p.delayedSender(i, loads)
		if sender >= 0 && (worst < 0 || loads[i].busy > loads[worst].busy) {
			worst, waits = i, fmt.Sprintf("; %s waits for it %s of the time", p.plan.Tasks[sender].UID, percent(loads[sender].back))
		}
	}
	if worst >= 0 {
		return p.operator(worst) + waits
	}
	for i := range loads {
		if p.plan.Tasks[i].Source && loads[i].busy >= atLimit {
			return p.operator(i)
		}
	}
	return ""
}

// delayedSender returns the task that waits most for task i, or -1.
func (p *progress) delayedSender(i int, loads []load) int {
	sender := -1
	for _, e := range p.plan.Tasks[i].In {
		if from := p.plan.Edges[e].From; loads[from].back >= heldUp && (sender < 0 || loads[from].back > loads[sender].back) {
			sender = from
		}
	}
	return sender
}

// operator names the operator of a task that was found at work most often.
func (p *progress) operator(task int) string {
	uid, best := p.plan.Tasks[task].UID, 0
	for op, n := range p.at[task] {
		if n > best || n == best && op < uid {
			uid, best = op, n
		}
	}
	if head := p.plan.Tasks[task].UID; uid != head {
		return uid + " in " + head
	}
	return uid
}

func percent(share float64) string { return strconv.Itoa(int(math.Round(share*100))) + " %" }
