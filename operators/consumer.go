package operators

import (
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// Consumer takes records inside a chain. The pointers are valid during the call
// only, and what they point to must not be changed.
type Consumer[T any] struct {
	// One takes a record.
	One func(m *base.Meta, v *T)
	// Batch takes a run of records; nil unless the operator gains from seeing
	// many at once (two-pass state access, prefetch). It must do the same as
	// calling One for each.
	Batch func(metas []base.Meta, vals []T)
}

// Bind makes an operator's consumer for one subtask.
type Bind[T any] func(s *Subtask) Consumer[T]

// Fan returns a consumer that hands every record to all of the given ones. Each
// sees the records in their order; where one of them takes runs of records, a run
// goes to one consumer after the other.
func Fan[T any](s *Subtask, cs []Consumer[T]) Consumer[T] {
	switch len(cs) {
	case 0:
		return Consumer[T]{One: func(*base.Meta, *T) {}}
	case 1:
		return cs[0]
	}
	out := Consumer[T]{One: func(m *base.Meta, v *T) {
		for i := range cs {
			cs[i].One(m, v)
		}
	}}
	if slices.ContainsFunc(cs, func(c Consumer[T]) bool { return c.Batch != nil }) {
		out.Batch = func(metas []base.Meta, vals []T) {
			for i := range cs {
				cs[i].run(s, metas, vals)
			}
		}
	}
	return out
}

// run hands a run of records to the consumer, in one piece if it takes that.
func (c *Consumer[T]) run(s *Subtask, metas []base.Meta, vals []T) {
	if c.Batch != nil {
		c.Batch(metas, vals)
		return
	}
	for i := range vals {
		s.cur = &metas[i]
		c.One(&metas[i], &vals[i])
		if s.err != nil {
			return
		}
	}
}

// Map hands on f of every record.
func Map[A, B any](s *Subtask, uid string, f func(A) B, out Consumer[B]) Consumer[A] {
	op, next := s.operator(uid), out.One
	var r B
	return Consumer[A]{One: func(m *base.Meta, v *A) {
		s.at = op
		r = f(*v)
		next(m, &r)
	}}
}

// TryMap hands on f of every record; an error fails the subtask. GuardedMap has other
// policies.
func TryMap[A, B any](s *Subtask, uid string, f func(A) (B, error), out Consumer[B]) Consumer[A] {
	op, next := s.operator(uid), out.One
	var r B
	return Consumer[A]{One: func(m *base.Meta, v *A) {
		s.at = op
		var err error
		if r, err = f(*v); err != nil {
			s.bad(m, err)
			return
		}
		next(m, &r)
	}}
}

// Filter hands on the records for which keep is true: in runs, if what comes behind it
// gains from that.
func Filter[T any](s *Subtask, uid string, keep func(T) bool, out Consumer[T]) Consumer[T] {
	op, next := s.operator(uid), out.One
	c := Consumer[T]{One: func(m *base.Meta, v *T) {
		s.at = op
		if keep(*v) {
			next(m, v)
		}
	}}
	if out.Batch != nil {
		k := &kept[T]{s: s, op: op, keep: keep, out: out.Batch}
		c.Batch = k.run
	}
	return c
}

// kept hands on what a filter keeps of a run of records: the run itself if that is all.
type kept[T any] struct {
	s     *Subtask
	op    int32
	keep  func(T) bool
	out   func([]base.Meta, []T)
	metas []base.Meta
	vals  []T
}

func (k *kept[T]) run(metas []base.Meta, vals []T) {
	k.s.at = k.op
	all := true
	for i := range vals {
		k.s.cur = &metas[i]
		yes := k.keep(vals[i])
		if all && !yes {
			all = false
			k.metas, k.vals = append(k.metas[:0], metas[:i]...), append(k.vals[:0], vals[:i]...)
		}
		if yes && !all {
			k.metas, k.vals = append(k.metas, metas[i]), append(k.vals, vals[i])
		}
	}
	if all {
		k.out(metas, vals)
		return
	}
	if len(k.vals) > 0 {
		k.out(k.metas, k.vals)
	}
	clear(k.vals) // what they refer to is not held
}

// FlatMap hands on whatever f emits for every record.
func FlatMap[A, B any](s *Subtask, uid string, f func(A, func(B)), out Consumer[B]) Consumer[A] {
	op, next := s.operator(uid), out.One
	var (
		meta base.Meta
		from base.Origin
		r    B // one slot per subtask: a parameter whose address is taken would be allocated
		n    int
	)
	emit := func(b B) {
		meta.Origin = from.Derive(n)
		n++
		r = b
		next(&meta, &r)
		s.at = op // f goes on: what it does now is its own again
	}
	return Consumer[A]{One: func(m *base.Meta, v *A) {
		s.at = op
		meta, from, n = *m, m.Origin, 0
		f(*v, emit)
	}}
}
