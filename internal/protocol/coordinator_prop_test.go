package protocol

import (
	"errors"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"pgregory.net/rapid"
)

// TestCoordinatorRandom feeds arbitrary events, also answers to questions that
// were never asked, and checks what must hold whatever happens.
func TestCoordinatorRandom(t *testing.T) {
	durable := 0
	defer func() {
		if durable == 0 {
			t.Error("no random history made an epoch durable")
		}
		t.Logf("%d epochs were made durable", durable)
	}()
	rapid.Check(t, func(t *rapid.T) {
		cfg := CoordinatorConfig{
			Job: "job", Term: 2, Gen: 3, Lanes: rigLanes, Tasks: []TaskSlot{{taskS, 3, true}, {taskK, 3, false}},
			Interval: int64(rapid.IntRange(0, 50).Draw(t, "interval")), Timeout: 100,
			RetryDelay:     int64(rapid.IntRange(0, 5).Draw(t, "delay")),
			MaxUncommitted: rapid.IntRange(1, 3).Draw(t, "max"), AlarmAfter: 2,
		}
		c, _ := NewCoordinator(cfg, Start{}, 0)
		o := observer{t: t, cfg: cfg, blocks: map[base.Epoch][]LaneID{}}
		var now int64
		var off uint64
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now += int64(rapid.IntRange(0, 30).Draw(t, "time"))
			try, open := c.Open()
			if rapid.IntRange(0, 3).Draw(t, "old") == 0 {
				try = Try{base.Epoch(rapid.IntRange(1, 4).Draw(t, "epoch")), NewAttempt(2, uint32(rapid.IntRange(1, 6).Draw(t, "attempt")))}
			}
			kind := rapid.IntRange(0, 12).Draw(t, "kind")
			if rapid.IntRange(0, 2).Draw(t, "helpful") > 0 { // what the phase waits for
				try, _ = c.Open()
				kind = [...]int{2, rapid.IntRange(4, 5).Draw(t, "task"), 7, 8, 10}[c.phase]
			}
			var ev Event
			switch kind {
			case 0:
				ev = Tick{}
			case 1:
				ev = Moved{}
			case 2:
				ev = TriggerDue{}
			case 3, 4:
				off++
				ev = AckReceived{taskS, 3, try, &Ack{State: TaskState{Task: taskS, Gen: 3}, Splits: []SplitState{{Source: "s", Split: "0", Offset: off}}}}
			case 5, 6:
				a := &Ack{State: TaskState{Task: taskK, Gen: 3, Keyed: true, Range: base.FullRange}}
				for _, l := range rigLanes {
					if rapid.Bool().Draw(t, "block") {
						a.Lanes = append(a.Lanes, LaneBlock{Lane: l, SHA: sum("b"), Chunks: []uint32{1}})
					}
				}
				ev = AckReceived{taskK, 3, try, a}
			case 7:
				ev = ManifestWritten{Try: try, Err: rapid.SampledFrom([]error{nil, nil, errors.New("no")}).Draw(t, "err")}
			case 8, 9:
				ev = ClaimResult{Try: try, Outcome: rapid.SampledFrom([]ClaimOutcome{ClaimCreated, ClaimIdentical, ClaimUnknown, ClaimCreated, ClaimOther}).Draw(t, "outcome")}
			case 10:
				ev = FenceRead{Try: try, Term: 2, Gen: 3}
			case 11:
				ev = LaneCommitted{rapid.SampledFrom(rigLanes).Draw(t, "lane"), base.Epoch(rapid.IntRange(1, 4).Draw(t, "committed"))}
			case 12:
				ev = Timeout{try}
			}
			tip := c.Tip().Epoch
			o.event(ev, open, c.phase, c.try, tip)
			for _, a := range c.Step(now, ev) {
				o.action(a, now)
			}
			if c.Tip().Epoch > tip {
				durable++
			}
			if at, ok := c.NextWake(); ok && !c.stopped && c.phase == phaseIdle && at <= now && len(c.acks) > 0 {
				t.Fatalf("an epoch was due at %d and has not started at %d", at, now)
			}
		}
	})
}

