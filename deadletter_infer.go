package weir

import (
	"fmt"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/model"
)

// infer makes OnError an option of Infer: OnError(Skip) is DropFailures, and
// OnError(DeadLetter) sends the records to the dead letters.
func (o ErrorOption) infer(i *inferOptions) {
	switch o.policy {
	case Skip:
		i.drop = true
	case DeadLetter:
		i.dead = true
	default:
		i.wrong = append(i.wrong, "OnError(Fail): no failure of a model stops a job")
	}
}

// ways counts how often it is said what happens to records whose calls have failed.
func (o *inferOptions) ways() (n int) {
	for _, said := range []bool{o.drop, o.dead, o.failures != nil} {
		if said {
			n++
		}
	}
	return n
}

// codeModel is the code of dead letters whose call of a model has failed.
const codeModel = "WEIR-0741"

// deadInfer makes the records whose calls have failed dead letters. The function that it
// returns lets them come back into the operator, once that is built.
func deadInfer[T, Out, O any](s *operators.Subtask, uid string, l operators.Letters[T], to *model.Outputs[T, Out, O]) func(operators.Consumer[T]) {
	var refuser *operators.Refuser[T]
	results := to.Results
	to.Results = func(s *operators.Subtask) operators.Consumer[O] { return operators.WithoutAttempt(results(s)) }
	if shadows := to.Shadows; shadows != nil {
		to.Shadows = func(s *operators.Subtask) operators.Consumer[model.Shadow[Out]] {
			return operators.WithoutAttempt(shadows(s))
		}
	}
	to.Failed = func(*operators.Subtask) operators.Consumer[model.Failed[T]] {
		refuser = operators.NewRefuser(s, uid, s.Register(uid), DeadLetter, l)
		return operators.Consumer[model.Failed[T]]{One: func(m *base.Meta, f *model.Failed[T]) {
			what := fmt.Sprintf("the call of the model has failed for good after %s, %s", plural(f.Attempts, "call"), f.Kind)
			if f.Status != 0 {
				what += fmt.Sprintf(", status %d", f.Status)
			}
			refuser.RefuseLate(m, &f.Record, &base.Error{Code: codeModel, What: what + ": " + f.What})
		}}
	}
	return func(c operators.Consumer[T]) { refuser.RetryInto(c) }
}
