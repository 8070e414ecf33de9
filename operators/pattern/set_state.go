package pattern

import "encoding/binary"

// setVersion is the first byte of the state of a key in a Set.
const setVersion = 2

// Append appends the state of a key to dst; nothing if the key is empty. Numbers are
// varints, signed ones in zigzag form; tags are 8 bytes, the name and Shape of a
// pattern hashed:
//
//	version (a byte, 2)
//	patterns: count, then of each: tag, length and bytes of Matcher.Append
//	shared:   count, then of runs that patterns share: number of shared stages; count
//	          of patterns, then of each: tag, and 0, or 1 with the time of the start up
//	          to which it has had the runs, and its number within the time; length and
//	          bytes of Matcher.Append
//	waiting:  count, then of each event that waits: time less that of the one before,
//	          length, bytes
func (s *Set[T]) Append(dst []byte, k *SetKey[T], values Values[T]) []byte {
	s.refresh(k)
	if k.Empty() {
		return dst
	}
	e := encoder[T]{values: values, dst: append(dst, setVersion)}
	shared := 0
	for i := range k.subs {
		if k.subs[i].m.shares != nil {
			shared++
		}
	}
	var blob []byte
	e.uint(uint64(len(k.subs) - shared))
	for i := range k.subs {
		if sb := &k.subs[i]; sb.m.shares == nil {
			e.dst = binary.LittleEndian.AppendUint64(e.dst, sb.m.tag)
			blob = sb.m.m.Append(blob[:0], sb.key, values)
			e.bytes(blob)
		}
	}
	e.uint(uint64(shared))
	for i := range k.subs {
		if sb := &k.subs[i]; sb.m.shares != nil {
			e.shared(sb)
			blob = sb.m.m.Append(blob[:0], sb.lane.key(sb.m.m), values)
			e.bytes(blob)
		}
	}
	e.waiting(k.queue)
	return e.dst
}

// shared writes who shares runs.
func (e *encoder[T]) shared(sb *sub[T]) {
	g := sb.m.shares
	e.uint(uint64(g.depth))
	e.uint(uint64(len(g.branches)))
	for _, m := range g.branches {
		e.dst = binary.LittleEndian.AppendUint64(e.dst, m.tag)
		at, any := sb.lane.had(m)
		if !any {
			e.uint(0)
			continue
		}
		e.uint(1)
		e.int(at.ts)
		e.uint(uint64(at.num))
	}
}

// Load replaces the state of k by that of a blob. The parts of patterns that are no
// longer in the set, or have another Shape, are left out.
func (s *Set[T]) Load(src []byte, k *SetKey[T], values Values[T]) error {
	s.settle()
	*k = SetKey[T]{version: s.version}
	if len(src) == 0 {
		return nil
	}
	d := decoder[T]{values: values, src: src[1:], ok: src[0] == setVersion}
	for range d.count() {
		m := s.byTag[d.tag()]
		blob := d.bytes()
		if m == nil || !d.ok {
			continue
		}
		key := &Key[T]{}
		if err := m.m.Load(blob, key, values); err != nil {
			return err
		}
		k.subs = append(k.subs, newSub(m, key, nil))
	}
	for range d.count() {
		if err := s.loadShared(&d, k); err != nil {
			return err
		}
	}
	k.renew()
	k.queue = d.waiting(nil)
	if d.err == nil && (!d.ok || len(d.src) > 0) {
		d.err = ErrState
	}
	return d.err
}

// loadShared reads shared runs, and gives them to the group that has the same patterns,
// or to each of them.
func (s *Set[T]) loadShared(d *decoder[T], k *SetKey[T]) error {
	depth := int(d.uint())
	tags, marks := map[uint64]bool{}, []mark[T]{}
	var left []*member[T]
	for range d.count() {
		tag := d.tag()
		tags[tag] = true
		m := s.byTag[tag]
		if m != nil {
			left = append(left, m)
		}
		if d.uint() == 1 {
			if at := (eventID{d.int(), uint32(d.uint())}); m != nil {
				marks = append(marks, mark[T]{m: m, at: at})
			}
		}
	}
	blob := d.bytes()
	if len(left) == 0 || !d.ok {
		return nil
	}
	g := left[0].group
	same := g != nil && g.depth == depth
	for _, m := range left {
		same = same && m.group == g
	}
	var m *Matcher[T]
	switch p := left[0].m.p; {
	case same:
		m = g.m.m
	case depth < 1 || depth >= len(p.nodes):
		return ErrState
	default:
		m = newMatcher(p.prefix(depth), s.eval)
	}
	key := &Key[T]{}
	if err := m.Load(blob, key, d.values); err != nil {
		return err
	}
	ln, ok := key.lane()
	if !ok {
		return ErrState
	}
	ln.marks = marks
	if !same {
		for _, m := range left {
			s.spill(k, ln, m)
		}
		return nil
	}
	for _, m := range g.branches {
		if !tags[m.tag] {
			ln.mark(m, ln.latest())
		}
	}
	s.recount(ln, true)
	k.subs = append(k.subs, newSub(g.m, nil, ln))
	return nil
}

// tag reads a tag.
func (d *decoder[T]) tag() uint64 {
	if len(d.src) < 8 {
		d.ok, d.src = false, nil
		return 0
	}
	t := binary.LittleEndian.Uint64(d.src)
	d.src = d.src[8:]
	return t
}
