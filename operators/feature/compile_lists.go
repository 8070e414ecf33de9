package feature

import (
	"math"
	"slices"
	"time"
)

// recent returns the index of a list of the latest values, made if there is none.
func (c *compiler[T]) recent(f *Feature[T], filter uint64, ls []level) int {
	col := c.column(f.col, filter)
	i := slices.IndexFunc(c.p.recents, func(r *recentStore) bool { return r.filter == filter && r.col == col && r.unique == f.unique })
	if i < 0 {
		i = len(c.p.recents)
		c.p.recents = append(c.p.recents, &recentStore{sec: c.section(), filter: filter, col: col, unique: f.unique, text: f.col != nil && f.col.text != nil})
		if c.p.recents[i].text {
			c.texts()
		}
	}
	r := c.p.recents[i]
	r.k = max(r.k, f.k, 1)
	r.levels, r.outs = merge(r.levels, r.outs, ls)
	return i
}

func (c *compiler[T]) recentFeature(f *Feature[T], filter uint64, ls []level) {
	r := c.p.recents[c.recent(f, filter, ls)]
	kind := Float
	switch {
	case f.kind == kLastK && r.text:
		kind = Texts
	case f.kind == kLastK:
		kind = Floats
	case r.text:
		kind = Text
	}
	for _, l := range ls {
		i := at(r.levels, l)
		r.outs[i] = append(r.outs[i], out{kind: f.kind, k: f.k, text: r.text, field: c.field(f, "", kind, &l, 0)})
	}
}

func (c *compiler[T]) distinctFeature(f *Feature[T], filter uint64, ls []level) {
	d := &distinctStore{
		sec: c.section(), filter: filter, col: c.column(f.col, filter), text: f.col.text != nil,
		limit: f.limit, prec: f.prec,
	}
	d.levels, d.outs = merge(nil, nil, ls)
	for _, l := range ls {
		i := at(d.levels, l)
		d.outs[i] = append(d.outs[i], out{kind: f.kind, field: c.field(f, "", Float, &l, 1.04/math.Sqrt(float64(int(1)<<f.prec)))})
	}
	c.p.distincts = append(c.p.distincts, d)
}

// listFeature makes the store of a feature whose cells are its own.
func (c *compiler[T]) listFeature(f *Feature[T], filter uint64, ls []level) {
	s := c.newCells()
	s.k, s.limit = f.k, f.limit
	s.levels, s.outs = merge(nil, nil, ls)
	kind, suffixes, approx := Floats, []string{""}, 0.0
	col := c.column(f.col, filter)
	mask := uint8(0)
	switch f.kind {
	case kTop:
		s.mode = modeTop
	case kBottom:
		s.mode = modeBottom
	case kFirst, kFirstK:
		s.mode, s.text, s.unique = modeFirst, f.col.text != nil, f.unique
		switch {
		case s.text && f.kind == kFirst:
			kind = Text
		case s.text:
			kind = Texts
		}
	case kHistogram:
		s.keyed, s.by, mask, kind = true, c.column(f.by, filter), pN, Map
	case kPercentile:
		s.keyed, mask, kind, approx = true, pN, Float, f.alpha
		s.gamma = (1 + f.alpha) / (1 - f.alpha)
		suffixes = nil
		for _, q := range f.qs {
			suffixes = append(suffixes, quantileName(q))
		}
	}
	if s.text || s.by >= 0 {
		c.texts()
	}
	s.chans = []channel{{filter: filter, col: col, mask: mask}}
	for j, suffix := range suffixes {
		for _, l := range ls {
			o := out{kind: f.kind, ch2: -1, k: f.k, text: s.text, field: c.field(f, suffix, kind, &l, approx), secs: time.Duration(l.w).Seconds()}
			if f.kind == kPercentile {
				o.q = f.qs[j]
			}
			i := at(s.levels, l)
			s.outs[i] = append(s.outs[i], o)
		}
	}
}
