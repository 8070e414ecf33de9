package feature

import (
	"unsafe"

	"github.com/weirflow/weir/internal/base"
)

// line is the size of what a cache reads at once.
const line = 64

// touch asks for what each step reads of a state: of a dense one up to what only
// turns of tiles read, of others up to a size that few exceed.
func (p *plan) touch(b []byte) {
	if len(b) == 0 {
		return
	}
	end := min(len(b), 32*line)
	if p.rings != nil && len(b) >= p.rings.rings.size {
		end = min(len(b), p.base+p.rings.rings.hot+line)
	}
	base.Prefetch(unsafe.Pointer(unsafe.SliceData(b)), uintptr(end))
}

// touchTurn asks for what a step at time t reads of a dense state when tiles turn. It
// is a hint: the state may be anything.
func (p *plan) touchTurn(b []byte, t int64) {
	s := p.rings
	if s == nil || len(b) < s.rings.size || le.Uint32(b[p.secOff+s.sec*sectionSize+secAux:]) != formRings {
		return
	}
	off := int(le.Uint32(b[p.secOff+s.sec*sectionSize+secOff:]))
	if len(b)-off < s.rings.size {
		return
	}
	old, c := geti(b, hdrClock), p.boundary(p.inside(t)-p.offset)
	if c <= old {
		return
	}
	ring := b[off : off+s.rings.size]
	for l := range s.rings.levels {
		lv := &s.rings.levels[l]
		if lv.slots == 0 {
			return
		}
		by := lv.number(c) - lv.number(old)
		if by == 0 {
			return
		}
		r, full := lv.now(ring)
		if r >= lv.slots || by < 0 || by >= int64(lv.slots) {
			continue
		}
		if full {
			prefetch(ring[lv.tile:], s.rings.open)
			prefetch(lv.slot(ring, -1), lv.stride)
			prefetch(lv.slot(ring, r), lv.stride)
		}
		if r2 := r + int(by); r2 < lv.slots {
			if i := lv.bits(ring).next(r2 + 1); i < lv.slots {
				prefetch(lv.slot(ring, i), lv.stride)
			}
		}
	}
}

// prefetch asks for n > 0 bytes.
func prefetch(b []byte, n int) { base.Prefetch(unsafe.Pointer(unsafe.SliceData(b)), uintptr(n)) }
