package state

import (
	"encoding/binary"
	"fmt"
	"iter"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

// Map is a map from K to V for each key. Its entries are entries of the state
// table, so a large map costs no more to change than a small one. Its methods act
// on the backend's current key.
//
// Beside the values it keeps the entries' keys in a dense order, for All: new
// entries come last, and the last one takes the place of one that is deleted.
// Replays therefore yield the same order.
type Map[K comparable, V any] struct {
	form[V]
	keys  *codec.KeyCodec[K]
	heads keyed // by user key: number of entries
	g     *Group
	names *Group // by ordinal: the encoded K
	t, tn *Table
	key   []byte
	name  []byte
	tmp   V
}

// ordinalLen is the length of the ordinal behind the expiry of a value.
const ordinalLen = 8

// NewMap declares a Map. See NewValue for how V is kept; K is what KeyBy accepts.
func NewMap[K comparable, V any](b *Backend, operator, name string, opts ...Option) (*Map[K, V], error) {
	kc, err := codec.KeyFor[K]()
	if err != nil {
		return nil, err
	}
	f, err := newForm[V](b, operator, name, options(opts), ordinalLen)
	if err != nil {
		return nil, err
	}
	m := &Map[K, V]{form: f, keys: kc}
	if m.heads, err = b.newKeyed(Decl{Operator: operator, Name: name + ".len", ValueSize: 8, Schema: "map length"}); err != nil {
		return nil, err
	}
	d := f.decl(operator, name, KeyBytes)
	d.scattered = true
	if m.g, err = b.Group(d); err != nil {
		return nil, err
	}
	d = Decl{Operator: operator, Name: name + ".keys", Key: KeyBytes, Schema: "keys " + kc.Schema().String(), scattered: true}
	if m.names, err = b.Group(d); err != nil {
		return nil, err
	}
	m.g.onExpire = func(_ uint64, key []byte) {
		saved := b.key
		if k, err := kc.Decode(b.setKeyOf(key)); err != nil {
			m.damaged(err)
		} else if m.find(k) {
			m.expire()
		}
		b.key = saved
	}
	return m, nil
}

func (m *Map[K, V]) damaged(err error) {
	m.b.fail(base.Fatal(stateError(CodeSchema, "a key of a map cannot be read", m.where, "give the state a new name", err)))
}

// find makes the entry key of k and reports whether the entry exists; its value
// is in val until the next call.
func (m *Map[K, V]) find(k K) bool {
	m.key = m.keys.Append(m.b.entryKey(m.key[:0]), k)
	return m.value() != nil
}

func (m *Map[K, V]) tables() {
	if m.t == nil || m.t.dead {
		m.t = m.g.Namespace(0)
	}
	if m.tn == nil || m.tn.dead {
		m.tn = m.names.Namespace(0)
	}
}

// value returns the bytes of the entry of the entry key, or nil.
func (m *Map[K, V]) value() []byte {
	m.tables()
	pos := m.b.place.scatter(m.key)
	if !m.raw {
		val, ok := m.t.GetVar(pos, m.key)
		if !ok {
			return nil
		}
		return val
	}
	p := m.t.GetBytes(pos, m.key)
	if p == nil {
		return nil
	}
	return unsafe.Slice((*byte)(p), m.prefix+m.size)
}

// ordinalIn returns the ordinal in the bytes of a value.
func (m *Map[K, V]) ordinalIn(val []byte) uint64 {
	return binary.LittleEndian.Uint64(val[m.prefix-ordinalLen:])
}

// stale says that a value has expired.
func (m *Map[K, V]) stale(val []byte) bool { return m.expires && m.b.past(expiryOf(val), m.ttl) }

// expire deletes the entry of the entry key if it has expired.
func (m *Map[K, V]) expire() {
	if val := m.value(); val != nil && m.stale(val) {
		m.delete()
	}
}

// Get returns the value of k and whether there is one.
func (m *Map[K, V]) Get(k K) (v V, ok bool) {
	if !m.find(k) {
		return v, false
	}
	val := m.value()
	if m.stale(val) {
		m.delete()
		return v, false
	}
	m.load(val, &v)
	return v, true
}

func (m *Map[K, V]) load(val []byte, v *V) {
	if m.raw {
		*v = *m.at(unsafe.Pointer(unsafe.SliceData(val)))
		return
	}
	m.decode(val, v)
}

// Has reports whether there is an entry for k.
func (m *Map[K, V]) Has(k K) bool {
	if !m.find(k) {
		return false
	}
	if m.stale(m.value()) {
		m.delete()
		return false
	}
	return true
}

// Put sets the value of k.
func (m *Map[K, V]) Put(k K, v V) {
	var val []byte
	if !m.raw { // first: an encoding method of the user's may panic
		m.tmp = v
		val = m.encode(&m.tmp)
	}
	fresh := !m.find(k)
	if !fresh && m.stale(m.value()) {
		m.delete()
		fresh = true
	}
	var ord uint64
	if fresh {
		p, _ := m.heads.upsert()
		n := (*uint64)(p)
		ord = *n
		*n++
		m.setName(ord, m.key[m.suffix():])
	} else {
		ord = m.ordinalIn(m.value())
	}
	m.write(ord, &v, val)
}

// write stores a value, which is encoded unless it is stored raw, with its ordinal.
func (m *Map[K, V]) write(ord uint64, v *V, val []byte) {
	pos := m.b.place.scatter(m.key)
	if m.raw {
		p, _ := m.t.UpsertBytes(pos, m.key)
		m.stamp(p)
		*(*uint64)(unsafe.Add(p, m.prefix-ordinalLen)) = ord
		*m.at(p) = *v
		return
	}
	binary.LittleEndian.PutUint64(val[m.prefix-ordinalLen:], ord)
	m.t.PutVar(pos, m.key, val)
}

// suffix returns where the encoded K begins in an entry key.
func (m *Map[K, V]) suffix() int {
	n, k := binary.Uvarint(m.key[8:])
	return 8 + k + int(n)
}

// nameKey makes the key under which an ordinal's K is kept.
func (m *Map[K, V]) nameKey(ord uint64) (pos uint64) {
	m.name = binary.BigEndian.AppendUint64(m.b.entryKey(m.name[:0]), ord)
	return m.b.place.scatter(m.name)
}

func (m *Map[K, V]) setName(ord uint64, k []byte) {
	pos := m.nameKey(ord)
	m.tn.PutVar(pos, m.name, k)
}

// Delete removes the entry of k and reports whether there was one.
func (m *Map[K, V]) Delete(k K) bool {
	if !m.find(k) {
		return false
	}
	gone := m.stale(m.value())
	m.delete()
	return !gone
}

// delete removes the entry of the entry key; the last entry takes its ordinal.
func (m *Map[K, V]) delete() {
	ord := m.ordinalIn(m.value())
	m.t.DeleteBytes(m.b.place.scatter(m.key), m.key)
	p, _ := m.heads.upsert()
	n := (*uint64)(p)
	*n--
	last := *n
	if last == 0 {
		m.heads.remove()
	}
	pos := m.nameKey(last)
	if ord != last {
		moved, _ := m.tn.GetVar(pos, m.name)
		m.key = append(m.b.entryKey(m.key[:0]), moved...)
		m.setName(ord, m.key[m.suffix():])
		m.setOrdinal(ord)
		pos = m.nameKey(last)
	}
	m.tn.DeleteBytes(pos, m.name)
}

// setOrdinal changes the ordinal of the entry of the entry key and leaves its
// value and expiry as they are.
func (m *Map[K, V]) setOrdinal(ord uint64) {
	pos := m.b.place.scatter(m.key)
	if m.raw {
		p, _ := m.t.UpsertBytes(pos, m.key)
		*(*uint64)(unsafe.Add(p, m.prefix-ordinalLen)) = ord
		return
	}
	val, _ := m.t.GetVar(pos, m.key)
	m.buf = append(m.buf[:0], val...)
	binary.LittleEndian.PutUint64(m.buf[m.prefix-ordinalLen:], ord)
	m.t.PutVar(pos, m.key, m.buf)
}

// Len returns the number of entries, expired ones that were not removed yet
// included.
func (m *Map[K, V]) Len() int {
	if p := m.heads.get(); p != nil {
		return int(*(*uint64)(p))
	}
	return 0
}

// All yields the entries in a fixed order. The entry just yielded may be changed
// or deleted; entries that are put meanwhile are not yielded.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for i := m.Len() - 1; i >= 0; i-- { // from the end: a delete moves the last one
			m.tables()
			pos := m.nameKey(uint64(i))
			enc, ok := m.tn.GetVar(pos, m.name)
			if !ok {
				continue
			}
			k, err := m.keys.Decode(enc)
			if err != nil {
				m.damaged(fmt.Errorf("entry %d: %w", i, err))
				return
			}
			if v, ok := m.Get(k); ok && !yield(k, v) {
				return
			}
		}
	}
}

// Clear removes all entries.
func (m *Map[K, V]) Clear() {
	m.tables()
	for i := range uint64(m.Len()) {
		pos := m.nameKey(i)
		if enc, ok := m.tn.GetVar(pos, m.name); ok {
			m.key = append(m.b.entryKey(m.key[:0]), enc...)
			m.t.DeleteBytes(m.b.place.scatter(m.key), m.key)
		}
		m.tn.DeleteBytes(pos, m.name)
	}
	m.heads.remove()
}
