package state

import (
	"encoding/binary"
	"fmt"
	"time"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

// currentKey is the user key that views act on.
type currentKey struct {
	kind  KeyKind // 0 until a kind was chosen
	set   bool
	hash  uint64
	u     uint64
	bytes []byte
	be    [8]byte
}

// SetKeyKind says how user keys are given to the views that are declared from now
// on. The default is KeyBytes, for which integers are keys of 8 bytes.
func (b *Backend) SetKeyKind(k KeyKind) { b.key.kind = k }

// SetKey makes a key of bytes the one that views act on. The bytes must stay
// unchanged until another key is set.
func (b *Backend) SetKey(hash uint64, key []byte) {
	b.key.set, b.key.hash, b.key.bytes = true, hash, key
	if b.key.kind == KeyUint64 {
		if len(key) != 8 {
			b.fail(base.Fatal(stateError(CodeKey, fmt.Sprintf("a key of %d bytes where integers are expected", len(key)), b.opts.Task,
				"this is a fault of an operator; please report it", nil)))
			return
		}
		b.key.u = binary.BigEndian.Uint64(key)
	}
}

// SetKeyU64 makes an integer key the one that views act on.
func (b *Backend) SetKeyU64(hash, key uint64) {
	binary.BigEndian.PutUint64(b.key.be[:], key)
	b.key.set, b.key.hash, b.key.u, b.key.bytes = true, hash, key, b.key.be[:]
}

// Option changes how a view is declared.
type Option interface{ apply(*viewOptions) }

type viewOptions struct{ ttl Lifetime }

type optionFunc func(*viewOptions)

func (f optionFunc) apply(o *viewOptions) { f(o) }

// TTL hides and removes an entry when the watermark has reached the event time of
// its last writing plus d. A Value and each entry of a Map live by themselves, a
// List as a whole.
func TTL(d time.Duration) Option {
	return optionFunc(func(o *viewOptions) { o.ttl = Lifetime{For: d} })
}

// TTLProcessing is TTL in processing time.
func TTLProcessing(d time.Duration) Option {
	return optionFunc(func(o *viewOptions) { o.ttl = Lifetime{For: d, Processing: true} })
}

// form converts values of V to what tables hold: an optional expiry and, for
// maps, an ordinal in front, then the memory of V or its encoding.
type form[V any] struct {
	b       *Backend
	where   string
	codec   *codec.Codec[V]
	raw     bool
	size    int
	prefix  int
	ttl     Lifetime
	expires bool
	buf     []byte
}

func newForm[V any](b *Backend, operator, name string, o viewOptions, prefix int) (form[V], error) {
	c, err := codec.For[V]()
	if err != nil {
		return form[V]{}, err
	}
	f := form[V]{b: b, where: operator + "/" + name, codec: c, ttl: o.ttl, expires: o.ttl.For > 0, prefix: prefix}
	if o.ttl.For < 0 {
		return f, stateError(CodeDeclare, fmt.Sprintf("a TTL of %v", o.ttl.For), f.where, "give it a positive duration", nil)
	}
	if f.expires {
		f.prefix += expiryLen
	}
	size, raw := c.Fixed()
	f.raw = raw && size > 0 && size+f.prefix <= maxValueSize
	if f.raw {
		f.size = size
	}
	return f, nil
}

// decl declares a table of such values.
func (f *form[V]) decl(operator, name string, key KeyKind) Decl {
	d := Decl{Operator: operator, Name: name, Key: key, Schema: f.codec.Schema().String(), TTL: f.ttl, expires: f.expires}
	if f.raw {
		d.ValueSize = f.prefix + f.size
	}
	return d
}

// at returns the V in a raw value.
func (f *form[V]) at(p unsafe.Pointer) *V { return (*V)(unsafe.Add(p, f.prefix)) }

// decode reads the V in a variable value.
func (f *form[V]) decode(val []byte, v *V) {
	if err := f.codec.Decode(val[f.prefix:], v); err != nil {
		f.b.fail(base.Fatal(stateError(CodeSchema, "a stored value cannot be read", f.where,
			"restore the old type, or give the state a new name", err)))
	}
}

// encode returns a variable value with room for its prefix.
func (f *form[V]) encode(v *V) []byte {
	f.buf = f.codec.Append(append(f.buf[:0], make([]byte, f.prefix)...), v)
	if f.expires {
		setExpiry(f.buf, f.b.expiry(f.ttl))
	}
	return f.buf
}

// keyed is a table with one entry for each user key.
type keyed struct {
	b    *Backend
	g    *Group
	t    *Table
	kind KeyKind
}

func (k *keyed) table() *Table {
	if k.t == nil || k.t.dead {
		k.t = k.g.Namespace(0)
	}
	return k.t
}

// upsert returns the fixed value of the current key.
func (k *keyed) upsert() (unsafe.Pointer, bool) {
	c := &k.b.key
	if k.kind == KeyUint64 {
		return k.table().UpsertU64(c.hash, c.u)
	}
	return k.table().UpsertBytes(c.hash, c.bytes)
}

// get returns the fixed value of the current key, or nil.
func (k *keyed) get() unsafe.Pointer {
	c := &k.b.key
	if k.kind == KeyUint64 {
		return k.table().GetU64(c.hash, c.u)
	}
	return k.table().GetBytes(c.hash, c.bytes)
}

func (k *keyed) putVar(val []byte) {
	c := &k.b.key
	if k.kind == KeyUint64 {
		k.table().PutVarU64(c.hash, c.u, val)
		return
	}
	k.table().PutVar(c.hash, c.bytes, val)
}

func (k *keyed) getVar() ([]byte, bool) {
	c := &k.b.key
	if k.kind == KeyUint64 {
		return k.table().GetVarU64(c.hash, c.u)
	}
	return k.table().GetVar(c.hash, c.bytes)
}

func (k *keyed) remove() bool {
	c := &k.b.key
	if k.kind == KeyUint64 {
		return k.table().DeleteU64(c.hash, c.u)
	}
	return k.table().DeleteBytes(c.hash, c.bytes)
}

// Spilled reports whether values may lie in the spill store, so that Prefetch can
// gain something.
func (k *keyed) Spilled() bool { return k.table().stored > 0 }

// Prefetch loads the values of many keys at once, as far as they lie in the spill
// store. It changes nothing else. Integer keys go in ints and all others in bytes;
// the other one is not looked at.
func (k *keyed) Prefetch(hashes, ints []uint64, bytes [][]byte) {
	if k.kind == KeyUint64 {
		k.table().PrefetchU64(hashes, ints)
		return
	}
	k.table().PrefetchBytes(hashes, bytes)
}

func (b *Backend) newKeyed(d Decl) (keyed, error) {
	d.Key = max(b.key.kind, KeyUint64)
	if b.key.kind == 0 {
		d.Key = KeyBytes
	}
	g, err := b.Group(d)
	return keyed{b: b, g: g, kind: d.Key}, err
}

func options(opts []Option) viewOptions {
	var o viewOptions
	for _, f := range opts {
		f.apply(&o)
	}
	return o
}

// entryKey builds the key of a scattered entry of the current user key: its hash,
// its bytes, and a suffix that the caller appends.
func (b *Backend) entryKey(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, b.key.hash)
	dst = binary.AppendUvarint(dst, uint64(len(b.key.bytes)))
	return append(dst, b.key.bytes...)
}

// setKeyOf makes the owner of a scattered entry the current key and returns the
// suffix.
func (b *Backend) setKeyOf(key []byte) (suffix []byte) {
	n, k := binary.Uvarint(key[8:])
	user := key[8+k : 8+k+int(n)]
	b.SetKey(ownerOf(key), user)
	return key[8+k+int(n):]
}
