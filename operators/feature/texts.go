package feature

// maxText is where texts are cut.
const maxText = 4096

// keepText makes sure that the text of a hash is in the state.
func (m *machine) keepText(h uint64, s string) {
	if _, ok := m.findText(h); ok {
		return
	}
	s = s[:min(len(s), maxText)]
	if m.get(m.p.dict, secLen)+10+len(s) > m.get(m.p.dict, secCap) {
		m.sweepTexts()
	}
	o := m.insert(m.p.dict, m.get(m.p.dict, secLen), 10+len(s))
	putu(m.b, o, h)
	le.PutUint16(m.b[o+8:], uint16(len(s)))
	copy(m.b[o+10:], s)
}

// findText returns the text of a hash, in the state.
func (m *machine) findText(h uint64) ([]byte, bool) {
	for b := m.bytes(m.p.dict); len(b) > 0; {
		n := int(le.Uint16(b[8:]))
		if getu(b, 0) == h {
			return b[10 : 10+n], true
		}
		b = b[10+n:]
	}
	return nil, false
}

// text returns a copy of the text of a hash.
func (m *machine) text(h uint64) string {
	b, _ := m.findText(h)
	return string(b)
}

// sweepTexts drops the texts that nothing names.
func (m *machine) sweepTexts() {
	m.items.reset()
	for _, s := range m.p.cells {
		if s.by < 0 && !s.text {
			continue
		}
		for i := range m.entries(s.sec, s.size) {
			c := m.cell(s, i)
			if s.by >= 0 {
				m.items.at(getu(c, 8))
				continue
			}
			for j := range int(getu(c, s.pay)) {
				m.items.at(getu(c, s.pay+16+16*j))
			}
		}
	}
	for _, r := range m.p.recents {
		if r.text {
			b := m.bytes(r.sec)
			for i := 0; i < len(b); i += recentSize {
				m.items.at(getu(b, i+8))
			}
		}
	}
	b := m.bytes(m.p.dict)
	w := 0
	for i := 0; i < len(b); {
		n := 10 + int(le.Uint16(b[i+8:]))
		if len(m.items.slots) > 0 && *m.items.slot(getu(b, i)) != 0 {
			copy(b[w:], b[i:i+n])
			w += n
		}
		i += n
	}
	m.set(m.p.dict, secLen, w)
}
