package pattern

import "slices"

// The runs of a node are in order. Where runs of several nodes are wanted in order, or
// many come to a node at once, they are merged rather than sorted: an event may move all
// that a key holds.

// maxParts bounds the ordered parts of a list that are merged by looking at the head of
// each.
const maxParts = 8

// applyMoved carries out the decisions about the runs that the event changes, in the
// order of the runs.
func (m *Matcher[T]) applyMoved() {
	if len(m.ends) > maxParts {
		slices.SortFunc(m.moved, func(a, b mover[T]) int {
			if a.run.before(&b.run) {
				return -1
			}
			return 1
		})
	}
	if len(m.ends) <= 1 || len(m.ends) > maxParts {
		for i := range m.moved {
			m.apply(&m.moved[i].run, m.moved[i].dec, false)
		}
		return
	}
	var heads [maxParts]int
	copy(heads[1:], m.ends[:len(m.ends)-1])
	for range m.moved {
		var least *mover[T]
		part := 0
		for p, end := range m.ends {
			if h := heads[p]; h < end && (least == nil || m.moved[h].run.before(&least.run)) {
				least, part = &m.moved[h], p
			}
		}
		heads[part]++
		m.apply(&least.run, least.dec, false)
	}
}

// fewRuns is how many runs are put in their places one by one.
const fewRuns = 16

// put adds a run. Mostly it is the last; else it is put in its place or, if it is one of
// many, left behind those in order, for mix.
func (m *Matcher[T]) put(b *bucket[T], r *run[T], many bool) {
	n := len(b.runs)
	late := n > 0 && r.before(&b.runs[n-1])
	if late && b.ordered > 0 {
		b.mix(&m.aside) // what has come is out of order itself
		late = r.before(&b.runs[n-1])
	}
	b.runs = append(b.runs, *r)
	switch {
	case late && many:
		b.ordered = int32(n)
	case late:
		b.place(n)
	}
}

// place moves the last run, that at n, to its place.
func (b *bucket[T]) place(n int) {
	r := b.runs[n]
	lo, hi := 0, n
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); r.before(&b.runs[mid]) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	copy(b.runs[lo+1:], b.runs[lo:n])
	b.runs[lo] = r
}

// mix brings the runs that put has left behind into order.
func (b *bucket[T]) mix(aside *[]run[T]) {
	if b.ordered == 0 {
		return
	}
	late := append((*aside)[:0], b.runs[b.ordered:]...)
	i, j := int(b.ordered)-1, len(late)-1
	for to := len(b.runs) - 1; j >= 0; to-- {
		if i >= 0 && late[j].before(&b.runs[i]) {
			b.runs[to] = b.runs[i]
			i--
		} else {
			b.runs[to] = late[j]
			j--
		}
	}
	clear(late)
	*aside, b.ordered = late[:0], 0
}

// newest cuts the n runs that are last in order off the buckets of a key.
func (k *Key[T]) newest(n int) {
	for range n {
		var last *bucket[T]
		for _, a := range k.active {
			b := &k.buckets[a]
			if len(b.runs) > 0 && (last == nil || last.runs[len(last.runs)-1].before(&b.runs[len(b.runs)-1])) {
				last = b
			}
		}
		i := len(last.runs) - 1
		last.runs[i] = run[T]{}
		last.runs = last.runs[:i]
	}
	k.live -= n
	k.settle()
}

// oldestRuns cuts the n runs that are first in order off the buckets of a key.
func (k *Key[T]) oldestRuns(n int) {
	cuts := make([]int, len(k.active))
	for range n {
		first := -1
		for i, a := range k.active {
			runs := k.buckets[a].runs[cuts[i]:]
			if len(runs) > 0 && (first < 0 || runs[0].before(&k.buckets[k.active[first]].runs[cuts[first]])) {
				first = i
			}
		}
		cuts[first]++
	}
	for i, a := range k.active {
		if cuts[i] > 0 {
			k.buckets[a].cut(cuts[i])
		}
	}
	k.live -= n
	k.settle()
}
