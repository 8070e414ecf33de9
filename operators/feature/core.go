package feature

import (
	"fmt"

	"github.com/weirflow/weir/internal/base"
)

// Core runs a program. It belongs to one goroutine.
type Core[T any] struct {
	p *Program[T]
	m machine
}

// NewCore returns a core that runs the program.
func (p *Program[T]) NewCore() *Core[T] {
	c := &Core[T]{p: p}
	c.m.p = &p.plan
	c.m.vec = newVector(p.schema)
	c.m.in = input{nums: make([]float64, len(p.columns)), hashes: make([]uint64, len(p.columns)), texts: make([]string, len(p.columns))}
	return c
}

// Vector returns the vector of the last Step or Read, which the next one changes.
func (c *Core[T]) Vector() *Vector { return &c.m.vec }

// Step takes a record of event time t (nanoseconds since 1970, UTC) to the state of
// its key, and computes the vector. An empty state is that of a new key.
//
// The state is changed in place where it can be. When it has to move, as it does
// when it grows, Step returns moved, and the state in memory of the core that is
// valid until the next call; the caller must keep a copy of it, or forget the state
// when that is empty. A record that changes nothing makes no state for a new key.
//
// The error (WEIR-0709) says that the bytes are not a state of this program.
func (c *Core[T]) Step(state []byte, t base.Timestamp, rec *T) (next []byte, moved bool, err error) {
	m := &c.m
	m.b, m.moved = state, false
	if err := m.check(); err != nil {
		return state, false, err
	}
	t = m.p.inside(t) - m.p.offset
	changes := c.take(rec)
	clock := m.p.boundary(t)
	if len(m.b) == 0 {
		if !changes {
			m.none()
			return nil, false, nil
		}
		m.fresh(clock)
	}
	if old := m.clock(); clock > old {
		if m.p.expiry != forever && clock-old >= m.p.expiry {
			if !changes { // as if the timer had come first, which it may
				m.none()
				return nil, true, nil
			}
			m.fresh(clock)
		} else {
			m.advance(old, clock)
		}
	}
	if !m.p.including {
		m.read()
	}
	if changes {
		m.add(t)
	}
	if m.p.including {
		m.read()
	}
	return m.b, m.moved, nil
}

// Read computes the vector of a key at time t, or at its clock when that is later,
// and leaves the state as it is. Unlike the vector of a record it is as of just
// before t, or just after it in a group that is Including.
func (c *Core[T]) Read(state []byte, t base.Timestamp) error {
	m := &c.m
	m.b, m.moved = state, false
	if err := m.check(); err != nil {
		return err
	}
	if len(state) == 0 {
		m.none()
		return nil
	}
	m.b = m.take(len(state))
	copy(m.b, state)
	clock, old := m.p.boundary(m.p.inside(t)-m.p.offset), m.clock()
	switch {
	case clock > old && m.p.expiry != forever && clock-old >= m.p.expiry:
		m.none()
		return nil
	case clock > old:
		m.advance(old, clock)
	}
	m.read()
	return nil
}

// Expires returns the event time from which a state is the same as none, or
// base.MaxTime.
func (c *Core[T]) Expires(state []byte) base.Timestamp {
	if c.p.expiry == forever || len(state) < headerSize {
		return base.MaxTime
	}
	return base.AddTime(geti(state, hdrClock)+c.p.offset, c.p.expiry)
}

// take evaluates what the program needs of a record, and says whether the record
// counts in any feature.
func (c *Core[T]) take(rec *T) (changes bool) {
	in := &c.m.in
	in.preds = 0
	for i := range c.p.preds {
		if c.p.preds[i].f(*rec) {
			in.preds |= 1 << i
		}
	}
	for i := range c.p.cols {
		for _, f := range c.p.cols[i].filters {
			if in.preds&f == f {
				c.column(i, rec)
				break
			}
		}
	}
	for _, f := range c.p.update {
		if in.preds&f == f {
			return true
		}
	}
	return false
}

func (c *Core[T]) column(i int, rec *T) {
	in := &c.m.in
	if col := c.p.columns[i]; col.text != nil {
		in.texts[i] = col.text(rec)
		in.hashes[i] = hashText(in.texts[i])
	} else {
		in.nums[i] = col.num(rec)
	}
}

// check reports bytes that are not a state of the plan.
func (m *machine) check() error {
	if len(m.b) == 0 {
		return nil
	}
	if len(m.b) < m.p.base || m.b[0] != layoutVersion || le.Uint32(m.b[hdrFinger:]) != m.p.finger {
		return base.Fatal(&base.Error{
			Code: "WEIR-0709", What: fmt.Sprintf("the state of %d bytes is not one of this feature group", len(m.b)),
			Next: "give the operator its old features back, or a new name to start afresh",
		})
	}
	return nil
}

// none is read for a key without a state.
func (m *machine) none() {
	for i := range m.p.schema.Fields {
		m.vec.setNone(i)
	}
	m.derive()
}

// advance moves the clock.
func (m *machine) advance(old, c int64) {
	for _, s := range m.p.cells {
		m.advanceCells(s, old, c)
	}
	for _, r := range m.p.recents {
		m.advanceRecent(r, c)
	}
	for _, d := range m.p.distincts {
		m.advanceDistinct(d, c)
	}
	for i := range m.p.decays {
		m.advanceDecay(i)
	}
	puti(m.b, hdrClock, c)
}

// read computes the vector at the clock.
func (m *machine) read() {
	for _, s := range m.p.cells {
		m.readCells(s)
	}
	for _, r := range m.p.recents {
		m.readRecent(r)
	}
	for _, d := range m.p.distincts {
		m.readDistinct(d)
	}
	for i := range m.p.decays {
		m.readDecay(i)
	}
	m.derive()
}

// add puts the record in hand into all stores.
func (m *machine) add(t int64) {
	for _, s := range m.p.cells {
		m.addCells(s, t)
	}
	for _, r := range m.p.recents {
		m.addRecent(r, t)
	}
	for _, d := range m.p.distincts {
		m.addDistinct(d, t)
	}
	for i := range m.p.decays {
		m.addDecay(i, t)
	}
}
