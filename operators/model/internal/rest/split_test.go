package rest_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/internal/rest"
)

// TestSplitFindsBadInputs has a server that refuses each request with a bad input in it.
func TestSplitFindsBadInputs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 100).Draw(rt, "n")
		bad := map[int]bool{}
		for range rapid.IntRange(0, 4).Draw(rt, "bad") {
			bad[rapid.IntRange(0, n-1).Draw(rt, "at")] = true
		}
		status := rapid.SampledFrom([]int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity}).Draw(rt, "status")
		requests := 0
		calls := make([]model.Call[int], n)
		for i := range calls {
			calls[i] = model.Call[int]{Key: fmt.Sprint(i), In: i}
		}
		results, err := rest.Split(context.Background(), calls, func(_ context.Context, calls []model.Call[int]) ([]model.Result[int], error) {
			requests++
			out := make([]model.Result[int], len(calls))
			for i, c := range calls {
				if bad[c.In] {
					return nil, &model.Failure{Kind: model.Permanent, Status: status, What: fmt.Sprint(c.In)}
				}
				out[i].Out = c.In * 2
			}
			return out, nil
		})
		if n == 1 && bad[0] {
			if err == nil {
				rt.Fatal("no error")
			}
			return
		}
		if err != nil || len(results) != n {
			rt.Fatalf("%d results, %v", len(results), err)
		}
		for i, r := range results {
			if bad[i] != (r.Err != nil) || r.Err == nil && r.Out != 2*i {
				rt.Fatalf("result %d is %+v; bad are %v", i, r, bad)
			}
		}
		if most := 1 + 4*2*7; requests > most {
			rt.Fatalf("%d requests", requests)
		}
	})
}

func TestSplitGivesUp(t *testing.T) {
	for name, f := range map[string]struct {
		failure  *model.Failure
		requests int
	}{
		"all refused":   {&model.Failure{Kind: model.Permanent, Status: 400}, 1 + 4*2*9},
		"not reached":   {&model.Failure{Kind: model.Unavailable, Status: 503}, 1},
		"not found":     {&model.Failure{Kind: model.Permanent, Status: 404}, 1},
		"refused later": {&model.Failure{Kind: model.Unknown, Status: 500}, 1},
	} {
		requests := 0
		results, err := rest.Split(t.Context(), make([]model.Call[int], 256), func(context.Context, []model.Call[int]) ([]model.Result[int], error) {
			requests++
			return nil, f.failure
		})
		if requests != f.requests {
			t.Errorf("%s: %d requests, want %d", name, requests, f.requests)
		}
		if err == nil {
			for i := range results {
				if results[i].Err == nil {
					t.Fatalf("%s: result %d has no error", name, i)
				}
			}
		} else if requests > 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
