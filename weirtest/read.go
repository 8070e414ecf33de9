package weirtest

import "github.com/weirflow/weir"

// ReadValue reads what the running job holds for a key in a state that an
// operator declared with weir.ValueState; false when there is nothing.
func ReadValue[V any, K comparable](r *Run, operator, state string, key K) (V, bool) {
	r.tb.Helper()
	if r.job == nil {
		r.tb.Fatalf("weirtest: state is read from a job that runs, and it is down")
	}
	v, ok, err := weir.ReadValue[V](r.ctx, r.job, operator, state, key)
	if err != nil {
		r.tb.Fatalf("weirtest: read state %s of operator %s: %v", state, operator, err)
	}
	return v, ok
}

// ReadList is ReadValue for a state that was declared with weir.ListState.
func ReadList[V any, K comparable](r *Run, operator, state string, key K) []V {
	r.tb.Helper()
	if r.job == nil {
		r.tb.Fatalf("weirtest: state is read from a job that runs, and it is down")
	}
	list, err := weir.ReadList[V](r.ctx, r.job, operator, state, key)
	if err != nil {
		r.tb.Fatalf("weirtest: read state %s of operator %s: %v", state, operator, err)
	}
	return list
}
