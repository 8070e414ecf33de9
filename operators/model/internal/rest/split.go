package rest

import (
	"context"
	"errors"
	"math/bits"
	"net/http"

	"github.com/weirflow/weir/operators/model"
)

// Split invokes a client that sends all calls in one request. When the server refuses
// the request as such (status 400, 413 or 422, all of which say that it did nothing), the
// halves are sent one after the other, and so on until the calls are found that it
// refuses: one bad input does not condemn the others. It takes about two requests for
// each halving; after those for a few bad inputs the rest have the failure of the whole.
func Split[In, Out any](ctx context.Context, calls []model.Call[In],
	invoke func(context.Context, []model.Call[In]) ([]model.Result[Out], error),
) ([]model.Result[Out], error) {
	results, err := invoke(ctx, calls)
	if err == nil || len(calls) < 2 || !refused(err) {
		return results, err
	}
	s := splitter[In, Out]{invoke: invoke, left: badInputs * 2 * bits.Len(uint(len(calls))), results: make([]model.Result[Out], len(calls))}
	s.halves(ctx, calls, 0, err)
	return s.results, nil
}

// badInputs is how many bad inputs in different places of a batch are found at least.
const badInputs = 4

func refused(err error) bool {
	f, ok := errors.AsType[*model.Failure](err)
	if !ok || f.Kind != model.Permanent {
		return false
	}
	switch f.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

type splitter[In, Out any] struct {
	invoke  func(context.Context, []model.Call[In]) ([]model.Result[Out], error)
	left    int // requests
	results []model.Result[Out]
}

// halves sends the halves of calls, the first of which has the index at, and which were
// refused together.
func (s *splitter[In, Out]) halves(ctx context.Context, calls []model.Call[In], at int, err error) {
	half := len(calls) / 2
	for _, part := range [][]model.Call[In]{calls[:half], calls[half:]} {
		if s.left == 0 {
			s.all(part, at, err)
		} else {
			s.part(ctx, part, at)
		}
		at += len(part)
	}
}

func (s *splitter[In, Out]) part(ctx context.Context, calls []model.Call[In], at int) {
	s.left--
	results, err := s.invoke(ctx, calls)
	switch {
	case err == nil:
		copy(s.results[at:], results)
	case len(calls) > 1 && refused(err):
		s.halves(ctx, calls, at, err)
	default:
		s.all(calls, at, err)
	}
}

func (s *splitter[In, Out]) all(calls []model.Call[In], at int, err error) {
	for i := range calls {
		s.results[at+i].Err = err
	}
}
