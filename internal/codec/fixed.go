package codec

import (
	"fmt"
	"unsafe"
)

// Fixed reports whether T may be stored as its own memory: it holds no pointer of
// any kind (no string, slice, map, pointer, time), all of it is encoded by its
// codec too (no unexported or excluded field), and nothing has methods of its own.
// size is its size in bytes. Types that For refuses are not fixed.
func Fixed[T any]() (size int, ok bool) {
	c, err := For[T]()
	if err != nil {
		return 0, false
	}
	return c.Fixed()
}

// Fixed is the function Fixed for a codec that exists already.
func (c *Codec[T]) Fixed() (size int, ok bool) { return c.schema.Fixed() }

// AppendRaw appends the memory of *v. T must be Fixed. The bytes are valid only
// for a reader with the same LayoutFingerprint; see FromRaw. Bytes of padding are
// zero or garbage: raw forms of equal values may differ there.
func (c *Codec[T]) AppendRaw(dst []byte, v *T) []byte {
	return append(dst, unsafe.Slice((*byte)(unsafe.Pointer(v)), int(unsafe.Sizeof(*v)))...)
}

// LoadRaw copies raw memory that AppendRaw of the same layout wrote into *v. T
// must be Fixed. A src of another length is an Error (WEIR-0601). Raw memory is
// for bytes whose integrity a checksum has established: LoadRaw checks no more.
func (c *Codec[T]) LoadRaw(src []byte, v *T) error {
	if len(src) != int(unsafe.Sizeof(*v)) {
		return dataError(CodeMalformed, "raw "+c.root.typ.String(), len(src), fmt.Sprintf("%d bytes are wanted", unsafe.Sizeof(*v)))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(v)), len(src)), src)
	return nil
}

// FromRaw returns a function that reads raw memory of a type with the schema old
// into T, which may have fields added, removed or reordered, and need not be
// fixed itself. Fields of T that old lacks become zero. It fails with WEIR-0350
// where Compatible does.
func (c *Codec[T]) FromRaw(old *Schema) (func(src []byte, v *T) error, error) {
	size, ok := old.Fixed()
	if !ok {
		return nil, errNotRaw(old)
	}
	if err := Compatible(old, c.schema); err != nil {
		return nil, err
	}
	moves := planMoves(nil, old, memoryOf(c.root), 0, 0)
	return func(src []byte, v *T) error {
		if len(src) != size {
			return dataError(CodeMalformed, "raw "+c.root.typ.String(), len(src), fmt.Sprintf("%d bytes are wanted", size))
		}
		var zero T
		*v = zero
		runMoves(moves, src, unsafe.Slice((*byte)(unsafe.Pointer(v)), int(unsafe.Sizeof(*v))))
		return nil
	}, nil
}

// ConvertFixed returns a function that turns raw memory of the layout old into
// the layout current, mapping fields by name: added fields become zero, removed
// ones are dropped, reordered ones move. The function wants exactly the sizes
// that the schemas name. It fails with WEIR-0350 where Compatible does and where a
// schema has no raw layout.
func ConvertFixed(old, current *Schema) (func(old, dst []byte), error) {
	for _, s := range []*Schema{old, current} {
		if _, ok := s.Fixed(); !ok {
			return nil, errNotRaw(s)
		}
	}
	if err := Compatible(old, current); err != nil {
		return nil, err
	}
	moves := planMoves(nil, old, current, 0, 0)
	from, to := old.size, current.size
	return func(src, dst []byte) {
		src, dst = src[:from], dst[:to]
		clear(dst)
		runMoves(moves, src, dst)
	}, nil
}

// move copies n bytes, or repeats inner moves for the elements of an array.
type move struct {
	src, dst, n          int
	count                int // 0: a plain copy
	srcStride, dstStride int
	inner                []move
}

// memoryOf returns the schema of a plan with offsets and sizes even where the
// root has pointers. Only the parts that a raw schema matches are ever used, and
// those have none.
func memoryOf(n *node) *Schema { return describe(n, true) }

// planMoves appends the moves that carry old at src to current at dst. The two are
// compatible.
func planMoves(moves []move, old, current *Schema, src, dst int) []move {
	switch old.kind {
	case structKind:
		for _, f := range current.fields {
			if was := old.field(f.Name); was != nil {
				moves = planMoves(moves, was.Schema, f.Schema, src+was.Offset, dst+f.Offset)
			}
		}
		return moves
	case arrayKind:
		inner := planMoves(nil, old.elem, current.elem, 0, 0)
		if len(inner) == 1 && inner[0].count == 0 && inner[0].n == old.elem.size && old.elem.size == current.elem.size {
			return appendMove(moves, move{src: src, dst: dst, n: old.size})
		}
		if old.len == 0 || len(inner) == 0 {
			return moves
		}
		return append(moves, move{src: src, dst: dst, count: old.len, srcStride: old.elem.size, dstStride: current.elem.size, inner: inner})
	}
	return appendMove(moves, move{src: src, dst: dst, n: old.size})
}

// appendMove joins a copy to the one before it when the two are adjacent.
func appendMove(moves []move, m move) []move {
	if last := len(moves) - 1; last >= 0 && moves[last].count == 0 &&
		moves[last].src+moves[last].n == m.src && moves[last].dst+moves[last].n == m.dst {
		moves[last].n += m.n
		return moves
	}
	if m.n == 0 {
		return moves
	}
	return append(moves, m)
}

func runMoves(moves []move, src, dst []byte) {
	for i := range moves {
		m := &moves[i]
		if m.count == 0 {
			copy(dst[m.dst:m.dst+m.n], src[m.src:m.src+m.n])
			continue
		}
		for e := range m.count {
			runMoves(m.inner, src[m.src+e*m.srcStride:], dst[m.dst+e*m.dstStride:])
		}
	}
}
