package feature

import (
	"fmt"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
)

// Carried is a record on its way through groups of different keys. It goes to all of
// them at once: each goes by the key of its group and adds the group's fields, and
// where the last group is they meet again.
type Carried[T any] struct {
	// ID tells apart the records that are under way at one time.
	ID  uint64 `msgpack:"i"`
	Rec T      `msgpack:"r"`
	Row Row    `msgpack:"v"`
}

// Combined joins groups of features over one kind of record, each with a key of its
// own, into one vector.
type Combined[T any] struct {
	schema *Schema
	fields []int // number of fields of each group
}

// Combine joins groups in the order of their fields. The error names fields that two
// of them have (WEIR-0170).
func Combine[T any](programs ...*Program[T]) (*Combined[T], error) {
	c := &Combined[T]{}
	var parts []*Schema
	for _, p := range programs {
		c.fields = append(c.fields, len(p.schema.Fields))
		parts = append(parts, p.schema)
	}
	var err error
	c.schema, err = Join(parts...)
	return c, err
}

// Schema describes the whole vector.
func (c *Combined[T]) Schema() *Schema { return c.schema }

// Record is the Record of each group's Spec.
func (c *Combined[T]) Record(in *Carried[T]) *T { return &in.Rec }

// Part is the Make of each group's Spec.
func (c *Combined[T]) Part(in *Carried[T], v *Vector, out *Carried[T]) {
	out.ID, out.Rec, out.Row = in.ID, in.Rec, v.Row()
}

// Join returns the whole vector of those of the groups.
func (c *Combined[T]) Join(rows []Row) Row {
	all, fields := rows[0], c.fields[0]
	for i, r := range rows[1:] {
		all = all.join(fields, r, c.fields[i+1])
		fields += c.fields[i+1]
	}
	return all
}

// Start returns the consumer that puts records on their way.
func Start[T any](s *operators.Subtask, uid string, out operators.Consumer[Carried[T]]) operators.Consumer[T] {
	// Barriers part what is under way from what comes after a restore: IDs need not
	// outlive the deployment.
	id := uint64(s.Env.Index) << 40
	return operators.Map(s, uid, func(rec T) Carried[T] {
		id++
		return Carried[T]{ID: id, Rec: rec}
	}, out)
}

// Gather puts the vectors of one record together again, in a subtask of the last
// group. It hands records on in the order in which that group gets them. Records wait
// until all their parts are there: no longer, and no more of them, than the slowest
// group takes, for all get them from the same subtasks. At a barrier none waits, so
// nothing has to be kept.
type Gather[T any] struct {
	uid string
	all *Combined[T]
	out func(*base.Meta, *Carried[T])
	// line holds the records that the last group has had, in order, from the first one
	// that waits on; byID those, and the ones of which other parts came first.
	line  []*gathering[T]
	first int
	byID  map[uint64]*gathering[T]
	free  []*gathering[T]
	whole Carried[T]
}

// gathering is a record of which some parts are there.
type gathering[T any] struct {
	meta    base.Meta
	time    base.Timestamp
	rec     T
	id      uint64
	rows    []Row
	missing int
}

// NewGather returns the node of a subtask.
func NewGather[T any](s *operators.Subtask, uid string, all *Combined[T], out operators.Consumer[Carried[T]]) *Gather[T] {
	g := &Gather[T]{uid: uid, all: all, out: out.One, byID: map[uint64]*gathering[T]{}}
	s.Add(g)
	return g
}

// UID implements operators.Node.
func (g *Gather[T]) UID() string { return g.uid }

// Part returns the consumer of what group i made.
func (g *Gather[T]) Part(i int) operators.Consumer[Carried[T]] {
	last := i == len(g.all.fields)-1
	return operators.Consumer[Carried[T]]{One: func(m *base.Meta, c *Carried[T]) {
		r := g.byID[c.ID]
		if r == nil {
			r = g.start(c.ID, m.Time)
		}
		r.rows[i] = c.Row
		r.missing--
		if last {
			r.meta, r.rec = *m, c.Rec
			g.line = append(g.line, r)
		}
		if r.missing == 0 {
			g.send()
		}
	}}
}

func (g *Gather[T]) start(id uint64, at base.Timestamp) *gathering[T] {
	r := &gathering[T]{}
	if n := len(g.free); n > 0 {
		r, g.free = g.free[n-1], g.free[:n-1]
	}
	r.id, r.time, r.missing = id, at, len(g.all.fields)
	if r.rows == nil {
		r.rows = make([]Row, r.missing)
	}
	g.byID[id] = r
	return r
}

// send hands on what is complete, up to the first record that is not.
func (g *Gather[T]) send() {
	for g.first < len(g.line) && g.line[g.first].missing == 0 {
		r := g.line[g.first]
		g.line[g.first] = nil
		g.first++
		delete(g.byID, r.id)
		g.whole = Carried[T]{ID: r.id, Rec: r.rec, Row: g.all.Join(r.rows)}
		g.out(&r.meta, &g.whole)
		clear(r.rows)
		*r = gathering[T]{rows: r.rows}
		g.free = append(g.free, r)
	}
	switch {
	case g.first == len(g.line):
		g.line, g.first = g.line[:0], 0
	case g.first > len(g.line)/2:
		n := copy(g.line, g.line[g.first:])
		clear(g.line[n:])
		g.line, g.first = g.line[:n], 0
	}
}

// Advance implements operators.Watermarker: no watermark overtakes a record that
// waits. One could when all inputs were idle and one of them is active again: the part
// that is missing is then on its way.
func (g *Gather[T]) Advance(w base.Timestamp, _ int64) (done bool) {
	for _, r := range g.byID {
		if r.time < w {
			return false
		}
	}
	return true
}

// Barrier implements operators.Barrierer: the barriers of all inputs are there, so all
// parts of what came before them are.
func (g *Gather[T]) Barrier(base.Epoch) error {
	if len(g.byID) > 0 {
		return fmt.Errorf("operator %s: %d records wait for features at a barrier", g.uid, len(g.byID))
	}
	return nil
}
