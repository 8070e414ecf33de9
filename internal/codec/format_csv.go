package codec

import (
	"bytes"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weirflow/weir/internal/base"
)

// CSVOptions configure CSV.
type CSVOptions struct {
	// Limits bound a record; Elems bounds its fields.
	Limits Limits
	// Comma separates fields. Default ','; a quote, a line break and characters
	// beyond ASCII are refused.
	Comma rune
	// Header says that data begins with a line of column names. The format itself
	// sees single records: whoever reads the data hands the line to WithHeader.
	Header bool
	// Columns names the columns of a record in order. Default: the fields of T in
	// order. Columns that T lacks are skipped; fields without a column are zero.
	Columns []string
	// TimeLayout formats time.Time fields. Default time.RFC3339Nano.
	TimeLayout string
}

// CSVFormat is the CSV format of T. A record is one row; a row may contain quoted
// line breaks, but a source that splits its input at line breaks will not produce
// such rows.
type CSVFormat[T any] struct {
	o       CSVOptions
	columns []string
	plan    []csvColumn // by position; setter nil: skipped
	fields  []csvColumn // all fields of T
}

// csvColumn says where a column goes.
type csvColumn struct {
	name  string
	index []int // of the struct field; nil: T has no such field
}

// CSV returns the CSV format of T (RFC 4180), a struct whose fields are strings,
// bool, integers, floats, time.Time, time.Duration, or types with MarshalText and
// UnmarshalText. A field's column is its name or the one in a `csv:"name"` tag;
// `csv:"-"` excludes it. An empty field is the zero value. Durations are written
// like 1m30s. Types and options that do not fit are refused with WEIR-0152.
func CSV[T any](o CSVOptions) (*CSVFormat[T], error) {
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct || t == timeType {
		return nil, csvBuildError(t.String(), "a CSV record needs a struct with a field for each column")
	}
	o.Limits = o.Limits.WithDefaults()
	if o.Comma == 0 {
		o.Comma = ','
	}
	if o.Comma >= utf8.RuneSelf || strings.ContainsRune("\"\r\n", o.Comma) {
		return nil, csvBuildError(t.String(), fmt.Sprintf("%q cannot separate fields", o.Comma))
	}
	if o.TimeLayout == "" {
		o.TimeLayout = time.RFC3339Nano
	}
	f := &CSVFormat[T]{o: o}
	for _, sf := range reflect.VisibleFields(t) {
		name := sf.Tag.Get("csv")
		if name == "-" || !sf.IsExported() || sf.Anonymous && sf.Type.Kind() == reflect.Struct && !csvScalar(sf.Type) {
			continue
		}
		if !csvScalar(sf.Type) {
			return nil, csvBuildError(t.String()+"."+sf.Name, fmt.Sprintf("the type %s does not fit a CSV field", sf.Type))
		}
		if name == "" {
			name = sf.Name
		}
		f.fields = append(f.fields, csvColumn{name: name, index: sf.Index})
	}
	columns := o.Columns
	if len(columns) == 0 {
		for _, c := range f.fields {
			columns = append(columns, c.name)
		}
	}
	if len(columns) == 0 {
		return nil, csvBuildError(t.String(), "it has no exported field")
	}
	return f, f.setColumns(columns)
}

func csvBuildError(where, what string) error {
	return &base.Error{Code: CodeFormat, Where: where, What: what}
}

// csvScalar reports whether a type fits one field.
func csvScalar(t reflect.Type) bool {
	_, scalar := scalarOps[t.Kind()]
	return scalar || t == timeType || hasText(t)
}

// setColumns lays the columns out. Names must be unique, and at least one must be
// a field of T.
func (f *CSVFormat[T]) setColumns(columns []string) error {
	f.columns, f.plan = columns, nil
	known := 0
	for i, name := range columns {
		if slices.Contains(columns[:i], name) {
			return csvBuildError("CSV", fmt.Sprintf("two columns are named %q", name))
		}
		col := csvColumn{name: name}
		if at := slices.IndexFunc(f.fields, func(c csvColumn) bool { return c.name == name }); at >= 0 {
			col.index = f.fields[at].index
			known++
		}
		f.plan = append(f.plan, col)
	}
	if known == 0 {
		return csvBuildError("CSV", fmt.Sprintf("none of the columns %.80q is a field of %s", columns, reflect.TypeFor[T]()))
	}
	return nil
}

// Name implements Format.
func (f *CSVFormat[T]) Name() string { return "csv" }

// ContentType implements Format.
func (f *CSVFormat[T]) ContentType() string { return "text/csv" }

// HasHeader reports whether data begins with a line of column names.
func (f *CSVFormat[T]) HasHeader() bool { return f.o.Header }

// Header returns the line of column names, without a line break.
func (f *CSVFormat[T]) Header() []byte {
	var dst []byte
	for i, name := range f.columns {
		dst = f.appendField(dst, i, name)
	}
	return dst
}

