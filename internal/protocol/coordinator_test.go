package protocol

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/base"
)

// rig drives a Coordinator and answers for tasks and store.
type rig struct {
	t    *testing.T
	c    *Coordinator
	now  int64
	log  []string // every action, by its short form
	off  uint64
	last map[string]Action
}

var rigLanes = []LaneID{{"out", 0}, {"out", 1}}

func newRig(t *testing.T, start Start, change func(*CoordinatorConfig)) *rig {
	cfg := CoordinatorConfig{
		Job: "job", Term: 2, Gen: 3, PlanHash: sum("plan"), Lanes: []LaneID{rigLanes[1], rigLanes[0]},
		Tasks:    []TaskSlot{{taskS, 3, true}, {taskK, 3, false}},
		Interval: 100, Timeout: 1000, RetryDelay: 10, MaxUncommitted: 2, AlarmAfter: 2,
	}
	if change != nil {
		change(&cfg)
	}
	r := &rig{t: t, last: map[string]Action{}}
	var acts []Action
	r.c, acts = NewCoordinator(cfg, start, 0)
	r.note(acts)
	return r
}

func (r *rig) note(acts []Action) {
	for _, a := range acts {
		s := strings.TrimPrefix(fmt.Sprintf("%T", a), "protocol.")
		r.last[s] = a
		switch a := a.(type) {
		case SendTrigger:
			s += " " + a.Msg.Try().String()
		case SendComplete:
			s += " " + a.Msg.Try().String()
		case AbortAttempt:
			s += " " + a.Msg.Try().String()
		case MarkDone:
			s += fmt.Sprintf(" %d", a.Epoch)
		case FinalDone:
			s += fmt.Sprintf(" %d", a.Epoch)
		case StopGeneration:
			s += " " + a.Reason.String()
		}
		r.log = append(r.log, s)
	}
}

func (r *rig) step(ev Event) { r.note(r.c.Step(r.now, ev)) }

// expect checks the actions since the last call.
func (r *rig) expect(want ...string) {
	r.t.Helper()
	if !slices.Equal(r.log, want) {
		r.t.Fatalf("at %d: actions %q, want %q", r.now, r.log, want)
	}
	r.log = nil
}

// ack acknowledges the open try from both tasks; blocks says which lanes have
// records.
func (r *rig) ack(blocks ...LaneID) {
	try, _ := r.c.Open()
	r.off++
	r.step(AckReceived{taskS, 3, try, &Ack{
		State:  TaskState{Task: taskS, Gen: 3},
		Splits: []SplitState{{Source: "s", Split: "0", Offset: r.off}},
	}})
	a := &Ack{State: TaskState{Task: taskK, Gen: 3, Keyed: true, Range: base.FullRange}}
	for _, l := range blocks {
		a.Lanes = append(a.Lanes, LaneBlock{Lane: l, SHA: sum("b"), Bytes: 9, Chunks: []uint32{2, 1}})
	}
	r.step(AckReceived{taskK, 3, try, a})
}

// claim lets the open attempt become durable.
func (r *rig) claim() {
	try, _ := r.c.Open()
	r.step(ManifestWritten{Try: try})
	r.step(ClaimResult{Try: try, Outcome: ClaimCreated})
	r.step(FenceRead{Try: try, Term: 2, Gen: 3})
}

func (r *rig) epoch(blocks ...LaneID) {
	r.ack(blocks...)
	r.claim()
}

