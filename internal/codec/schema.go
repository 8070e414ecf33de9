package codec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weirflow/weir/internal/base"
)

// Schema describes what a type is stored as, apart from the names of Go types:
// scalar kinds, containers, and structs with their fields sorted by stored name.
// It is immutable. Its text form (String, ParseSchema) is what checkpoints keep:
//
//	schema = scalar | "*" schema | "[]" schema | "[" n "]" schema
//	       | "map[" schema "]" schema | "custom(" quoted ")" | struct
//	struct = "{" [ field { "," field } ] "}" [ "#" size ]
//	field  = name ":" schema [ "@" offset ]
//	scalar = bool int8 … int64 uint8 … uint64 float32 float64 string bytes time
//
// A name is quoted unless it consists of letters, digits and underscores. Offsets
// and sizes, in bytes, are present only when the type has no pointers, so that it
// may be stored as raw memory. int and uint are int64 and uint64, and so is every
// named type: a rename of a type or of int to int64 changes no schema.
type Schema struct {
	kind   string        // a scalar, or one of the constants below
	fields []SchemaField // structKind
	elem   *Schema       // pointers, slices, arrays, maps
	key    *Schema       // maps
	len    int           // arrays
	name   string        // customKind: the Go type
	size   int           // bytes of raw memory; 0 when flat is false
	flat   bool
}

// SchemaField is one field of a struct.
type SchemaField struct {
	// Name is the stored name.
	Name string
	// Schema is what the field is stored as.
	Schema *Schema
	// Offset is where the field lies in raw memory, in bytes; 0 when the struct
	// is not stored raw.
	Offset int
}

// Kinds of a Schema besides the scalars.
const (
	structKind = "struct"
	ptrKind    = "ptr"
	sliceKind  = "slice"
	arrayKind  = "array"
	mapKind    = "map"
	customKind = "custom"
)

// scalarKinds are the names of scalars by op, and their sizes in raw memory; 0
// means that they hold pointers.
var scalarKinds = map[op]struct {
	name string
	size int
}{
	opBool: {"bool", 1}, opInt8: {"int8", 1}, opInt16: {"int16", 2}, opInt32: {"int32", 4}, opInt64: {"int64", 8},
	opUint8: {"uint8", 1}, opUint16: {"uint16", 2}, opUint32: {"uint32", 4}, opUint64: {"uint64", 8},
	opFloat32: {"float32", 4}, opFloat64: {"float64", 8}, opString: {"string", 0}, opBytes: {"bytes", 0}, opTime: {"time", 0},
}

// describe returns the schema of a plan. layout says whether offsets and sizes
// belong to it, which the root decides.
func describe(n *node, layout bool) *Schema {
	s := &Schema{flat: layout}
	if layout {
		s.size = int(n.size)
	}
	switch n.op {
	case opStruct:
		s.kind = structKind
		for i := range n.fields {
			f := SchemaField{Name: n.fields[i].name, Schema: describe(n.fields[i].node, layout)}
			if layout {
				f.Offset = int(n.fields[i].offset)
			}
			s.fields = append(s.fields, f)
		}
		slices.SortFunc(s.fields, func(a, b SchemaField) int { return strings.Compare(a.Name, b.Name) })
	case opPtr:
		s.kind, s.elem = ptrKind, describe(n.elem, false)
	case opSlice:
		s.kind, s.elem = sliceKind, describe(n.elem, false)
	case opArray:
		s.kind, s.len, s.elem = arrayKind, n.len, describe(n.elem, layout)
	case opByteArray:
		s.kind, s.len, s.elem = arrayKind, n.len, &Schema{kind: "uint8", flat: layout}
		if layout {
			s.elem.size = 1
		}
	case opMap:
		s.kind, s.key, s.elem = mapKind, describe(n.key, false), describe(n.elem, false)
	case opMethod:
		s.kind, s.name = customKind, n.typ.String()
	default:
		s.kind = scalarKinds[n.op].name
	}
	return s
}

