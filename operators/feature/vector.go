package feature

import (
	"maps"
	"slices"
)

// Vector is what a program computes for one record. It is valid until the core
// that owns it takes the next one; Row and Binding copy what they take.
type Vector struct {
	schema *Schema
	row    Row
	info   []fieldInfo
}

// fieldInfo is what is done with a field that has no value.
type fieldInfo struct {
	slot   int
	kind   Kind
	hasDef bool
	def    float64
	text   string
}

// Row is a vector as a record of its own: values by kind, each in the order of the
// schema's fields of that kind. Read it through its [Schema].
type Row struct {
	// Null has one bit for each field of the schema.
	Null   []uint64             `msgpack:"n"`
	Floats []float64            `msgpack:"f"`
	Texts  []string             `msgpack:"t"`
	Lists  [][]float64          `msgpack:"l"`
	Words  [][]string           `msgpack:"w"`
	Maps   []map[string]float64 `msgpack:"m"`
}

func newVector(s *Schema) Vector {
	v := Vector{schema: s, row: Row{
		Null: make([]uint64, (len(s.Fields)+63)/64), Floats: make([]float64, s.counts[Float]), Texts: make([]string, s.counts[Text]),
		Lists: make([][]float64, s.counts[Floats]), Words: make([][]string, s.counts[Texts]), Maps: make([]map[string]float64, s.counts[Map]),
	}}
	for _, f := range s.Fields {
		i := fieldInfo{slot: f.slot, kind: f.Kind}
		if f.Default != nil {
			i.hasDef, i.def = true, *f.Default
		}
		if f.DefaultText != nil {
			i.hasDef, i.text = true, *f.DefaultText
		}
		v.info = append(v.info, i)
	}
	return v
}

// Schema describes the fields.
func (v *Vector) Schema() *Schema { return v.schema }

// setFloat sets a field of kind Float.
func (v *Vector) setFloat(i int, x float64) {
	v.row.Floats[v.info[i].slot] = x
	v.row.Null[i>>6] &^= 1 << (i & 63)
}

// setNone says that a field has no value.
func (v *Vector) setNone(i int) {
	f := &v.info[i]
	if f.hasDef {
		if f.kind == Text {
			v.row.Texts[f.slot] = f.text
			v.present(i)
			return
		}
		v.setFloat(i, f.def)
		return
	}
	v.row.Null[i>>6] |= 1 << (i & 63)
	switch f.kind {
	case Float:
		v.row.Floats[f.slot] = 0
	case Text:
		v.row.Texts[f.slot] = ""
	case Floats:
		v.row.Lists[f.slot] = v.row.Lists[f.slot][:0]
	case Texts:
		v.row.Words[f.slot] = v.row.Words[f.slot][:0]
	case Map:
		v.row.Maps[f.slot] = nil
	}
}

// present clears the null bit of a field that is not a Float.
func (v *Vector) present(i int) { v.row.Null[i>>6] &^= 1 << (i & 63) }

// Row returns a copy of the vector.
func (v *Vector) Row() Row {
	r := v.row
	// One piece of memory for what every row has.
	r.Null, r.Floats, r.Texts = slices.Clone(r.Null), slices.Clone(r.Floats), slices.Clone(r.Texts)
	r.Lists, r.Words, r.Maps = slices.Clone(r.Lists), slices.Clone(r.Words), slices.Clone(r.Maps)
	for i := range r.Lists {
		r.Lists[i] = slices.Clone(r.Lists[i])
	}
	for i := range r.Words {
		r.Words[i] = slices.Clone(r.Words[i])
	}
	return r
}

// join returns a row of the fields of r and then of m; fields and more are their
// numbers.
func (r Row) join(fields int, m Row, more int) Row {
	all := Row{
		Null: make([]uint64, (fields+more+63)/64), Floats: slices.Concat(r.Floats, m.Floats), Texts: slices.Concat(r.Texts, m.Texts),
		Lists: slices.Concat(r.Lists, m.Lists), Words: slices.Concat(r.Words, m.Words), Maps: slices.Concat(r.Maps, m.Maps),
	}
	copy(all.Null, r.Null)
	for i := range more {
		if m.Null[i>>6]>>(i&63)&1 != 0 {
			j := fields + i
			all.Null[j>>6] |= 1 << (j & 63)
		}
	}
	return all
}

// View is a row with its schema: what derived features read.
type View struct {
	Schema *Schema
	Row    *Row
	// ask, if set, gets each name that is asked for.
	ask func(name string)
}

// View returns the vector as a view, valid as long as the vector.
func (v *Vector) View() View { return View{Schema: v.schema, Row: &v.row} }

// field returns the slot of a field of some kind; false when there is none, or it
// is null.
func (v View) field(name string, k Kind) (int, bool) {
	if v.ask != nil {
		v.ask(name)
	}
	i, ok := v.Schema.index[name]
	if !ok || v.Schema.Fields[i].Kind != k || v.Row.Null[i>>6]>>(i&63)&1 != 0 {
		return 0, false
	}
	return v.Schema.Fields[i].slot, true
}

// Float returns a number; false when it is null or there is no such field.
func (v View) Float(name string) (float64, bool) {
	if s, ok := v.field(name, Float); ok {
		return v.Row.Floats[s], true
	}
	return 0, false
}

// Text returns a text; false when it is null or there is no such field.
func (v View) Text(name string) (string, bool) {
	if s, ok := v.field(name, Text); ok {
		return v.Row.Texts[s], true
	}
	return "", false
}

// Floats returns a list of numbers; nil when it is null or there is no such field.
func (v View) Floats(name string) []float64 {
	if s, ok := v.field(name, Floats); ok {
		return v.Row.Lists[s]
	}
	return nil
}

// Texts returns a list of texts; nil when it is null or there is no such field.
func (v View) Texts(name string) []string {
	if s, ok := v.field(name, Texts); ok {
		return v.Row.Words[s]
	}
	return nil
}

// Map returns a map; nil when it is null or there is no such field.
func (v View) Map(name string) map[string]float64 {
	if s, ok := v.field(name, Map); ok {
		return v.Row.Maps[s]
	}
	return nil
}

// Value returns a field as float64, string, []float64, []string or
// map[string]float64; nil when it is null.
func (v View) Value(i int) any {
	f := &v.Schema.Fields[i]
	if v.Row.Null[i>>6]>>(i&63)&1 != 0 {
		return nil
	}
	switch f.Kind {
	case Text:
		return v.Row.Texts[f.slot]
	case Floats:
		return slices.Clone(v.Row.Lists[f.slot])
	case Texts:
		return slices.Clone(v.Row.Words[f.slot])
	case Map:
		return maps.Clone(v.Row.Maps[f.slot])
	}
	return v.Row.Floats[f.slot]
}
