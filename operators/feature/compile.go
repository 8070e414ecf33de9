package feature

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
)

// Program is a compiled feature group over records T. It is immutable and safe for
// concurrent use.
type Program[T any] struct {
	plan
	columns []*column[T]
	preds   []predicate[T]
}

// Schema describes the vectors.
func (p *Program[T]) Schema() *Schema { return p.schema }

// Fingerprint identifies the layout of states: a state is only readable by a
// program with the same one.
func (p *Program[T]) Fingerprint() uint32 { return p.finger }

// Horizon states how a horizon is cut.
type Horizon struct {
	// Length is the horizon; 0 for a lifetime.
	Length time.Duration
	// Hop is the length of the tiles at its tail, Tiles their number.
	Hop   time.Duration
	Tiles int
	// Tail bounds what the window is longer than the horizon: it is less.
	Tail time.Duration
	// Error is Tail as a part of the horizon.
	Error float64
}

// Horizons states, for each horizon of the group, how it is cut, and so the error
// of features over it that are not exact.
func (p *Program[T]) Horizons() []Horizon {
	var hs []Horizon
	for _, l := range p.levels {
		h := Horizon{}
		if l.w != forever {
			h = Horizon{Length: time.Duration(l.w), Hop: time.Duration(l.hop), Tiles: int(l.n), Tail: time.Duration(l.n*l.hop - l.w + l.hop)}
			h.Error = float64(h.Tail) / float64(h.Length)
		}
		hs = append(hs, h)
	}
	return hs
}

// compiler collects what a program is made of, and the errors.
type compiler[T any] struct {
	g    *Group[T]
	p    *Program[T]
	errs []error
	// scalars and exact are the stores that features share; nil until one needs it.
	scalars, exact *cellStore
	byKey          map[[3]int]*cellStore // (filter, column, by) → store of By
	filters        map[uint64]int
}

