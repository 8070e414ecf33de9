package pattern

import "fmt"

// Conditions are compiled into one table of expressions in which equal ones are one
// entry, so that each that depends on the event alone is evaluated once per event.

type exprOp uint8

const (
	opLeaf exprOp = iota
	opAnd
	opOr
	opNot
)

// The first two entries of every table.
const (
	exprTrue  int32 = 0
	exprFalse int32 = 1
)

// expr is an entry of the table.
type expr[T any] struct {
	op   exprOp
	a, b int32
	// plain says that the value depends on the event and the time alone.
	plain bool
	leaf  *condNode[T]
	agg   int // slot of the aggregate of a leaf
}

type exprKey struct {
	op   exprOp
	a, b int32
}

// exprTable builds expressions. Programs that share a pass share a table.
type exprTable[T any] struct {
	exprs  []expr[T]
	byKey  map[exprKey]int32
	byNode map[*condNode[T]]int32
	byText map[string]int32
	aggs   []*aggDecl[T]
	aggOf  map[*aggDecl[T]]int
	aggKey map[string]int
	// fields are the text fields that Equal conditions ask, fieldOf their indices.
	fields  []fieldIndex[T]
	fieldOf map[string]int
	// stages holds lists of stages that programs have in common.
	stages map[string][]stageInfo
}

// fieldIndex finds the Equal conditions on one field that hold.
type fieldIndex[T any] struct {
	get    func(*T) string
	values words // value → expression
}

func newExprTable[T any]() *exprTable[T] {
	t := &exprTable[T]{
		byKey: map[exprKey]int32{}, byNode: map[*condNode[T]]int32{}, byText: map[string]int32{},
		aggOf: map[*aggDecl[T]]int{}, aggKey: map[string]int{}, fieldOf: map[string]int{}, stages: map[string][]stageInfo{},
	}
	yes, no := Const[T](true).n, Const[T](false).n
	t.exprs = []expr[T]{{plain: true, leaf: yes}, {plain: true, leaf: no}}
	return t
}

// add returns the entry of a condition.
func (t *exprTable[T]) add(n *condNode[T]) int32 {
	if n == nil {
		return exprTrue
	}
	switch n.kind {
	case condConst:
		if n.flag {
			return exprTrue
		}
		return exprFalse
	case condNot:
		return t.not(t.add(n.kids[0]))
	case condAnd, condOr:
		x := t.add(n.kids[0])
		for _, k := range n.kids[1:] {
			if n.kind == condAnd {
				x = t.and(x, t.add(k))
			} else {
				x = t.or(x, t.add(k))
			}
		}
		return x
	}
	return t.leaf(n)
}

func (t *exprTable[T]) leaf(n *condNode[T]) int32 {
	if id, ok := t.byNode[n]; ok {
		return id
	}
	if id, ok := t.byText[n.key]; ok && n.key != "" {
		t.byNode[n] = id
		return id
	}
	x := expr[T]{leaf: n, plain: n.kind == condSimple}
	if n.kind == condAgg {
		x.agg = t.slot(n.agg)
	}
	id := int32(len(t.exprs))
	t.exprs = append(t.exprs, x)
	t.byNode[n] = id
	if n.key != "" {
		t.byText[n.key] = id
	}
	if n.eq != nil {
		t.index(n.eq, id)
	}
	return id
}

// index makes an Equal condition found through its field.
func (t *exprTable[T]) index(eq *eqLeaf[T], id int32) {
	f, ok := t.fieldOf[eq.field]
	if !ok {
		f = len(t.fields)
		t.fieldOf[eq.field] = f
		t.fields = append(t.fields, fieldIndex[T]{get: eq.get})
	}
	t.fields[f].values.put(eq.value, id)
}

// slot returns the slot of an aggregate; equal ones share it.
func (t *exprTable[T]) slot(d *aggDecl[T]) int {
	if i, ok := t.aggOf[d]; ok {
		return i
	}
	i, ok := t.aggKey[d.key]
	if !ok || d.key == "" {
		i = len(t.aggs)
		t.aggs = append(t.aggs, d)
	}
	t.aggOf[d] = i
	if d.key != "" {
		t.aggKey[d.key] = i
	}
	return i
}

func (t *exprTable[T]) put(op exprOp, a, b int32, plain bool) int32 {
	k := exprKey{op, a, b}
	if id, ok := t.byKey[k]; ok {
		return id
	}
	id := int32(len(t.exprs))
	t.exprs = append(t.exprs, expr[T]{op: op, a: a, b: b, plain: plain})
	t.byKey[k] = id
	return id
}

func (t *exprTable[T]) and(a, b int32) int32 {
	switch {
	case a == exprTrue:
		return b
	case b == exprTrue || a == b || a == exprFalse:
		return a
	}
	return t.put(opAnd, a, b, t.exprs[a].plain && t.exprs[b].plain)
}

func (t *exprTable[T]) or(a, b int32) int32 {
	switch {
	case a == exprFalse:
		return b
	case b == exprFalse || a == b || a == exprTrue:
		return a
	}
	return t.put(opOr, a, b, t.exprs[a].plain && t.exprs[b].plain)
}

func (t *exprTable[T]) not(a int32) int32 {
	switch {
	case a == exprTrue:
		return exprFalse
	case a == exprFalse:
		return exprTrue
	case t.exprs[a].op == opNot:
		return t.exprs[a].a
	}
	return t.put(opNot, a, 0, t.exprs[a].plain)
}

// text renders an expression.
func (t *exprTable[T]) text(id int32) string {
	x := &t.exprs[id]
	switch x.op {
	case opAnd:
		return "(" + t.text(x.a) + " and " + t.text(x.b) + ")"
	case opOr:
		return "(" + t.text(x.a) + " or " + t.text(x.b) + ")"
	case opNot:
		return "not " + t.text(x.a)
	}
	return x.leaf.text
}

// common returns one list for all programs with equal stages, if these feed no
// aggregates.
func (t *exprTable[T]) common(stages []stageInfo) []stageInfo {
	key := ""
	for _, s := range stages {
		if len(s.aggs) > 0 {
			return stages
		}
		key += fmt.Sprintf("%q %v %v;", s.name, s.not, s.top)
	}
	if _, ok := t.stages[key]; !ok {
		t.stages[key] = stages
	}
	return t.stages[key]
}