// String renders the schema with the memory layout where there is one.
func (s *Schema) String() string { return string(s.append(nil, true)) }

// Canonical renders the schema without the memory layout: two types with equal
// canonical forms read each other's encodings without loss.
func (s *Schema) Canonical() string { return string(s.append(nil, false)) }

// Fingerprint is a 64-bit hash of Canonical.
func (s *Schema) Fingerprint() uint64 { return base.HashString(s.Canonical()) }

// LayoutFingerprint is a 64-bit hash of String: raw memory may be exchanged only
// between types that agree in it.
func (s *Schema) LayoutFingerprint() uint64 { return base.HashString(s.String()) }

// Fixed returns the size of the raw memory and whether the type can be stored
// raw.
func (s *Schema) Fixed() (size int, ok bool) { return s.size, s.flat }

func (s *Schema) append(dst []byte, layout bool) []byte {
	switch s.kind {
	case structKind:
		dst = append(dst, '{')
		for i, f := range s.fields {
			if i > 0 {
				dst = append(dst, ',')
			}
			if plainName(f.Name) {
				dst = append(dst, f.Name...)
			} else {
				dst = strconv.AppendQuote(dst, f.Name)
			}
			dst = f.Schema.append(append(dst, ':'), layout)
			if layout && s.flat {
				dst = strconv.AppendInt(append(dst, '@'), int64(f.Offset), 10)
			}
		}
		dst = append(dst, '}')
		if layout && s.flat {
			dst = strconv.AppendInt(append(dst, '#'), int64(s.size), 10)
		}
		return dst
	case ptrKind:
		return s.elem.append(append(dst, '*'), layout)
	case sliceKind:
		return s.elem.append(append(dst, '[', ']'), layout)
	case arrayKind:
		dst = append(strconv.AppendInt(append(dst, '['), int64(s.len), 10), ']')
		return s.elem.append(dst, layout)
	case mapKind:
		dst = append(s.key.append(append(dst, "map["...), layout), ']')
		return s.elem.append(dst, layout)
	case customKind:
		return append(strconv.AppendQuote(append(dst, "custom("...), s.name), ')')
	}
	return append(dst, s.kind...)
}

// plainName reports whether a field name needs no quotes.
func plainName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return name != ""
}

// Compatible reports whether encodings written under old can be read under
// current: fields may be added (they read as zero), removed (they are skipped) and
// reordered, at any depth. A field of another kind is an Error (WEIR-0350) that
// names it.
func Compatible(old, current *Schema) error { return compatible(old, current, "") }

func compatible(old, current *Schema, path string) error {
	if old.kind != current.kind || old.len != current.len || old.name != current.name {
		if path == "" {
			path = "the value"
		}
		return &base.Error{
			Code: CodeSchema, Where: strings.TrimPrefix(path, "."),
			What: fmt.Sprintf("the stored data is %s, the program wants %s", old.Canonical(), current.Canonical()),
			Next: "restore the old type, give the field a new name, or provide a migration",
		}
	}
	if old.kind == structKind {
		return compatibleFields(old, current, path)
	}
	if old.key != nil {
		if err := compatible(old.key, current.key, path+"[key]"); err != nil {
			return err
		}
	}
	if old.elem != nil {
		return compatible(old.elem, current.elem, path+"[]")
	}
	return nil
}

func compatibleFields(old, current *Schema, path string) error {
	for _, f := range current.fields {
		was := old.field(f.Name)
		if was == nil {
			continue
		}
		if err := compatible(was.Schema, f.Schema, path+"."+f.Name); err != nil {
			return err
		}
	}
	return nil
}

// field returns the field of that name, or nil.
func (s *Schema) field(name string) *SchemaField {
	i, ok := slices.BinarySearchFunc(s.fields, name, func(f SchemaField, name string) int { return strings.Compare(f.Name, name) })
	if !ok {
		return nil
	}
	return &s.fields[i]
}
