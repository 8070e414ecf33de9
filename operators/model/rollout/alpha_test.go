package rollout_test

import (
	"testing"

	"github.com/weirflow/weir/operators/model/rollout"
)

// TestStepsShareAlpha: what is beyond chance in a plan of one step is not in one of 32,
// each of which chance may spoil.
func TestStepsShareAlpha(t *testing.T) {
	for steps, want := range map[int]rollout.Action{1: rollout.RollBack, 32: rollout.Hold} {
		p := usual()
		p.Steps = rollout.Steps(1<<40, 0, make([]float64, steps)...)
		for i := range p.Steps {
			p.Steps[i].Weight = 1000
		}
		p.Limits = rollout.Limits{MaxErrorRate: 0.05}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		var s rollout.State
		p.Advance(&s, reportOf(0, 0, 500))
		r := reportOf(1, 1, 1000)
		// 3.5 deviations above the limit.
		r.Arms[0].Counts = rollout.Counts{Answers: 926, Failed: 74}
		if d, ok := p.Advance(&s, r); !ok || d.Action != want {
			t.Errorf("%d steps: %+v, want %s", steps, d, want)
		}
	}
}
