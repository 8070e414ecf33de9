package pattern

import "github.com/weirflow/weir/internal/base"

// maxQueued bounds the changes that wait for a barrier.
const maxQueued = 10_000

// Queue makes a change at the next barrier: with a control stream that is broadcast to
// all subtasks, all of them make it after the same records of that stream and as of
// the same checkpoint. It must be called on the goroutine of the subtask. A change
// that is refused then is logged and counted in weir_pattern_changes_refused_total.
func (n *Detector[K, T, R, TO]) Queue(c Change) {
	if n.refused == nil {
		n.refused = n.s.Env.Stats.Figures.New("pattern_changes_refused_total", n.spec.UID, "")
	}
	if len(n.queued) >= maxQueued {
		n.refuse(&base.Error{Code: "WEIR-0717", What: "too many changes between two checkpoints", Where: "operator " + n.spec.UID, Next: "send them more slowly"})
		return
	}
	n.queued = append(n.queued, c)
}

// makeChanges makes the changes that wait for a barrier.
func (n *Detector[K, T, R, TO]) makeChanges() {
	for _, c := range n.queued {
		if err := n.Change(c); err != nil {
			n.refuse(err)
		}
	}
	n.queued = nil
}

func (n *Detector[K, T, R, TO]) refuse(err error) {
	n.refused.Add(1)
	n.s.Env.Logger.Warn("a change of patterns is refused", "operator", n.spec.UID, "error", err)
}
