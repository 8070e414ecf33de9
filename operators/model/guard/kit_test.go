package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirflow/weir/operators/model"
)

// The tests run in bubbles of testing/synctest: time is virtual and moves on when all
// goroutines wait.

type (
	call   = model.Call[int]
	result = model.Result[string]
	client = Client[int, string]
)

// sent is one request that arrived at the fake.
type sent struct {
	at    time.Time
	calls []call
}

// fake is a model whose behaviour is a function; it notes what it was asked.
type fake struct {
	do func(ctx context.Context, n int, calls []call) ([]result, error)

	mu        sync.Mutex
	log       []sent
	now, most int // requests inside, and the most of them
}

func (f *fake) Invoke(ctx context.Context, calls []call) ([]result, error) {
	f.mu.Lock()
	f.log = append(f.log, sent{time.Now(), calls})
	n := len(f.log)
	f.now++
	f.most = max(f.most, f.now)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.now--
		f.mu.Unlock()
	}()
	return f.do(ctx, n, calls)
}

func (f *fake) requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.log)
}

// asked returns the requests so far.
func (f *fake) asked() []sent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

func (f *fake) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = nil
}

// peak returns the most requests at once.
func (f *fake) peak() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.most
}

// reply answers all calls well.
func reply(calls []call) []result {
	out := make([]result, len(calls))
	for i, c := range calls {
		out[i] = result{Out: fmt.Sprint(c.In), Version: "1", Usage: model.Usage{InputTokens: 10, OutputTokens: 5}}
	}
	return out
}

func answers(_ context.Context, _ int, calls []call) ([]result, error) { return reply(calls), nil }

func failing(k model.Kind) func(context.Context, int, []call) ([]result, error) {
	return func(context.Context, int, []call) ([]result, error) {
		return nil, &model.Failure{Kind: k, What: "no"}
	}
}

// sleep waits like a well-behaved client.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return &model.Failure{Kind: model.Unknown, What: "cancelled", Cause: ctx.Err()}
	}
}

func inputs(in ...int) []call {
	out := make([]call, len(in))
	for i, v := range in {
		out[i] = call{Key: fmt.Sprintf("k%d", v), In: v}
	}
	return out
}

func wrap(t *testing.T, m model.Client[int, string], p Policy, opts ...Option[int, string]) *client {
	t.Helper()
	if p.Seed == 0 {
		p.Seed = 1
	}
	c, err := Wrap(m, p, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bubble runs a test in virtual time, and fails if goroutines are left.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func invokeOK(t *testing.T, c *client, in ...int) []result {
	t.Helper()
	res, err := c.Invoke(t.Context(), inputs(in...))
	if err != nil || len(res) != len(in) {
		t.Errorf("%d results, %v", len(res), err)
		return make([]result, len(in))
	}
	return res
}

func wantFailure(t *testing.T, r result, k model.Kind) *model.Failure {
	t.Helper()
	var f *model.Failure
	if !errors.As(r.Err, &f) {
		t.Fatalf("got %+v, want a failure", r)
	}
	if f.Kind != k {
		t.Fatalf("%q is %s, want %s", f.Error(), kindName(f.Kind), kindName(k))
	}
	return f
}
