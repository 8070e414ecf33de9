package pattern

import (
	"cmp"
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
	// routes has, by Equal condition, what an event may touch that meets it. any lists
	// members that any event may begin.
	routes []route[T]
	any    []*member[T]
	// shared is the first place of what steps shared runs. loud counts the members that
	// look at all events, loudGroups those among them that step shared runs.
	shared           int32
	loud, loudGroups int
	// slack is how much later than they end runs may be taken out if no event comes.
	slack int64
	out   Output[T]

	// What is in hand: the routes of the conditions that the event meets, who takes
	// shared runs on, and the patterns of the key, by index, that the event is for.
	heard []*route[T]
	heirs []heir[T]
	todo  []int
	runs  []run[T]
	final link[T]
	from  *member[T] // whose output the sink is given
	added bool       // the key has runs in more patterns, not in order yet
}

// member is one pattern of a set.
type member[T any] struct {
	m   *Matcher[T]
	ord int32 // place in the set; what steps shared runs comes last
	// If quiet is set, an event that meets none of concerns does nothing. A member that
	// is loud looks at all events.
	quiet, loud bool
	touched     bool
	gone        bool // no longer in the set
	// open and held count the runs of all keys, left the shared runs that the pattern
	// has had, whole the matches of shared runs that are not in the Matcher's count, and
	// spared the timeouts of shared runs that are too much in it.
	open, left, whole, spared int64
	id                        string
	held                      int64
	hash                      uint64 // of id
	seen                      uint64 // the event that has been given to it
	// gen tells patterns apart that had the id one after another; tag is of id, shape
	// and gen.
	gen, tag uint64
	opts     []Option
	free     []*Key[T]
	lanes    []*lane[T]
	pub      *published
	// leads are the ways to share the first stages, group is who does. shares is set in
	// what steps shared runs.
	concerns []int32
	leads    []lead
	group    *group[T]
	shares   *group[T]
}

