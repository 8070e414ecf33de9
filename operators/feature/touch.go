package feature

// line is the size of what a cache reads at once.
const line = 64

// touch reads what each step reads of a state, for the cache: a dense one up to
// what only turns of tiles read, others up to a size that few exceed.
func (p *plan) touch(b []byte) (x byte) {
	end := min(len(b), 32*line)
	if p.rings != nil && len(b) >= p.rings.rings.size {
		end = min(len(b), p.base+p.rings.rings.hot+line)
	}
	for i := 0; i < end; i += line {
		x += b[i]
	}
	return x
}

// touchTurn reads what a step at time t reads of a dense state when tiles turn.
func (p *plan) touchTurn(b []byte, t int64) (x byte) {
	s := p.rings
	if s == nil || len(b) < s.rings.size || le.Uint32(b[p.secOff+s.sec*sectionSize+secAux:]) == 0 {
		return 0
	}
	off := int(le.Uint32(b[p.secOff+s.sec*sectionSize+secOff:]))
	if len(b)-off < s.rings.size {
		return 0
	}
	old, c := geti(b, hdrClock), p.boundary(p.inside(t)-p.offset)
	ring := b[off : off+s.rings.size]
	for l := range s.rings.levels {
		lv := &s.rings.levels[l]
		if lv.slots == 0 || c <= old {
			break
		}
		by := lv.number(c) - lv.number(old)
		if by == 0 {
			break
		}
		r, _ := lv.now(ring)
		x += ring[lv.tile] + lv.slot(ring, -1)[0] + lv.slot(ring, r)[0] + lv.slot(ring, r)[lv.stride-1]
		if r2 := r + int(by); r2 < lv.slots {
			if i := lv.bits(ring).next(r2 + 1); i < lv.slots {
				x += lv.slot(ring, i)[0] + lv.slot(ring, i)[lv.stride-1]
			}
		}
	}
	return x
}
