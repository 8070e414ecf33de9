package pattern

import (
	"fmt"
	"math"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// Advance moves time to now: runs whose window is over end, as timeouts or, where
// a trailing NOT stage waited for it, as matches.
func (m *Matcher[T]) Advance(k *Key[T], now int64, out *Output[T]) error {
	if (k.live == 0 && len(k.heap) <= 1) || now < k.due {
		return nil
	}
	m.done = m.done[:0]
	var ended []run[T]
	if m.p.exact() {
		ended = m.expireHeap(k, now)
	} else {
		ended = m.expire(k, now)
	}
	for i := range ended {
		m.end(&ended[i], now, out)
	}
	clear(ended)
	return m.emit(k, now, true, out)
}

// end disposes of a run whose window is over.
func (m *Matcher[T]) end(r *run[T], now int64, out *Output[T]) {
	if m.p.nodes[r.node].matures {
		m.done = append(m.done, *r)
		return
	}
	if r.matched && m.p.opts.onlyUnmatched {
		return
	}
	m.stats.Timeouts++
	if !out.Want {
		return
	}
	at := base.AddTime(r.start.ts, m.p.window)
	if w := m.p.nodes[r.node].prev; w > 0 && base.AddTime(r.last(), w) <= now {
		at = base.AddTime(r.last(), w)
	}
	out.Timeouts = append(out.Timeouts, Timeout[T]{m.p.materialize(r.path, now, true), at})
}

// expire takes the runs out that end at now or before. Within a window they are
// first in their buckets.
func (m *Matcher[T]) expire(k *Key[T], now int64) []run[T] {
	ended := m.born[:0]
	k.due = math.MaxInt64
	for _, n := range k.active {
		b := &k.buckets[n]
		cut := 0
		if m.p.window > 0 {
			for cut < len(b.runs) && base.AddTime(b.runs[cut].start.ts, m.p.window) <= now {
				ended = append(ended, b.runs[cut])
				cut++
			}
		}
		if cut > 0 {
			b.cut(cut)
		}
		if m.p.nodes[n].prev > 0 {
			kept := b.runs[:0]
			for i := range b.runs {
				if m.p.expiry(&b.runs[i]) <= now {
					ended = append(ended, b.runs[i])
				} else {
					kept = append(kept, b.runs[i])
				}
			}
			clear(b.runs[len(kept):])
			b.runs = kept
			for i := range b.runs {
				k.due = min(k.due, m.p.expiry(&b.runs[i]))
			}
		} else if len(b.runs) > 0 && m.p.window > 0 {
			k.due = min(k.due, m.p.expiry(&b.runs[0]))
		}
	}
	k.live -= len(ended)
	k.settle()
	slices.SortFunc(ended, func(a, b run[T]) int {
		if a.before(&b) {
			return -1
		}
		return 1
	})
	m.born = ended
	return ended
}

// expireHeap is expire for FlinkCompat.
func (m *Matcher[T]) expireHeap(k *Key[T], now int64) []run[T] {
	ended := m.born[:0]
	var next []run[T]
	k.due = math.MaxInt64
	for _, r := range k.heap {
		if r.path != nil {
			at := m.p.expiry(&r)
			if at <= now && at != never {
				ended = append(ended, r)
				continue
			}
			k.due = min(k.due, at)
		}
		next = heapPush(next, r)
	}
	k.heap = next
	m.born = ended
	return ended
}

// stepHeap is step for FlinkCompat.
func (m *Matcher[T]) stepHeap(k *Key[T]) {
	if len(k.heap) == 0 {
		k.heap = append(k.heap, run[T]{node: m.p.start})
	}
	var next []run[T]
	k.due = math.MaxInt64
	for i := range k.heap {
		r := &k.heap[i]
		mark := len(m.born)
		m.apply(r, m.decide(r.node, r), r.path == nil)
		for _, b := range m.born[mark:] {
			k.due = min(k.due, m.p.expiry(&b))
			next = heapPush(next, b)
		}
		if r.path == nil {
			next = heapPush(next, *r)
		}
	}
	k.heap = next
	clear(m.born)
	m.thin = m.thin[:0]
}

// emit hands on the completed runs as the skip strategy says.
func (m *Matcher[T]) emit(k *Key[T], at int64, byTime bool, out *Output[T]) error {
	if len(m.done) == 0 && len(k.done) == 0 {
		return nil
	}
	defer m.finish()
	if m.p.skip.Kind == NoSkip {
		m.emitAll(at, byTime, out)
		return nil
	}
	for _, r := range m.done {
		m.hold(k, r)
	}
	for len(k.done) > 0 {
		if first, ok := k.oldest(); ok && first.compare(k.done[0].start) < 0 {
			return nil
		}
		var r run[T]
		if m.p.exact() {
			r, k.done = heapPop(k.done)
		} else {
			r = k.done[0]
			k.done = slices.Delete(k.done, 0, 1)
		}
		if err := m.prune(k, &r); err != nil {
			return err
		}
		m.match(&r, at, byTime, out)
	}
	return nil
}

// finish lets go of what was completed.
func (m *Matcher[T]) finish() {
	clear(m.done)
	m.done = m.done[:0]
	m.release()
}

// emitAll hands on all completed runs, by start.
func (m *Matcher[T]) emitAll(at int64, byTime bool, out *Output[T]) {
	if !m.p.exact() {
		slices.SortStableFunc(m.done, func(a, b run[T]) int { return a.start.compare(b.start) })
		for i := range m.done {
			m.match(&m.done[i], at, byTime, out)
		}
		return
	}
	var h []run[T]
	for _, r := range m.done {
		h = heapPush(h, r)
	}
	for len(h) > 0 {
		var r run[T]
		r, h = heapPop(h)
		m.match(&r, at, byTime, out)
	}
}

func (m *Matcher[T]) match(r *run[T], at int64, byTime bool, out *Output[T]) {
	m.stats.Matches++
	out.Matches = append(out.Matches, m.p.materialize(r.path, at, byTime))
}

// hold puts a completed run among those that wait to be emitted.
func (m *Matcher[T]) hold(k *Key[T], r run[T]) {
	if m.p.exact() {
		k.done = heapPush(k.done, r)
		return
	}
	i := len(k.done)
	for i > 0 && r.start.compare(k.done[i-1].start) < 0 {
		i--
	}
	k.done = slices.Insert(k.done, i, r)
}

// oldest returns the earliest start of an open run.
func (k *Key[T]) oldest() (first eventID, ok bool) {
	if len(k.heap) > 0 && k.heap[0].path != nil {
		return k.heap[0].start, true
	}
	for _, n := range k.active {
		if r := &k.buckets[n].runs[0]; !ok || r.start.compare(first) < 0 {
			first, ok = r.start, true
		}
	}
	return first, ok
}

// prune drops the runs and matches that a match rules out.
func (m *Matcher[T]) prune(k *Key[T], r *run[T]) error {
	limit, ok, err := m.pruneBefore(r)
	if !ok || err != nil {
		return err
	}
	before := k.live + len(k.done) + len(k.heap)
	drop := func(o *run[T]) bool { return o.path != nil && o.start.compare(limit) < 0 }
	if m.p.exact() {
		k.heap, k.done = heapFilter(k.heap, drop), heapFilter(k.done, drop)
	} else {
		for _, n := range k.active {
			b := &k.buckets[n]
			cut := 0
			for cut < len(b.runs) && drop(&b.runs[cut]) {
				cut++
			}
			if cut > 0 {
				b.cut(cut)
				k.live -= cut
			}
		}
		k.settle()
		k.done = slices.DeleteFunc(k.done, func(o run[T]) bool { return drop(&o) })
	}
	m.stats.Pruned += int64(before - k.live - len(k.done) - len(k.heap))
	return nil
}

// pruneBefore returns the start before which runs are dropped after a match.
func (m *Matcher[T]) pruneBefore(r *run[T]) (limit eventID, ok bool, err error) {
	after := func(id eventID) eventID { return eventID{id.ts, id.num + 1} }
	skip := &m.p.skip
	switch skip.Kind {
	case SkipToNext:
		return after(r.start), true, nil
	case SkipPastLast:
		return after(r.path.ev.id()), true, nil
	}
	for l := r.path; l != nil; l = l.prev {
		if l.stage == m.p.target {
			limit, ok = l.ev.id(), true
			if skip.Kind == SkipToLast {
				break
			}
		}
	}
	switch {
	case !skip.ThrowOnMiss:
	case !ok:
		err = fmt.Errorf("%w: %q", ErrSkipTargetMissing, skip.Stage)
	case limit == r.start:
		err = fmt.Errorf("%w: %q", ErrSkipToMatchStart, skip.Stage)
	}
	return limit, ok, err
}
