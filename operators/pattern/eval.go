package pattern

// evaluator answers the conditions about one event, each plain one at most once.
type evaluator[T any] struct {
	table *exprTable[T]
	// memo holds, for each expression, 2·gen, plus 1 if it is true.
	memo []uint32
	gen  uint32
	// event numbers the events: gen without wrapping round.
	event uint64
	val   *T
	at    Moment
	// fieldGen and fieldHit say which Equal condition of each field holds.
	fieldGen []uint32
	fieldHit []int32
	fieldOf  []int32 // expression → field, -1
	evals    int64
	work     work[T]
}

func newEvaluator[T any](t *exprTable[T]) *evaluator[T] {
	e := &evaluator[T]{table: t}
	e.grow()
	return e
}

// grow makes room for what has been added to the table.
func (e *evaluator[T]) grow() {
	for i := len(e.memo); i < len(e.table.exprs); i++ {
		field := int32(-1)
		if x := &e.table.exprs[i]; x.op == opLeaf && x.leaf.eq != nil {
			field = int32(e.table.fieldOf[x.leaf.eq.field])
		}
		e.memo, e.fieldOf = append(e.memo, 0), append(e.fieldOf, field)
	}
	for len(e.fieldGen) < len(e.table.fields) {
		e.fieldGen, e.fieldHit = append(e.fieldGen, 0), append(e.fieldHit, 0)
	}
}

// begin takes up an event.
func (e *evaluator[T]) begin(v *T, at Moment) {
	e.val, e.at = v, at
	e.work.arena = e.work.arena[:0]
	e.event++
	if e.gen++; e.gen == 1<<31 {
		clear(e.memo)
		clear(e.fieldGen)
		e.gen = 1
	}
}

// eval answers an expression for a run's path in a program.
func (e *evaluator[T]) eval(id int32, p *Program[T], path *link[T]) bool {
	if id <= exprFalse {
		return id == exprTrue
	}
	if m := e.memo[id]; m>>1 == e.gen {
		return m&1 != 0
	}
	x := &e.table.exprs[id]
	var v bool
	switch x.op {
	case opAnd:
		v = e.eval(x.a, p, path) && e.eval(x.b, p, path)
	case opOr:
		v = e.eval(x.a, p, path) || e.eval(x.b, p, path)
	case opNot:
		v = !e.eval(x.a, p, path)
	default:
		v = e.leaf(id, x, p, path)
	}
	if x.plain {
		m := e.gen << 1
		if v {
			m |= 1
		}
		e.memo[id] = m
	}
	return v
}

func (e *evaluator[T]) leaf(id int32, x *expr[T], p *Program[T], path *link[T]) bool {
	if f := e.fieldOf[id]; f >= 0 {
		return e.hit(f) == id
	}
	e.evals++
	switch x.leaf.kind {
	case condPath:
		return x.leaf.path(Path[T]{last: path, prog: p}, e.val)
	case condAgg:
		var a AggValue
		if path != nil && len(path.aggs) > 0 {
			a = path.aggs[p.aggLocal[x.agg]]
		}
		return x.leaf.test(a, e.val)
	}
	return x.leaf.simple(e.at, e.val)
}

// hit returns the Equal condition on a field that holds; 0 if none does.
func (e *evaluator[T]) hit(f int32) int32 {
	if e.fieldGen[f] != e.gen {
		e.evals++
		e.fieldGen[f] = e.gen
		field := &e.table.fields[f]
		e.fieldHit[f] = field.values.get(field.get(e.val))
	}
	return e.fieldHit[f]
}
