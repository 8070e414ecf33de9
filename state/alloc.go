package state

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"
)

// The allocator hands out zeroed memory outside the Go heap in blocks whose
// sizes are powers of two. Tables of tens of millions of entries then cost the
// garbage collector nothing, get huge pages, and give their memory back when
// they are dropped. It is a buddy allocator over chunks of one huge page.
const (
	minOrder  = 10 // 1 KiB: thousands of tiny namespaces stay cheap
	maxOrder  = 21 // 2 MiB: one chunk, one huge page
	chunkSize = 1 << maxOrder
	// regionSize is what is reserved from the operating system at once. Pages
	// become resident only when they are touched.
	regionSize = 64 << 20
	// keepFree is how many free chunks stay resident to be used again.
	keepFree = 4
)

// block is one allocation. Its size is a power of two, or any multiple of the
// page size above chunkSize.
type block struct {
	p    unsafe.Pointer
	size int
}

// chunk is one aligned area of chunkSize bytes.
type chunk struct {
	base unsafe.Pointer
	// free[i] is 1+order when a free block of that order starts at leaf i.
	free [chunkSize >> minOrder]uint8
	// resident says that pages of a chunk on the spare list may be in memory.
	resident bool
}

// freeBlock is the header of a free block: a link in the list of its order.
type freeBlock struct{ next, prev *freeBlock }

// allocator is safe for concurrent use. The invariant of a chunk: its free
// blocks are listed, and none has a free buddy.
type allocator struct {
	used atomic.Int64 // bytes handed out
	mu   sync.Mutex
	// The fields below are guarded by mu.
	lists   [maxOrder]*freeBlock // by order; whole chunks are in spare
	chunks  map[uintptr]*chunk   // by address
	spare   []*chunk
	regions [][]byte
}

func newAllocator() *allocator { return &allocator{chunks: map[uintptr]*chunk{}} }

// orderOf returns the order of the smallest block that holds n bytes.
func orderOf(n int) int {
	o := minOrder
	for 1<<o < n {
		o++
	}
	return o
}

// blockSize returns the size of the block that alloc returns for n bytes.
func blockSize(n int) int {
	if n > chunkSize {
		return (n + pageSize - 1) &^ (pageSize - 1)
	}
	return 1 << orderOf(n)
}

const pageSize = 4096

// alloc returns a zeroed block of at least n bytes. It panics when the operating
// system refuses memory, like the Go runtime does.
func (a *allocator) alloc(n int) block {
	size := blockSize(n)
	a.used.Add(int64(size))
	if size > chunkSize {
		m, err := mapMemory(size)
		if err != nil {
			panic(fmt.Sprintf("state: out of memory: cannot map %d bytes: %v", size, err))
		}
		return block{unsafe.Pointer(unsafe.SliceData(m)), size}
	}
	a.mu.Lock()
	p := a.take(orderOf(size))
	a.mu.Unlock()
	clear(unsafe.Slice((*byte)(p), size))
	return block{p, size}
}

// take removes a free block of the order, splitting a larger one.
func (a *allocator) take(order int) unsafe.Pointer {
	if order == maxOrder {
		return a.takeChunk().base
	}
	if f := a.lists[order]; f != nil {
		a.unlink(f, order)
		return unsafe.Pointer(f)
	}
	p := a.take(order + 1)
	a.link(unsafe.Add(p, 1<<order), order)
	return p
}

func (a *allocator) takeChunk() *chunk {
	if len(a.spare) == 0 {
		a.mapRegion()
	}
	c := a.spare[len(a.spare)-1]
	a.spare = a.spare[:len(a.spare)-1]
	return c
}

// mapRegion reserves another region and lists its chunks as spare.
func (a *allocator) mapRegion() {
	m, err := mapMemory(regionSize + chunkSize)
	if err != nil {
		panic(fmt.Sprintf("state: out of memory: cannot map %d bytes: %v", regionSize, err))
	}
	a.regions = append(a.regions, m)
	base := unsafe.Pointer(unsafe.SliceData(m))
	skip := -uintptr(base) & (chunkSize - 1)
	for i := regionSize/chunkSize - 1; i >= 0; i-- {
		c := &chunk{base: unsafe.Add(base, skip+uintptr(i)*chunkSize)}
		a.chunks[uintptr(c.base)] = c
		a.spare = append(a.spare, c)
	}
	adviseHuge(unsafe.Slice((*byte)(unsafe.Add(base, skip)), regionSize))
}

func (a *allocator) chunkOf(p unsafe.Pointer) (*chunk, int) {
	off := uintptr(p) & (chunkSize - 1)
	return a.chunks[uintptr(p)-off], int(off >> minOrder)
}

func (a *allocator) link(p unsafe.Pointer, order int) {
	f := (*freeBlock)(p)
	f.next, f.prev = a.lists[order], nil
	if f.next != nil {
		f.next.prev = f
	}
	a.lists[order] = f
	c, leaf := a.chunkOf(p)
	c.free[leaf] = uint8(order + 1)
}

func (a *allocator) unlink(f *freeBlock, order int) {
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		a.lists[order] = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	}
	c, leaf := a.chunkOf(unsafe.Pointer(f))
	c.free[leaf] = 0
}

// release returns a block. The zero block is ignored.
func (a *allocator) release(b block) {
	if b.p == nil {
		return
	}
	a.used.Add(-int64(b.size))
	mangle(b)
	if b.size > chunkSize {
		unmapMemory(unsafe.Slice((*byte)(b.p), b.size))
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	c, leaf := a.chunkOf(b.p)
	order := orderOf(b.size)
	for order < maxOrder {
		buddy := leaf ^ 1<<(order-minOrder)
		if c.free[buddy] != uint8(order+1) {
			a.link(unsafe.Add(c.base, leaf<<minOrder), order)
			return
		}
		a.unlink((*freeBlock)(unsafe.Add(c.base, buddy<<minOrder)), order)
		leaf &^= 1 << (order - minOrder)
		order++
	}
	a.releaseChunk(c)
}

// releaseChunk lists a free chunk; beyond keepFree its pages go back.
func (a *allocator) releaseChunk(c *chunk) {
	c.resident = true
	resident := 0
	for _, s := range a.spare {
		if s.resident {
			resident++
		}
	}
	if resident >= keepFree {
		dropPages(unsafe.Slice((*byte)(c.base), chunkSize))
		c.resident = false
		a.spare = append([]*chunk{c}, a.spare...) // resident ones are taken first
		return
	}
	a.spare = append(a.spare, c)
}

// close unmaps everything. No block may be used afterwards.
func (a *allocator) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.regions {
		unmapMemory(m)
	}
	a.regions, a.spare, a.chunks = nil, nil, map[uintptr]*chunk{}
	a.lists = [maxOrder]*freeBlock{}
}

// pool is the part of an allocator that one backend uses.
type pool struct {
	a    *allocator
	held int64 // bytes in use
}

func (p *pool) alloc(n int) block {
	b := p.a.alloc(n)
	p.held += int64(b.size)
	return b
}

func (p *pool) release(b block) {
	p.held -= int64(b.size)
	p.a.release(b)
}
