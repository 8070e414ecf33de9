package pattern

import "encoding/binary"

// Append appends the state of a key to dst; nothing if the key is empty. The form is:
// version (a byte, 1); count of patterns, then of each 8 bytes that are its name and
// Shape hashed, length and bytes of Matcher.Append; count of events that wait, then
// of each its time less that of the one before, length, bytes.
func (s *Set[T]) Append(dst []byte, k *SetKey[T], values Values[T]) []byte {
	s.refresh(k)
	if k.Empty() {
		return dst
	}
	dst = append(dst, blobVersion)
	dst = binary.AppendUvarint(dst, uint64(len(k.subs)))
	var blob []byte
	for i := range k.subs {
		blob = k.subs[i].m.m.Append(blob[:0], k.subs[i].key, values)
		dst = binary.LittleEndian.AppendUint64(dst, k.subs[i].m.tag)
		dst = binary.AppendUvarint(dst, uint64(len(blob)))
		dst = append(dst, blob...)
	}
	e := encoder[T]{values: values, dst: dst}
	e.waiting(k.queue)
	return e.dst
}

// Load replaces the state of k by that of a blob. The parts of patterns that are no
// longer in the set, or have another Shape, are left out.
func (s *Set[T]) Load(src []byte, k *SetKey[T], values Values[T]) error {
	*k = SetKey[T]{version: s.version}
	if len(src) == 0 {
		return nil
	}
	d := decoder[T]{values: values, src: src[1:], ok: src[0] == blobVersion}
	for range d.count() {
		if len(d.src) < 8 {
			return ErrState
		}
		tag := binary.LittleEndian.Uint64(d.src)
		d.src = d.src[8:]
		n := d.count()
		blob := d.src[:n]
		d.src = d.src[n:]
		m := s.byTag[tag]
		if m == nil {
			continue
		}
		key := &Key[T]{}
		if err := m.m.Load(blob, key, values); err != nil {
			return err
		}
		k.subs = append(k.subs, sub[T]{m, key})
	}
	k.queue = d.waiting(nil)
	if d.err == nil && (!d.ok || len(d.src) > 0) {
		d.err = ErrState
	}
	return d.err
}