// Compile returns the program of the group. The error joins all mistakes, each an
// Error with the code WEIR-0170 and the line of the feature.
func (g *Group[T]) Compile() (*Program[T], error) {
	c := &compiler[T]{g: g, p: &Program[T]{}, byKey: map[[3]int]*cellStore{}, filters: map[uint64]int{}}
	c.p.schema, c.p.dict = newSchema(), -1
	g.check(func(at, what, next string) { c.errs = append(c.errs, declared(at, what, next)) })
	for _, f := range g.features {
		if f == nil {
			c.errs = append(c.errs, declared("", "a feature of the group is nil", "leave it out"))
			continue
		}
		checkFeature(f, func(what, next string) { c.fail(f, what, next) })
	}
	if len(c.errs) == 0 {
		c.levels()
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	c.p.including, c.p.period, c.p.offset = g.including, int64(g.period), int64(g.offset)
	for _, f := range g.features {
		c.feature(f)
	}
	c.layout()
	if len(c.errs) == 0 {
		c.checkNames()
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return c.p, nil
}

func (c *compiler[T]) fail(f *Feature[T], what, next string) {
	c.errs = append(c.errs, declared(f.at, fmt.Sprintf("the feature %q %s", f.name, what), next))
}

// levels makes the horizons of the group, each hop a multiple of the one before.
func (c *compiler[T]) levels() {
	var ws []time.Duration
	life := false
	for _, f := range c.g.features {
		if f.exact {
			continue
		}
		ws, life = append(ws, f.horizons...), life || f.lifetime
	}
	slices.Sort(ws)
	below := max(1, int64(c.g.period))
	for _, w := range slices.Compact(ws) {
		l, err := c.g.levelOf(w, below)
		if err != nil {
			c.errs = append(c.errs, declared("", err.Error(), "change Hops"))
			return
		}
		c.p.levels, below = append(c.p.levels, l), l.hop
	}
	if life {
		c.p.levels = append(c.p.levels, newLevel(forever, forever))
	}
	if len(c.p.levels) > 64 {
		c.errs = append(c.errs, declared("", fmt.Sprintf("the group has %d different horizons", len(c.p.levels)), "use at most 64, or several groups"))
	}
}

// filter returns the bits of the conditions of a feature.
func (c *compiler[T]) filter(f *Feature[T]) (mask uint64) {
	for _, w := range f.where {
		i := slices.IndexFunc(c.p.preds, func(p predicate[T]) bool { return p.id == w.id })
		if i < 0 {
			i = len(c.p.preds)
			c.p.preds = append(c.p.preds, w)
		}
		if i >= 64 {
			c.fail(f, "brings the 65th condition into the group", "use several groups")
			return 0
		}
		mask |= 1 << i
	}
	return mask
}

// column returns the index of a column, which is read under a filter; -1 for none.
func (c *compiler[T]) column(col *column[T], filter uint64) int {
	if col == nil {
		return -1
	}
	i := slices.IndexFunc(c.p.columns, func(o *column[T]) bool { return o.id == col.id && (o.num == nil) == (col.num == nil) })
	if i < 0 {
		i = len(c.p.columns)
		c.p.columns = append(c.p.columns, col)
		c.p.cols = append(c.p.cols, colUse{text: col.text != nil})
	}
	u := &c.p.cols[i]
	if !slices.Contains(u.filters, filter) {
		u.filters = append(u.filters, filter)
	}
	if !slices.Contains(c.p.update, filter) {
		c.p.update = append(c.p.update, filter)
	}
	return i
}

// horizons returns the levels of a feature.
func (c *compiler[T]) horizons(f *Feature[T]) []level {
	var ls []level
	if f.exact {
		ws := slices.Clone(f.horizons)
		slices.Sort(ws)
		for _, w := range slices.Compact(ws) {
			ls = append(ls, newLevel(int64(w), 1))
		}
		return ls
	}
	for _, l := range c.p.levels {
		if l.w == forever && f.lifetime || slices.Contains(f.horizons, time.Duration(l.w)) && l.w != forever {
			ls = append(ls, l)
		}
	}
	return ls
}

// field adds a field to the schema and returns its index.
func (c *compiler[T]) field(f *Feature[T], suffix string, k Kind, l *level, approx float64) int {
	fd := Field{Kind: k, Default: f.def, DefaultText: f.defText, Approx: approx}
	if l != nil && l.w != forever {
		fd.Horizon, fd.Hop = time.Duration(l.w), time.Duration(l.hop)
		suffix += horizonName(fd.Horizon)
		if f.exact {
			fd.Hop = 0
		}
	}
	fd.Name = c.g.prefix + f.name + suffix
	if k != Float && f.def != nil {
		c.fail(f, "has a default and is not a number", "leave Default out")
	}
	if k != Text && f.defText != nil {
		c.fail(f, "has a default text and is not a text", "leave DefaultText out")
	}
	if fd.Default == nil && k == Float && !c.g.nullEmpty && zeroWhenEmpty(f.kind) {
		fd.Default = new(float64)
	}
	i, ok := c.p.schema.add(fd)
	if !ok {
		c.fail(f, fmt.Sprintf("gives the field %q, which the group has already", fd.Name), "give one of them another name")
	}
	return i
}

func zeroWhenEmpty(k kind) bool {
	switch k {
	case kCount, kSum, kRate, kDistinct, kDecayCount, kDecaySum:
		return true
	}
	return false
}

// merge adds levels to those of a store, ascending, and makes outs as long.
func merge(have []level, outs [][]out, add []level) ([]level, [][]out) {
	for _, l := range add {
		i, found := slices.BinarySearchFunc(have, l, func(a, b level) int {
			return cmp.Or(cmp.Compare(a.w, b.w), cmp.Compare(a.hop, b.hop))
		})
		if !found {
			have, outs = slices.Insert(have, i, l), slices.Insert(outs, i, nil)
		}
	}
	return have, outs
}

// at returns the index of a level.
func at(have []level, l level) int {
	return slices.IndexFunc(have, func(h level) bool { return h == l })
}

// feature puts one feature into the stores that compute it.
func (c *compiler[T]) feature(f *Feature[T]) {
	if f.kind == kDerived {
		c.p.derived = append(c.p.derived, derived{c.field(f, "", Float, nil, 0), f.derive})
		return
	}
	if len(f.horizons) != len(slices.Compact(slices.Sorted(slices.Values(f.horizons)))) {
		c.fail(f, "names a horizon twice", "leave one out")
		return
	}
	filter := c.filter(f)
	c.column(nil, filter)
	if !slices.Contains(c.p.update, filter) {
		c.p.update = append(c.p.update, filter)
	}
	ls := c.horizons(f)
	switch {
	case f.by != nil && f.kind != kHistogram:
		c.byFeature(f, filter, ls)
	case f.kind == kFirst && f.col.text != nil:
		c.listFeature(f, filter, ls)
	case scalar(f.kind) || f.kind == kRatio || f.kind == kFirst || f.kind == kDelta:
		c.scalarFeature(f, filter, ls)
	case f.kind == kLast || f.kind == kLastK || f.kind == kSince:
		c.recentFeature(f, filter, ls)
	case f.kind == kDistinct:
		c.distinctFeature(f, filter, ls)
	case f.kind == kDecayCount || f.kind == kDecaySum:
		field := c.field(f, "", Float, nil, 0)
		c.p.decays = append(c.p.decays, decay{filter, c.column(f.col, filter), f.halfLife.Seconds(), field})
	default:
		c.listFeature(f, filter, ls)
	}
}

// channel returns the index of a channel of a store.
func (c *compiler[T]) channel(s *cellStore, filter uint64, col int, k kind) int {
	i := slices.IndexFunc(s.chans, func(ch channel) bool { return ch.filter == filter && ch.col == col })
	if i < 0 {
		i = len(s.chans)
		s.chans = append(s.chans, channel{filter: filter, col: col})
	}
	s.chans[i].mask |= needs(k)
	return i
}

// newCells adds a store.
func (c *compiler[T]) newCells() *cellStore {
	s := &cellStore{sec: -1, by: -1}
	c.p.cells = append(c.p.cells, s)
	return s
}

func (c *compiler[T]) section() int {
	c.p.nsec++
	return c.p.nsec - 1
}

func (c *compiler[T]) scalarFeature(f *Feature[T], filter uint64, ls []level) {
	store := &c.scalars
	if f.exact {
		store = &c.exact
	}
	if *store == nil {
		*store = c.newCells()
		(*store).exact = f.exact
	}
	s := *store
	if f.exact {
		limit := f.limit
		if limit == 0 {
			limit = 10_000
		}
		s.limit = max(s.limit, limit)
	}
	s.levels, s.outs = merge(s.levels, s.outs, ls)
	o := out{kind: f.kind}
	if f.kind == kRatio {
		nf, df := filter|c.filter(f.num), filter|c.filter(f.den)
		o.kind, o.kind2 = f.num.kind, f.den.kind
		o.ch = c.channel(s, nf, c.scalarColumn(f.num, nf), o.kind)
		o.ch2 = c.channel(s, df, c.scalarColumn(f.den, df), o.kind2)
	} else {
		o.ch, o.ch2 = c.channel(s, filter, c.scalarColumn(f, filter), f.kind), -1
	}
	if f.kind == kDelta {
		o.recent = c.recent(f, filter, ls)
	}
	for _, l := range ls {
		o := o
		o.field = c.field(f, "", Float, &l, 0)
		o.secs = time.Duration(l.w).Seconds()
		i := at(s.levels, l)
		s.outs[i] = append(s.outs[i], o)
	}
}

// uses notes which levels of the scalars need which channels.
func (s *cellStore) uses() {
	for l := range s.outs {
		for _, o := range s.outs[l] {
			s.chans[o.ch].used |= 1 << l
			if o.ch2 >= 0 {
				s.chans[o.ch2].used |= 1 << l
			}
		}
	}
}

// scalarColumn is the column of a scalar feature; the filter is noted as one that
// changes state.
func (c *compiler[T]) scalarColumn(f *Feature[T], filter uint64) int {
	if !slices.Contains(c.p.update, filter) {
		c.p.update = append(c.p.update, filter)
	}
	return c.column(f.col, filter)
}

func (c *compiler[T]) byFeature(f *Feature[T], filter uint64, ls []level) {
	col, by := c.column(f.col, filter), c.column(f.by, filter)
	id, ok := c.filters[filter]
	if !ok {
		id = len(c.filters)
		c.filters[filter] = id
	}
	s := c.byKey[[3]int{id, col, by}]
	if s == nil {
		s = c.newCells()
		s.keyed, s.by = true, by
		c.byKey[[3]int{id, col, by}] = s
		c.texts()
	}
	s.limit = max(s.limit, f.limit)
	s.levels, s.outs = merge(s.levels, s.outs, ls)
	ch := c.channel(s, filter, col, f.kind)
	for _, l := range ls {
		i := at(s.levels, l)
		s.outs[i] = append(s.outs[i], out{kind: f.kind, ch: ch, ch2: -1, field: c.field(f, "", Map, &l, 0), secs: time.Duration(l.w).Seconds()})
	}
}

// texts notes that the state needs a section of texts.
func (c *compiler[T]) texts() {
	if c.p.dict < 0 {
		c.p.dict = c.section()
	}
}

// layout computes the sizes, and what a state of this program is told by.
func (c *compiler[T]) layout() {
	p := &c.p.plan
	for _, s := range p.cells {
		if s != c.scalars {
			s.sec = c.section()
		}
	}
	if c.scalars != nil { // the largest one comes last
		c.scalars.sec = c.section()
	}
	for _, s := range p.cells {
		s.pay = 8
		if s.keyed {
			s.pay = 16
		}
		s.size = s.pay
		switch s.mode {
		case modeParts:
			for i := range s.chans {
				s.chans[i].off = s.size - s.pay
				s.size += maskSize(s.chans[i].mask)
			}
		case modeTop, modeBottom:
			s.size += 8 + 8*s.k
		case modeFirst:
			s.size += 8 + 16*s.k
		}
	}
	p.secOff = headerSize + decaySize*len(p.decays)
	p.base = p.secOff + sectionSize*p.nsec
	for _, s := range p.cells {
		c.planOuts(s)
	}
	p.expiry = c.expiry()
	p.finger = c.fingerprint()
}

// planOuts plans how the fields of a store of scalars are computed.
func (c *compiler[T]) planOuts(s *cellStore) {
	if s.mode != modeParts || s.keyed {
		return
	}
	for _, outs := range s.outs {
		for i := range outs {
			outs[i].slot = c.p.schema.Fields[outs[i].field].slot
		}
	}
	s.plan = s.planScalars(c.p.schema, func(l, ch int) int { return l*(s.size-s.pay) + s.chans[ch].off })
	if s != c.scalars || s.levels[0].w == forever {
		return
	}
	s.uses()
	s.rings = planRings(s)
	if c.p.period == 0 {
		s.raw = planRaw(s)
	}
	s.rings.plan = s.planScalars(c.p.schema, func(l, ch int) int {
		lv := &s.rings.levels[l]
		return lv.window + lv.chans[slices.IndexFunc(lv.chans, func(c ringChan) bool { return c.ch == ch })].off
	})
	c.p.rings = s
}

// expiry is how long after its clock nothing in a state counts any more.
func (c *compiler[T]) expiry() int64 {
	var e int64
	for _, f := range c.g.features {
		if f.lifetime {
			return forever
		}
		for _, w := range f.horizons {
			e = max(e, int64(w))
		}
		if f.halfLife > 0 {
			e = max(e, int64(f.halfLife)*decayHalfLives)
		}
	}
	for _, l := range c.p.levels {
		e = max(e, l.w+2*l.hop)
	}
	return e + int64(c.g.period)
}

// fingerprint tells apart programs whose states have other bytes, or whose bytes
// mean something else.
func (c *compiler[T]) fingerprint() uint32 {
	p := &c.p.plan
	h := crc32.NewIEEE()
	fmt.Fprint(h, layoutVersion, p.including, p.period, p.offset, p.nsec, p.dict, p.decays)
	for _, s := range p.cells {
		fmt.Fprint(h, s.mode, s.unique, s.keyed, s.levels, s.chans, s.size, s.k, s.by, s.text, s.limit, s.exact, s.gamma)
	}
	for _, s := range p.recents {
		fmt.Fprint(h, s.filter, s.col, s.k, s.unique, s.text, s.levels)
	}
	for _, s := range p.distincts {
		fmt.Fprint(h, s.filter, s.col, s.limit, s.prec, s.levels)
	}
	return h.Sum32()
}
