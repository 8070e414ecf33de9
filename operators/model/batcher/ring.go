package batcher

// ring is a queue of times that reuses its memory.
type ring struct {
	buf  []int64 // its length is a power of two
	head int
	n    int
}

func (r *ring) push(t int64) {
	if r.n == len(r.buf) {
		grown := make([]int64, max(16, 2*len(r.buf)))
		k := copy(grown, r.buf[r.head:])
		copy(grown[k:], r.buf[:r.head])
		r.buf, r.head = grown, 0
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = t
	r.n++
}

func (r *ring) first() int64 { return r.buf[r.head] }

func (r *ring) drop(n int) {
	r.head = (r.head + n) & (len(r.buf) - 1)
	r.n -= n
}
