package pattern

import (
	"fmt"
	"slices"
)

// bound enforces the limit on runs after an event.
func (m *Matcher[T]) bound(k *Key[T]) error {
	open, held := k.Runs()
	m.stats.MaxRuns = max(m.stats.MaxRuns, int64(open))
	over := open + held - m.p.opts.limits.Runs
	if over <= 0 {
		return nil
	}
	switch m.p.opts.limits.Overflow {
	case FailOnOverflow:
		return fmt.Errorf("%w: %d runs; there may be %d", ErrOverflow, open+held, m.p.opts.limits.Runs)
	case DropKey:
		m.stats.Overflowed += int64(open + held)
		k.reset()
		return nil
	}
	m.stats.Overflowed += int64(over)
	m.shed(k, over)
	return nil
}

// shed drops n runs, those that started first or last.
func (m *Matcher[T]) shed(k *Key[T], n int) {
	if oldest := m.p.opts.limits.Overflow == DropOldest; !m.p.exact() && len(k.done) == 0 {
		if oldest {
			k.oldestRuns(n)
		} else {
			k.newest(n)
		}
		return
	}
	all := make([]run[T], 0, k.live+len(k.heap)+len(k.done))
	for _, a := range k.active {
		all = append(all, k.buckets[a].runs...)
	}
	for _, r := range k.heap {
		if r.path != nil {
			all = append(all, r)
		}
	}
	all = append(all, k.done...)
	slices.SortFunc(all, func(a, b run[T]) int {
		if a.before(&b) {
			return -1
		}
		return 1
	})
	var drop func(*run[T]) bool
	if m.p.opts.limits.Overflow == DropOldest {
		edge := all[n]
		drop = func(r *run[T]) bool { return r.path != nil && r.before(&edge) }
	} else {
		edge := all[len(all)-n]
		drop = func(r *run[T]) bool { return r.path != nil && !r.before(&edge) }
	}
	k.heap = heapFilter(k.heap, drop)
	k.live = 0
	for _, a := range k.active {
		b := &k.buckets[a]
		b.runs = slices.DeleteFunc(b.runs, func(r run[T]) bool { return drop(&r) })
		k.live += len(b.runs)
	}
	k.settle()
	if m.p.exact() {
		k.done = heapFilter(k.done, drop)
	} else {
		k.done = slices.DeleteFunc(k.done, func(r run[T]) bool { return drop(&r) })
	}
}
