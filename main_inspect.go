package weir

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
)

// inspectPath is where a running job answers questions about keys.
const inspectPath = "/inspect"

// maxQuestion bounds the body of a question in bytes.
const maxQuestion = 1 << 20

// inspect asks the operator's subtask that owns the key.
func inspect(ctx context.Context, job *engine.Job, operator, question, key string, arg []byte) (any, error) {
	task, n := "", 0
	for _, t := range job.Tasks() {
		if slices.Contains(t.Operators, operator) {
			task, n = t.Task, n+1
		}
	}
	if n == 0 {
		return nil, &base.Error{
			Code: "WEIR-0712", What: "no running task has the operator " + operator,
			Next: "weir plan lists the operators; try again when the job runs",
		}
	}
	for i := range n {
		var answer any
		var owned bool
		var failed error
		err := job.Call(ctx, task, i, func(s *operators.Subtask) {
			if answer, owned, failed = s.Inspect(operator, question, key, arg); failed == nil && owned {
				// The answer may point into the state: it is written before that goes on.
				answer, failed = json.Marshal(answer)
			}
		})
		if err = errors.Join(err, failed); err != nil {
			return nil, err
		}
		if owned {
			return json.RawMessage(answer.([]byte)), nil
		}
	}
	return nil, &base.Error{Code: "WEIR-0712", What: "no subtask owns the key", Where: "operator " + operator, Next: "try again: the job is just being rescaled"}
}

// inspectHandler answers POST with the query operator, question and key, and the
// argument as the body.
func inspectHandler(job *engine.Job) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var arg json.RawMessage
		if r.ContentLength != 0 {
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuestion)).Decode(&arg); err != nil {
				answerJSON(w, http.StatusBadRequest, inspectError{"the body is not JSON: " + err.Error()})
				return
			}
		}
		q := r.URL.Query()
		v, err := inspect(r.Context(), job, q.Get("operator"), q.Get("question"), q.Get("key"), arg)
		if err != nil {
			answerJSON(w, http.StatusUnprocessableEntity, inspectError{err.Error()})
			return
		}
		answerJSON(w, http.StatusOK, v)
	}
}

// inspectError is the body of a refusal.
type inspectError struct {
	Error string `json:"error"`
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
