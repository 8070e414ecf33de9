package pattern

import (
	"math"
	"slices"
)

// Set is several patterns over one stream. They share the pass over the events and
// the evaluation of conditions, and patterns that no event concerns cost nothing
// where their first stage asks for the value of a field (see Equal). Patterns may be
// put in, replaced and removed between two events. A Set belongs to one goroutine.
//
// What a change means for the runs of a key: those of a pattern that is removed are
// dropped; those of a pattern that is replaced go on if the new one has the same
// Shape, and are dropped otherwise; a new pattern starts with the next event. Keys
// learn of a change when they are looked at next.
type Set[T any] struct {
	table   *exprTable[T]
	eval    *evaluator[T]
	members []*member[T]
	byTag   map[uint64]*member[T]
	// version counts the changes of the members, gens those after which the runs of a
	// pattern are not those of the one before it.
	version, gens uint64
	compacted     int  // expressions of the table when it was made last
	stale         bool // the members have changed since they were sorted
	groups        []*group[T]
	// touched lists the members with figures that were not published yet.
	touched []*member[T]
	// byFirst finds members by an Equal condition that their first event must meet;
	// any lists those without such a condition.
	byFirst map[int32][]*member[T]
	any     []*member[T]
	out     Output[T]
}

// member is one pattern of a set.
type member[T any] struct {
	id   string
	opts []Option
	// gen tells patterns apart that had the id one after another; tag is of id, shape
	// and gen.
	gen, tag uint64
	m        *Matcher[T]
	ord      int    // place in the set; what steps shared runs comes last
	gone     bool   // no longer in the set
	seen     uint64 // the event that has been given to it
	free     []*Key[T]
	// open and held count the runs of all keys.
	open, held int64
	touched    bool
	pub        *published
	// leads are the ways to share the first stages, group is who does. left counts the
	// shared runs that the pattern has had. shares is set in what steps shared runs.
	// If quiet is set, an event that meets none of concerns does nothing.
	concerns idSet
	quiet    bool
	leads    []lead
	group    *group[T]
	left     int64
	shares   *group[T]
}

// SetKey is the state of one key in a Set. The zero SetKey is that of a key without
// events.
type SetKey[T any] struct {
	subs    []sub[T]
	queue   []waiting[T]
	version uint64 // of the set when the key was looked at last
	changed bool   // runs have come, gone or moved since this was false
	// due is a time before which no window ends, if known is set.
	due   int64
	known bool
}

// sub is the state of a key in one pattern.
type sub[T any] struct {
	m     *member[T]
	key   *Key[T]
	marks []mark // in shared runs: who has had which
}

// Sink takes what a pattern of a set finds. The output is valid during the call.
type Sink[T any] func(id string, out *Output[T])

// NewSet returns an empty set. wantTimeouts says that timed-out runs are collected.
func NewSet[T any](wantTimeouts bool) *Set[T] {
	t := newExprTable[T]()
	return &Set[T]{table: t, eval: newEvaluator(t), byTag: map[uint64]*member[T]{}, byFirst: map[int32][]*member[T]{}, out: Output[T]{Want: wantTimeouts}, compacted: len(t.exprs)}
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
	if len(s.groups) > 0 {
		emptied = s.inherit(k)
		k.order()
	}
	for i := range k.subs {
		sb := &k.subs[i]
		sb.m.seen = s.eval.event
		if sb.m.quiet && !s.concerned(sb.m) {
			continue // nor has it become empty, unless inherit says so
		}
		dropped := sb.m.m.stats.Overflowed
		if err := s.take(k, sb.m, sb.key, ts, sink); err != nil {
			return err
		}
		if len(sb.marks) > 0 && (!sb.m.quiet || sb.m.m.stats.Overflowed > dropped) {
			s.recount(sb, false) // runs may have ended
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

// concerned says that the event in hand meets a condition without which it does nothing
// in a pattern.
func (s *Set[T]) concerned(m *member[T]) bool {
	for f := range s.table.fields {
		if m.concerns.has(s.eval.hit(int32(f))) {
			return true
		}
	}
	return false
}

// touch notes that runs have come, gone or moved.
func (k *SetKey[T]) touch() { k.changed, k.known = true, false }

// begin gives an event to a pattern in which the key has no runs.
func (s *Set[T]) begin(k *SetKey[T], m *member[T], ts int64, sink Sink[T]) error {
	if m.seen == s.eval.event {
		return nil
	}
	m.seen = s.eval.event
	if d := m.m.decide(m.m.p.start, nil); d.hi == d.lo {
		return nil
	}
	key := m.fresh()
	if err := s.take(k, m, key, ts, sink); err != nil {
		return err
	}
	if key.Empty() {
		m.recycle(key)
		return nil
	}
	k.subs = append(k.subs, sub[T]{m: m, key: key})
	k.order()
	return nil
}

// order puts the patterns of a key into the order of the set, so that what one event
// finds in several comes in the same order whatever the key has gone through.
func (k *SetKey[T]) order() {
	byPlace := func(a, b sub[T]) int { return a.m.ord - b.m.ord }
	if !slices.IsSortedFunc(k.subs, byPlace) {
		slices.SortFunc(k.subs, byPlace)
	}
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

func (s *Set[T]) take(k *SetKey[T], m *member[T], key *Key[T], ts int64, sink Sink[T]) error {
	open, held := key.Runs()
	err := m.m.take(key, ts, &s.out)
	if !m.m.acted && err == nil {
		return nil
	}
	k.touch()
	s.account(m, key, open, held)
	s.flush(m, sink)
	return err
}

// account counts what has become of the runs of a key.
func (s *Set[T]) account(m *member[T], key *Key[T], open, held int) {
	o, h := key.Runs()
	m.open += int64(o - open)
	m.held += int64(h - held)
	s.touch(m)
}

// touch notes that a pattern has figures to publish.
func (s *Set[T]) touch(m *member[T]) {
	if !m.touched {
		m.touched = true
		s.touched = append(s.touched, m)
	}
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
	s.refresh(k)
	for {
		due := k.expires()
		if due > now || due == never {
			return nil
		}
		k.touch()
		if err := s.end(k, due, sink); err != nil {
			return err
		}
		k.settle()
	}
}

// end ends the windows of a key that end at due: of the patterns' own runs, then of
// those that they share, in which order a restored key has them as well.
func (s *Set[T]) end(k *SetKey[T], due int64, sink Sink[T]) error {
	for i := range k.subs {
		sb := &k.subs[i]
		if sb.m.shares != nil {
			continue
		}
		open, held := sb.key.Runs()
		err := sb.m.m.Advance(sb.key, due, &s.out)
		s.account(sb.m, sb.key, open, held)
		s.flush(sb.m, sink)
		if err != nil {
			return err
		}
	}
	for i := range k.subs {
		if sb := &k.subs[i]; sb.m.shares != nil {
			s.expireShared(sb, due, sink)
		}
	}
	return nil
}

// expires returns the time before which no window ends.
func (k *SetKey[T]) expires() int64 {
	if k.known {
		return k.due
	}
	due := int64(math.MaxInt64)
	for i := range k.subs {
		if key := k.subs[i].key; key.live > 0 || len(key.heap) > 1 {
			due = min(due, key.due)
		}
	}
	k.due, k.known = due, true
	return due
}
