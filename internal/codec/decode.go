package codec

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
)

// decoder reads one message. Its methods report failure by false and leave the
// reason in the decoder, so that the good path builds no error values.
type decoder struct {
	b   []byte
	pos int
	// budget is how many bytes the message may still allocate. A few bytes on the
	// wire can stand for a large zero value, so lengths alone do not bound memory.
	budget int

	code   string // the error code of the failure
	reason string
	path   []string // innermost first
	cause  error
}

const (
	// budgetBase and budgetFactor set what a message of n bytes may allocate:
	// budgetBase + n*budgetFactor. The widest honest ratio is that of a nil slice
	// (24 bytes in memory for 1) or of entries that gain fields by a restore.
	budgetBase   = 1 << 20
	budgetFactor = 64
)

const (
	reasonKind   = "the value is of another kind"
	reasonRange  = "the number does not fit the field"
	reasonArray  = "the array has another length"
	reasonKey    = "a map key is not a string"
	reasonBudget = "the message would take too much memory when decoded"
	reasonTime   = "the value is not a timestamp"
	reasonNilKey = "a map has a nil key"
)

// fail records why decoding stops and returns false.
func (d *decoder) fail(code, reason string) bool {
	d.code, d.reason = code, reason
	return false
}

// mismatch is fail for a value that does not fit its field; the message may be
// truncated instead when nothing is left to read.
func (d *decoder) mismatch(reason string) bool {
	if d.pos >= len(d.b) {
		return d.fail(CodeMalformed, reasonTruncated)
	}
	return d.fail(CodeMismatch, reason)
}

// in adds a step to the path of a failure and returns false.
func (d *decoder) in(step string) bool {
	d.path = append(d.path, step)
	return false
}

// err builds the error of a failure.
func (d *decoder) err(root reflect.Type) error {
	where := root.String()
	for i := len(d.path) - 1; i >= 0; i-- {
		where += d.path[i]
	}
	return &base.Error{Code: d.code, Where: fmt.Sprintf("%s, byte %d", where, d.pos), What: d.reason, Cause: d.cause}
}

// charge takes n bytes from the budget.
func (d *decoder) charge(n uintptr) bool {
	if n > uintptr(d.budget) {
		return d.fail(CodeLimit, reasonBudget)
	}
	d.budget -= int(n)
	return true
}

// value decodes the next value into the zeroed memory at p.
func (d *decoder) value(n *node, p unsafe.Pointer) bool {
	if d.pos >= len(d.b) {
		return d.fail(CodeMalformed, reasonTruncated)
	}
	if d.b[d.pos] == 0xc0 { // nil is the zero value of everything
		d.pos++
		return true
	}
	switch n.op {
	case opBool:
		return d.bool((*bool)(p))
	case opInt8, opInt16, opInt32, opInt64:
		return d.signed(n, p)
	case opUint8, opUint16, opUint32, opUint64:
		return d.unsigned(n, p)
	case opFloat32:
		f, ok := d.float()
		*(*float32)(p) = float32(f)
		return ok
	case opFloat64:
		f, ok := d.float()
		*(*float64)(p) = f
		return ok
	case opString:
		return d.string((*string)(p))
	case opBytes:
		raw, ok := d.blob()
		if !ok || !d.charge(uintptr(len(raw))) {
			return false
		}
		*(*[]byte)(p) = append(make([]byte, 0, len(raw)), raw...)
		return true
	case opByteArray:
		raw, ok := d.blob()
		if ok && len(raw) != n.len {
			return d.fail(CodeMismatch, reasonArray)
		}
		copy(unsafe.Slice((*byte)(p), n.len), raw)
		return ok
	case opStruct:
		return d.structure(n, p)
	case opArray:
		return d.array(n, p)
	case opSlice:
		return d.slice(n, (*sliceHeader)(p))
	case opPtr:
		return d.pointer(n, (*unsafe.Pointer)(p))
	case opMap:
		return d.mapping(n, (*unsafe.Pointer)(p))
	case opTime:
		return d.time(p)
	default:
		return d.method(n, noescape(p))
	}
}

