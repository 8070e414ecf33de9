package codec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weirflow/weir/internal/base"
)

// maxSchemaText bounds a schema in a manifest, in bytes.
const maxSchemaText = 1 << 20

// ParseSchema reads the text that Schema.String or Schema.Canonical wrote. The
// error is WEIR-0601 with the position.
func ParseSchema(text string) (*Schema, error) {
	if len(text) > maxSchemaText {
		return nil, dataError(CodeLimit, "schema", 0, "the text is too long")
	}
	p := schemaParser{text: text}
	s := p.schema(0)
	if s != nil && p.pos != len(text) {
		p.fail("unexpected text after the schema")
	}
	if p.reason == "" && !s.settle() {
		p.fail("offsets and sizes contradict each other")
	}
	if p.reason != "" {
		return nil, dataError(CodeMalformed, "schema", p.pos, p.reason)
	}
	return s, nil
}

type schemaParser struct {
	text   string
	pos    int
	reason string
}

func (p *schemaParser) fail(reason string) *Schema {
	if p.reason == "" {
		p.reason = reason
	}
	return nil
}

// eat consumes a literal.
func (p *schemaParser) eat(lit string) bool {
	if strings.HasPrefix(p.text[p.pos:], lit) {
		p.pos += len(lit)
		return true
	}
	return false
}

// number reads a decimal number of at most nine digits.
func (p *schemaParser) number() (int, bool) {
	end := p.pos
	for end < len(p.text) && end < p.pos+9 && p.text[end] >= '0' && p.text[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(p.text[p.pos:end])
	if err != nil {
		p.fail("a number is missing")
		return 0, false
	}
	p.pos = end
	return n, true
}

// word reads letters, digits and underscores.
func (p *schemaParser) word() string {
	end := p.pos
	for end < len(p.text) && plainName(p.text[end:end+1]) {
		end++
	}
	w := p.text[p.pos:end]
	p.pos = end
	return w
}

// quoted reads a Go string literal.
func (p *schemaParser) quoted() (string, bool) {
	lit, err := strconv.QuotedPrefix(p.text[p.pos:])
	if err != nil {
		p.fail("a quoted name is missing")
		return "", false
	}
	s, err := strconv.Unquote(lit)
	if err != nil {
		p.fail("a quoted name is malformed")
		return "", false
	}
	p.pos += len(lit)
	return s, true
}

// schema reads one schema; nil means that reason is set.
func (p *schemaParser) schema(depth int) *Schema {
	if depth > 2*maxTypeDepth {
		return p.fail("it nests too deeply")
	}
	s := &Schema{}
	switch {
	case p.eat("{"):
		return p.structure(s, depth)
	case p.eat("*"):
		s.kind = ptrKind
	case p.eat("[]"):
		s.kind = sliceKind
	case p.eat("map["):
		s.kind = mapKind
		if s.key = p.schema(depth + 1); s.key == nil {
			return nil
		}
		if !p.eat("]") {
			return p.fail("] is missing")
		}
	case p.eat("["):
		s.kind = arrayKind
		n, ok := p.number()
		if s.len = n; !ok || !p.eat("]") {
			return p.fail("] is missing")
		}
	case p.eat("custom("):
		s.kind = customKind
		name, ok := p.quoted()
		if s.name = name; !ok || !p.eat(")") {
			return p.fail(") is missing")
		}
		return s
	default:
		return p.scalar(s)
	}
	if s.elem = p.schema(depth + 1); s.elem == nil {
		return nil
	}
	return s
}

func (p *schemaParser) scalar(s *Schema) *Schema {
	start := p.pos
	word := p.word()
	for _, k := range scalarKinds {
		if k.name == word {
			s.kind, s.size, s.flat = word, k.size, k.size > 0
			return s
		}
	}
	p.pos = start
	return p.fail(fmt.Sprintf("%.20q is no kind", word))
}

// structure reads a struct after its brace.
func (p *schemaParser) structure(s *Schema, depth int) *Schema {
	s.kind = structKind
	offsets := 0
	for !p.eat("}") {
		if len(s.fields) > 0 && !p.eat(",") {
			return p.fail(", or } is missing")
		}
		var f SchemaField
		var ok bool
		if p.pos < len(p.text) && p.text[p.pos] == '"' {
			f.Name, ok = p.quoted()
		} else {
			f.Name = p.word()
			ok = f.Name != ""
		}
		if !ok || !p.eat(":") {
			return p.fail("a field name is missing")
		}
		if f.Schema = p.schema(depth + 1); f.Schema == nil {
			return nil
		}
		if p.eat("@") {
			if f.Offset, ok = p.number(); !ok {
				return nil
			}
			offsets++
		}
		s.fields = append(s.fields, f)
	}
	if p.eat("#") {
		n, ok := p.number()
		if !ok {
			return nil
		}
		s.size, s.flat = n, true
	}
	if s.flat != (offsets == len(s.fields)) && len(s.fields) > 0 {
		return p.fail("some offsets are missing")
	}
	sorted := slices.IsSortedFunc(s.fields, func(a, b SchemaField) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(s.fields); i++ {
		sorted = sorted && s.fields[i].Name != s.fields[i-1].Name
	}
	if !sorted {
		return p.fail("the fields are not sorted by name")
	}
	return s
}

// settle completes what the text leaves implicit after parsing: whether the root
// has a raw layout, which all below it then share, and the sizes of arrays. It
// reports whether the offsets fit.
func (s *Schema) settle() bool {
	if s.measure() {
		return s.sound()
	}
	s.strip()
	return true
}

// measure computes sizes bottom up and reports whether s has a raw layout.
func (s *Schema) measure() bool {
	switch s.kind {
	case structKind:
		for _, f := range s.fields {
			s.flat = f.Schema.measure() && s.flat
		}
	case arrayKind:
		s.flat = s.elem.measure() && s.len <= maxFixedSize
		s.size = s.len * s.elem.size
	case ptrKind, sliceKind, mapKind, customKind:
		s.flat = false
	}
	return s.flat && s.size <= maxFixedSize
}

// maxFixedSize bounds the raw size that a schema text may claim, in bytes.
const maxFixedSize = 1 << 30

// sound reports whether every field lies inside its struct.
func (s *Schema) sound() bool {
	for _, f := range s.fields {
		if f.Offset > s.size-f.Schema.size || !f.Schema.sound() {
			return false
		}
	}
	return s.elem == nil || s.elem.sound()
}

// strip removes the layout.
func (s *Schema) strip() {
	if s == nil {
		return
	}
	s.flat, s.size = false, 0
	for i := range s.fields {
		s.fields[i].Offset = 0
		s.fields[i].Schema.strip()
	}
	s.elem.strip()
	s.key.strip()
}

// errNotRaw says that a schema has no raw layout.
func errNotRaw(s *Schema) error {
	return &base.Error{Code: CodeSchema, What: fmt.Sprintf("values of %.80s are not stored as raw memory", s.Canonical())}
}
