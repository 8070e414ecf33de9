package weir

import (
	"fmt"

	"github.com/weirflow/weir/internal/base"
)

// Tag names a side output of an operator and gives the type of its records. It
// is a plain value: make it once, hand it to the operator that writes to it (such
// as LateTo(tag) to Aggregate), and read the records with SideOutput.
type Tag[T any] struct{ name string }

// NewTag makes a tag. The name, 1 to 64 characters of a-z, 0-9 and -, is unique
// within an operator; a wrong one is reported where the tag is used.
func NewTag[T any](name string) Tag[T] { return Tag[T]{name: name} }

// Name returns the tag's name.
func (t Tag[T]) Name() string { return t.name }

// SideOutput returns what the operator that made the stream writes to the tag.
// It is a build error when the operator was not given the tag. A side output
// that nobody reads is dropped.
func SideOutput[A, T any](of Stream[A], tag Tag[T]) Stream[T] {
	j, where := of.j, caller(1)
	side, ok := j.sides[of.uid][tag.name]
	if !ok {
		j.fail(where, "WEIR-0120", fmt.Sprintf("operator %s has no side output %q", of.uid, tag.name),
			"give the tag to the operator, as weir.LateTo(tag) does, and ask the stream that it returned")
		return newStream[T](j, of.chain, of.uid, of.keyed)
	}
	out, ok := side.(Stream[T])
	if !ok {
		j.fail(where, "WEIR-0121", fmt.Sprintf("side output %q of operator %s does not hold records of type %T", tag.name, of.uid, *new(T)),
			"use the tag that the operator was given")
		return newStream[T](j, of.chain, of.uid, of.keyed)
	}
	return out
}

// addSide gives operator op, declared in chain c, a side output. The operator
// writes to what the stream's bind returns.
func addSide[T any](j *Job, where, op string, c *chain, keyed bool, tag Tag[T]) Stream[T] {
	out := newStream[T](j, c, op, keyed)
	if err := base.CheckUID(tag.name); err != nil {
		j.fail(where, "WEIR-0121", fmt.Sprintf("side output of operator %s: %v", op, err), "")
		return out
	}
	if j.sides == nil {
		j.sides = map[string]map[string]any{}
	}
	if j.sides[op] == nil {
		j.sides[op] = map[string]any{}
	}
	if _, dup := j.sides[op][tag.name]; dup {
		j.fail(where, "WEIR-0121", fmt.Sprintf("operator %s has two side outputs %q", op, tag.name), "give one of the tags another name")
		return out
	}
	j.sides[op][tag.name] = out
	return out
}
