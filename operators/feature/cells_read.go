package feature

import (
	"math"
	"slices"
	"strings"
)

// itemTable numbers the items of a keyed store, and holds what is summed for each.
type itemTable struct {
	keys  []uint64
	slots []int32 // open addressing: index into keys plus 1
	order []int32
	accs  []acc // by item and channel
}

func (t *itemTable) reset() {
	t.keys, t.accs = t.keys[:0], t.accs[:0]
	clear(t.slots)
}

// at returns the number of an item; a new one is appended.
func (t *itemTable) at(item uint64) (i int, fresh bool) {
	if 2*len(t.keys) >= len(t.slots) {
		t.slots = make([]int32, max(64, 2*len(t.slots)))
		for i, k := range t.keys {
			*t.slot(k) = int32(i + 1)
		}
	}
	s := t.slot(item)
	if *s != 0 {
		return int(*s) - 1, false
	}
	t.keys = append(t.keys, item)
	*s = int32(len(t.keys))
	return len(t.keys) - 1, true
}

// slot returns the slot of an item, or the empty one where it goes.
func (t *itemTable) slot(item uint64) *int32 {
	mask := uint64(len(t.slots) - 1)
	for h := item * 0x9e3779b97f4a7c15 >> 20; ; h++ {
		s := &t.slots[h&mask]
		if *s == 0 || t.keys[*s-1] == item {
			return s
		}
	}
}

// readCells computes the fields of a store, from the newest tile to the oldest.
func (m *machine) readCells(s *cellStore) {
	switch {
	case m.dense(s):
		m.readRings(s)
		return
	case m.isRaw(s):
		m.readRaw(s)
		return
	case s.mode == modeParts && !s.keyed:
		m.readParts(s)
		return
	case s.gamma > 0:
		m.sketch = m.sketch[:0]
	case s.keyed:
		m.items.reset()
	default:
		m.buf = slices.Grow(m.buf[:0], s.size)[:s.size]
		clear(m.buf)
	}
	c := m.clock()
	n, l := m.closed(s), 0
	lo := s.levels[0].lo(c)
	for i := n - 1; i >= 0; i-- {
		cell := m.cell(s, i)
		for t := geti(cell, 0); t < lo; lo = s.levels[l].lo(c) {
			m.level(s, l)
			if l++; l == len(s.levels) {
				return
			}
		}
		m.gather(s, cell)
	}
	for ; l < len(s.levels); l++ {
		m.level(s, l)
	}
}

// gather adds a cell to what is read.
func (m *machine) gather(s *cellStore, cell []byte) {
	switch {
	case s.gamma > 0:
		m.gatherBucket(getu(cell, 8), int64(le.Uint32(cell[s.pay:])))
	case s.keyed:
		i, fresh := m.items.at(getu(cell, 8))
		if fresh {
			m.items.accs = append(m.items.accs, acc{})
		}
		m.items.accs[i].plus(s.chans[0].mask, cell[s.pay:])
	default:
		s.mergeCell(m.buf, cell)
	}
}

// level sets the fields of one level from what was gathered.
func (m *machine) level(s *cellStore, l int) {
	for i := range s.outs[l] {
		o := &s.outs[l][i]
		switch {
		case s.gamma > 0:
			m.outQuantile(s, o)
		case s.keyed:
			m.outMap(s, o)
		default:
			m.outList(s, o)
		}
	}
}

// outMap sets a map from the items to what was summed for each.
func (m *machine) outMap(s *cellStore, o *out) {
	if len(m.items.keys) == 0 {
		m.vec.setNone(o.field)
		return
	}
	out := make(map[string]float64, len(m.items.keys))
	if o.kind == kHistogram && o.k > 0 && o.k < len(m.items.keys) {
		m.most(o.k, out)
	} else {
		for i, item := range m.items.keys {
			k := o.kind
			if k == kHistogram {
				k = kCount
			}
			if v, ok := m.items.accs[i].result(k, o.secs); ok {
				out[m.text(item)] = v
			}
		}
	}
	m.vec.present(o.field)
	m.vec.row.Maps[m.vec.info[o.field].slot] = out
}

// most puts the k most frequent items into out.
func (m *machine) most(k int, out map[string]float64) {
	type entry struct {
		text string
		n    int64
	}
	var all []entry
	for i, item := range m.items.keys {
		all = append(all, entry{m.text(item), m.items.accs[i].n})
	}
	slices.SortFunc(all, func(a, b entry) int {
		if a.n != b.n {
			return int(min(1, max(-1, b.n-a.n)))
		}
		return strings.Compare(a.text, b.text)
	})
	for _, e := range all[:k] {
		out[e.text] = float64(e.n)
	}
}

// outList sets a list of values.
func (m *machine) outList(s *cellStore, o *out) {
	list := m.buf[s.pay:]
	n := int(getu(list, 0))
	if n == 0 {
		m.vec.setNone(o.field)
		return
	}
	stride, first := 8, 8
	if s.mode == modeFirst {
		stride, first = 16, 16
	}
	m.outValues(o, n, func(i int) uint64 { return getu(list, first+stride*i) })
}

// outValues sets a list, or a single text or number, of n > 0 values.
func (m *machine) outValues(o *out, n int, at func(int) uint64) {
	m.vec.present(o.field)
	slot := m.vec.info[o.field].slot
	switch m.vec.info[o.field].kind {
	case Text:
		m.vec.row.Texts[slot] = m.text(at(0))
	case Texts:
		l := m.vec.row.Words[slot][:0]
		for i := range n {
			l = append(l, m.text(at(i)))
		}
		m.vec.row.Words[slot] = l
	case Floats:
		l := m.vec.row.Lists[slot][:0]
		for i := range n {
			l = append(l, math.Float64frombits(at(i)))
		}
		m.vec.row.Lists[slot] = l
	default:
		m.vec.setFloat(o.field, math.Float64frombits(at(0)))
	}
}