// structure decodes a map into the fields of a struct. Fields are expected in
// the order in which they are encoded; any order works.
func (d *decoder) structure(n *node, p unsafe.Pointer) bool {
	count, ok := d.mapHead()
	if !ok {
		return false
	}
	next := 0
	for range count {
		f := d.field(n, &next)
		if f == nil {
			if d.reason != "" || !d.skip() {
				return false
			}
			continue
		}
		if !d.value(f.node, unsafe.Add(p, f.offset)) {
			return d.in("." + f.name)
		}
	}
	return true
}

// field reads the name of a field. It returns nil for an unknown name, and nil
// with a reason on failure. next is the index of the field expected.
func (d *decoder) field(n *node, next *int) *field {
	if i := *next; i < len(n.fields) {
		f := &n.fields[i]
		if end := d.pos + len(f.head); end <= len(d.b) && string(d.b[d.pos:end]) == string(f.head) {
			*next, d.pos = i+1, end
			return f
		}
	}
	if d.pos < len(d.b) && !isBlob(d.b[d.pos]) {
		d.fail(CodeMismatch, reasonKey)
		return nil
	}
	name, ok := d.blob()
	if !ok {
		return nil
	}
	for i := range n.fields {
		if f := &n.fields[i]; f.name == string(name) {
			*next = i + 1
			return f
		}
	}
	return nil
}

// skip steps over the next value.
func (d *decoder) skip() bool {
	end, reason := scan(d.b, d.pos, DefaultDepth, len(d.b))
	d.pos = end
	if reason == reasonDepth {
		return d.fail(CodeLimit, reason)
	}
	return reason == "" || d.fail(CodeMalformed, reason)
}

func (d *decoder) array(n *node, p unsafe.Pointer) bool {
	count, ok := d.arrayHead()
	if !ok {
		return false
	}
	if count != n.len {
		return d.fail(CodeMismatch, reasonArray)
	}
	return d.elems(n.elem, p, count)
}

func (d *decoder) elems(elem *node, p unsafe.Pointer, count int) bool {
	for i := range count {
		if !d.value(elem, unsafe.Add(p, uintptr(i)*elem.size)) {
			return d.in(fmt.Sprintf("[%d]", i))
		}
	}
	return true
}

// slice decodes into fresh memory, never into what the slice held before.
func (d *decoder) slice(n *node, s *sliceHeader) bool {
	count, ok := d.arrayHead()
	if !ok || !d.charge(uintptr(count)*n.elem.size) {
		return false
	}
	data := allocate(n, count)
	*s = sliceHeader{data: data, len: count, cap: count}
	return d.elems(n.elem, data, count)
}

// allocate returns zeroed memory for count elements of a slice, never nil.
func allocate(n *node, count int) unsafe.Pointer {
	if n.elem.flat { // without pointers any memory of the size will do
		return unsafe.Pointer(unsafe.SliceData(make([]uint64, (uintptr(count)*n.elem.size+7)/8)))
	}
	return reflect.MakeSlice(n.typ, count, count).UnsafePointer()
}

func (d *decoder) pointer(n *node, p *unsafe.Pointer) bool {
	if !d.charge(n.elem.size) {
		return false
	}
	q := reflect.New(n.elem.typ).UnsafePointer()
	*p = q
	return d.value(n.elem, q)
}

func (d *decoder) mapping(n *node, p *unsafe.Pointer) bool {
	count, ok := d.mapHead()
	if !ok || !d.charge(uintptr(count)*(n.key.size+n.elem.size)) {
		return false
	}
	m := reflect.MakeMapWithSize(n.typ, count)
	*p = m.UnsafePointer()
	key, val := reflect.New(n.key.typ), reflect.New(n.elem.typ)
	for range count { // a key is written whole each time, a value may lack fields
		val.Elem().SetZero()
		if d.pos < len(d.b) && d.b[d.pos] == 0xc0 {
			return d.fail(CodeMismatch, reasonNilKey)
		}
		if !d.value(n.key, key.UnsafePointer()) {
			return d.in("[key]")
		}
		if !d.value(n.elem, val.UnsafePointer()) {
			return d.in("[value]")
		}
		m.SetMapIndex(key.Elem(), val.Elem())
	}
	return true
}
