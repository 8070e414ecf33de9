package model_test

import (
	"testing"

	"github.com/weirflow/weir/operators/model"
)

// TestInferRestoredRecordsMayHaveBeenAskedAbout: also those that waited when the
// checkpoint was taken, for they may have been sent after it.
func TestInferRestoredRecordsMayHaveBeenAskedAbout(t *testing.T) {
	set := func(s *spec) { s.Order, s.Capacity = model.PerKey, 1 }
	r := newRig(t, setup{spec: set})
	r.feed("a1", "b1")
	r.asked(1)
	r.checkpoint()
	r.close()

	q := newRig(t, setup{spec: set, world: r.w})
	close(q.oracle.all)
	q.wants("a1", "b1")
	q.feed("c1")
	q.wants("a1", "b1", "c1")
	if len(q.oracle.calls) != 3 {
		t.Fatalf("asked for %q", q.oracle.asked())
	}
	for i, want := range []int{2, 2, 1} {
		if c := q.oracle.calls[i]; c.Attempt != want {
			t.Errorf("%s: attempt %d, want %d", c.In, c.Attempt, want)
		}
	}
}