func TestCoordinatorEpoch(t *testing.T) {
	r := newRig(t, Start{}, nil)
	r.step(Moved{})
	if at, ok := r.c.NextWake(); !ok || at != 100 {
		t.Fatalf("next wake %d, %v", at, ok)
	}
	r.now = 99
	r.step(Tick{})
	r.expect()
	r.now = 100
	r.step(Tick{})
	r.expect("SendTrigger 1/2.1")
	trig := r.last["SendTrigger"].(SendTrigger)
	if !slices.Equal(trig.To, []TaskID{taskS}) || trig.Msg.Gen != 3 || trig.Msg.Term != 2 || trig.Msg.Check() != nil {
		t.Fatalf("%+v", trig)
	}
	r.ack(rigLanes[1])
	r.expect("WriteManifest")
	w := r.last["WriteManifest"].(WriteManifest)
	m, err := DecodeManifest(w.Body)
	if err != nil || m.Check() != nil || SumSHA(w.Body) != w.SHA || w.Key != ManifestKey("job", Try{1, NewAttempt(2, 1)}, 3) {
		t.Fatalf("%v, %+v", err, m)
	}
	if !m.Lanes[0].Block.Empty() || m.Lanes[1].Block.Count() != 3 || m.Lanes[1].Block.Lane != rigLanes[1] {
		t.Fatalf("lanes %+v", m.Lanes)
	}
	r.claim()
	r.expect("ClaimEpoch", "ReadFence", "SendComplete 1/2.1")
	if c := r.last["ClaimEpoch"].(ClaimEpoch); c.NextGen != 4 || c.Key != EpochKey("job", 1) {
		t.Fatalf("%+v", c)
	}
	done := r.last["SendComplete"].(SendComplete)
	if len(done.To) != 2 || len(done.Msg.Complete.Lanes) != 1 || done.Msg.Complete.Manifest != w.SHA {
		t.Fatalf("%+v", done)
	}
	r.step(LaneCommitted{rigLanes[1], 1})
	r.expect("MarkDone 1")

	// The next epoch starts 100 after the start of the last, and names its
	// predecessor everywhere.
	r.step(Moved{})
	r.now = 199
	r.step(Tick{})
	r.expect()
	r.now = 200
	r.step(Tick{})
	r.expect("SendTrigger 2/2.2")
	if got := r.last["SendTrigger"].(SendTrigger).Msg.Trigger.Prev; got != NewAttempt(2, 1) {
		t.Fatalf("previous attempt %s", got)
	}
	r.ack()
	m = r.last["WriteManifest"].(WriteManifest).Manifest
	if m.Prev != r.c.tipSHA || m.Lanes[1].Pred != (MarkerID{1, 2, w.SHA}) || m.Lanes[1].Before != 3 || m.Lanes[1].Committed != 1 {
		t.Fatalf("%+v", m.Lanes[1])
	}
}

func TestCoordinatorStarts(t *testing.T) {
	r := newRig(t, Start{}, nil)
	r.now = 1_000_000
	r.step(Tick{})
	r.expect() // nothing moved, no epoch

	r.now = 1_000_001
	r.step(OutputStaged{})
	r.expect("SendTrigger 1/2.1") // the first output starts the first epoch at once
	r.epoch()
	r.log = nil
	r.step(OutputStaged{})
	r.expect() // only the first

	r.step(TriggerDue{})
	r.expect("SendTrigger 2/2.2") // on request, whatever the interval
	r.step(TriggerDue{})
	r.step(Moved{})
	r.now += 1000
	r.expect() // one attempt at a time
	r.epoch(rigLanes[0])
	r.log = nil
	r.step(Moved{})
	r.epoch(rigLanes[0])
	r.log = nil
	r.now += 1000
	r.step(Moved{})
	r.expect() // two epochs wait for the lane
	if r.c.Uncommitted() != 2 || r.c.Waiting() != "out/0" {
		t.Errorf("%d wait, for %q", r.c.Uncommitted(), r.c.Waiting())
	}
	if _, ok := r.c.NextWake(); ok {
		t.Error("a tick cannot help while lanes are behind")
	}
	r.step(LaneCommitted{rigLanes[0], 3})
	r.expect("MarkDone 2", "MarkDone 3", "SendTrigger 4/2.4")
}

