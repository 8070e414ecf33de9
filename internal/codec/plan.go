package codec

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/weirflow/weir/internal/base"
)

// op says how a node is encoded. Integer kinds of one size share an op, so that
// named types and int cost nothing extra.
type op uint8

const (
	opBool op = iota
	opInt8
	opInt16
	opInt32
	opInt64
	opUint8
	opUint16
	opUint32
	opUint64
	opFloat32
	opFloat64
	opString
	opBytes     // []byte: binary
	opByteArray // [n]byte: binary of exactly n bytes
	opArray
	opSlice
	opMap
	opStruct
	opPtr
	opTime   // time.Time: the timestamp extension, an instant without a zone
	opMethod // the type's own encoding methods
)

// node is the compiled plan of one type. It is immutable after compilation and
// is shared by all goroutines.
type node struct {
	op     op
	flat   bool // holds no pointer, so that its memory may be copied as bytes
	size   uintptr
	len    int // opArray, opByteArray: number of elements
	typ    reflect.Type
	elem   *node // opArray, opSlice, opMap, opPtr
	key    *node // opMap
	fields []field
	omits  bool // some field is left out when empty
	method method
}

// field is one encoded field of a struct, including those of embedded structs.
type field struct {
	name      string
	head      []byte // the name as a MessagePack string
	offset    uintptr
	omitEmpty bool
	node      *node
}

// method says which of its own methods encode a type.
type method uint8

const (
	noMethod     method = iota
	customMethod        // EncodeMsgpack and DecodeMsgpack
	msgMethod           // MarshalMsgpack and UnmarshalMsgpack
	binaryMethod        // MarshalBinary and UnmarshalBinary, as binary
	textMethod          // MarshalText and UnmarshalText, as binary
)

// maxTypeDepth bounds how deep a type may nest, so that every value of an
// accepted type passes Validate with the default limits.
const maxTypeDepth = DefaultDepth

var (
	timeType = reflect.TypeFor[time.Time]()
	// methodPairs are tried in this order, which is the order of the reference
	// library.
	methodPairs = []struct {
		enc, dec reflect.Type
		method   method
	}{
		{reflect.TypeFor[msgpack.CustomEncoder](), reflect.TypeFor[msgpack.CustomDecoder](), customMethod},
		{reflect.TypeFor[msgpack.Marshaler](), reflect.TypeFor[msgpack.Unmarshaler](), msgMethod},
		{reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler](), binaryMethod},
		{reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](), textMethod},
	}
)

// compiler compiles one root type.
type compiler struct {
	root  reflect.Type
	path  []string       // names of the fields above the current type
	stack []reflect.Type // types above the current one, to find recursion
}

// refuse builds the error for a type that cannot be encoded.
func (c *compiler) refuse(t reflect.Type, why string) error {
	where := c.root.String() + strings.Join(c.path, "")
	return &base.Error{
		Code: CodeType, Where: where, What: fmt.Sprintf("the type %s cannot be encoded: %s", t, why),
		Next: `change the field's type, exclude it with the tag msgpack:"-", or give the type EncodeMsgpack and DecodeMsgpack methods`,
	}
}

// compile returns the plan for t.
func (c *compiler) compile(t reflect.Type) (*node, error) {
	for _, above := range c.stack {
		if above == t {
			return nil, c.refuse(t, "it contains itself")
		}
	}
	if len(c.stack) > maxTypeDepth {
		return nil, c.refuse(t, fmt.Sprintf("it nests more than %d levels deep", maxTypeDepth))
	}
	c.stack = append(c.stack, t)
	defer func() { c.stack = c.stack[:len(c.stack)-1] }()

	n := &node{typ: t, size: t.Size()}
	if t == timeType {
		n.op = opTime
		return n, nil
	}
	if m := methodOf(t); m != noMethod {
		n.op, n.method = opMethod, m
		return n, nil
	}
	return n, c.compileKind(n, t)
}

// methodOf returns the encoding methods that *t has, in full pairs only.
func methodOf(t reflect.Type) method {
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface {
		return noMethod
	}
	p := reflect.PointerTo(t)
	for _, pair := range methodPairs {
		if p.Implements(pair.enc) && p.Implements(pair.dec) {
			return pair.method
		}
	}
	return noMethod
}

// scalarOps maps the kinds without structure. Int and Uint are 64 bits wide on
// every platform that Weir supports; compileKind checks it.
var scalarOps = map[reflect.Kind]op{
	reflect.Bool: opBool, reflect.String: opString,
	reflect.Int: opInt64, reflect.Int8: opInt8, reflect.Int16: opInt16, reflect.Int32: opInt32, reflect.Int64: opInt64,
	reflect.Uint: opUint64, reflect.Uint8: opUint8, reflect.Uint16: opUint16, reflect.Uint32: opUint32, reflect.Uint64: opUint64,
	reflect.Float32: opFloat32, reflect.Float64: opFloat64,
}

