package operators

import (
	"slices"
	"strconv"

	"github.com/weirflow/weir/internal/base"
)

// attemptHeader carries the number of an attempt through an operator that keeps
// records for a while. It never leaves the operator. No message has a header of that
// name, for the colon ends names.
const attemptHeader = "Weir-Attempt:"

// Attempt returns the number of the attempt at a record in an operator that keeps
// records: 0 for the first, 2 and more for letters that came back (see RetryInto).
func Attempt(m *base.Meta) int {
	if m.Headers == nil {
		return 0
	}
	n, _ := strconv.Atoi(m.Headers.Get(attemptHeader)) // 0 if there is none
	return n
}

// RetryInto registers the consumer of an operator that keeps records for letters that
// come back. What fails goes to RefuseLate, and what the operator hands on through
// WithoutAttempt.
func (r *Refuser[T]) RetryInto(c Consumer[T]) {
	r.retriesOf(func(m *base.Meta, d *DeadLetter) error {
		v, err := r.decode(d)
		if err != nil {
			return err
		}
		h := withoutAttempt(m.Headers)
		h = append(h, base.Header{Name: attemptHeader, Value: strconv.Itoa(r.attempt)})
		m.Headers = &h
		r.s.at, r.s.cur = r.op, m
		c.One(m, &v)
		return nil
	})
}

// RefuseLate is Refuse for a record that the operator has kept.
func (r *Refuser[T]) RefuseLate(m *base.Meta, v *T, err error) {
	meta := *m
	if r.attempt = Attempt(m); r.attempt != 0 {
		meta.Headers = stripped(m.Headers)
	}
	r.Refuse(&meta, v, err)
	r.attempt = 0
}

// WithoutAttempt takes the header with the attempt off what an operator hands on.
func WithoutAttempt[O any](c Consumer[O]) Consumer[O] {
	return Consumer[O]{One: func(m *base.Meta, v *O) {
		if Attempt(m) == 0 {
			c.One(m, v)
			return
		}
		meta := *m
		meta.Headers = stripped(m.Headers)
		c.One(&meta, v)
	}}
}

func stripped(h *base.Headers) *base.Headers {
	if out := withoutAttempt(h); len(out) > 0 {
		return &out
	}
	return nil
}

func withoutAttempt(h *base.Headers) base.Headers {
	if h == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(*h), func(h base.Header) bool { return h.Name == attemptHeader })
}