func TestCoordinatorAborts(t *testing.T) {
	r := newRig(t, Start{}, nil)
	r.step(TriggerDue{})
	r.expect("SendTrigger 1/2.1")
	if at, ok := r.c.NextWake(); !ok || at != 1000 {
		t.Fatalf("next wake %d, %v", at, ok)
	}
	r.now = 1000
	r.step(Tick{})
	r.expect("AbortAttempt 1/2.1") // and after the retry delay, without a new reason:
	r.now = 1010
	r.step(Tick{})
	r.expect("SendTrigger 1/2.2")
	r.step(Declined{taskK, 3, Try{1, NewAttempt(2, 1)}, "late"})
	r.step(Declined{taskK, 2, Try{1, NewAttempt(2, 2)}, "of another generation"})
	r.expect()
	r.step(Declined{taskK, 3, Try{1, NewAttempt(2, 2)}, "disk full"})
	r.expect("AbortAttempt 1/2.2", "Alarm")
	if a := r.last["Alarm"].(Alarm); a.Failures != 2 || !strings.Contains(a.Cause, "disk full") {
		t.Errorf("%+v", a)
	}
	r.now = 1200
	r.step(Tick{})
	try, _ := r.c.Open()
	old := Try{1, NewAttempt(2, 2)}
	r.log = nil
	r.step(AckReceived{taskS, 3, old, &Ack{}})
	r.step(AckReceived{taskS, 2, try, &Ack{}})
	r.step(AckReceived{TaskID{"x", 0}, 3, try, &Ack{}})
	r.step(ManifestWritten{Try: old})
	r.step(ClaimResult{Try: old, Outcome: ClaimOther})
	r.step(FenceRead{Try: old, Gen: 9})
	r.expect()
	r.ack()
	r.step(ManifestWritten{Try: try, Err: errors.New("no space")})
	r.expect("WriteManifest", "AbortAttempt 1/2.3")
	r.now = 1300
	r.step(Tick{})
	r.epoch()
	r.expect("SendTrigger 1/2.4", "WriteManifest", "ClaimEpoch", "ReadFence", "SendComplete 1/2.4", "MarkDone 1")
}

// TestCoordinatorClaim: once a claim was sent the attempt is never given up.
func TestCoordinatorClaim(t *testing.T) {
	open := func(t *testing.T) *rig {
		r := newRig(t, Start{}, nil)
		r.step(TriggerDue{})
		r.ack()
		try, _ := r.c.Open()
		r.step(ManifestWritten{Try: try})
		r.log = nil
		return r
	}
	try := Try{1, NewAttempt(2, 1)}
	for _, c := range []struct {
		name string
		feed func(r *rig)
		want []string
	}{
		{"unknown is repeated", func(r *rig) {
			r.step(ClaimResult{Try: try, Outcome: ClaimUnknown, Err: errors.New("timeout")})
			r.now = 9
			r.step(Tick{})
			r.step(Timeout{try})
			r.now = 5000
			r.step(Tick{})
			r.step(ClaimResult{Try: try, Outcome: ClaimUnknown, Err: errors.New("timeout")})
			r.now = 6000
			r.step(Tick{})
			r.step(ClaimResult{Try: try, Outcome: ClaimIdentical})
		}, []string{"ClaimEpoch", "Alarm", "ClaimEpoch", "ReadFence"}},
		{"another record", func(r *rig) { r.step(ClaimResult{Try: try, Outcome: ClaimOther}) }, []string{"StopGeneration superseded"}},
		{"newer generation before", func(r *rig) { r.step(ClaimResult{Try: try, Outcome: ClaimStale}) }, []string{"StopGeneration superseded"}},
		{"newer generation after", func(r *rig) {
			r.step(ClaimResult{Try: try, Outcome: ClaimCreated})
			r.step(FenceRead{Try: try, Term: 2, Gen: 4})
		}, []string{"ReadFence", "StopGeneration superseded"}},
		{"below the floor", func(r *rig) {
			r.step(ClaimResult{Try: try, Outcome: ClaimCreated})
			r.step(FenceRead{Try: try, Term: 2, Gen: 3, Floor: 2})
		}, []string{"ReadFence", "StopGeneration superseded"}},
		{"newer term", func(r *rig) {
			r.step(ClaimResult{Try: try, Outcome: ClaimCreated})
			r.step(FenceRead{Try: try, Term: 3, Gen: 3})
		}, []string{"ReadFence", "Resign"}},
		{"fence not readable", func(r *rig) {
			r.step(ClaimResult{Try: try, Outcome: ClaimCreated})
			r.step(FenceRead{Try: try, Err: errors.New("timeout")})
			r.now = 10
			r.step(Tick{})
			r.step(FenceRead{Try: try, Term: 2, Gen: 3})
		}, []string{"ReadFence", "ReadFence", "SendComplete 1/2.1", "MarkDone 1"}},
		{"a task fails", func(r *rig) { r.step(TaskFailed{taskK, 3, Failure{Cause: "panic"}}) }, []string{"StopGeneration task failed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := open(t)
			c.feed(r)
			r.expect(c.want...)
			if len(c.want) > 0 && (strings.HasPrefix(c.want[len(c.want)-1], "Stop") || c.want[len(c.want)-1] == "Resign") {
				r.step(TriggerDue{})
				r.step(Tick{})
				r.expect()
				if !r.c.Stopped() {
					t.Error("it has not stopped")
				}
			}
		})
	}
}

