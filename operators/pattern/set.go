package pattern

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// Set is several patterns over one stream. They share the pass over the events and
// the evaluation of conditions, and patterns that no event concerns cost nothing
// where their first stage asks for the value of a field (see Equal). Patterns may be
// put in, replaced and removed between two events. A Set belongs to one goroutine.
//
// What a change means for the runs of a key: those of a pattern that is removed are
// dropped; those of a pattern that is replaced go on if the new one has the same
// Shape, and are dropped otherwise; a new pattern starts with the next event.
type Set[T any] struct {
	table   *exprTable[T]
	eval    *evaluator[T]
	members []*member[T]
	// byFirst finds members by an Equal condition that their first event must meet;
	// any lists those without such a condition.
	byFirst map[int32][]*member[T]
	any     []*member[T]
	out     Output[T]
}

// member is one pattern of a set.
type member[T any] struct {
	id   string
	tag  uint64 // of id and shape
	m    *Matcher[T]
	seen uint64 // the event that has been given to it
	free []*Key[T]
}

// SetKey is the state of one key in a Set. The zero SetKey is that of a key without
// events.
type SetKey[T any] struct {
	subs  []sub[T]
	queue []waiting[T]
}

// sub is the state of a key in one pattern.
type sub[T any] struct {
	m   *member[T]
	key *Key[T]
}

// Sink takes what a pattern of a set finds. The output is valid during the call.
type Sink[T any] func(id string, out *Output[T])

// NewSet returns an empty set. wantTimeouts says that timed-out runs are collected.
func NewSet[T any](wantTimeouts bool) *Set[T] {
	t := newExprTable[T]()
	return &Set[T]{table: t, eval: newEvaluator(t), byFirst: map[int32][]*member[T]{}, out: Output[T]{Want: wantTimeouts}}
}

// Put compiles a pattern and adds it under a name, in place of the one that had the
// name. The errors are those of Compile; the set is unchanged then.
func (s *Set[T]) Put(id string, p *Pattern[T], opts ...Option) error {
	prog, err := compileInto(s.table, p, opts)
	s.eval.grow()
	if err != nil {
		return fmt.Errorf("pattern %s: %w", id, err)
	}
	s.Remove(id)
	s.members = append(s.members, &member[T]{id: id, tag: base.Mix(base.HashString(id), prog.shape), m: newMatcher(prog, s.eval)})
	s.index()
	return nil
}

// Remove takes a pattern out and reports whether there was one.
func (s *Set[T]) Remove(id string) bool {
	n := len(s.members)
	s.members = slices.DeleteFunc(s.members, func(m *member[T]) bool { return m.id == id })
	s.index()
	return len(s.members) < n
}

// Names lists the patterns in the order in which they were put in.
func (s *Set[T]) Names() []string {
	names := make([]string, len(s.members))
	for i, m := range s.members {
		names[i] = m.id
	}
	return names
}

// Program returns a pattern's program; nil if there is none of that name.
func (s *Set[T]) Program(id string) *Program[T] {
	for _, m := range s.members {
		if m.id == id {
			return m.m.p
		}
	}
	return nil
}

// Stats returns what the Matcher of a pattern has counted.
func (s *Set[T]) Stats(id string) (Stats, bool) {
	for _, m := range s.members {
		if m.id == id {
			return m.m.Stats(), true
		}
	}
	return Stats{}, false
}

// index sorts the members by what their first event must be.
func (s *Set[T]) index() {
	clear(s.byFirst)
	s.any = s.any[:0]
	for _, m := range s.members {
		firsts, ok := m.m.p.firsts()
		if !ok {
			s.any = append(s.any, m)
			continue
		}
		for _, id := range firsts {
			s.byFirst[id] = append(s.byFirst[id], m)
		}
	}
}

