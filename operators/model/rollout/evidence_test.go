package rollout_test

import (
	"testing"
	"time"

	"github.com/weirflow/weir/operators/model/rollout"
)

// reportOf is a report of a window of a minute, in which both arms answered n times, with
// the same scores, by a routing.
func reportOf(window int, routing uint64, n int64) *rollout.Report {
	start := int64(window) * 60 * second
	r := &rollout.Report{Model: "fraud", Start: start, End: start + 60*second}
	for _, arm := range []string{"canary", "stable"} {
		r.Arms = append(r.Arms, rollout.ArmReport{Arm: arm, Routing: routing, Counts: rollout.Counts{Answers: n}, Hist: []int64{n / 2, n - n/2}})
	}
	return r
}

// TestOnlyWhatTheStepsRoutingSawCounts has reports of an older routing, before and after
// those of the step's own, and a step that is long enough in samples before it is in time.
func TestOnlyWhatTheStepsRoutingSawCounts(t *testing.T) {
	p := usual()
	p.Steps = rollout.Steps(200, 5*time.Minute, 10, 100)
	var s rollout.State
	act := func(window int, routing uint64, n int64) rollout.Decision {
		t.Helper()
		d, ok := p.Advance(&s, reportOf(window, routing, n))
		if !ok {
			t.Fatalf("report %d was not taken", window)
		}
		return d
	}
	if d := act(0, 0, 500); d.Action != rollout.Start || d.Routing.Version != 1 {
		t.Fatalf("%+v", d)
	}
	for window := 1; window < 20; window++ {
		if d := act(window, 0, 5000); d.Action != rollout.Hold || s.Since != 0 {
			t.Fatalf("the old routing counts: %+v", d)
		}
	}
	for window := 20; window < 25; window++ { // first seen at minute 21
		if d := act(window, 1, 1000); d.Action != rollout.Hold {
			t.Fatalf("window %d: %+v", window, d)
		}
	}
	if d := act(25, 1, 1000); d.Action != rollout.Promote || d.Routing.Version != 2 || d.At != 26*60*second {
		t.Fatalf("%+v", d)
	}
	for window := 26; window < 40; window++ {
		if d := act(window, 1, 1000); d.Action != rollout.Hold || s.Since != 0 {
			t.Fatalf("the routing of the step before counts: %+v", d)
		}
	}
	if len(s.Evidence) != 2 || s.Evidence[0].Candidate.Counts.Answers != 20_000 || s.Evidence[1].Candidate.Counts.Answers != 0 {
		t.Errorf("%+v", s.Evidence)
	}
}

// TestTheFirstAnswerCounts, and only answers of the arm itself agree or not.
func TestTheFirstAnswerCounts(t *testing.T) {
	c := rollout.Config{}.WithDefaults()
	take := func(degraded bool) (facts []rollout.Fact) {
		var j rollout.Joined
		a := rollout.Seen{Kind: rollout.Answer, ID: "m/1", Model: "m", Arm: "a", Score: 0.2, Degraded: degraded}
		b := a
		b.Arm, b.Score = "b", 0.9
		sh := rollout.Seen{Kind: rollout.Shadow, ID: "m/1", Model: "m", Arm: "b", Score: 0.2}
		if _, ok := j.Take(&c, &a, 0); !ok {
			t.Error("the first answer is refused")
		}
		if _, ok := j.Take(&c, &b, 1); ok {
			t.Error("a second answer is taken")
		}
		j.Take(&c, &sh, 2)
		if _, ok := j.Take(&c, &sh, 3); ok {
			t.Error("a second answer of a shadow is taken")
		}
		if !j.Due(&c, int64(c.Grace), func(f rollout.Fact) { facts = append(facts, f) }) {
			t.Error("it is not over")
		}
		return facts
	}
	facts := take(false)
	if len(facts) != 3 || facts[0].Series.Arm != "a" || facts[0].Bin != 2 || facts[2].What != rollout.Agreed || !facts[2].Series.Shadow {
		t.Errorf("%+v", facts)
	}
	if facts = take(true); len(facts) != 2 || facts[0].What != rollout.Degraded || facts[1].What != rollout.Answered {
		t.Errorf("%+v", facts)
	}
}
