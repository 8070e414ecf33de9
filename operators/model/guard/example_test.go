package guard_test

import (
	"context"
	"fmt"
	"time"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/guard"
)

// scorer is a model that is down.
type scorer struct{}

func (scorer) Invoke(context.Context, []model.Call[float64]) ([]model.Result[float64], error) {
	return nil, &model.Failure{Kind: model.Unavailable, What: "connection refused"}
}

func ExampleWrap() {
	scores, err := guard.Wrap(scorer{}, guard.Policy{
		Name:           "fraud",
		AttemptTimeout: 200 * time.Millisecond,
		Deadline:       time.Second,
		Retry:          guard.Retry{MaxAttempts: 2, Base: time.Millisecond},
		Budgets:        guard.Budgets{Calls: guard.Rate{PerSecond: 500}},
	}, guard.Default[float64, float64]("amount-rule", "1", func(amount float64) (float64, bool) {
		return min(amount/10_000, 1), true
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	results, err := scores.Invoke(context.Background(), []model.Call[float64]{{Key: "payments/17", In: 2500}})
	r := results[0]
	fmt.Println(r.Out, r.Degraded, r.By, r.Version, err)
	fmt.Println(scores.Stats().Attempts, scores.Stats().Degraded)
	// Output:
	// 0.25 true amount-rule 1 <nil>
	// 2 1
}