// stats returns what has been counted for a pattern.
func (m *member[T]) stats() Stats {
	st := m.m.Stats()
	st.Matches += m.whole
	st.Timeouts -= m.spared
	return st
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

// sub is the state of a key in one pattern. What is asked of all patterns of a key for
// each event is kept here, so that the rest need not be fetched.
type sub[T any] struct {
	m *member[T]
	// key holds the pattern's own runs, lane those that patterns share. Neither: it
	// holds nothing and is to be taken out.
	key  *Key[T]
	lane *lane[T]
	due  int64 // a time before which no window ends
	ord  int32 // of m
	loud bool
}

func newSub[T any](m *member[T], key *Key[T], ln *lane[T]) sub[T] {
	return sub[T]{m: m, key: key, lane: ln, due: never, ord: m.ord, loud: m.loud}
}

// note notes when the runs of a pattern end, after they have changed.
func (k *SetKey[T]) note(sb *sub[T]) {
	was := sb.due
	sb.note()
	switch {
	case sb.due < k.due:
		k.due = sb.due
	case was <= k.due:
		k.known = false
	}
}

func (sb *sub[T]) note() {
	sb.due = never
	if sb.lane != nil {
		sb.due = sb.lane.due(sb.m.m.p.window)
	} else if key := sb.key; key.live > 0 || len(key.heap) > 1 {
		sb.due = key.due
	}
}

// release lets go of the runs of a pattern if there are none.
func (sb *sub[T]) release() (emptied bool) {
	switch {
	case sb.lane != nil:
		if len(sb.lane.runs) > 0 {
			return false
		}
		if len(sb.m.lanes) < maxFree {
			sb.lane.reset()
			sb.m.lanes = append(sb.m.lanes, sb.lane)
		}
		sb.lane = nil
	case !sb.key.Empty():
		return false
	default:
		sb.m.recycle(sb.key)
		sb.key = nil
	}
	return true
}

// Sink takes what a pattern of a set finds. The output is valid during the call.
type Sink[T any] func(id string, out *Output[T])

// NewSet returns an empty set. wantTimeouts says that timed-out runs are collected.
func NewSet[T any](wantTimeouts bool) *Set[T] {
	t := newExprTable[T]()
	return &Set[T]{table: t, eval: newEvaluator(t), byTag: map[uint64]*member[T]{}, out: Output[T]{Want: wantTimeouts}, compacted: len(t.exprs)}
}

// Empty says that the key holds nothing.
func (k *SetKey[T]) Empty() bool { return len(k.subs) == 0 && len(k.queue) == 0 }

// Process advances time to ts and gives the event to all patterns that it concerns.
func (s *Set[T]) Process(k *SetKey[T], ts, processing int64, v *T, sink Sink[T]) error {
	if err := s.Advance(k, ts, sink); err != nil {
		return err
	}
	s.eval.begin(v, Moment{Event: ts, Processing: processing})
	s.hear()
	if len(s.heard) == 0 && s.loud == 0 {
		return nil
	}
	if len(k.subs) > 0 {
		if err := s.step(k, ts, sink); err != nil {
			return err
		}
	}
	for _, r := range s.heard {
		for _, m := range r.firsts {
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

// step gives the event to the patterns in which the key has runs, and to those that
// take shared runs on, in the order of the set.
func (s *Set[T]) step(k *SetKey[T], ts int64, sink Sink[T]) error {
	s.inherit(k)
	s.plan(k)
	emptied, next := false, 0
	s.added = false
	for _, i := range s.todo {
		for ; next < len(s.heirs) && s.heirs[next].m.ord < k.subs[i].ord; next++ {
			if err := s.takeOn(k, &s.heirs[next], ts, sink); err != nil {
				return err
			}
		}
		if err := s.visit(k, i, ts, sink); err != nil {
			return err
		}
		emptied = k.subs[i].release() || emptied
	}
	for ; next < len(s.heirs); next++ {
		if err := s.takeOn(k, &s.heirs[next], ts, sink); err != nil {
			return err
		}
	}
	if emptied {
		k.settle()
	}
	if s.added {
		k.order()
	}
	return nil
}

// visit gives the event to a pattern in which the key has runs.
func (s *Set[T]) visit(k *SetKey[T], i int, ts int64, sink Sink[T]) error {
	sb := &k.subs[i]
	m := sb.m
	m.seen = s.eval.event
	var err error
	if sb.lane != nil {
		err = s.visitLane(k, sb, ts)
	} else {
		err = s.take(k, m, sb.key, ts, sink)
	}
	k.note(sb)
	return err
}

// touch notes that runs have come, gone or moved.
func (k *SetKey[T]) touch() { k.changed = true }

// begin gives an event to a pattern in which the key has no runs.
func (s *Set[T]) begin(k *SetKey[T], m *member[T], ts int64, sink Sink[T]) error {
	if m.seen == s.eval.event {
		return nil
	}
	m.seen = s.eval.event
	if m.shares != nil {
		return s.beginLane(k, m, ts)
	}
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
	k.add(newSub(m, key, nil))
	return nil
}

// add adds a pattern in which the key holds something.
func (k *SetKey[T]) add(sb sub[T]) {
	k.note(&sb)
	k.subs = append(k.subs, sb)
	for i := len(k.subs) - 1; i > 0 && k.subs[i].ord < k.subs[i-1].ord; i-- {
		k.subs[i], k.subs[i-1] = k.subs[i-1], k.subs[i]
	}
}

// find returns the index of the pattern at a place of the set; -1 if the key has no
// runs in it.
func (k *SetKey[T]) find(ord int32) int {
	i := k.from(ord)
	if i == len(k.subs) || k.subs[i].ord != ord {
		return -1
	}
	return i
}

// findShared is find for what steps shared runs. Busy keys have runs in all of them.
func (s *Set[T]) findShared(k *SetKey[T], ord int32) int {
	if i := len(k.subs) - int(s.shared) - len(s.groups) + int(ord); i >= 0 && k.subs[i].ord == ord {
		return i
	}
	return k.find(ord)
}

// from returns the index of the first pattern at a place of the set or behind it.
func (k *SetKey[T]) from(ord int32) int {
	lo, hi := 0, len(k.subs)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); k.subs[mid].ord < ord {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// order puts the patterns of a key into the order of the set, so that what one event
// finds in several comes in the same order whatever the key has gone through.
func (k *SetKey[T]) order() {
	slices.SortFunc(k.subs, func(a, b sub[T]) int { return cmp.Compare(a.ord, b.ord) })
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
		s.from = m
		sink(m.id, &s.out)
		s.out.Reset()
	}
}

// settle takes out the patterns that were released.
func (k *SetKey[T]) settle() {
	k.subs = slices.DeleteFunc(k.subs, func(sb sub[T]) bool { return sb.key == nil && sb.lane == nil })
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
	}
}

// end ends the windows of a key that end at due: of the patterns' own runs, then of
// those that they share, in which order a restored key has them as well.
func (s *Set[T]) end(k *SetKey[T], due int64, sink Sink[T]) error {
	emptied := false
	for i := range k.subs {
		sb := &k.subs[i]
		if sb.due > due {
			continue
		}
		if sb.m.shares != nil {
			s.expireLane(sb, due, sink)
		} else {
			open, held := sb.key.Runs()
			err := sb.m.m.Advance(sb.key, due, &s.out)
			s.account(sb.m, sb.key, open, held)
			s.flush(sb.m, sink)
			if err != nil {
				return err
			}
		}
		k.note(sb)
		emptied = sb.release() || emptied
	}
	if emptied {
		k.settle()
	}
	return nil
}

// expires returns the time before which no window ends.
func (k *SetKey[T]) expires() int64 {
	if k.known {
		return k.due
	}
	due := never
	for i := range k.subs {
		due = min(due, k.subs[i].due)
	}
	k.due, k.known = due, true
	return due
}
