// Package windowtest holds the reference model of windowed aggregation: it keeps
// every raw record and enumerates windows one by one, so that it can judge an
// operator that shares slices, keeps running totals and merges sessions. It uses
// nothing of package window but the description of a window.
//
// The model is slow and meant for moderate times: everything within a century or
// so of 1970.
package windowtest

import (
	"cmp"
	"slices"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/window"
)

// Event is one record.
type Event[V any] struct {
	Key   string
	Time  base.Timestamp
	Value V
}

// Step is one thing that the operator sees, in order: a record, or a watermark.
type Step[V any] struct {
	// Event is the record, nil for a watermark.
	Event *Event[V]
	// Watermark is the watermark when Event is nil. One that goes back is ignored.
	Watermark base.Timestamp
}

// Firing is one result that the operator must emit.
type Firing[V any] struct {
	Key    string
	Window window.Window
	// Values are those of all records in the window, in order of arrival.
	Values []V
	// ByRecord is set when a record that came after the window had closed caused
	// the firing, and not the watermark.
	ByRecord bool
	// At is the watermark at which the firing happens.
	At base.Timestamp
}

// Result is all that must come out.
type Result[V any] struct {
	// Firings are in the order in which they happen; those that one step causes
	// are ordered by window end, start and key.
	Firings []Firing[V]
	// Late holds the records for the late output, in order of arrival.
	Late []Event[V]
	// NoWindow holds the records that lie between two windows.
	NoWindow []Event[V]
}

// Final returns the last firing of each key and window, ordered by window end,
// start and key.
func (r Result[V]) Final() []Firing[V] {
	var out []Firing[V]
	for i := len(r.Firings) - 1; i >= 0; i-- {
		f := r.Firings[i]
		if !slices.ContainsFunc(out, func(o Firing[V]) bool { return o.Key == f.Key && o.Window == f.Window }) {
			out = append(out, f)
		}
	}
	sortFirings(out)
	return out
}

// Run returns what an operator with the given window must emit for the steps. It
// adds no end of input: end the steps with a watermark of base.MaxTime for that.
func Run[V any](spec window.Spec, steps []Step[V]) Result[V] {
	m := &model[V]{spec: spec, w: base.MinTime}
	for _, s := range steps {
		if s.Event == nil {
			m.watermark(s.Watermark)
			continue
		}
		m.seen++
		if e := (arrival[V]{*s.Event, m.seen}); spec.Kind() == window.KindSession {
			m.sessionRecord(e)
		} else {
			m.record(e)
		}
	}
	return m.out
}

// Interleave returns the steps of a source that emits watermark (greatest time -
// delay) after each every-th event, and the end of input after the last.
func Interleave[V any](events []Event[V], delay int64, every int) []Step[V] {
	var steps []Step[V]
	greatest := base.MinTime
	for i := range events {
		steps = append(steps, Step[V]{Event: &events[i]})
		greatest = max(greatest, events[i].Time)
		if (i+1)%every == 0 {
			steps = append(steps, Step[V]{Watermark: base.AddTime(greatest, -delay)})
		}
	}
	return append(steps, Step[V]{Watermark: base.MaxTime})
}

// pane is one window, or one session, of one key with its raw records.
type pane[V any] struct {
	key    string
	window window.Window // of a session: set when it fires
	events []arrival[V]
}

// arrival is an event with its number in the order of arrival.
type arrival[V any] struct {
	Event[V]
	n int
}

type model[V any] struct {
	spec  window.Spec
	w     base.Timestamp
	panes []*pane[V]
	seen  int
	out   Result[V]
}

// closesAt is the watermark at which the pane fires for the first time. A record
// at exactly the end of a session still joins it, so that closes one later.
func (m *model[V]) closesAt(p *pane[V]) base.Timestamp {
	if m.spec.Kind() == window.KindSession {
		return base.AddTime(m.sessionWindow(p).End, 1)
	}
	return p.window.End
}

func (m *model[V]) goneAt(p *pane[V]) base.Timestamp {
	return base.AddTime(m.closesAt(p), int64(m.spec.AllowedLateness()))
}

