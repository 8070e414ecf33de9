package weir

import (
	"cmp"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/engine/checkpoint"
	"github.com/weirflow/weir/internal/base"
)

// chainPlan is events → by-user → out, with a parallelism of 2 in the middle.
func chainPlan() *engine.Plan {
	return &engine.Plan{
		Job: "shop",
		Tasks: []engine.Task{
			{UID: "events", Source: true, Parallelism: 1, Out: []int{0}},
			{UID: "by-user", Parallelism: 2, In: []int{0}, Out: []int{1}},
			{UID: "out", Parallelism: 1, In: []int{1}},
		},
		Edges: []engine.Edge{{From: 0, To: 1}, {From: 1, To: 2}},
	}
}

// work is what one subtask did in an interval of ten seconds.
type work struct {
	task       string
	index      int
	in, out    int64
	busy, back time.Duration
	// lag is how far its watermark is behind; below zero: none yet.
	lag     time.Duration
	current string
	since   time.Duration // how long its turn has lasted
}

var epochZero = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()

// reading10 is the reading after ten seconds of work.
func reading10(works []work, f checkpoint.Figures) (reading, []engine.TaskInfo) {
	const at = int64(10 * time.Second)
	var infos []engine.TaskInfo
	for _, w := range works {
		s := &base.TaskStats{}
		s.RecordsIn.Store(w.in)
		s.RecordsOut.Store(w.out)
		s.BusyNanos.Store(int64(w.busy))
		s.BackpressuredNanos.Store(int64(w.back))
		s.Watermark.Store(base.MinTime)
		if w.lag >= 0 {
			s.Watermark.Store(epochZero + at - int64(w.lag))
		}
		if w.since > 0 {
			s.TurnStart.Store(at - int64(w.since))
		}
		infos = append(infos, engine.TaskInfo{Task: w.task, Index: w.index, Stats: s, Current: cmp.Or(w.current, w.task)})
	}
	rd := reading{mono: at, wall: epochZero + at, phase: engine.Running, limit: 8, ckpt: f}
	return readTasks(rd, chainPlan(), infos), infos
}

func lineOf(works []work, f checkpoint.Figures) string {
	p := newProgress(chainPlan())
	idle := []work{{task: "events"}, {task: "by-user"}, {task: "by-user", index: 1}, {task: "out"}}
	zero, _ := reading10(idle, checkpoint.Figures{})
	zero.mono, zero.wall = 0, epochZero
	p.observe(zero)
	rd, infos := reading10(works, f)
	p.sample(infos)
	return p.line(rd)
}

