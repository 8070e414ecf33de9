package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// maxDepth bounds how deep values are nested in UBJSON.
const maxDepth = 64

// isUBJ tells UBJSON from JSON: an object begins with its size or with the length
// of a name.
func isUBJ(data []byte) bool {
	switch data[1] {
	case '#', '$', 'i', 'U', 'I', 'l', 'L':
		return true
	}
	return false
}

// ubj reads UBJSON, draft 12.
type ubj struct{ cursor }

// readUBJ reads one value: maps, lists ([]any, or []float64 when all are numbers
// of one type), strings, numbers as float64, truth values, nil.
func readUBJ(data []byte) (any, error) {
	u := &ubj{cursor{b: data}}
	v := u.value(u.byte(), maxDepth)
	if u.err == nil && len(u.b) > 0 {
		u.err = errors.New("something follows the model")
	}
	return v, u.err
}

func (u *ubj) byte() byte {
	if p := u.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (u *ubj) fail(format string, args ...any) {
	if u.err == nil {
		u.err = fmt.Errorf(format, args...)
	}
}

// size returns the size of a number of a type, 0 when it is none.
func size(kind byte) int {
	switch kind {
	case 'i', 'U':
		return 1
	case 'I':
		return 2
	case 'l', 'd':
		return 4
	case 'L', 'D':
		return 8
	}
	return 0
}

// number reads a number of a type; all are big-endian.
func (u *ubj) number(kind byte) float64 {
	p := u.take(size(kind))
	if p == nil {
		return 0
	}
	switch kind {
	case 'i':
		return float64(int8(p[0]))
	case 'U':
		return float64(p[0])
	case 'I':
		return float64(int16(binary.BigEndian.Uint16(p)))
	case 'l':
		return float64(int32(binary.BigEndian.Uint32(p)))
	case 'L':
		return float64(int64(binary.BigEndian.Uint64(p)))
	case 'd':
		return float64(math.Float32frombits(binary.BigEndian.Uint32(p)))
	}
	return math.Float64frombits(binary.BigEndian.Uint64(p))
}

// count reads a length, which is not more than the bytes that are left: every
// element takes one at least, but for the constants, of which no list is made.
func (u *ubj) count() int {
	kind := u.byte()
	if kind == 'd' || kind == 'D' || size(kind) == 0 {
		u.fail("a length of type %q", kind)
		return 0
	}
	n := u.number(kind)
	if n < 0 || n > float64(len(u.b)) {
		u.fail("a length of %g with %d bytes left", n, len(u.b))
		return 0
	}
	return int(n)
}

func (u *ubj) value(kind byte, depth int) any {
	if depth == 0 {
		u.fail("values are nested more than %d deep", maxDepth)
	}
	if u.err != nil {
		return nil
	}
	switch kind {
	case '{':
		return u.object(depth)
	case '[':
		return u.array(depth)
	case 'S':
		return string(u.take(u.count()))
	case 'C':
		return string(u.take(1))
	case 'T', 'F':
		return kind == 'T'
	case 'Z':
		return nil
	}
	if size(kind) == 0 {
		u.fail("a value of type %q", kind)
		return nil
	}
	return u.number(kind)
}

// container reads the type and the count that a list or object may begin with.
// kind is 0 and n is -1 where there is none.
func (u *ubj) container() (kind byte, n int) {
	n = -1
	if len(u.b) > 0 && u.b[0] == '$' {
		u.take(1)
		kind = u.byte()
		if len(u.b) == 0 || u.b[0] != '#' {
			u.fail("a type without a count")
		}
		if size(kind) == 0 && kind != 'S' && kind != '[' && kind != '{' {
			u.fail("a list of values of type %q", kind) // such as many that take no bytes
		}
	}
	if len(u.b) > 0 && u.b[0] == '#' {
		u.take(1)
		n = u.count()
	}
	return kind, n
}

// more says whether an element follows.
func (u *ubj) more(i, n int, end byte) bool {
	if u.err != nil {
		return false
	}
	if n >= 0 {
		return i < n
	}
	if len(u.b) > 0 && u.b[0] == end {
		u.take(1)
		return false
	}
	return true
}

func (u *ubj) array(depth int) any {
	kind, n := u.container()
	if size(kind) > 0 {
		if n > len(u.b)/size(kind) {
			u.fail("it is cut off")
			return nil
		}
		out := make([]float64, max(n, 0))
		for i := range out {
			out[i] = u.number(kind)
		}
		return out
	}
	var out []any
	for i := 0; u.more(i, n, ']'); i++ {
		k := kind
		if k == 0 {
			k = u.byte()
		}
		out = append(out, u.value(k, depth-1))
	}
	return out
}

func (u *ubj) object(depth int) any {
	kind, n := u.container()
	out := map[string]any{}
	for i := 0; u.more(i, n, '}'); i++ {
		name := string(u.take(u.count()))
		k := kind
		if k == 0 {
			k = u.byte()
		}
		out[name] = u.value(k, depth-1)
	}
	return out
}