func (m *model[V]) sessionWindow(p *pane[V]) window.Window {
	first, last := base.MaxTime, base.MinTime
	for _, e := range p.events {
		first, last = min(first, e.Time), max(last, e.Time)
	}
	return window.Window{Start: first, End: base.AddTime(last, int64(m.spec.Gap()))}
}

func (m *model[V]) watermark(w base.Timestamp) {
	if w <= m.w {
		return
	}
	before := m.w
	m.w = w
	var fired []Firing[V]
	for _, p := range m.panes {
		if c := m.closesAt(p); before < c && c <= w {
			fired = append(fired, m.fire(p, false))
		}
	}
	sortFirings(fired)
	m.out.Firings = append(m.out.Firings, fired...)
	m.panes = slices.DeleteFunc(m.panes, func(p *pane[V]) bool { return m.goneAt(p) <= w })
}

func (m *model[V]) fire(p *pane[V], byRecord bool) Firing[V] {
	f := Firing[V]{Key: p.key, Window: p.window, ByRecord: byRecord, At: m.w}
	if m.spec.Kind() == window.KindSession {
		f.Window = m.sessionWindow(p)
	}
	slices.SortFunc(p.events, func(a, b arrival[V]) int { return cmp.Compare(a.n, b.n) })
	for _, e := range p.events {
		f.Values = append(f.Values, e.Value)
	}
	return f
}

// record puts a record into each tumbling or sliding window that contains it.
func (m *model[V]) record(e arrival[V]) {
	inSome, kept := false, false
	var fired []Firing[V]
	for _, w := range Windows(m.spec, e.Time) {
		inSome = true
		p := m.find(e.Key, w)
		if m.goneAt(p) <= m.w {
			continue
		}
		kept = true
		if len(p.events) == 0 {
			m.panes = append(m.panes, p)
		}
		p.events = append(p.events, e)
		if m.closesAt(p) <= m.w {
			fired = append(fired, m.fire(p, true))
		}
	}
	switch {
	case !inSome:
		m.out.NoWindow = append(m.out.NoWindow, e.Event)
	case !kept:
		m.out.Late = append(m.out.Late, e.Event)
	}
	sortFirings(fired)
	m.out.Firings = append(m.out.Firings, fired...)
}

func (m *model[V]) find(key string, w window.Window) *pane[V] {
	for _, p := range m.panes {
		if p.key == key && p.window == w {
			return p
		}
	}
	return &pane[V]{key: key, window: w}
}

// Windows returns the tumbling or sliding windows that contain t, ordered by
// start, by trying every window that starts near t.
func Windows(spec window.Spec, t base.Timestamp) []window.Window {
	size, slide, offset := int64(spec.Size()), int64(spec.Slide()), int64(spec.Offset())
	var out []window.Window
	for k := (t-size-offset)/slide - 2; offset+k*slide <= t; k++ {
		if start := offset + k*slide; t < start+size {
			out = append(out, window.Window{Start: start, End: start + size})
		}
	}
	return out
}

// sessionRecord joins a record with every live session of its key that has a
// record at most the gap away.
func (m *model[V]) sessionRecord(e arrival[V]) {
	gap := int64(m.spec.Gap())
	merged := &pane[V]{key: e.Key}
	var others []*pane[V]
	for _, p := range m.panes {
		near := func(o arrival[V]) bool { return o.Time-e.Time <= gap && e.Time-o.Time <= gap }
		if p.key == e.Key && slices.ContainsFunc(p.events, near) {
			merged.events = append(merged.events, p.events...)
		} else {
			others = append(others, p)
		}
	}
	merged.events = append(merged.events, e)
	if m.goneAt(merged) <= m.w {
		m.out.Late = append(m.out.Late, e.Event)
		return
	}
	m.panes = append(others, merged)
	if m.closesAt(merged) <= m.w {
		m.out.Firings = append(m.out.Firings, m.fire(merged, true))
	}
}

func sortFirings[V any](fs []Firing[V]) {
	slices.SortStableFunc(fs, func(a, b Firing[V]) int {
		return cmp.Or(cmp.Compare(a.Window.End, b.Window.End), cmp.Compare(a.Window.Start, b.Window.Start),
			cmp.Compare(a.Key, b.Key))
	})
}
