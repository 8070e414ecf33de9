package weir

import (
	"context"
	"fmt"
	"slices"

	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state"
)

// ReadValue reads what a running job holds for a key in a state that an operator
// declared with ValueState; false when there is nothing. The read is served by
// the subtask that owns the key, between two batches: it sees the state after
// some batch and before the next, and is newer than the last checkpoint. It costs
// the job a few microseconds. The error says what does not exist or fit; a job
// that is just restarting is WEIR-0710, to be tried again.
func ReadValue[V any, K comparable](ctx context.Context, job *engine.Job, operator, name string, key K) (v V, ok bool, err error) {
	err = readState(ctx, job, operator, name, key, func(h *state.Value[V]) { v, ok = h.Get() })
	return v, ok, err
}

// ReadList is ReadValue for a state that was declared with ListState.
func ReadList[V any, K comparable](ctx context.Context, job *engine.Job, operator, name string, key K) (list []V, err error) {
	err = readState(ctx, job, operator, name, key, func(h *state.List[V]) { list = slices.Collect(h.All()) })
	return list, err
}

// readState runs read on the goroutine of the subtask that owns a key.
func readState[H any, K comparable](ctx context.Context, job *engine.Job, operator, name string, key K, read func(H)) error {
	keys, err := codec.KeyFor[K]()
	if err != nil {
		return err
	}
	task, n := "", 0
	for _, t := range job.Tasks() {
		if slices.Contains(t.Operators, operator) {
			task, n = t.Task, n+1
		}
	}
	if n == 0 {
		return &Error{
			Code: "WEIR-0712", What: fmt.Sprintf("no running task has an operator %q", operator),
			Next: "check the name, or try again when the job runs",
		}
	}
	var failed error
	err = job.Call(ctx, task, base.OwnerOf(keys.Hash(key), n), func(s *operators.Subtask) {
		failed = operators.ReadState(s, operator, name, keys, key, read)
	})
	if err == nil && failed != nil {
		err = &Error{Code: "WEIR-0712", What: "the state cannot be read", Where: "operator " + operator, Cause: failed}
	}
	return err
}