// compileKind fills n for a type without methods of its own.
func (c *compiler) compileKind(n *node, t reflect.Type) (err error) {
	if o, ok := scalarOps[t.Kind()]; ok {
		if (t.Kind() == reflect.Int || t.Kind() == reflect.Uint) && t.Size() != 8 {
			return c.refuse(t, "this platform's int has fewer than 64 bits; use a sized integer")
		}
		n.op, n.flat = o, o != opString
		return nil
	}
	switch t.Kind() {
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 && methodOf(t.Elem()) == noMethod {
			n.op = opBytes
			return nil
		}
		n.op = opSlice
		n.elem, err = c.child("[]", t.Elem())
	case reflect.Array:
		n.len = t.Len()
		if t.Elem().Kind() == reflect.Uint8 && methodOf(t.Elem()) == noMethod {
			n.op, n.flat = opByteArray, true
			return nil
		}
		n.op = opArray
		if n.elem, err = c.child("[]", t.Elem()); err == nil {
			n.flat = n.elem.flat
		}
	case reflect.Map:
		n.op = opMap
		if err = c.checkMapKey(t.Key()); err != nil {
			return err
		}
		if n.key, err = c.child("[key]", t.Key()); err == nil {
			n.elem, err = c.child("[value]", t.Elem())
		}
	case reflect.Pointer:
		n.op = opPtr
		if t.Elem().Kind() == reflect.Pointer {
			return c.refuse(t, "a pointer to a pointer has two kinds of nil")
		}
		n.elem, err = c.child("", t.Elem())
	case reflect.Struct:
		n.op = opStruct
		err = c.compileStruct(n, t)
	default:
		return c.refuse(t, "a "+t.Kind().String()+" has no stored form")
	}
	return err
}

// checkMapKey accepts the keys whose equality is that of their encodings.
func (c *compiler) checkMapKey(k reflect.Type) error {
	switch k.Kind() {
	case reflect.Bool, reflect.String,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return nil
	case reflect.Array:
		if k.Elem().Kind() == reflect.Uint8 {
			return nil
		}
	}
	return c.refuse(k, "keys of an encoded map are strings, integers, bool or byte arrays")
}

// child compiles a type one level down.
func (c *compiler) child(step string, t reflect.Type) (*node, error) {
	c.path = append(c.path, step)
	defer func() { c.path = c.path[:len(c.path)-1] }()
	return c.compile(t)
}

// compileStruct collects the encoded fields of t into n.
func (c *compiler) compileStruct(n *node, t reflect.Type) error {
	if err := c.addFields(n, t, 0); err != nil {
		return err
	}
	if len(n.fields) == 0 && t.NumField() > 0 {
		return c.refuse(t, "it has no exported field, so nothing of it would be stored")
	}
	// Raw memory must hold what the encoding holds, no more: a field that is not
	// encoded must not survive just because the struct is flat.
	n.flat = encodedFieldCount(t) == len(n.fields)
	for i := range n.fields {
		n.flat = n.flat && n.fields[i].node.flat
		n.omits = n.omits || n.fields[i].omitEmpty
	}
	return nil
}

// addFields adds the fields of t, which starts at offset within the struct n.
func (c *compiler) addFields(n *node, t reflect.Type, offset uintptr) error {
	for i := range t.NumField() {
		sf := t.Field(i)
		name, options, _ := strings.Cut(sf.Tag.Get("msgpack"), ",")
		if name == "-" || !sf.IsExported() && !sf.Anonymous {
			if sf.Name == "_msgpack" {
				return c.refuse(t, "options of a _msgpack field are not supported; fields are stored by name so that they can be added and removed")
			}
			continue
		}
		c.path = append(c.path, "."+sf.Name)
		err := c.addField(n, sf, offset+sf.Offset, name, options)
		c.path = c.path[:len(c.path)-1]
		if err != nil {
			return err
		}
	}
	return nil
}

// addField adds one field, or the fields of an embedded struct.
func (c *compiler) addField(n *node, sf reflect.StructField, offset uintptr, name, options string) error {
	omit := false
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "", "inline":
		case "omitempty":
			omit = true
		default:
			return c.refuse(sf.Type, fmt.Sprintf("the tag option %q is not supported", option))
		}
	}
	if sf.Anonymous {
		switch {
		case sf.Type.Kind() == reflect.Struct && sf.Type != timeType && methodOf(sf.Type) == noMethod:
			return c.addFields(n, sf.Type, offset)
		case sf.Type.Kind() == reflect.Pointer && sf.Type.Elem().Kind() == reflect.Struct:
			return c.refuse(sf.Type, "a struct is embedded by pointer; embed it by value")
		case !sf.IsExported():
			return nil
		}
	}
	if name == "" {
		name = sf.Name
	}
	for i := range n.fields {
		if n.fields[i].name == name {
			return c.refuse(sf.Type, fmt.Sprintf("two fields are stored under the name %q; rename one with a tag", name))
		}
	}
	child, err := c.compile(sf.Type)
	if err != nil {
		return err
	}
	n.fields = append(n.fields, field{name: name, head: appendString(nil, name), offset: offset, omitEmpty: omit, node: child})
	return nil
}

// encodedFieldCount returns how many fields t would have if all of them were
// encoded; blank fields count for nothing.
func encodedFieldCount(t reflect.Type) int {
	count := 0
	for i := range t.NumField() {
		sf := t.Field(i)
		switch {
		case sf.Name == "_":
		case sf.Anonymous && sf.Type.Kind() == reflect.Struct && sf.Type != timeType && methodOf(sf.Type) == noMethod:
			count += encodedFieldCount(sf.Type)
		default:
			count++
		}
	}
	return count
}

// hasMethods reports whether the plan calls methods of user types, which may
// keep a pointer to the value that they are given.
func (n *node) hasMethods() bool {
	if n == nil {
		return false
	}
	if n.op == opMethod || n.elem.hasMethods() || n.key.hasMethods() {
		return true
	}
	for i := range n.fields {
		if n.fields[i].node.hasMethods() {
			return true
		}
	}
	return false
}
