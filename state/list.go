package state

import (
	"encoding/binary"
	"iter"
	"unsafe"
)

// List is a sequence of V for each key. Each element is an entry of its own, so
// appending costs the same for short and for long lists. Its methods act on the
// backend's current key.
type List[V any] struct {
	form[V]
	heads keyed // by user key: expiry and length
	g     *Group
	t     *Table
	key   []byte
	tmp   V
}

// listHead is the entry of a user key.
type listHead struct {
	expiry int64
	len    uint64
}

const listHeadSize = int(unsafe.Sizeof(listHead{}))

// NewList declares a List. See NewValue for how V is kept.
func NewList[V any](b *Backend, operator, name string, opts ...Option) (*List[V], error) {
	o := options(opts)
	f, err := newForm[V](b, operator, name, viewOptions{}, 0)
	if err != nil {
		return nil, err
	}
	l := &List[V]{form: f}
	head := Decl{Operator: operator, Name: name + ".len", ValueSize: listHeadSize, Schema: "list length", TTL: o.ttl, expires: o.ttl.For > 0}
	if l.heads, err = b.newKeyed(head); err != nil {
		return nil, err
	}
	d := f.decl(operator, name, KeyBytes)
	d.scattered = true
	if l.g, err = b.Group(d); err != nil {
		return nil, err
	}
	l.heads.g.onExpire = func(hash uint64, key []byte) {
		saved := b.key
		b.SetKey(hash, key)
		if h := l.heads.get(); h != nil && b.past((*listHead)(h).expiry, o.ttl) {
			l.Clear()
		}
		b.key = saved
	}
	return l, nil
}

// head returns the head of a list that exists and has not expired, or nil.
func (l *List[V]) head() *listHead {
	h := (*listHead)(l.heads.get())
	if h != nil && l.heads.g.decl.expires && l.b.past(h.expiry, l.heads.g.decl.TTL) {
		l.Clear()
		return nil
	}
	return h
}

// at makes the key of element i and returns its position.
func (l *List[V]) at(i uint64) uint64 {
	if l.t == nil || l.t.dead {
		l.t = l.g.Namespace(0)
	}
	l.key = binary.BigEndian.AppendUint64(l.b.entryKey(l.key[:0]), i)
	return l.b.place.scatter(l.key)
}

// Append adds an element.
func (l *List[V]) Append(v V) {
	var val []byte
	if !l.raw { // first: an encoding method of the user's may panic
		l.tmp = v
		val = l.encode(&l.tmp)
	}
	l.head() // clears an expired list
	p, _ := l.heads.upsert()
	h := (*listHead)(p)
	i := h.len
	h.len++
	if l.heads.g.decl.expires {
		h.expiry = l.b.expiry(l.heads.g.decl.TTL)
	}
	pos := l.at(i)
	if l.raw {
		p, _ := l.t.UpsertBytes(pos, l.key)
		*l.form.at(p) = v
		return
	}
	l.t.PutVar(pos, l.key, val)
}

// Get returns element i, counted from 0, and whether there is one.
func (l *List[V]) Get(i int) (v V, ok bool) {
	if h := l.head(); h == nil || i < 0 || uint64(i) >= h.len {
		return v, false
	}
	pos := l.at(uint64(i))
	if l.raw {
		p := l.t.GetBytes(pos, l.key)
		if p == nil {
			return v, false
		}
		return *l.form.at(p), true
	}
	val, ok := l.t.GetVar(pos, l.key)
	if ok {
		l.decode(val, &v)
	}
	return v, ok
}

// Len returns the number of elements.
func (l *List[V]) Len() int {
	if h := l.head(); h != nil {
		return int(h.len)
	}
	return 0
}

// All yields the elements in the order in which they were appended. The list may
// be appended to meanwhile; new elements are not yielded.
func (l *List[V]) All() iter.Seq[V] {
	return func(yield func(V) bool) {
		for i := range l.Len() {
			if v, ok := l.Get(i); ok && !yield(v) {
				return
			}
		}
	}
}

// Clear removes all elements.
func (l *List[V]) Clear() {
	h := (*listHead)(l.heads.get())
	if h == nil {
		return
	}
	for i := range h.len {
		pos := l.at(i)
		l.t.DeleteBytes(pos, l.key)
	}
	l.heads.remove()
}
