package torture

// Mutants lists the bugs that can be planted. docs/verification.md has the same
// list for readers. Bugs that storms have found are added with their edit undone.
var Mutants = []Mutant{
	{
		Name: "commit-before-claim", What: "output becomes visible before its epoch is durable",
		Edits: []Edit{{"internal/protocol/coordinator_claim.go", `	c.phase, c.recordBody = phaseClaiming, body
	return c.again()
`, `	c.phase, c.recordBody = phaseClaiming, body
	early := &Complete{Manifest: c.manifestSHA, Final: c.final}
	for i := range c.manifest.Lanes {
		if !c.manifest.Lanes[i].Block.Empty() {
			early.Lanes = append(early.Lanes, c.manifest.Lanes[i])
		}
	}
	return append(c.sendComplete(nil, c.record.Try(), early), c.again()...)
`}},
		Package: "./internal/protocol", Run: "TestModel$/restart-e3", Args: []string{"-short"}, Cells: "^coord.before_claim:",
	},
	{
		Name: "no-compare-and-set", What: "a batch is stored whatever marker stands in the lane",
		Edits: []Edit{{"connectors/jetstream/lanes.go", `		hdrExpectLast: {utoa(expect)},
`, ``}},
		Package: "./connectors/jetstream", Run: "TestLaneProtocol", Args: []string{"-short"},
	},
	{
		Name: "fresh-expectation", What: "a chunk is sent again behind whatever marker is there now",
		Edits: []Edit{{"internal/protocol/commit.go", `	err := l.judge(id, ev.Seq)
`, `	if len(l.queue) > 0 {
		l.tip, l.seq, l.known = id, ev.Seq, true
		return l.publish()
	}
	err := l.judge(id, ev.Seq)
`}},
		Package: "./internal/protocol", Run: "TestModel$/restart-e3", Args: []string{"-short"}, Cells: "^commit.after_marker_unacked:",
	},
	{
		Name: "replay-only-the-newest", What: "recovery commits only the newest of several durable epochs",
		Edits: []Edit{{"internal/protocol/recover_lanes.go", `	return []RecoveryAction{RecoveryDone{p}}
`, `	if n := len(p.Start.Uncommitted); n > 1 {
		p.Start.Uncommitted = p.Start.Uncommitted[n-1:]
	}
	return []RecoveryAction{RecoveryDone{p}}
`}},
		Package: "./internal/protocol", Run: "TestRecoveryReplay|TestModel$/restart-e3", Args: []string{"-short"},
	},
	{
		Name: "offset-off-by-one", What: "a source resumes one record too far",
		Edits: []Edit{{"operators/source.go", `			sp.state.Started, sp.state.Offset, sp.state.Identity = p.Started, p.Offset, p.Identity
`, `			sp.state.Started, sp.state.Offset, sp.state.Identity = p.Started, p.Offset+1, p.Identity
`}},
		Package: "./weirtest", Run: "TestCorrectJobPasses", Cells: "^coord.after_claim:",
	},
	{
		Name: "barrier-overtakes-a-record", What: "records gathered for a receiver are sent after the barrier",
		Edits: []Edit{{"operators/edge.go", `		w.send(i)
		p.Barrier(b)
`, `		p.Barrier(b)
		w.send(i)
`}},
		Package: "./internal/torture", Run: "TestKillsInThisProcess", Args: []string{"-count=3"}, Cells: "^coord.after_claim:",
	},
	{
		Name: "one-input-not-aligned", What: "records of one input pass although its barrier has come",
		Edits:   []Edit{{"internal/protocol/align.go", `return a.open && a.aligned[input] && !a.ended[input] }`, `return a.open && a.aligned[input] && !a.ended[input] && input != 1 }`}},
		Package: "./internal/protocol", Run: "TestAlignerCut",
	},
	{
		Name: "timers-not-snapshotted", What: "timers are gone after a restore",
		Edits: []Edit{{"state/restore.go", `				if st == nil {
					return fmt.Errorf("%w: a section of an unknown state %d", ErrCorrupt, s.group)
				}
`, `				if st == nil {
					return fmt.Errorf("%w: a section of an unknown state %d", ErrCorrupt, s.group)
				}
				if len(st.info.name) > 7 && st.info.name[:7] == "timers." {
					return nil
				}
`}},
		Package: "./weirtest", Run: "TestLongRidesInTheMatrix|TestProcessingTimersDueWhileDown", Cells: "^coord.after_claim:",
	},
	{
		// Sources and keyed operators each keep theirs: one alone would hide the other.
		Name: "watermark-not-restored", What: "event time begins anew after a restore",
		Edits: []Edit{
			{"operators/source.go", `window.TrackerState{Watermark: st.Watermark}`, `window.TrackerState{Watermark: base.MinTime}`},
			{"operators/window_progress.go", `	p.ahead = all
	p.reach(p.w)`, `	p.w = base.MinTime`},
		},
		Package: "./internal/torture", Run: "TestWatermarkIsRestored",
	},
	{
		Name: "object-sum-not-verified", What: "a state object with other bytes is restored",
		Edits:   []Edit{{"state/object.go", `got != want {`, `got != want && len(got) == 0 {`}},
		Package: "./state", Run: "TestCorruptObjectsAreRefused",
	},
	{
		Name: "manifest-sum-not-verified", What: "a manifest with other bytes is restored",
		Edits:   []Edit{{"internal/protocol/recover.go", `sum != rec.Manifest {`, `sum != rec.Manifest && len(body) == 0 {`}},
		Package: "./internal/protocol", Run: "TestRecoveryFailures",
	},
	{
		Name: "blind-retry", What: "a commit with an unknown outcome is repeated without a look at the marker",
		Edits: []Edit{{"internal/protocol/commit.go", `		l.tries++
		return l.read()
	case MarkerRead:`, `		l.tries++
		return l.publish()
	case MarkerRead:`}},
		Package: "./internal/protocol", Run: "TestLaneOutcomes|TestLaneRandom",
	},
	{
		Name: "later-change-leaks-into-the-delta", What: "an entry that changes after the barrier is written as it is then",
		Edits: []Edit{{"state/backend.go", `		case s.frozenN > 0 && getBit(s.frozen, i):
`, `		case s.frozenN > 0 && getBit(s.frozen, i) && b.epoch == 0:
`}},
		Package: "./state", Run: "TestSnapshots",
	},
	{
		Name: "no-fold-back", What: "what a sink staged for an attempt that was given up is forgotten",
		Edits: []Edit{{"operators/snapshot.go", `			if err := st.giveUp(t); err != nil {
`, `			if err := st.giveUp(protocol.Try{}); err != nil {
`}},
		Package: "./internal/torture", Run: "TestKillsInThisProcess/often", Args: []string{"-count=2"},
	},
	{
		Name: "union-built-twice", What: "what reads a union is built once per input, with two sinks for one lane (found by a storm)",
		Edits: []Edit{{"stream.go", `		merged.attach(once)
`, `		last = nil
		merged.attach(out.bind)
		_ = once
`}},
		Package: "./internal/torture", Run: "TestUnionBuildsWhatFollowsOnce",
	},
	{
		Name: "state-of-another-attempt", What: "the state written for an attempt that was given up is taken for the next one's (found by a storm)",
		Edits: []Edit{{"engine/task/snapshot.go", `		if t.open != s {
			return
		}
		s.ack.State.Objects`, `		if s = t.open; s == nil || s.try.Epoch != ss.Epoch {
			return
		}
		s.ack.State.Objects`}},
		Package: "./internal/torture", Run: "TestKillsInThisProcess/often", Args: []string{"-count=8"},
	},
}
