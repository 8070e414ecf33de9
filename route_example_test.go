package weir_test

import (
	"context"
	"fmt"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/operators/model"
)

// cents is a model that says how likely a buyer is to come back.
type cents float64

func (c cents) Invoke(_ context.Context, calls []model.Call[int]) ([]model.Result[float64], error) {
	out := make([]model.Result[float64], len(calls))
	for i, call := range calls {
		out[i] = model.Result[float64]{Out: float64(c) * float64(call.In), Version: fmt.Sprint("v", float64(c))}
	}
	return out, nil
}

func ExamplePredict() {
	arm := func(c cents) func(model.Env) (model.Client[int, float64], error) {
		return func(model.Env) (model.Client[int, float64], error) { return c, nil }
	}
	show(func(clicks weir.Stream[Click]) weir.Stream[string] {
		byUser := weir.KeyBy(clicks, "by-user", func(c Click) string { return c.User })
		arms := weir.Arms[int, float64]{"stable": arm(0.5), "canary": arm(0.25)}
		half := model.Routing{Version: 1, Arms: []model.Share{{Arm: "canary", Weight: 5000}, {Arm: "stable", Weight: 5000}}}
		return weir.Predict(byUser, "churn", arms, half, func(c Click) int { return len(c.Page) },
			func(c Click, p model.Prediction[int, float64]) string {
				at := time.Unix(0, p.At).UTC().Format(time.TimeOnly)
				return fmt.Sprintf("%s at %s: %v of %v by %s %s, which answers for %v", c.User, at, p.Out, *p.Features, p.Arm, p.ModelVersion, p.Propensity)
			}, weir.DropFailures())
	})
	// Output:
	// ann at 00:00:01: 2 of 4 by stable v0.5, which answers for 0.5
	// ann at 00:00:30: 2 of 4 by stable v0.5, which answers for 0.5
	// ann at 00:01:15: 2 of 4 by stable v0.5, which answers for 0.5
	// bob at 00:00:02: 1 of 4 by canary v0.25, which answers for 0.5
	// bob at 00:01:10: 1 of 4 by canary v0.25, which answers for 0.5
}
