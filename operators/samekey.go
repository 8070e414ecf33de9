package operators

import "github.com/weirflow/weir/internal/base"

// SameKey checks that records have the key that their hash says, and hands them on:
// the stream goes on by the key that it went by before.
func SameKey[T any](s *Subtask, uid string, hash func(*T) uint64, out Consumer[T]) Consumer[T] {
	op, next := s.operator(uid), out.One
	return Consumer[T]{One: func(m *base.Meta, v *T) {
		s.at = op
		if hash(v) != m.Hash {
			s.Fail(base.Fatal(&base.Error{
				Code: "WEIR-0715", What: "a record has another key than the one that its stream goes by", Where: "behind operator " + uid,
				Next: "let SameKey return the key that KeyBy returned, or use KeyBy for another key",
			}))
			return
		}
		next(m, v)
	}}
}
