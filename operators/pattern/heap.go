package pattern

// The pools of FlinkCompat are binary heaps by start, the entry run last, whose
// layout is that of Java's PriorityQueue: the order of matches with equal starts
// depends on it.

// earlier orders runs by start alone; the entry run comes last.
func (r *run[T]) earlier(o *run[T]) bool {
	if r.path == nil || o.path == nil {
		return r.path != nil
	}
	return r.start.compare(o.start) < 0
}

func heapPush[T any](h []run[T], r run[T]) []run[T] {
	h = append(h, r)
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].earlier(&h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
	return h
}

func heapPop[T any](h []run[T]) (run[T], []run[T]) {
	n := len(h) - 1
	h[0], h[n] = h[n], h[0]
	r := h[n]
	h[n] = run[T]{}
	h = h[:n]
	siftDown(h, 0)
	return r, h
}

func siftDown[T any](h []run[T], i int) {
	for {
		kid := 2*i + 1
		if kid >= len(h) {
			return
		}
		if kid+1 < len(h) && h[kid+1].earlier(&h[kid]) {
			kid++
		}
		if !h[kid].earlier(&h[i]) {
			return
		}
		h[i], h[kid] = h[kid], h[i]
		i = kid
	}
}

// heapFilter removes the runs for which drop is true.
func heapFilter[T any](h []run[T], drop func(*run[T]) bool) []run[T] {
	kept := h[:0]
	for i := range h {
		if !drop(&h[i]) {
			kept = append(kept, h[i])
		}
	}
	if len(kept) == len(h) {
		return h
	}
	clear(h[len(kept):])
	for i := len(kept)/2 - 1; i >= 0; i-- {
		siftDown(kept, i)
	}
	return kept
}
