package feature

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
)

// Kind is the type of a field of a vector.
type Kind uint8

const (
	// Float is a number; counts are numbers too.
	Float Kind = iota
	// Text is a string.
	Text
	// Floats is a list of numbers.
	Floats
	// Texts is a list of strings.
	Texts
	// Map is a map from a text to a number.
	Map
	kinds = iota
)

// String names the kind.
func (k Kind) String() string {
	return [...]string{"float", "text", "floats", "texts", "map"}[k]
}

// Field describes one field of a vector.
type Field struct {
	// Name is the feature's name with the horizon's, such as views_5m.
	Name string
	Kind Kind
	// Horizon is the length of the window; 0 for a lifetime or a decay.
	Horizon time.Duration
	// Hop is the length of the tiles to which the window's tail is cut; 0 when the
	// window is exact.
	Hop time.Duration
	// Default is set where the field is never null.
	Default *float64
	// DefaultText is that of a text.
	DefaultText *string
	// Approx is the relative (percentile) or standard (distinct) error; 0 if exact
	// but for the tail.
	Approx float64

	slot int
}

// Schema lists the fields of a vector in order.
type Schema struct {
	Fields []Field
	counts [kinds]int
	index  map[string]int
}

func newSchema() *Schema { return &Schema{index: map[string]int{}} }

// add appends a field and returns its index; false when the name is taken.
func (s *Schema) add(f Field) (int, bool) {
	if _, taken := s.index[f.Name]; taken {
		return 0, false
	}
	i := len(s.Fields)
	s.index[f.Name] = i
	f.slot = s.counts[f.Kind]
	s.counts[f.Kind]++
	s.Fields = append(s.Fields, f)
	return i, true
}

// Index returns the index of a field by its name; -1 if there is none.
func (s *Schema) Index(name string) int {
	if i, ok := s.index[name]; ok {
		return i
	}
	return -1
}

// String renders the schema on one line: it tells apart schemas whose rows differ.
func (s *Schema) String() string {
	var b strings.Builder
	for i, f := range s.Fields {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s:%s", f.Name, f.Kind)
	}
	return b.String()
}

// Join returns the schema of rows that consist of those of several groups, in the
// order given. A name that two of them have is an error (WEIR-0170).
func Join(parts ...*Schema) (*Schema, error) {
	all := newSchema()
	for _, p := range parts {
		for _, f := range p.Fields {
			if _, ok := all.add(f); !ok {
				return nil, declared("", fmt.Sprintf("two of the feature groups have a field %q", f.Name), "give one of them a Prefix")
			}
		}
	}
	return all, nil
}

// horizonName is the suffix of a field's name: _5m, _24h, _7d.
func horizonName(d time.Duration) string {
	const day = 24 * time.Hour
	for _, u := range []struct {
		d time.Duration
		s string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "us"}, {1, "ns"}} {
		if d%u.d == 0 && (u.d != day || d > day) {
			return "_" + strconv.FormatInt(int64(d/u.d), 10) + u.s
		}
	}
	return ""
}

func itoa(n int) string { return strconv.Itoa(n) }

// quantileName is the suffix of a quantile: _p50, _p99_9.
func quantileName(q float64) string {
	return "_p" + strings.ReplaceAll(strconv.FormatFloat(math.Round(q*1e8)/1e6, 'f', -1, 64), ".", "_")
}

// reader returns a function that reads a value of type V as a number, or says that
// it is a text.
func reader[V Value]() (read func(unsafe.Pointer) float64, text bool) {
	switch reflect.TypeFor[V]().Kind() {
	case reflect.String:
		return nil, true
	case reflect.Int:
		return as[int], false
	case reflect.Int8:
		return as[int8], false
	case reflect.Int16:
		return as[int16], false
	case reflect.Int32:
		return as[int32], false
	case reflect.Int64:
		return as[int64], false
	case reflect.Uint:
		return as[uint], false
	case reflect.Uint8:
		return as[uint8], false
	case reflect.Uint16:
		return as[uint16], false
	case reflect.Uint32:
		return as[uint32], false
	case reflect.Uint64:
		return as[uint64], false
	case reflect.Float32:
		return as[float32], false
	}
	return as[float64], false
}

func as[V Number](p unsafe.Pointer) float64 { return float64(*(*V)(p)) }

// hashText is the 64-bit identity of a text, hashNumber that of a number. They are
// stored in states and must not change.
func hashText(s string) uint64    { return base.HashString(s) }
func hashNumber(v float64) uint64 { return base.HashUint64(math.Float64bits(v + 0)) }