// firsts lists Equal conditions of which one holds for every event that can begin a
// run; not ok if there are no such conditions.
func (p *Program[T]) firsts() (ids []int32, ok bool) {
	stack := []uint16{p.start}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, e := range p.nodes[n].edges {
			switch e.act {
			case actProceed:
				stack = append(stack, e.to)
			case actTake:
				if ids, ok = p.table.needs(e.cond, ids); !ok {
					return nil, false
				}
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), true
}

// needs adds Equal conditions of which one must hold for an expression to hold.
func (t *exprTable[T]) needs(id int32, ids []int32) ([]int32, bool) {
	x := &t.exprs[id]
	switch x.op {
	case opLeaf:
		return append(ids, id), x.leaf.eq != nil
	case opAnd:
		if a, ok := t.needs(x.a, slices.Clip(ids)); ok {
			return a, true
		}
		return t.needs(x.b, ids)
	case opOr:
		a, ok := t.needs(x.a, ids)
		if !ok {
			return nil, false
		}
		return t.needs(x.b, a)
	}
	return nil, false
}

// Empty says that the key holds nothing.
func (k *SetKey[T]) Empty() bool { return len(k.subs) == 0 && len(k.queue) == 0 }

// Process advances time to ts and gives the event to all patterns that it concerns.
func (s *Set[T]) Process(k *SetKey[T], ts, processing int64, v *T, sink Sink[T]) error {
	if err := s.Advance(k, ts, sink); err != nil {
		return err
	}
	s.eval.begin(v, Moment{Event: ts, Processing: processing})
	emptied := false
	for i := range k.subs {
		sb := &k.subs[i]
		sb.m.seen = s.eval.event
		if err := s.take(sb.m, sb.key, ts, sink); err != nil {
			return err
		}
		emptied = emptied || sb.key.Empty()
	}
	if emptied {
		k.settle()
	}
	for f := range s.table.fields {
		for _, m := range s.byFirst[s.eval.hit(int32(f))] {
			if err := s.begin(k, m, ts, sink); err != nil {
				return err
			}
		}
	}
	for _, m := range s.any {
		if err := s.begin(k, m, ts, sink); err != nil {
			return err
		}
	}
	return nil
}

// begin gives an event to a pattern in which the key has no runs.
func (s *Set[T]) begin(k *SetKey[T], m *member[T], ts int64, sink Sink[T]) error {
	if m.seen == s.eval.event {
		return nil
	}
	m.seen = s.eval.event
	m.m.arena = m.m.arena[:0]
	if d := m.m.decide(m.m.p.start, nil); d.hi == d.lo {
		return nil
	}
	// The decision is made again, for the arena starts afresh with the event.
	m.m.cached[m.m.p.start].event = 0
	key := m.fresh()
	if err := s.take(m, key, ts, sink); err != nil {
		return err
	}
	if key.Empty() {
		m.recycle(key)
		return nil
	}
	k.subs = append(k.subs, sub[T]{m, key})
	return nil
}

// maxFree bounds the memory that is kept for keys to come.
const maxFree = 256

func (m *member[T]) fresh() *Key[T] {
	n := len(m.free) - 1
	if n < 0 {
		return &Key[T]{}
	}
	k := m.free[n]
	m.free = m.free[:n]
	return k
}

func (m *member[T]) recycle(k *Key[T]) {
	if len(m.free) < maxFree {
		k.reset()
		m.free = append(m.free, k)
	}
}

func (s *Set[T]) take(m *member[T], key *Key[T], ts int64, sink Sink[T]) error {
	err := m.m.take(key, ts, &s.out)
	s.flush(m, sink)
	return err
}

func (s *Set[T]) flush(m *member[T], sink Sink[T]) {
	if len(s.out.Matches) > 0 || len(s.out.Timeouts) > 0 {
		sink(m.id, &s.out)
		s.out.Reset()
	}
}

// settle takes out the patterns in which the key holds nothing.
func (k *SetKey[T]) settle() {
	k.subs = slices.DeleteFunc(k.subs, func(sb sub[T]) bool {
		if !sb.key.Empty() {
			return false
		}
		sb.m.recycle(sb.key)
		return true
	})
}

// Advance moves time to now, step by step: each window ends at its own time, however
// far now is beyond it.
func (s *Set[T]) Advance(k *SetKey[T], now int64, sink Sink[T]) error {
	for {
		due := k.expires()
		if due > now || due == never {
			return nil
		}
		for i := range k.subs {
			sb := &k.subs[i]
			err := sb.m.m.Advance(sb.key, due, &s.out)
			s.flush(sb.m, sink)
			if err != nil {
				return err
			}
		}
		k.settle()
	}
}

// expires returns the time before which no window ends.
func (k *SetKey[T]) expires() int64 {
	due := int64(math.MaxInt64)
	for i := range k.subs {
		if key := k.subs[i].key; key.live > 0 || len(key.heap) > 1 {
			due = min(due, key.due)
		}
	}
	return due
}

// Append appends the state of a key to dst; nothing if the key is empty. The form is:
// version (a byte, 1); count of patterns, then of each 8 bytes that are its name and
// Shape hashed, length and bytes of Matcher.Append; count of events that wait, then
// of each its time less that of the one before, length, bytes.
func (s *Set[T]) Append(dst []byte, k *SetKey[T], values Values[T]) []byte {
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
	*k = SetKey[T]{}
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
		for _, m := range s.members {
			if m.tag != tag {
				continue
			}
			key := &Key[T]{}
			if err := m.m.Load(blob, key, values); err != nil {
				return err
			}
			k.subs = append(k.subs, sub[T]{m, key})
		}
	}
	k.queue = d.waiting(nil)
	if d.err == nil && (!d.ok || len(d.src) > 0) {
		d.err = ErrState
	}
	return d.err
}