func TestProgressLines(t *testing.T) {
	const sec = time.Second
	durable := checkpoint.Figures{LastEpoch: 14, LastNanos: 84e6, LastAt: epochZero + int64(9*sec), NewBytes: 1_992_294}
	for _, c := range []struct {
		name  string
		works []work
		f     checkpoint.Figures
		want  string
	}{
		{"nothing yet", []work{{task: "events", lag: -1}, {task: "by-user", lag: -1}, {task: "by-user", index: 1, lag: -1}, {task: "out", lag: -1}}, checkpoint.Figures{},
			"0 rec/s in · 0 out · no checkpoint yet · idle · restarts 0"},
		{
			"in balance",
			[]work{
				{task: "events", in: 123_450, busy: 3 * sec, lag: sec, current: "events"},
				{task: "by-user", in: 60_000, busy: 6 * sec, lag: sec, current: "counts"},
				{task: "by-user", index: 1, in: 63_450, busy: 7 * sec, lag: 400 * time.Millisecond, current: "counts"},
				{task: "out", in: 45, out: 45, busy: sec, lag: sec},
			},
			durable,
			"12,345 rec/s in · 4.5 out · watermark lag 1.0 s · checkpoint 14 in 84 ms, 1.9 MiB · busiest counts in by-user 70 % · restarts 0",
		},
		{
			"one slow subtask in the middle",
			[]work{
				{task: "events", in: 1000, busy: 2 * sec, back: 8 * sec, lag: -1},
				{task: "by-user", in: 500, busy: sec, lag: -1, current: "counts"},
				{task: "by-user", index: 1, in: 500, busy: 9900 * time.Millisecond, lag: -1, current: "counts"},
				{task: "out", busy: sec, lag: -1},
			},
			durable,
			"100 rec/s in · 0 out · checkpoint 14 in 84 ms, 1.9 MiB · busiest counts in by-user 99 % · " +
				"bottleneck counts in by-user; events waits for it 80 % of the time · restarts 0",
		},
		{
			"the sink, of which all others wait",
			[]work{
				{task: "events", in: 1000, busy: sec, back: 9 * sec, lag: -1},
				{task: "by-user", busy: sec, back: 9 * sec, lag: -1},
				{task: "by-user", index: 1, busy: 2 * sec, back: 8 * sec, lag: -1},
				{task: "out", since: 9500 * time.Millisecond, lag: -1, current: "out"},
			},
			durable,
			"100 rec/s in · 0 out · checkpoint 14 in 84 ms, 1.9 MiB · busiest out 95 % · bottleneck out; by-user waits for it 90 % of the time · restarts 0",
		},
		{
			"the source itself",
			[]work{
				{task: "events", in: 1000, busy: 9500 * time.Millisecond, lag: -1, current: "decode"}, {task: "by-user", busy: sec, lag: -1},
				{task: "by-user", index: 1, busy: sec, lag: -1}, {task: "out", busy: sec, lag: -1},
			},
			durable,
			"100 rec/s in · 0 out · checkpoint 14 in 84 ms, 1.9 MiB · busiest decode in events 95 % · bottleneck decode in events · restarts 0",
		},
		{
			"sinks that do not publish",
			[]work{{task: "events", in: 10, busy: sec, lag: -1}, {task: "by-user", lag: -1}, {task: "by-user", index: 1, lag: -1}, {task: "out", lag: -1}},
			checkpoint.Figures{LastEpoch: 3, LastNanos: 1e6, LastAt: epochZero, NewBytes: 10, Uncommitted: 7},
			"1.0 rec/s in · 0 out · checkpoint 3 in 1 ms, 10 B, 10.0 s ago · busiest events 10 % · " +
				"bottleneck the sinks: 7 checkpoints of at most 8 wait to be published · restarts 0",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := lineOf(c.works, c.f); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestProgressAcrossARestart(t *testing.T) {
	p := newProgress(chainPlan())
	works := []work{{task: "events", in: 50_000, lag: -1}, {task: "by-user", lag: -1}, {task: "by-user", index: 1, lag: -1}, {task: "out", lag: -1}}
	before, _ := reading10(works, checkpoint.Figures{})
	p.observe(before)
	down := before
	down.phase, down.restarts, down.cause = engine.Restarting, 1, errors.New("the sink is gone")
	down.tasks = make([]taskReading, 3)
	if got := p.line(down); got != "restarting for the 1st time after: the sink is gone" {
		t.Error(got)
	}
	works[0].in = 60_000 // more than before, but counted anew
	after, _ := reading10(works, checkpoint.Figures{})
	after.restarts, after.mono = 1, before.mono+int64(10*time.Second)
	if got := p.line(after); !strings.HasPrefix(got, "6,000 rec/s in") || !strings.HasSuffix(got, "restarts 1") {
		t.Error(got)
	}
	down.phase = engine.Restoring
	if got := p.line(down); got != "restoring" {
		t.Error(got)
	}
}

func TestFormats(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 512 << 20: "512 MiB", 1 << 62: "4 EiB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d bytes: %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		500 * time.Microsecond: "0.5 ms", 84 * time.Millisecond: "84 ms", 1250 * time.Millisecond: "1.2 s", 200 * time.Second: "3m20s",
		-2 * time.Second: "-2.0 s",
	} {
		if got := formatDuration(int64(d)); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := formatCount(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for n, want := range map[int]string{1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 112: "112th", 121: "121st"} {
		if got := ordinal(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for s, want := range map[string]int64{
		"512MiB": 512 << 20, "1.5GiB": 3 << 29, "8 gib": 8 << 30, "100B": 100, "2MB": 2e6, "1TiB": 1 << 40, "": -1, "5": -1, "MiB": -1,
		"1.2.3MiB": -1, "5XB": -1, "-1MiB": -1, "99999999TiB": -1, "1e3MiB": -1,
	} {
		got, err := parseBytes(s)
		if want < 0 && base.CodeOf(err) != codeValue || want >= 0 && (err != nil || got != want) {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
}

func TestStateNames(t *testing.T) {
	for s, ok := range map[string]bool{
		"counts/total": true, "checkout/counts/total": true, "counts": false, "/total": false, "counts/": false, "Counts/x": false, "": false,
	} {
		if err := checkStateName(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}
