package operators

import (
	"cmp"
	"fmt"
	"runtime"
	"strings"

	"github.com/weirflow/weir/internal/base"
)

// Panic is a panic of a function of the job that an error policy took.
type Panic struct {
	Value any
	// Stack is the stack from the function that panicked to the one that the operator
	// called, without addresses, so that a replay has the same.
	Stack string
}

// Error implements error.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// recovered makes an error of what recover returned; it must be called by the
// deferred function itself. A panic that the state or another part of the engine raised
// goes on: what it was about is not known to be whole, and a restart makes it so.
func recovered(v any) error {
	stack, raisedBy := userStack()
	if ours(raisedBy) {
		panic(v)
	}
	return &Panic{Value: v, Stack: stack}
}

// ours says that a function belongs to the engine and not to the job. The codec's panics
// are about the job's types: an encoding method that fails.
func ours(function string) bool {
	for _, prefix := range []string{modulePath + "state.", modulePath + "internal/", "github.com/cockroachdb/pebble"} {
		if strings.HasPrefix(function, prefix) {
			return !strings.HasPrefix(function, modulePath+"internal/codec.")
		}
	}
	return false
}

// maxFrames bounds the stack of a panic.
const maxFrames = 64

// userStack renders the frames of a panic that are the job's: those between the
// runtime's, which raise it, and the operator's, which called the function. raisedBy is
// the function of the first of them.
func userStack() (stack, raisedBy string) {
	pcs := make([]uintptr, maxFrames)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var b strings.Builder
	for {
		f, more := frames.Next()
		switch {
		case strings.HasPrefix(f.Function, operatorsPackage):
			if raisedBy != "" {
				return b.String(), raisedBy
			}
		case raisedBy == "" && strings.HasPrefix(f.Function, "runtime."):
		default:
			raisedBy = cmp.Or(raisedBy, f.Function)
			fmt.Fprintf(&b, "%s\n\t%s:%d\n", f.Function, f.File, f.Line)
		}
		if !more {
			return b.String(), raisedBy
		}
	}
}

const (
	modulePath       = "github.com/weirflow/weir/"
	operatorsPackage = modulePath + "operators."
)

// protect calls f and returns its panic as an error.
func protect[A, B any](f func(A) (B, error), v *A, r *B) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = recovered(p)
		}
	}()
	*r, err = f(*v)
	return err
}

// protectCall is protect for a function without arguments.
func protectCall(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = recovered(p)
		}
	}()
	return f()
}

// GuardedMap hands on f of every record; the policy, which is not to fail, takes
// errors and panics.
func GuardedMap[A, B any](s *Subtask, uid string, f func(A) (B, error), policy ErrorPolicy, l Letters[A], out Consumer[B]) Consumer[A] {
	op, next := s.operator(uid), out.One
	refuser := NewRefuser(s, uid, op, policy, l)
	var r B
	one := func(m *base.Meta, v *A) {
		s.at = op
		if err := protect(f, v, &r); err != nil {
			refuser.Refuse(m, v, err)
			return
		}
		next(m, &r)
	}
	refuser.retries(one)
	return Consumer[A]{One: one}
}

// GuardedFilter hands on the records for which keep is true; the policy takes panics.
func GuardedFilter[T any](s *Subtask, uid string, keep func(T) bool, policy ErrorPolicy, l Letters[T], out Consumer[T]) Consumer[T] {
	op, next := s.operator(uid), out.One
	refuser := NewRefuser(s, uid, op, policy, l)
	try := func(v T) (bool, error) { return keep(v), nil }
	one := func(m *base.Meta, v *T) {
		s.at = op
		var kept bool
		if err := protect(try, v, &kept); err != nil {
			refuser.Refuse(m, v, err)
			return
		}
		if kept {
			next(m, v)
		}
	}
	refuser.retries(one)
	return Consumer[T]{One: one}
}

// GuardedFlatMap hands on whatever f emits for every record, once f has returned; the
// policy takes panics, and nothing is handed on then.
func GuardedFlatMap[A, B any](s *Subtask, uid string, f func(A, func(B)), policy ErrorPolicy, l Letters[A], out Consumer[B]) Consumer[A] {
	op := s.operator(uid)
	refuser := NewRefuser(s, uid, op, policy, l)
	box := &outbox[B]{out: out.One}
	var (
		meta base.Meta
		from base.Origin
	)
	emit := func(b B) {
		meta.Origin = from.Derive(len(box.vals))
		box.put(&meta, &b)
	}
	try := func(v A) (struct{}, error) {
		f(v, emit)
		return struct{}{}, nil
	}
	one := func(m *base.Meta, v *A) {
		s.at = op
		meta, from = *m, m.Origin
		if err := protect(try, v, new(struct{})); err != nil {
			box.drop()
			refuser.Refuse(m, v, err)
			return
		}
		box.flush()
	}
	refuser.retries(one)
	return Consumer[A]{One: one}
}

// outbox holds what a call emits until it is known not to have failed.
type outbox[T any] struct {
	out   func(*base.Meta, *T)
	metas []base.Meta
	vals  []T
}

// sender is an outbox of any type.
type sender interface {
	flush()
	drop()
}

func (o *outbox[T]) put(m *base.Meta, v *T) {
	o.metas, o.vals = append(o.metas, *m), append(o.vals, *v)
}

func (o *outbox[T]) flush() {
	for i := range o.vals {
		o.out(&o.metas[i], &o.vals[i])
	}
	o.drop()
}

func (o *outbox[T]) drop() {
	clear(o.metas)
	clear(o.vals)
	o.metas, o.vals = o.metas[:0], o.vals[:0]
}
