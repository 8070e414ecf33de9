package feature

import "slices"

// coarsen cuts the closed cells, which are in the tiles of clock old, to those of
// clock c, and drops those that no horizon reaches.
func (m *machine) coarsen(s *cellStore, old, c int64) {
	b := m.bytes(s.sec)
	b = b[:len(b)-m.get(s.sec, secOpen)*s.size]
	m.bounds(s.levels, c)
	l := len(s.levels) - 1
	drop, changed := 0, false
	before := s.levels[max(0, l-1)].lo(old)
	for i := 0; i < len(b); i += s.size {
		t := geti(b, i)
		if t < m.los[len(m.los)-1] {
			drop++
			continue
		}
		for l > 0 && t >= m.los[l-1] {
			if l--; l > 0 {
				before = s.levels[l-1].lo(old)
			}
		}
		if l == 0 {
			break // the rest is in the finest tiles
		}
		// What has been in a coarser level before is so still, in the same tile.
		if t < before {
			continue
		}
		if tile := s.levels[l].tile(t); tile != t {
			changed = true
			puti(b, i, tile)
		}
	}
	if drop > 0 {
		m.remove(s.sec, 0, drop*s.size)
	}
	if changed {
		m.joinCells(s)
	}
}

// bounds computes where the windows of all levels begin.
func (m *machine) bounds(levels []level, c int64) {
	m.los = m.los[:0]
	for i := range levels {
		m.los = append(m.los, levels[i].lo(c))
	}
}

// joinCells merges closed cells that have become one.
func (m *machine) joinCells(s *cellStore) {
	n := m.closed(s)
	if !s.keyed {
		m.joinTiles(s, n)
		return
	}
	m.sortCells(s, n)
	w := 0
	for i := 1; i < n; i++ {
		a, b := m.cell(s, w), m.cell(s, i)
		if string(a[:s.pay]) == string(b[:s.pay]) {
			s.mergeCell(a, b)
			continue
		}
		w++
		if w != i {
			copy(m.cell(s, w), b)
		}
	}
	if w+1 < n {
		m.remove(s.sec, (w+1)*s.size, (n-w-1)*s.size)
	}
}

// joinTiles is joinCells where each tile has one cell.
func (m *machine) joinTiles(s *cellStore, n int) {
	b := m.bytes(s.sec)[:n*s.size]
	w := 0
	for i := s.size; i < len(b); i += s.size {
		if geti(b, w) == geti(b, i) {
			s.mergeCell(b[w:w+s.size], b[i:i+s.size])
			continue
		}
		if w += s.size; w != i {
			copy(b[w:w+s.size], b[i:])
		}
	}
	if w += s.size; w < len(b) {
		m.remove(s.sec, w, len(b)-w)
	}
}

// sortCells restores the order of the first n cells; it keeps that of equal ones.
func (m *machine) sortCells(s *cellStore, n int) {
	b := m.bytes(s.sec)[:n*s.size]
	m.buf = append(m.buf[:0], b...)
	m.items.order = m.items.order[:0]
	for i := range n {
		m.items.order = append(m.items.order, int32(i))
	}
	slices.SortStableFunc(m.items.order, func(x, y int32) int {
		p, q := m.buf[int(x)*s.size:], m.buf[int(y)*s.size:]
		switch pt, qt := geti(p, 0), geti(q, 0); {
		case pt < qt:
			return -1
		case pt > qt:
			return 1
		}
		switch pi, qi := getu(p, 8), getu(q, 8); {
		case pi < qi:
			return -1
		case pi > qi:
			return 1
		}
		return 0
	})
	for i, j := range m.items.order {
		copy(b[i*s.size:(i+1)*s.size], m.buf[int(j)*s.size:])
	}
}

// cutExact cuts the older half of the cells of an exact store to tiles.
func (m *machine) cutExact(s *cellStore) {
	hop := max(1, s.levels[len(s.levels)-1].w/32)
	for i := range m.closed(s) / 2 {
		c := m.cell(s, i)
		puti(c, 0, floorDiv(geti(c, 0), hop)*hop)
	}
	m.joinCells(s)
}
