package pattern

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Vocabulary gives the names that conditions in data form use their meaning for
// events of type T. A condition is a JSON object; several members must all hold:
//
//	{"F": s}  {"F_contains": s}  {"F_prefix": s}               F a text field
//	{"F_eq": x}  and _gt, _ge, _lt, _le                         F a number field
//	{"type": s}  {"const": b}  {"timestamp_eq": ms}  {"processing_time_eq": ms}
//	{"and": […]}  {"or": […]}  {"not": c}
//	{"sum_F": {"of": [stage…], "plus_current": b, "op": "<", "value": x}}
//	{"count": {"of": stage, "op": ">", "value": n}}
//	{"F_eq_first_of": stage}   false if the stage has no event yet
//	{"F_gt_last_of": stage}    true if the stage has no event yet
//
// Members are looked at in the order of their names.
type Vocabulary[T any] struct {
	Text map[string]func(*T) string
	// Number returns a field and whether the event has it; comparisons with a field
	// that is absent are false, and it adds 0 to sums.
	Number map[string]func(*T) (float64, bool)
	// Type says whether an event is of a named type.
	Type func(*T, string) bool
}

// Cond reads a condition.
func (v Vocabulary[T]) Cond(data []byte) (Cond[T], error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return Cond[T]{}, err
	}
	if len(members) == 0 {
		return Cond[T]{}, fmt.Errorf("an empty condition")
	}
	var cs []Cond[T]
	for _, name := range slices.Sorted(maps.Keys(members)) {
		c, err := v.member(name, members[name])
		if err != nil {
			return Cond[T]{}, fmt.Errorf("%q: %w", name, err)
		}
		cs = append(cs, c)
	}
	return And(cs...), nil
}

func (v Vocabulary[T]) member(name string, data json.RawMessage) (Cond[T], error) {
	switch name {
	case "and", "or":
		return v.several(name, data)
	case "not":
		c, err := v.Cond(data)
		return Not(c), err
	case "const":
		var b bool
		err := json.Unmarshal(data, &b)
		return Const[T](b), err
	case "type":
		return v.typed(data)
	case "timestamp_eq", "processing_time_eq":
		return timeIs[T](name, data)
	case "count":
		return v.compare("", data)
	}
	if field, ok := strings.CutPrefix(name, "sum_"); ok {
		return v.compare(field, data)
	}
	if f, ok := v.Text[name]; ok {
		var s string
		err := json.Unmarshal(data, &s)
		return equal(name, f, s), err
	}
	return v.suffixed(name, data)
}

func (v Vocabulary[T]) several(name string, data json.RawMessage) (Cond[T], error) {
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return Cond[T]{}, err
	}
	cs := make([]Cond[T], len(list))
	for i := range list {
		var err error
		if cs[i], err = v.Cond(list[i]); err != nil {
			return Cond[T]{}, err
		}
	}
	if name == "and" {
		return And(cs...), nil
	}
	return Or(cs...), nil
}

// keyed is a condition that is equal to all of the same name and data.
func keyed[T any](name string, data json.RawMessage, f func(Moment, *T) bool) Cond[T] {
	var b bytes.Buffer
	if json.Compact(&b, data) != nil {
		b.Reset()
		b.Write(data)
	}
	text := name + " " + b.String()
	return Cond[T]{&condNode[T]{kind: condSimple, key: text, text: text, simple: f}}
}

func (v Vocabulary[T]) typed(data json.RawMessage) (Cond[T], error) {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return Cond[T]{}, err
	}
	if v.Type == nil {
		return Cond[T]{}, fmt.Errorf("events have no types")
	}
	return keyed("type", data, func(_ Moment, e *T) bool { return v.Type(e, s) }), nil
}

func timeIs[T any](name string, data json.RawMessage) (Cond[T], error) {
	var ms int64
	if err := json.Unmarshal(data, &ms); err != nil {
		return Cond[T]{}, err
	}
	return keyed(name, data, func(at Moment, _ *T) bool {
		if name == "timestamp_eq" {
			return at.Event == ms*1_000_000
		}
		return at.Processing == ms*1_000_000
	}), nil
}

