package state

import (
	"math/bits"
	"unsafe"
)

// filter is a blocked Bloom filter over the positions of the entries that a table
// has in the spill store: it answers most questions for absent keys without
// reading. It grows by parts, each four times the size of the one before, with 10
// bits for each entry.
type filter struct {
	parts []filterPart
}

type filterPart struct {
	mem    block
	blocks uint64 // of 64 bytes
	n, max int
}

const (
	firstFilter = 1 << minOrder
	filterBits  = 10
	// filterProbes bits are set in one block of 512 for each entry.
	filterProbes = 6
)

// mix spreads a position: within a segment positions differ in few bits.
func mix(pos uint64) uint64 {
	pos *= 0x9e3779b97f4a7c15
	return pos ^ pos>>32
}

func (p *filterPart) block(h uint64) *[8]uint64 {
	i, _ := bits.Mul64(h, p.blocks)
	return (*[8]uint64)(unsafe.Add(p.mem.p, i*64))
}

// add enters a position.
func (f *filter) add(mem *pool, pos uint64) {
	k := len(f.parts)
	if k == 0 || f.parts[k-1].n >= f.parts[k-1].max {
		size := firstFilter
		if k > 0 {
			size = f.parts[k-1].mem.size * 4
		}
		b := mem.alloc(size)
		f.parts = append(f.parts, filterPart{mem: b, blocks: uint64(b.size / 64), max: b.size * 8 / filterBits})
		k++
	}
	p := &f.parts[k-1]
	p.n++
	h := mix(pos)
	w, g := p.block(h), h*0xbf58476d1ce4e5b9
	for range filterProbes {
		w[g>>61] |= 1 << (g >> 55 & 63)
		g = bits.RotateLeft64(g, 9)
	}
}

// has reports whether a position may have been entered.
func (f *filter) has(pos uint64) bool {
	h := mix(pos)
	for i := len(f.parts) - 1; i >= 0; i-- {
		w, g := f.parts[i].block(h), h*0xbf58476d1ce4e5b9
		hit := true
		for range filterProbes {
			if w[g>>61]>>(g>>55&63)&1 == 0 {
				hit = false
				break
			}
			g = bits.RotateLeft64(g, 9)
		}
		if hit {
			return true
		}
	}
	return false
}

func (f *filter) release(mem *pool) {
	for _, p := range f.parts {
		mem.release(p.mem)
	}
	f.parts = nil
}
