package base

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Figure is a number that an operator shows to the outside. The operator sets it from
// its own goroutine; anybody may read it.
type Figure struct {
	// Name is the name of the metric without the prefix "weir_", Operator the UID of
	// the operator, Label what the figure is of within it, such as a pattern; "" where
	// the metric has no such label. engine/metrics knows the names.
	Name, Operator, Label string

	n atomic.Int64
}

// Set sets the figure.
func (f *Figure) Set(v int64) { f.n.Store(v) }

// Add adds to the figure.
func (f *Figure) Add(d int64) { f.n.Add(d) }

// Value returns the figure.
func (f *Figure) Value() int64 { return f.n.Load() }

// Figures are the figures that the operators of a subtask have. The zero Figures is
// empty. It is safe for concurrent use.
type Figures struct {
	mu  sync.Mutex
	all []*Figure
}

// New returns a new figure of value 0. There must be none yet with that name, operator
// and label.
func (f *Figures) New(name, operator, label string) *Figure {
	n := &Figure{Name: name, Operator: operator, Label: label}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, n)
	return n
}

// Drop takes out all figures of an operator that have a label.
func (f *Figures) Drop(operator, label string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = slices.DeleteFunc(f.all, func(n *Figure) bool { return n.Operator == operator && n.Label == label })
}

// List returns the figures in the order in which they came.
func (f *Figures) List() []*Figure {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.all)
}