// observer knows what the coordinator was told and checks what it orders.
type observer struct {
	t        *rapid.T
	cfg      CoordinatorConfig
	open     Try
	started  int64
	claimed  bool // the open try's record exists
	stored   bool // the open try's manifest is stored
	fenced   bool
	tip      base.Epoch
	stopped  bool
	any      bool
	asked    bool // TriggerDue since the last start
	manifest *Manifest
	blocks   map[base.Epoch][]LaneID // durable, not committed
}

func (o *observer) event(ev Event, open bool, p phase, try Try, tip base.Epoch) {
	switch ev := ev.(type) {
	case TriggerDue:
		o.asked = true
	case ManifestWritten:
		o.stored = o.stored || open && ev.Try == try && ev.Err == nil && p == phaseWriting
	case ClaimResult:
		o.claimed = o.claimed || open && ev.Try == try && p == phaseClaiming && (ev.Outcome == ClaimCreated || ev.Outcome == ClaimIdentical)
	case FenceRead:
		o.fenced = o.fenced || open && ev.Try == try && p == phaseVerifying
	case LaneCommitted:
		if ev.Epoch > tip {
			return
		}
		for e, lanes := range o.blocks {
			var left []LaneID
			for _, l := range lanes {
				if l != ev.Lane || e > ev.Epoch {
					left = append(left, l)
				}
			}
			o.blocks[e] = left
		}
	}
}

func (o *observer) waiting() int {
	for e := base.Epoch(1); e <= o.tip; e++ {
		if len(o.blocks[e]) > 0 {
			return int(o.tip - e + 1)
		}
	}
	return 0
}

func (o *observer) action(a Action, now int64) {
	if o.stopped {
		o.t.Fatalf("%T after the stop", a)
	}
	switch a := a.(type) {
	case SendTrigger:
		try := a.Msg.Try()
		switch {
		case o.open != Try{}:
			o.t.Fatalf("%s starts while %s is open", try, o.open)
		case try.Epoch != o.tip+1:
			o.t.Fatalf("%s starts, but epoch %d is the newest", try, o.tip)
		case o.waiting() >= o.cfg.MaxUncommitted:
			o.t.Fatalf("%s starts while %d epochs wait", try, o.waiting())
		case o.any && !o.asked && now < o.started+o.cfg.Interval:
			o.t.Fatalf("%s starts at %d, the last one started at %d", try, now, o.started)
		}
		o.open, o.started, o.any, o.asked = try, now, true, false
		o.claimed, o.stored, o.fenced = false, false, false
	case AbortAttempt:
		if o.claimed || a.Msg.Try() != o.open {
			o.t.Fatalf("%s is given up; claimed: %v", a.Msg.Try(), o.claimed)
		}
		o.open = Try{}
	case WriteManifest:
		o.manifest = a.Manifest
	case ClaimEpoch:
		if !o.stored || a.Try != o.open {
			o.t.Fatalf("%s is claimed without its manifest", a.Try)
		}
	case SendComplete:
		if a.Msg.Try() != o.open || !o.claimed || !o.fenced {
			o.t.Fatalf("%s is called durable", a.Msg.Try())
		}
		o.tip, o.open = o.open.Epoch, Try{}
		for _, l := range a.Msg.Complete.Lanes {
			o.blocks[o.tip] = append(o.blocks[o.tip], l.Block.Lane)
		}
	case MarkDone:
		if a.Epoch > o.tip || len(o.blocks[a.Epoch]) > 0 {
			o.t.Fatalf("epoch %d is marked done", a.Epoch)
		}
	case StopGeneration:
		if a.Reason == Broken {
			o.t.Fatal(a.Err)
		}
		o.stopped = true
	}
}
