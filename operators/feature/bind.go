package feature

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
)

// Binding fills structs of type V from the rows of a schema. It is immutable and
// safe for concurrent use.
type Binding[V any] struct {
	fields []boundField
	plain  []plainField
}

// plainField copies some numbers to as many float64 in a row.
type plainField struct {
	slot, n int32
	offset  uint32
}

// addPlain adds a float64, to the run before it where it follows that.
func (b *Binding[V]) addPlain(slot int, offset uintptr) {
	if k := len(b.plain) - 1; k >= 0 {
		if f := &b.plain[k]; int(f.slot+f.n) == slot && uintptr(f.offset)+8*uintptr(f.n) == offset {
			f.n++
			return
		}
	}
	b.plain = append(b.plain, plainField{int32(slot), 1, uint32(offset)})
}

// boundField copies one field of a row to an offset of a struct.
type boundField struct {
	index, slot int
	kind        Kind
	offset      uintptr
	// set stores a number; nil for other kinds. null says that the struct's field
	// is a pointer, nil for null.
	set  func(unsafe.Pointer, float64)
	null bool
}

// Bind maps the fields of a schema to those of the struct V: each exported field
// that has a tag `feature:"views_5m"` takes the field of that name; "-" or no tag
// leaves it alone. A Float fits float64, float32, integers (rounded to the nearest
// and cut to their range), bool (not 0) and pointers to float64; a Text fits string
// and *string, Floats []float64, Texts []string, and a Map map[string]float64. Null
// is nil for a pointer, and the zero value otherwise.
//
// The error joins all that does not fit, each an Error with the code WEIR-0171:
// tags that name no field, types that do not fit, and a V without any tag.
func Bind[V any](s *Schema) (*Binding[V], error) {
	t := reflect.TypeFor[V]()
	if t.Kind() != reflect.Struct {
		return nil, bindError(t.String(), "is not a struct")
	}
	b := &Binding[V]{}
	var errs []error
	for i := range t.NumField() {
		f := t.Field(i)
		name, ok := f.Tag.Lookup("feature")
		if !ok || name == "-" {
			continue
		}
		where := t.String() + "." + f.Name
		j := s.Index(name)
		if j < 0 {
			errs = append(errs, bindError(where, fmt.Sprintf("asks for the feature %q, and there is none of that name; the fields are %s", name, s)))
			continue
		}
		if !f.IsExported() {
			errs = append(errs, bindError(where, "is not exported"))
			continue
		}
		bf := boundField{index: j, slot: s.Fields[j].slot, kind: s.Fields[j].Kind, offset: f.Offset}
		if !bf.fit(f.Type) {
			errs = append(errs, bindError(where, fmt.Sprintf("is a %s, and the feature %q is a %s", f.Type, name, bf.kind)))
			continue
		}
		if bf.kind == Float && f.Type.Kind() == reflect.Float64 && bf.offset <= math.MaxUint32 {
			b.addPlain(bf.slot, bf.offset)
			continue
		}
		b.fields = append(b.fields, bf)
	}
	if len(errs) == 0 && len(b.fields)+len(b.plain) == 0 {
		errs = append(errs, bindError(t.String(), "has no field with a tag like `feature:\"name\"`"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return b, nil
}

func bindError(where, what string) error {
	return &base.Error{Code: "WEIR-0171", What: what, Where: where, Next: "change the struct's tags or types, or the features"}
}

// fit chooses how a field of type t is set; false when the kind does not fit it.
func (f *boundField) fit(t reflect.Type) bool {
	switch f.kind {
	case Text:
		f.null = t == reflect.TypeFor[*string]()
		return f.null || t.Kind() == reflect.String
	case Floats:
		return t == reflect.TypeFor[[]float64]()
	case Texts:
		return t == reflect.TypeFor[[]string]()
	case Map:
		return t == reflect.TypeFor[map[string]float64]()
	}
	if t == reflect.TypeFor[*float64]() {
		f.null = true
		return true
	}
	f.set = setters[t.Kind()]
	return f.set != nil
}

// setters store a number as each kind of type.
var setters = map[reflect.Kind]func(unsafe.Pointer, float64){
	reflect.Float64: func(p unsafe.Pointer, v float64) { *(*float64)(p) = v },
	reflect.Float32: func(p unsafe.Pointer, v float64) { *(*float32)(p) = float32(v) },
	reflect.Bool:    func(p unsafe.Pointer, v float64) { *(*bool)(p) = v != 0 },
	reflect.Int:     setInt[int](math.MinInt, math.MaxInt),
	reflect.Int8:    setInt[int8](math.MinInt8, math.MaxInt8),
	reflect.Int16:   setInt[int16](math.MinInt16, math.MaxInt16),
	reflect.Int32:   setInt[int32](math.MinInt32, math.MaxInt32),
	reflect.Int64:   setInt[int64](math.MinInt64, math.MaxInt64),
	reflect.Uint:    setInt[uint](0, math.MaxUint),
	reflect.Uint8:   setInt[uint8](0, math.MaxUint8),
	reflect.Uint16:  setInt[uint16](0, math.MaxUint16),
	reflect.Uint32:  setInt[uint32](0, math.MaxUint32),
	reflect.Uint64:  setInt[uint64](0, math.MaxUint64),
}

func setInt[N Number](lo, hi N) func(unsafe.Pointer, float64) {
	return func(p unsafe.Pointer, v float64) {
		switch v = math.RoundToEven(v); {
		case v <= float64(lo):
			*(*N)(p) = lo
		case v >= float64(hi):
			*(*N)(p) = hi
		default:
			*(*N)(p) = N(v)
		}
	}
}

// Fill sets the bound fields of *v from a row of the binding's schema. Lists are
// copied.
func (b *Binding[V]) Fill(r *Row, v *V) {
	at, floats := unsafe.Pointer(v), r.Floats
	for i := range b.plain {
		f := &b.plain[i]
		to := unsafe.Slice((*float64)(unsafe.Add(at, f.offset)), f.n)
		copy(to, floats[f.slot:f.slot+f.n]) // 0 when null
	}
	for i := range b.fields {
		f := &b.fields[i]
		p := unsafe.Add(at, f.offset)
		null := r.Null[f.index>>6]>>(f.index&63)&1 != 0
		if f.set != nil {
			f.set(p, r.Floats[f.slot]) // 0 when null
			continue
		}
		f.copy(r, p, null)
	}
}

// copy sets a field that is not a plain number.
func (f *boundField) copy(r *Row, p unsafe.Pointer, null bool) {
	switch f.kind {
	case Float:
		*(**float64)(p) = nil
		if !null {
			v := r.Floats[f.slot]
			*(**float64)(p) = &v
		}
	case Text:
		if !f.null {
			*(*string)(p) = r.Texts[f.slot]
			return
		}
		*(**string)(p) = nil
		if !null {
			v := r.Texts[f.slot]
			*(**string)(p) = &v
		}
	case Floats:
		*(*[]float64)(p) = nil
		if !null {
			*(*[]float64)(p) = slices.Clone(r.Lists[f.slot])
		}
	case Texts:
		*(*[]string)(p) = nil
		if !null {
			*(*[]string)(p) = slices.Clone(r.Words[f.slot])
		}
	case Map:
		*(*map[string]float64)(p) = r.Maps[f.slot]
	}
}

// FillVector is Fill from a vector.
func (b *Binding[V]) FillVector(vec *Vector, v *V) { b.Fill(&vec.row, v) }
