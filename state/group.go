package state

import (
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// Decl declares one state of one operator.
type Decl struct {
	// Operator is the uid of the operator, Name the name of the state in it.
	Operator, Name string
	Key            KeyKind
	// ValueSize is the size in bytes of raw fixed values; 0 means that values
	// are byte strings of any length (PutVar).
	ValueSize int
	// Schema describes the values (codec.Schema.String): raw fixed values are
	// converted on restore when it has changed compatibly.
	Schema string
	// TTL is how long entries live; only the typed views enforce it.
	TTL Lifetime

	// scattered: keys begin with the hash of the user key they belong to, and
	// the hash given to the table is a position.
	scattered bool
	// expires: values begin with the time at which they expire.
	expires bool
}

// maxValueSize bounds raw fixed values.
const maxValueSize = 1 << 20

// Group is one declared state. Its namespaces (a window's slice, a bucket of
// timers, or just 0) are tables that are dropped as a whole.
type Group struct {
	b      *Backend
	decl   Decl
	layout layout
	id     uint32
	tables map[int64]*Table
	order  []int64 // the live namespaces, ascending
	last   *Table
	// onExpire removes an entry whose time has come, with all that belongs to it.
	onExpire func(hash uint64, key []byte)
}

// String returns "operator/name".
func (g *Group) String() string { return g.decl.Operator + "/" + g.decl.Name }

// Group declares a state, or returns the one that was declared alike before.
// States must be declared before Restore.
func (b *Backend) Group(d Decl) (*Group, error) {
	where := d.Operator + "/" + d.Name
	if d.Key != KeyUint64 && d.Key != KeyBytes || d.ValueSize < 0 || d.ValueSize > maxValueSize {
		return nil, stateError(CodeDeclare, fmt.Sprintf("a state with key kind %d and values of %d bytes is not possible", d.Key, d.ValueSize),
			where, fmt.Sprintf("values have 0 (variable) to %d bytes", maxValueSize), nil)
	}
	for _, g := range b.groups {
		if g.decl.Operator == d.Operator && g.decl.Name == d.Name {
			if g.decl != d {
				return nil, stateError(CodeDeclare, "the state is declared twice, in different ways", where, "give one of them another name", nil)
			}
			return g, nil
		}
	}
	if b.restored {
		return nil, stateError(CodeDeclare, "the state is declared after the restore", where, "declare all states before the job starts", nil)
	}
	g := &Group{b: b, decl: d, layout: newLayout(d.Key, d.ValueSize), id: uint32(len(b.groups)), tables: map[int64]*Table{}}
	b.groups = append(b.groups, g)
	return g, nil
}

// Namespace returns the table of a namespace, made empty when there is none.
// Asking for the same one again is cheap.
func (g *Group) Namespace(ns int64) *Table {
	if g.last != nil && g.last.ns == ns {
		return g.last
	}
	t := g.tables[ns]
	if t == nil {
		t = g.b.newTable(g, ns)
		g.tables[ns] = t
		if i, found := slices.BinarySearch(g.order, ns); !found {
			g.order = slices.Insert(g.order, i, ns)
		}
	}
	g.last = t
	return t
}

// Existing returns the table of a namespace, or nil.
func (g *Group) Existing(ns int64) *Table { return g.tables[ns] }

// Namespaces returns the namespaces that have a table, ascending. The slice is
// the caller's.
func (g *Group) Namespaces() []int64 { return slices.Clone(g.order) }

// Drop removes a namespace with all its entries. It costs a delta nothing unless
// entries of it reached one before.
func (g *Group) Drop(ns int64) {
	t := g.tables[ns]
	if t == nil {
		return
	}
	delete(g.tables, ns)
	if i, found := slices.BinarySearch(g.order, ns); found {
		g.order = slices.Delete(g.order, i, i+1)
	}
	if g.last == t {
		g.last = nil
	}
	g.b.dropTable(t)
}

// newTable makes a table with one small segment.
func (b *Backend) newTable(g *Group, ns int64) *Table {
	t := &Table{b: b, g: g, ns: ns, place: b.place, scattered: g.decl.scattered}
	s := b.newSegment(t)
	s.newSlots(b.mem, max(minSegment, blockSize(int(g.layout.stride)*8)), 0)
	t.setDir([]*segment{s})
	return t
}

// newSegment makes a segment without memory and enters it in the ring.
func (b *Backend) newSegment(t *Table) *segment {
	s := &segment{t: t, ring: len(b.ring)}
	b.ring = append(b.ring, s)
	return s
}

// dropSegment takes a segment out of the ring.
func (b *Backend) dropSegment(s *segment) {
	last := len(b.ring) - 1
	b.ring[s.ring] = b.ring[last]
	b.ring[s.ring].ring = s.ring
	b.ring[last] = nil
	b.ring = b.ring[:last]
	s.dead = true
}

// each calls f for every segment of the table once.
func (t *Table) each(f func(*segment)) {
	for i := 0; i < len(t.dir); {
		s := t.dir[i]
		i += 1 << (t.depth - int(s.depth))
		f(s)
	}
}

// free releases the memory of a table that nothing refers to any more.
func (t *Table) free() {
	t.each(func(s *segment) {
		t.b.dropSegment(s)
		s.release()
		s.dirtyN, s.frozenN = 0, 0 // it may still be listed as changed
	})
	t.dir = nil
}

// rangeOf returns the hashes of consecutive slices; not ok when there are none,
// as may be in a range of few hashes.
func (b *Backend) rangeOf(first, count int) (r base.HashRange, ok bool) {
	r.Hi = b.opts.Range.Hi
	if r.Lo, ok = b.place.lowest(b.opts.Range, uint64(first)<<(64-sliceBits)); !ok {
		return r, false
	}
	if end := first + count; end < numSlices {
		if next, ok := b.place.lowest(b.opts.Range, uint64(end)<<(64-sliceBits)); ok {
			if next == r.Lo {
				return r, false
			}
			r.Hi = next - 1
		}
	}
	return r, true
}
