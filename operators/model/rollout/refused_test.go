package rollout_test

import (
	"strings"
	"testing"

	"github.com/weirflow/weir/operators/model/rollout"
)

// rolledBack is a rollout that began at the routing 1 and was rolled back by the routing 2.
func rolledBack(t *testing.T, p *rollout.Plan) *rollout.State {
	t.Helper()
	var s rollout.State
	if d, ok := p.Advance(&s, reportOf(0, 0, 500)); !ok || d.Action != rollout.Start {
		t.Fatalf("%+v", d)
	}
	bad := reportOf(1, 1, 2000)
	bad.Arms[0].Counts = rollout.Counts{Failed: 2000}
	if d, ok := p.Advance(&s, bad); !ok || d.Action != rollout.RollBack || d.Routing.Version != 2 {
		t.Fatalf("%+v", d)
	}
	return &s
}

// TestARollbackIsRepeatedWhereItWasRefused: somebody else's routing had the version of the
// rollback, or a higher one, when that came, so the operator did not accept it.
func TestARollbackIsRepeatedWhereItWasRefused(t *testing.T) {
	for name, foreign := range map[string]uint64{"same version": 2, "higher version": 7} {
		t.Run(name, func(t *testing.T) {
			p := usual()
			s := rolledBack(t, &p)
			if d, _ := p.Advance(s, reportOf(2, 1, 500)); d.Action != rollout.Hold {
				t.Fatalf("what was asked before the rollback is no sign: %+v", d)
			}
			d, ok := p.Advance(s, reportOf(3, foreign, 500))
			if !ok || d.Action != rollout.RollBack || d.Routing.Version != foreign+1 || d.Routing.Arms[0].Weight != 0 || !strings.Contains(d.Reason, "not accepted") {
				t.Fatalf("%+v", d)
			}
			if d, _ = p.Advance(s, reportOf(4, foreign, 500)); d.Action != rollout.Hold {
				t.Fatalf("it was repeated before it could come into effect: %+v", d)
			}
			back := reportOf(5, foreign+1, 500)
			back.Arms = back.Arms[1:]
			if d, _ = p.Advance(s, back); d.Action != rollout.Hold || s.Phase != rollout.RolledBack {
				t.Fatalf("%+v", d)
			}
		})
	}
}

// TestWhoDecidesAfterARollbackHasTheLastWord: a routing that comes after the rollback was
// in effect stays.
func TestWhoDecidesAfterARollbackHasTheLastWord(t *testing.T) {
	p := usual()
	s := rolledBack(t, &p)
	back := reportOf(2, 2, 500)
	back.Arms = append(back.Arms[1:], reportOf(2, 7, 500).Arms...) // in one window
	for i, r := range []*rollout.Report{back, reportOf(3, 7, 500), reportOf(4, 9, 500)} {
		if d, ok := p.Advance(s, r); !ok || d.Action != rollout.Hold {
			t.Errorf("report %d: %+v", i, d)
		}
	}
}
