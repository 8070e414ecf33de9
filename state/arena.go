package state

import (
	"math/bits"
	"unsafe"
)

// arena holds the long keys, variable and large values of one segment. It grows at
// its end. What is freed is counted, and used again for values of the same size, or
// class of sizes; the whole is copied when too much of it is garbage.
type arena struct {
	pages []block
	total int // bytes of pages
	cur   unsafe.Pointer
	left  int
	// live and garbage are bytes handed out and given back.
	live, garbage int
	// expect is about how many bytes are still to come in a copy of another arena,
	// so that pages fit.
	expect int
	// free links freed fixed-size values.
	free unsafe.Pointer
	// vars links freed variable values by class; nil until there are any.
	vars *[varClasses]unsafe.Pointer
}

const (
	minArenaPage = 1 << minOrder
	maxArenaPage = 64 << 10
	// arenaPart of an arena is the size of the page by which it grows.
	arenaPart = 16
	// maxShared is the largest value that surely lies in a page with others.
	maxShared = maxArenaPage / 4
	// varClasses is the number of classes of sizes up to maxShared: eight to a
	// doubling, all multiples of 8.
	varClasses = 8 + 8*8
)

func round8(n int) int { return (n + 7) &^ 7 }

// classOf returns the class of the least size that is at least n, and that size; n
// is 1 to maxShared.
func classOf(n int) (class, size int) {
	if n <= 64 {
		size = round8(n)
		return size/8 - 1, size
	}
	k := bits.Len(uint(n - 1)) // 2^(k-1) < n <= 2^k
	step := 1 << (k - 4)
	i := (n - 1<<(k-1) + step - 1) / step
	return 8*(k-6) + i - 1, 1<<(k-1) + i*step
}

// alloc returns memory for n bytes, aligned to 8. Its content is arbitrary.
func (a *arena) alloc(mem *pool, n int) unsafe.Pointer {
	n = round8(n)
	a.live += n
	if n <= a.left {
		p := a.cur
		a.cur, a.left = unsafe.Add(p, n), a.left-n
		return p
	}
	size := a.nextPage()
	if n > size/2 && n > maxShared { // a page of its own; the current one stays
		b := mem.alloc(n)
		a.take(b)
		return b.p
	}
	for size < n {
		size *= 2
	}
	b := mem.alloc(size) // the rest of the page before is lost until the next copy
	a.take(b)
	a.cur, a.left = unsafe.Add(b.p, n), b.size-n
	return b.p
}

func (a *arena) take(b block) {
	a.pages = append(a.pages, b)
	a.total += b.size
	a.expect -= b.size
}

// nextPage returns the size of the next page: what is expected, rounded down so that
// the last one is small, or else a small part of what there is.
func (a *arena) nextPage() int {
	n := a.expect
	if n <= 0 {
		n = 2*(a.total/arenaPart) - 1 // rounded up
	}
	if n < 2*minArenaPage {
		return minArenaPage
	}
	return min(1<<(bits.Len(uint(n))-1), maxArenaPage)
}

// allocFixed is alloc for values of one size, which freeFixed takes back.
func (a *arena) allocFixed(mem *pool, n int) unsafe.Pointer {
	if p := a.free; p != nil {
		a.free = *(*unsafe.Pointer)(p)
		a.live += round8(n)
		a.garbage -= round8(n)
		return p
	}
	return a.alloc(mem, n)
}

func (a *arena) freeFixed(p unsafe.Pointer, n int) {
	*(*unsafe.Pointer)(p) = a.free
	a.free = p
	a.drop(n)
}

// reuse returns freed memory for a value of n bytes, with room for as many as its
// class has; nil when there is none.
func (a *arena) reuse(n int) (p unsafe.Pointer, room int) {
	if a.vars == nil || n > maxShared {
		return nil, 0
	}
	c, room := classOf(n)
	if p = a.vars[c]; p == nil {
		return nil, 0
	}
	a.vars[c] = *(*unsafe.Pointer)(p)
	a.live += room
	a.garbage -= room
	return p, room
}

// freeVar takes the memory of a variable value back, of n > 0 bytes.
func (a *arena) freeVar(p unsafe.Pointer, n int) {
	a.drop(n)
	if n > maxShared {
		return
	}
	c, size := classOf(n)
	if size > n { // it has room for those of the class below only
		c--
	}
	if a.vars == nil {
		a.vars = new([varClasses]unsafe.Pointer)
	}
	*(*unsafe.Pointer)(p) = a.vars[c]
	a.vars[c] = p
}

// drop counts n bytes as garbage.
func (a *arena) drop(n int) {
	n = round8(n)
	a.live -= n
	a.garbage += n
}

// wasteful says that copying the live part is worth it: a quarter is garbage.
func (a *arena) wasteful() bool { return a.garbage > 16<<10 && 3*a.garbage > a.live }

func (a *arena) release(mem *pool) {
	for _, b := range a.pages {
		mem.release(b)
	}
	*a = arena{}
}

// size returns the memory of the arena.
func (a *arena) size() int { return a.total }
