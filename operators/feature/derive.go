package feature

import (
	"fmt"
	"math"
)

// derived is a field computed from the others.
type derived struct {
	field int
	f     func(View) float64
}

// Derive is a feature computed from the others of its group by a plain function:
// a share, a distance from the mean, a rule. f is called after all aggregates and
// the derived features before it, and gets them under the names that the schema
// has, with horizon and prefix. What is not finite is null; [View.Num] gives NaN for
// null, which so passes through arithmetic.
//
//	feature.Derive[Payment]("burst", func(v feature.View) float64 {
//		return v.Num("count_5m") / v.Num("count_24h")
//	})
//
// A derived feature has a Default, and no other option. f must depend on nothing but
// the view, keep nothing of it, and be safe for concurrent use. [Group.Compile] calls
// it once on a view of nulls, and reports names that it asks for and the group does
// not have.
func Derive[T any](name string, f func(v View) float64) *Feature[T] {
	d := newFeature[T](name, kDerived)
	d.derive = f
	return d
}

// Num returns a number, or NaN when it is null or there is no such field.
func (v View) Num(name string) float64 {
	if x, ok := v.Float(name); ok {
		return x
	}
	return math.NaN()
}

// checkDerived reports options that a derived feature does not have.
func checkDerived[T any](f *Feature[T], report func(what, next string)) {
	if f.derive == nil {
		report("has no function", "give it one from a View to a number")
	}
	if len(f.horizons) > 0 || f.lifetime || f.exact || f.by != nil || len(f.where) > 0 || f.limit != 0 {
		report("is derived and has options of an aggregate", "leave all but Default out")
	}
}

// derive computes the derived fields.
func (m *machine) derive() {
	for i := range m.p.derived {
		m.vec.setNone(m.p.derived[i].field) // not that of the record before
	}
	for i := range m.p.derived {
		d := &m.p.derived[i]
		v := d.f(m.vec.View())
		m.outFloat(d.field, v, true)
	}
}

// checkNames calls the derived features on a view of nulls, and reports names that
// they ask for in vain.
func (c *compiler[T]) checkNames() {
	i := 0
	for _, f := range c.g.features {
		if f.kind != kDerived {
			continue
		}
		d := &c.p.derived[i]
		i++
		asked := map[string]bool{}
		vec := newVector(c.p.schema)
		for j := range c.p.schema.Fields {
			vec.setNone(j)
		}
		view := vec.View()
		view.ask = func(name string) {
			j := c.p.schema.Index(name)
			if j >= 0 && (j < d.field || !c.isDerived(j)) || asked[name] {
				return
			}
			asked[name] = true
			what := fmt.Sprintf("asks for the feature %q, and the group has none of that name", name)
			if j >= 0 {
				what = fmt.Sprintf("asks for the derived feature %q, which is not before it", name)
			}
			c.fail(f, what, "the group's are "+c.p.schema.String())
		}
		if p := try(d.f, view); p != nil {
			c.fail(f, fmt.Sprintf("panics when all is null: %v", p), "make it return NaN then")
		}
	}
}

func (c *compiler[T]) isDerived(field int) bool {
	for i := range c.p.derived {
		if c.p.derived[i].field == field {
			return true
		}
	}
	return false
}

// try calls a derived feature and returns what it panics with.
func try(f func(View) float64, v View) (p any) {
	defer func() { p = recover() }()
	f(v)
	return nil
}