// WithHeader returns the format for data that begins with the given line of
// column names. The error is WEIR-0601, or WEIR-0152 when no column fits T. A
// leading byte-order mark is ignored.
func (f *CSVFormat[T]) WithHeader(line []byte) (*CSVFormat[T], error) {
	fields, err := f.split(nil, bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")))
	if err != nil {
		return nil, err
	}
	columns := make([]string, len(fields))
	for i := range fields {
		columns[i] = string(fields[i].text)
	}
	g := &CSVFormat[T]{o: f.o, fields: f.fields}
	if err := g.setColumns(columns); err != nil {
		return nil, err
	}
	return g, nil
}

// Encode implements Format. The record has no line break at its end.
func (f *CSVFormat[T]) Encode(dst []byte, v *T) ([]byte, error) {
	rv := reflect.ValueOf(v).Elem()
	out := dst
	for i, col := range f.plan {
		text := ""
		if col.index != nil {
			var err error
			if text, err = f.format(rv.FieldByIndex(col.index)); err != nil {
				return dst, &base.Error{Code: CodeEncode, Where: "CSV column " + col.name, What: "the value cannot be expressed", Cause: err}
			}
		}
		out = f.appendField(out, i, text)
	}
	return checkEncoded(dst, out, f.o.Limits)
}

// appendField appends the i-th field of a record, in quotes where needed.
func (f *CSVFormat[T]) appendField(dst []byte, i int, text string) []byte {
	if i > 0 {
		dst = append(dst, byte(f.o.Comma))
	}
	alone := len(f.plan) == 1 && text == "" // an empty line would be no record
	if !alone && !strings.ContainsAny(text, "\"\r\n") && strings.IndexByte(text, byte(f.o.Comma)) < 0 {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	for i := range len(text) {
		if text[i] == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, text[i])
	}
	return append(dst, '"')
}

// Decode implements Format. A line break at the end of src is ignored.
func (f *CSVFormat[T]) Decode(src []byte, v *T) error {
	var zero T
	*v = zero
	if err := f.o.Limits.checkSize(len(src)); err != nil {
		return err
	}
	var space [32]csvField
	fields, err := f.split(space[:0], src)
	if err != nil {
		return err
	}
	if len(fields) != len(f.plan) {
		return dataError(CodeMalformed, "CSV", 0, fmt.Sprintf("the record has %d fields, %d columns are expected", len(fields), len(f.plan)))
	}
	rv := reflect.ValueOf(v).Elem()
	for i, col := range f.plan {
		if col.index == nil || len(fields[i].text) == 0 {
			continue
		}
		if err := f.parse(rv.FieldByIndex(col.index), string(fields[i].text)); err != nil {
			return &base.Error{
				Code: CodeMismatch, Where: fmt.Sprintf("CSV column %s, byte %d", col.name, fields[i].pos),
				What: fmt.Sprintf("%.40q does not fit", fields[i].text), Cause: err,
			}
		}
	}
	return nil
}

// csvField is one field and where it starts.
type csvField struct {
	text []byte
	pos  int
}

// split appends the fields of one record to fields. They alias src except where a
// doubled quote had to be undone.
func (f *CSVFormat[T]) split(fields []csvField, src []byte) ([]csvField, error) {
	src = bytes.TrimSuffix(bytes.TrimSuffix(src, []byte("\n")), []byte("\r"))
	comma := byte(f.o.Comma)
	pos := 0
	for {
		if len(fields) == f.o.Limits.Elems {
			return nil, dataError(CodeLimit, "CSV", pos, reasonElems)
		}
		field := csvField{pos: pos}
		if pos < len(src) && src[pos] == '"' {
			var reason string
			if field.text, pos, reason = unquote(src, pos+1); reason != "" {
				return nil, dataError(CodeMalformed, "CSV", pos, reason)
			}
			if pos < len(src) && src[pos] != comma {
				return nil, dataError(CodeMalformed, "CSV", pos, "text follows a closing quote")
			}
		} else {
			end := len(src)
			if i := bytes.IndexByte(src[pos:], comma); i >= 0 {
				end = pos + i
			}
			field.text = src[pos:end]
			if i := bytes.IndexAny(field.text, "\"\r\n"); i >= 0 {
				return nil, dataError(CodeMalformed, "CSV", pos+i, "a quote or line break stands in a field without quotes")
			}
			pos = end
		}
		fields = append(fields, field)
		if pos == len(src) {
			return fields, nil
		}
		pos++ // the comma
	}
}

// unquote reads a quoted field after its opening quote, up to after its closing
// one.
func unquote(src []byte, pos int) (text []byte, end int, reason string) {
	start := pos
	for {
		i := bytes.IndexByte(src[pos:], '"')
		if i < 0 {
			return nil, len(src), "a quoted field does not end"
		}
		pos += i + 1
		if pos == len(src) || src[pos] != '"' {
			break
		}
		pos++ // a doubled quote
	}
	text = src[start : pos-1]
	if bytes.IndexByte(text, '"') >= 0 {
		text = bytes.ReplaceAll(text, []byte(`""`), []byte(`"`))
	}
	return text, pos, ""
}

// format renders one field.
func (f *CSVFormat[T]) format(v reflect.Value) (string, error) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		if x.IsZero() {
			return "", nil
		}
		return x.Format(f.o.TimeLayout), nil
	case *time.Duration:
		return x.String(), nil
	case encoding.TextMarshaler:
		b, err := x.MarshalText()
		return string(b), err
	}
	switch v.Kind() {
	case reflect.String:
		return v.String(), nil
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), nil
	case reflect.Float32, reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits()), nil
	}
	if v.CanInt() {
		return strconv.FormatInt(v.Int(), 10), nil
	}
	return strconv.FormatUint(v.Uint(), 10), nil
}

// parse sets one field from a text that is not empty.
func (f *CSVFormat[T]) parse(v reflect.Value, text string) (err error) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x, err = time.Parse(f.o.TimeLayout, text)
		return err
	case *time.Duration:
		*x, err = time.ParseDuration(text)
		return err
	case encoding.TextUnmarshaler:
		return x.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		v.SetBool(b)
		return err
	case reflect.Float32, reflect.Float64:
		x, err := strconv.ParseFloat(text, v.Type().Bits())
		v.SetFloat(x)
		return err
	default:
		if v.CanInt() {
			n, err := strconv.ParseInt(text, 10, v.Type().Bits())
			v.SetInt(n)
			return err
		}
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		v.SetUint(n)
		return err
	}
	return nil
}
