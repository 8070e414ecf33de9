package state

import "unsafe"

// arena holds the long keys, variable and large values of one segment. It only
// grows at its end; what is freed is counted, and the whole is copied when too
// much of it is garbage. Freed fixed-size values are used again at once.
type arena struct {
	pages []block
	cur   unsafe.Pointer
	left  int
	// live and garbage are bytes handed out and given back.
	live, garbage int
	// free links freed fixed-size values.
	free unsafe.Pointer
}

const (
	minArenaPage = 1 << minOrder
	maxArenaPage = 64 << 10
)

func round8(n int) int { return (n + 7) &^ 7 }

// alloc returns memory for n bytes, aligned to 8. Its content is arbitrary.
func (a *arena) alloc(mem *pool, n int) unsafe.Pointer {
	n = round8(n)
	a.live += n
	if n <= a.left {
		p := a.cur
		a.cur, a.left = unsafe.Add(p, n), a.left-n
		return p
	}
	size := minArenaPage
	if k := len(a.pages); k > 0 {
		size = min(max(a.pages[k-1].size*2, minArenaPage), maxArenaPage)
	}
	if n > size/2 && n > maxArenaPage/4 { // a page of its own; the current one stays
		b := mem.alloc(n)
		a.pages = append(a.pages, b)
		if k := len(a.pages) - 1; k > 0 { // keep the page sizes ascending
			a.pages[k], a.pages[k-1] = a.pages[k-1], a.pages[k]
		}
		return b.p
	}
	for size < n {
		size *= 2
	}
	b := mem.alloc(size)
	a.pages = append(a.pages, b)
	a.garbage += a.left // the rest of the page before is lost until the next copy
	a.cur, a.left = unsafe.Add(b.p, n), b.size-n
	return b.p
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

// drop counts n bytes as garbage.
func (a *arena) drop(n int) {
	n = round8(n)
	a.live -= n
	a.garbage += n
}

// wasteful says that copying the live part is worth it.
func (a *arena) wasteful() bool { return a.garbage > 16<<10 && a.garbage > a.live }

func (a *arena) release(mem *pool) {
	for _, b := range a.pages {
		mem.release(b)
	}
	*a = arena{}
}

// size returns the memory of the arena.
func (a *arena) size() int {
	n := 0
	for _, b := range a.pages {
		n += b.size
	}
	return n
}
