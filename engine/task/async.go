package task

import "github.com/weirflow/weir/internal/protocol"

// full reports that the task should get no more input: an operator of its own, or a
// receiver, waits for something outside.
func (t *Task) full() bool {
	if !t.Async {
		return false
	}
	if t.sub.Full() {
		return true
	}
	for _, p := range t.Outs {
		if p.Overdrawn() {
			return true
		}
	}
	return false
}

// async gives back the credit that was kept while the task was full, and lets the
// last barrier pass when everything has been answered.
func (t *Task) async() error {
	if len(t.owed) > 0 && !t.full() {
		for i := range t.owed {
			t.owed[i].Release()
		}
		clear(t.owed)
		t.owed = t.owed[:0]
	}
	if t.final != nil && t.sub.Ended() {
		b := *t.final
		t.final = nil
		return t.snapshot(b)
	}
	return nil
}

// unanswered reports that the barrier is the last one of a job whose input has ended,
// and must wait, because not all that came before it has left the chain.
func (t *Task) unanswered(b protocol.Barrier) bool {
	return b.Trigger.Final == protocol.FinalEnd && t.sub.HasAsync() && !t.sub.Ended()
}
