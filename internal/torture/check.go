package torture

import (
	"slices"
)

// Check compares visible results with the model of the input. Results are taken
// in the order in which a reader saw them.
type Check struct {
	m      *Model
	rep    Report
	chains map[branchKey]*chainSeen
	orders map[branchKey]*orderSeen
	// windows holds the last firing of each window and bucket.
	windows map[windowKey]tally
	late    map[uint64]int
	ticks   map[tickKey]uint64 // timers of j7 that were set and have not fired
}

type branchKey struct{ job, key string }

type tickKey struct {
	key string
	at  int64
}

// chainSeen is the visible end of a hash chain.
type chainSeen struct {
	n    uint64
	hash string
}

// orderSeen is how far the records of a key were answered.
type orderSeen struct {
	next    uint64          // the Seq expected next
	skipped map[uint64]bool // earlier ones that are missing
}

// NewCheck returns a check against a model.
func NewCheck(m *Model) *Check {
	return &Check{
		m: m, chains: map[branchKey]*chainSeen{}, orders: map[branchKey]*orderSeen{}, windows: map[windowKey]tally{},
		late: map[uint64]int{}, ticks: map[tickKey]uint64{}, rep: Report{Records: len(m.records)},
	}
}

// Take takes the next result.
func (c *Check) Take(o *Output) {
	c.rep.Results++
	if chained[o.Job] {
		c.chain(o)
	}
	switch o.Job {
	case JobEcho:
		if r := c.order(o); r != nil && o.Sum != r.Value {
			c.rep.add(Wrong, 1, "%s: value %d, want %d", describe(o), o.Sum, r.Value)
		}
	case JobCount:
		c.count(o)
	case JobTumbling, JobSliding:
		c.window(o)
	case JobLate:
		c.tooLate(o)
	case JobNonce:
		c.nonce(o)
	case JobTimers:
		if o.ID != 0 {
			c.visited(o)
		} else {
			c.bucket(o)
		}
	default:
		c.rep.add(Wrong, 1, "%s: no such branch", describe(o))
	}
}

// chain checks that a result continues the visible one before it.
func (c *Check) chain(o *Output) {
	k := branchKey{o.Job, o.Key}
	s := c.chains[k]
	if s == nil {
		s = &chainSeen{}
		c.chains[k] = s
	}
	if want := ChainHash(o); o.Hash != want {
		c.rep.add(Wrong, 1, "%s: hash %s, want %s", describe(o), o.Hash, want)
	}
	if o.N != s.n+1 || o.Prev != s.hash {
		c.rep.add(Torn, 1, "%s: it is number %d after %q; the visible one before is number %d with %q", describe(o), o.N, o.Prev, s.n, s.hash)
	}
	s.n, s.hash = o.N, o.Hash
}

// order checks that the records of a key are answered one after another, each
// once. It returns the record, or nil when the answer does not count.
func (c *Check) order(o *Output) *Record {
	r := c.m.record(o.ID)
	if r == nil || r.Key != o.Key {
		c.rep.add(Wrong, 1, "%s: the input has no such record of that key", describe(o))
		return nil
	}
	k := branchKey{o.Job, o.Key}
	s := c.orders[k]
	if s == nil {
		s = &orderSeen{next: 1, skipped: map[uint64]bool{}}
		c.orders[k] = s
	}
	switch {
	case r.Seq == s.next:
	case r.Seq > s.next:
		for q := s.next; q < r.Seq; q++ {
			s.skipped[q] = true
		}
	case s.skipped[r.Seq]:
		delete(s.skipped, r.Seq)
		c.rep.add(Reordered, 1, "%s: record %d of the key comes after record %d", describe(o), r.Seq, s.next-1)
		return r
	default:
		c.rep.add(Duplicated, 1, "%s: record %d of the key was answered before; the last was %d", describe(o), r.Seq, s.next-1)
		return nil
	}
	s.next = r.Seq + 1
	return r
}

