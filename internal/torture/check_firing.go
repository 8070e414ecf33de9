package torture

import (
	"fmt"
	"strconv"
)

// describe names a result.
func describe(o *Output) string {
	s := fmt.Sprintf("%s, key %s", o.Job, o.Key)
	if o.N != 0 {
		s += fmt.Sprintf(", number %d", o.N)
	}
	if o.ID != 0 {
		s += fmt.Sprintf(", record %d", o.ID)
	}
	if o.End != 0 {
		s += fmt.Sprintf(", [%d, %d)", o.Start, o.End)
	}
	return s
}

// window takes a firing. A window fires once, and again with one record more for
// each that comes within the allowed lateness.
func (c *Check) window(o *Output) {
	ids, err := strconv.ParseUint(o.IDs, 10, 64)
	if err != nil {
		c.rep.add(Wrong, 1, "%s: ids %q", describe(o), o.IDs)
		return
	}
	k := windowKey{o.Job, o.Key, o.Start, o.End}
	last, fired := c.windows[k]
	switch {
	case fired && o.Count == last.Count:
		c.rep.add(Duplicated, 1, "%s: fired twice with %d records", describe(o), o.Count)
	case fired && o.Count < last.Count:
		c.rep.add(Reordered, 1, "%s: fired with %d records after it had fired with %d", describe(o), o.Count, last.Count)
	case fired && o.Count != last.Count+1:
		c.rep.add(Lost, 1, "%s: fired with %d records, and the time before with %d", describe(o), o.Count, last.Count)
	}
	c.windows[k] = tally{o.Count, ids, o.Sum}
}

// tooLate takes a record that no tumbling window wanted.
func (c *Check) tooLate(o *Output) {
	r := c.m.record(o.ID)
	switch {
	case r == nil || r.Key != o.Key:
		c.rep.add(Wrong, 1, "%s: the input has no such record of that key", describe(o))
	case r.Class != Late:
		c.rep.add(Lost, 1, "%s: counted as late, but cannot be", describe(o))
	default:
		if c.late[o.ID]++; c.late[o.ID] > 1 {
			c.rep.add(Duplicated, 1, "%s: late twice", describe(o))
		}
	}
}

// bucket takes a bucket of j8; it is closed once.
func (c *Check) bucket(o *Output) {
	k := windowKey{o.Job, o.Key, o.Start, o.End}
	if _, closed := c.windows[k]; closed {
		c.rep.add(Duplicated, 1, "%s: closed twice", describe(o))
		return
	}
	c.windows[k] = tally{Count: o.Count, Sum: o.Sum}
	want, ok := c.m.buckets[k]
	if !ok {
		c.rep.add(Wrong, 1, "%s: the input has no record for this bucket", describe(o))
		return
	}
	want.IDs = 0
	c.compare(k, want, c.windows[k])
}

// compare judges the last firing of a window.
func (c *Check) compare(k windowKey, want, got tally) {
	where := fmt.Sprintf("%s, key %s, [%d, %d)", k.job, k.key, k.start, k.end)
	switch {
	case got == want:
	case got.Count < want.Count:
		c.rep.add(Lost, int(want.Count-got.Count), "%s: has %d records, want %d", where, got.Count, want.Count)
	case got.Count > want.Count:
		c.rep.add(Duplicated, int(got.Count-want.Count), "%s: has %d records, want %d", where, got.Count, want.Count)
	default:
		c.rep.add(Wrong, 1, "%s: has the right number of records, but is %+v, want %+v", where, got, want)
	}
}

// finishWindows judges all windows and buckets by what they showed last.
func (c *Check) finishWindows() {
	for k, want := range c.m.windows {
		got, ok := c.windows[k]
		if !ok {
			c.rep.add(Lost, 1, "%s, key %s, [%d, %d): never fired", k.job, k.key, k.start, k.end)
			continue
		}
		c.compare(k, want, got)
	}
	for k := range c.m.buckets {
		if _, ok := c.windows[k]; !ok {
			c.rep.add(Lost, 1, "%s, key %s, [%d, %d): never closed", k.job, k.key, k.start, k.end)
		}
	}
	allowed := map[windowKey]bool{}
	for i := range c.m.records {
		switch r := &c.m.records[i]; r.Class {
		case Late:
			c.finishLate(r, allowed)
		case Flush:
			for _, w := range recordWindows(r) {
				allowed[w] = true
			}
		}
	}
	for k := range c.windows {
		if _, ok := c.m.windows[k]; !ok && !allowed[k] && k.job != JobTimers {
			c.rep.add(Wrong, 1, "%s, key %s, [%d, %d): fired without a record", k.job, k.key, k.start, k.end)
		}
	}
}

func recordWindows(r *Record) []windowKey {
	w := windowsOf(JobTumbling, r, TumblingSize.Milliseconds(), TumblingSize.Milliseconds())
	return append(w, windowsOf(JobSliding, r, SlidingSize.Milliseconds(), SlidingEvery.Milliseconds())...)
}

// finishLate judges a late record, the only one of its key. How late the job was
// when it came is not known, but it is in its tumbling window or on the side
// output, once, and in the sliding windows from some one on.
func (c *Check) finishLate(r *Record, allowed map[windowKey]bool) {
	one := tally{Count: 1, IDs: r.ID, Sum: r.Value}
	in, reached := false, false
	for _, w := range recordWindows(r) {
		allowed[w] = true
		got, fired := c.windows[w]
		if fired {
			c.compare(w, one, got)
		}
		switch {
		case w.job == JobTumbling:
			in = fired
		case reached && !fired:
			c.rep.add(Lost, 1, "%s, key %s, [%d, %d): never fired, and an earlier window did", w.job, w.key, w.start, w.end)
		default:
			reached = reached || fired
		}
	}
	switch {
	case in && c.late[r.ID] > 0:
		c.rep.add(Duplicated, 1, "record %d: in its window and on the side output", r.ID)
	case !in && c.late[r.ID] == 0:
		c.rep.add(Lost, 1, "record %d: neither in its window nor on the side output", r.ID)
	case in && !reached:
		c.rep.add(Lost, 1, "record %d: in its tumbling window and in no sliding one", r.ID)
	}
}