func TestCoordinatorFinal(t *testing.T) {
	r := newRig(t, Start{}, nil)
	r.step(TriggerDue{})
	r.step(StopRequested{})
	r.epoch()
	r.log = r.log[len(r.log)-1:]
	r.expect("SendTrigger 2/2.2")
	if f := r.last["SendTrigger"].(SendTrigger).Msg.Trigger.Final; f != FinalStop {
		t.Fatalf("final %d", f)
	}
	r.step(Timeout{Try{2, NewAttempt(2, 2)}})
	r.now += 10
	r.step(Tick{})
	r.expect("AbortAttempt 2/2.2", "SendTrigger 2/2.3") // a failed final epoch is tried again
	r.epoch(rigLanes[0])
	r.expect("WriteManifest", "ClaimEpoch", "ReadFence", "SendComplete 2/2.3")
	r.step(Moved{})
	r.now += 1000
	r.step(Tick{})
	r.expect() // durable, but not committed
	r.step(LaneCommitted{rigLanes[0], 2})
	r.expect("MarkDone 2", "FinalDone 2")
	r.step(LaneCommitted{rigLanes[0], 2})
	r.expect()
}

func TestCoordinatorEndOfInput(t *testing.T) {
	other := TaskID{"s2", 0}
	r := newRig(t, Start{}, func(c *CoordinatorConfig) { c.Tasks = append(c.Tasks, TaskSlot{other, 3, true}) })
	r.step(TaskFinished{taskS, 3})
	r.step(TaskFinished{taskK, 3}) // not a source
	r.step(TaskFinished{other, 2}) // of an older generation
	r.expect()
	r.step(TaskFinished{other, 3})
	r.expect("SendTrigger 1/2.1")
	if f := r.last["SendTrigger"].(SendTrigger).Msg.Trigger.Final; f != FinalEnd {
		t.Fatalf("final %d", f)
	}
}