// count checks a result of j2.
func (c *Check) count(o *Output) {
	r := c.order(o)
	if r == nil {
		return
	}
	if sum := c.m.sums[r.ID-1]; o.Count != r.Seq || o.Sum != sum {
		c.rep.add(Wrong, 1, "%s: count %d, sum %d, want %d, %d", describe(o), o.Count, o.Sum, r.Seq, sum)
	}
	if last := c.m.lasts[r.ID-1]; o.Last != last {
		c.rep.add(Wrong, 1, "%s: the latest large record is %d, want %d", describe(o), o.Last, last)
	}
	var latest []uint64
	if r.Seq%latestEvery == 0 {
		latest = c.m.byKey[r.Key][r.Seq-latestEvery : r.Seq]
	}
	if !slices.Equal(o.Latest, latest) {
		c.rep.add(Wrong, 1, "%s: the latest records are %v, want %v", describe(o), o.Latest, latest)
	}
}

// nonce checks a result of j7: an answer, or a timer that has fired.
func (c *Check) nonce(o *Output) {
	if o.ID != 0 {
		r := c.order(o)
		if r == nil {
			return
		}
		if set := o.Tick != 0; set != (r.ID%4 == 0) {
			c.rep.add(Wrong, 1, "%s: timer set: %v", describe(o), set)
		}
		if o.Tick != 0 {
			c.ticks[tickKey{o.Key, o.Tick}] = o.ID
		}
		return
	}
	k := tickKey{o.Key, o.Tick}
	id, set := c.ticks[k]
	switch {
	case !set:
		c.rep.add(Duplicated, 1, "%s: a timer fired that was not set, or twice", describe(o))
	case id != o.Count:
		c.rep.add(Wrong, 1, "%s: the timer of record %d fired as that of %d", describe(o), id, o.Count)
	}
	delete(c.ticks, k)
}

// visited checks what the state with a time to live remembered.
func (c *Check) visited(o *Output) {
	r := c.order(o)
	if r == nil {
		return
	}
	var prev *Record
	if r.Seq > 1 {
		prev = c.m.record(c.m.byKey[r.Key][r.Seq-2])
	}
	if o.Seen == 0 {
		if prev != nil && r.At-prev.At <= surelyAlive.Milliseconds() {
			c.rep.add(Lost, 1, "%s: the visit %d ms before, record %d, is forgotten", describe(o), r.At-prev.At, prev.ID)
		}
		return
	}
	if prev == nil || o.Seen != prev.ID {
		c.rep.add(Wrong, 1, "%s: remembers record %d, which is not the visit before", describe(o), o.Seen)
	} else if r.At-prev.At >= surelyExpired.Milliseconds() {
		c.rep.add(Wrong, 1, "%s: remembers a visit %d ms ago", describe(o), r.At-prev.At)
	}
}

// Finish returns the verdict, after the last result.
func (c *Check) Finish() *Report {
	for key, ids := range c.m.byKey {
		c.finishKey(JobEcho, key, ids)
		c.finishKey(JobCount, key, ids)
		c.finishKey(JobNonce, key, ids)
		if c.m.record(ids[0]).Class == Visit {
			c.finishKey(JobTimers, key, ids)
		}
	}
	for k, id := range c.ticks {
		c.rep.add(Lost, 1, "%s, key %s: the timer of record %d for %d never fired", JobNonce, k.key, id, k.at)
	}
	c.finishWindows()
	return &c.rep
}

// finishKey counts the records of a key that were not answered.
func (c *Check) finishKey(job, key string, ids []uint64) {
	s := c.orders[branchKey{job, key}]
	if s == nil {
		c.rep.add(Lost, len(ids), "%s, key %s: none of its %d records is answered, from record %d on", job, key, len(ids), ids[0])
		return
	}
	if n := len(ids) - int(s.next) + 1; n > 0 {
		c.rep.add(Lost, n, "%s, key %s: the last %d of %d records are not answered", job, key, n, len(ids))
	}
	for q := range s.skipped {
		c.rep.add(Lost, 1, "%s, key %s: record %d of the key (%d) is not answered, and later ones are", job, key, q, ids[q-1])
	}
}