// suffixed reads conditions whose names are a field and what is asked of it.
func (v Vocabulary[T]) suffixed(name string, data json.RawMessage) (Cond[T], error) {
	for field, f := range v.Text {
		switch strings.TrimPrefix(name, field) {
		case "_contains", "_prefix":
			var s string
			if err := json.Unmarshal(data, &s); err != nil {
				return Cond[T]{}, err
			}
			test := strings.Contains
			if strings.HasSuffix(name, "_prefix") {
				test = strings.HasPrefix
			}
			return keyed(name, data, func(_ Moment, e *T) bool { return test(f(e), s) }), nil
		}
	}
	for field, f := range v.Number {
		if op, ok := strings.CutPrefix(name, field+"_"); ok {
			return numeric(name, op, f, data)
		}
	}
	return Cond[T]{}, fmt.Errorf("no such condition")
}

func numeric[T any](name, op string, f func(*T) (float64, bool), data json.RawMessage) (Cond[T], error) {
	value := func(e *T) float64 { x, _ := f(e); return x }
	switch op {
	case "eq_first_of", "gt_last_of":
		var stage string
		if err := json.Unmarshal(data, &stage); err != nil {
			return Cond[T]{}, err
		}
		if op == "eq_first_of" {
			a := Agg[T]{&aggDecl[T]{kind: aggFirst, field: value, stages: []string{stage}, key: "first " + name + " " + stage}}
			return a.when(name+" "+stage, func(v AggValue, e *T) bool { return v.N > 0 && value(e) == v.V }), nil
		}
		a := Agg[T]{&aggDecl[T]{kind: aggLast, field: value, stages: []string{stage}, key: "last " + name + " " + stage}}
		return a.when(name+" "+stage, func(v AggValue, e *T) bool { return v.N == 0 || value(e) > v.V }), nil
	}
	cmp, ok := comparisons[op]
	if !ok {
		return Cond[T]{}, fmt.Errorf("no such comparison")
	}
	var x float64
	if err := json.Unmarshal(data, &x); err != nil {
		return Cond[T]{}, err
	}
	return keyed(name, data, func(_ Moment, e *T) bool {
		y, ok := f(e)
		return ok && cmp(y, x)
	}), nil
}

var comparisons = map[string]func(a, b float64) bool{
	"eq": func(a, b float64) bool { return a == b }, "==": func(a, b float64) bool { return a == b },
	"!=": func(a, b float64) bool { return a != b },
	"gt": func(a, b float64) bool { return a > b }, ">": func(a, b float64) bool { return a > b },
	"ge": func(a, b float64) bool { return a >= b }, ">=": func(a, b float64) bool { return a >= b },
	"lt": func(a, b float64) bool { return a < b }, "<": func(a, b float64) bool { return a < b },
	"le": func(a, b float64) bool { return a <= b }, "<=": func(a, b float64) bool { return a <= b },
}

// compare reads sum_F and count; field is "" for the latter.
func (v Vocabulary[T]) compare(field string, data json.RawMessage) (Cond[T], error) {
	var q struct {
		Of    json.RawMessage `json:"of"`
		Plus  bool            `json:"plus_current"`
		Op    string          `json:"op"`
		Value float64         `json:"value"`
	}
	if err := json.Unmarshal(data, &q); err != nil {
		return Cond[T]{}, err
	}
	var stages []string
	if json.Unmarshal(q.Of, &stages) != nil {
		stages = []string{""}
		if err := json.Unmarshal(q.Of, &stages[0]); err != nil {
			return Cond[T]{}, err
		}
	}
	cmp, ok := comparisons[q.Op]
	f, known := v.Number[field]
	if !ok || field != "" && !known {
		return Cond[T]{}, fmt.Errorf("no such field or operator")
	}
	d := &aggDecl[T]{kind: aggCount, field: func(*T) float64 { return 1 }, stages: stages}
	if field != "" {
		d.kind, d.field = aggSum, func(e *T) float64 { x, _ := f(e); return x }
	}
	d.key = fmt.Sprintf("%d %s %q", d.kind, field, stages)
	return Agg[T]{d}.when(string(data), func(a AggValue, e *T) bool {
		if q.Plus {
			a.V += d.field(e)
		}
		return cmp(a.V, q.Value)
	}), nil
}