// TestCoordinatorControl: control events travel with an epoch until one that
// carries them is durable.
func TestCoordinatorControl(t *testing.T) {
	r := newRig(t, Start{}, nil)
	r.step(ControlSubmitted{ControlEvent{ID: 1}})
	r.now = 100
	r.step(Tick{})
	r.step(ControlSubmitted{ControlEvent{ID: 2}})
	try, _ := r.c.Open()
	if got := r.last["SendTrigger"].(SendTrigger).Msg.Trigger.Control; len(got) != 1 {
		t.Fatalf("%+v", got)
	}
	r.step(Timeout{try})
	r.now = 200
	r.step(Tick{})
	if got := r.last["SendTrigger"].(SendTrigger).Msg.Trigger.Control; len(got) != 2 {
		t.Fatalf("%+v", got)
	}
	r.ack()
	if got := r.last["WriteManifest"].(WriteManifest).Manifest.Control; len(got) != 2 || got[0].ID != 1 {
		t.Fatalf("%+v", got)
	}
	r.claim()
	r.now = 1000
	r.log = nil
	r.step(Tick{})
	r.expect()
}

func TestCoordinatorInvariants(t *testing.T) {
	for _, c := range []struct {
		name string
		ack  Ack
	}{
		{"another task's state", Ack{State: TaskState{Task: taskS, Gen: 3}}},
		{"a lane nobody has", Ack{State: TaskState{Task: taskK, Gen: 3, Keyed: true, Range: base.FullRange}, Lanes: []LaneBlock{{Lane: LaneID{"x", 0}, Chunks: []uint32{1}}}}},
		{"half the hash space", Ack{State: TaskState{Task: taskK, Gen: 3, Keyed: true, Range: base.SplitRange(0, 2)}}},
		{"a chain without its base", Ack{State: TaskState{Task: taskK, Gen: 3, Keyed: true, Range: base.FullRange, Objects: []ObjectRef{
			{Kind: KindDelta, SHA: sum("d"), Range: base.FullRange, Since: 1, Epoch: 2},
		}}}},
	} {
		r := newRig(t, Start{}, nil)
		r.step(TriggerDue{})
		try, _ := r.c.Open()
		r.step(AckReceived{taskK, 3, try, &c.ack})
		r.step(AckReceived{taskS, 3, try, &Ack{State: TaskState{Task: taskS, Gen: 3}}})
		r.log = r.log[1:]
		r.expect("StopGeneration invariant broken")
		if err := r.last["StopGeneration"].(StopGeneration).Err; !errors.Is(err, base.ErrFatal) || base.CodeOf(err) != "WEIR-0380" {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestCoordinatorReceive(t *testing.T) {
	r := newRig(t, Start{}, nil)
	if _, err := r.c.Receive(0, &Message{Kind: KindMoved, Job: "other"}); err == nil {
		t.Error("a report of another job was taken")
	}
	if _, err := r.c.Receive(0, &Message{Kind: KindAck, Job: "job"}); err == nil {
		t.Error("an ack without payload was taken")
	}
	r.c.Receive(0, &Message{Kind: KindMoved, Job: "job", Term: 2, Gen: 3})
	acts, err := r.c.Receive(100, &Message{Kind: KindOutput, Job: "job", Term: 2, Gen: 3})
	if err != nil || len(acts) != 1 {
		t.Errorf("%v, %v", acts, err)
	}
	acts, err = r.c.Receive(100, &Message{Kind: KindFailed, Job: "job", Term: 2, Gen: 3, Task: taskK, Failure: FailureOf(base.Fatal(fmt.Errorf("split 7: %w", &base.Error{Code: "WEIR-0601", What: "bad record", Where: "byte 3", Next: "mend it", Cause: errors.New("eof")})))})
	if err != nil || len(acts) != 2 {
		t.Fatalf("%v, %v", acts, err)
	}
	if s := acts[1].(StopGeneration); s.Reason != TaskDied || !errors.Is(s.Err, base.ErrFatal) || s.Err.Error() != "WEIR-0601: task k#0; split 7; byte 3: bad record: eof; mend it" {
		t.Errorf("%+v", s)
	}
	r = newRig(t, Start{}, nil)
	acts, err = r.c.Receive(0, &Message{Kind: KindMoved, Job: "job", Term: 9})
	if err != nil || len(acts) != 1 || !r.c.Stopped() {
		t.Errorf("%v, %v: a higher term makes the coordinator resign", acts, err)
	}
}
