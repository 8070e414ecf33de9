package feature

// Carried is a record on its way through the exchanges of several groups, with the
// fields of the groups behind it. It is what travels where a vector has groups of
// different keys: each stage goes by the key of its group, and adds the group's
// fields.
type Carried[T any] struct {
	Rec T   `msgpack:"r"`
	Row Row `msgpack:"v"`
}

// Combined joins groups of features over one kind of record, each with a key of its
// own, into one vector.
type Combined[T any] struct {
	programs []*Program[T]
	schema   *Schema
	before   []int // number of fields before each group's
}

// Combine joins groups in the order in which the record visits them. The error
// names fields that two of them have (WEIR-0170).
func Combine[T any](programs ...*Program[T]) (*Combined[T], error) {
	c := &Combined[T]{programs: programs}
	var parts []*Schema
	n := 0
	for _, p := range programs {
		c.before = append(c.before, n)
		n += len(p.schema.Fields)
		parts = append(parts, p.schema)
	}
	var err error
	c.schema, err = Join(parts...)
	return c, err
}

// Schema describes the whole vector.
func (c *Combined[T]) Schema() *Schema { return c.schema }

// Start puts a record on its way.
func (c *Combined[T]) Start(rec T) Carried[T] { return Carried[T]{Rec: rec} }

// Record is the Record of each stage's Spec.
func (c *Combined[T]) Record(in *Carried[T]) *T { return &in.Rec }

// Stage returns the Make of stage i, that of the group i.
func (c *Combined[T]) Stage(i int) func(in *Carried[T], v *Vector, out *Carried[T]) {
	return func(in *Carried[T], v *Vector, out *Carried[T]) {
		out.Rec, out.Row = in.Rec, in.Row.Join(c.before[i], v)
	}
}

// View returns the vector that a record carries after the last stage.
func (c *Combined[T]) View(in *Carried[T]) View { return View{Schema: c.schema, Row: &in.Row} }
