// Package proof judges the storefront demo from the outside: a model computes
// from the generator's own log what every reader of the job's output must see,
// and a reader of that output, a plain consumer, compares.
//
// The package shares no code with the engine and none with the job. The model is
// written for plainness: it keeps every window of every user in a map and goes
// through lists from end to end.
//
// # What must be seen
//
// Events come in the order of the log. The watermark before an event is the
// greatest event time of all events before it, less the bound of five seconds.
//
//   - Of every window and user with at least one event in it there is one count.
//     A window [from, to) counts the events that come while the watermark is below
//     its end; it is due with the event that moves the watermark to the end or
//     beyond. Windows are one minute every ten seconds, and five minutes every
//     five.
//   - An event whose time is below the watermark does not take part in
//     hesitations. All others of one user and item are looked at in the order of
//     their times, and of the log where these are equal, each as soon as the
//     watermark is above its time. A removal makes a nudge when there are three
//     views, an addition and the removal, in this order and with at most ten
//     minutes, exactly ten included, from the first view to the removal: the three
//     are views with no other between them, the addition is the first after them,
//     and the removal the first after that. Of several such the one with the
//     earliest view counts. Everything of the user and item up to the removal is
//     then forgotten.
//   - A nudge says what the user had done about the item when the removal came,
//     itself included and in the order of the log: the views of ten minutes, the
//     removals of an hour and the price of what was bought in an hour, up to the
//     greatest event time of the user and item so far. Ten minutes begin at a
//     multiple of 25 seconds and an hour at one of 150: that long before the last
//     multiple that the greatest time has reached.
//   - Of every event there is one prediction, due with it, and of every nudge another:
//     what the user had done about the item by then, as above, and the score that one
//     of two models gives it. Both are read from the dump of the library that trained
//     them. Who answers for a user and item changes at most once, from the steady
//     model to the canary.
package proof

import (
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/storefront/script"
)

// Count is a message of stream COUNTS.
type Count struct {
	Window string `json:"window"`
	User   string `json:"user"`
	// From and To bound the window, in milliseconds since the epoch.
	From    int64 `json:"from"`
	To      int64 `json:"to"`
	Views   int64 `json:"views"`
	Adds    int64 `json:"adds"`
	Removes int64 `json:"removes"`
	Buys    int64 `json:"buys"`
	// Spend is the price of everything bought, in cents.
	Spend int64 `json:"spend"`
}

// Nudge is a message of stream NUDGES. Its times are in milliseconds since the
// epoch.
type Nudge struct {
	User    string `json:"user"`
	Item    string `json:"item"`
	Viewed  int64  `json:"viewed"` // the first of the three views
	Added   int64  `json:"added"`
	Removed int64  `json:"removed"`
	Views   int64  `json:"views_10m"`
	Removes int64  `json:"removes_1h"`
	Spent   int64  `json:"spent_1h"` // in cents
}

// Result is a message that must be seen.
type Result struct {
	// Key groups results that must be seen in order.
	Key string
	// ID is unique.
	ID string
	// Value is everything that the message says; Values, if there are any, are all that
	// it may say.
	Value  string
	Values []string
	// At is the event time in milliseconds up to which the result speaks.
	At int64
	// Due is when the event was due that decided the result, in nanoseconds
	// since the epoch.
	Due int64
	// Plant is the plant that a nudge is of, or "".
	Plant string
	// Moment is what an expected prediction is about; nil for counts and nudges.
	Moment *Moment
}

func (c Count) result() Result {
	key := "count " + c.Window + " of " + c.User
	return Result{Key: key, ID: fmt.Sprintf("%s to %d", key, c.To), Value: fmt.Sprintf("%+v", c), At: c.To}
}

// nudgeKey begins the keys of nudges.
const nudgeKey = "nudge of "

func (n Nudge) result() Result {
	key := nudgeKey + n.User + " for " + n.Item
	return Result{
		Key: key, ID: fmt.Sprintf("%s at %d", key, n.Removed), Value: fmt.Sprintf("%+v", n), At: n.Removed,
		Plant: script.PlantOf(n.Item),
	}
}

// span is a kind of window, in milliseconds.
type span struct {
	name        string
	size, slide int64
}

var spans = []span{{"1m", 60_000, 10_000}, {"5m", 300_000, 300_000}}

type pane struct {
	span int
	end  int64
}

type pair struct{ user, item string }

// Model computes the results. It is used by one goroutine.
type Model struct {
	seen      bool
	watermark int64
	panes     map[pane]map[string]*Count
	// waiting holds the events that the watermark has not passed, in order.
	waiting []arrived
	past    map[pair][]arrived
	// came holds what came of a user and item in the last hours, in the order of
	// the log.
	came map[pair][]script.Event
	late uint64
	// taken is the number of events so far.
	taken   uint64
	forests []forest // in the order of arms
}

// arrived is an event and what a nudge would say of the moment when it came.
type arrived struct {
	script.Event
	views, removes, spent int64
}

// NewModel returns a model that has seen nothing.
func NewModel() *Model {
	m := &Model{panes: map[pane]map[string]*Count{}, past: map[pair][]arrived{}, came: map[pair][]script.Event{}}
	for _, a := range arms {
		m.forests = append(m.forests, readForest(a.name))
	}
	return m
}

// Late returns how many events came too late for hesitations.
func (m *Model) Late() uint64 { return m.late }

// Take takes the next event of the log, due at the given time, and emits the
// results that it decides.
func (m *Model) Take(e script.Event, due int64, emit func(Result)) {
	m.count(e)
	a := m.interest(e)
	m.taken++
	r := a.moment(false).expected(m.taken, m.forests)
	r.Due = due
	emit(r)
	if m.seen && e.At < m.watermark {
		m.late++
	} else {
		i := len(m.waiting)
		for i > 0 && m.waiting[i-1].At > e.At {
			i--
		}
		m.waiting = slices.Insert(m.waiting, i, a)
	}
	if w := e.At - script.Bound; !m.seen || w > m.watermark {
		m.seen, m.watermark = true, w
	}
	dueNow := func(r Result) {
		r.Due = due
		emit(r)
	}
	m.close(dueNow)
	n := 0
	for n < len(m.waiting) && m.waiting[n].At < m.watermark {
		m.look(m.waiting[n], dueNow)
		n++
	}
	m.waiting = slices.Delete(m.waiting, 0, n)
}

// count adds the event to every window that it belongs to and that is open.
func (m *Model) count(e script.Event) {
	for i, s := range spans {
		for end := e.At - e.At%s.slide + s.slide; end-s.size <= e.At; end += s.slide {
			if m.seen && end <= m.watermark {
				continue
			}
			p := pane{i, end}
			if m.panes[p] == nil {
				m.panes[p] = map[string]*Count{}
			}
			c := m.panes[p][e.User]
			if c == nil {
				c = &Count{Window: s.name, User: e.User, From: end - s.size, To: end}
				m.panes[p][e.User] = c
			}
			switch e.Kind {
			case script.View:
				c.Views++
			case script.Add:
				c.Adds++
			case script.Remove:
				c.Removes++
			case script.Buy:
				c.Buys++
				c.Spend += e.Price
			}
		}
	}
}

// close emits the windows that the watermark has reached.
func (m *Model) close(emit func(Result)) {
	var ends []pane
	for p := range m.panes {
		if p.end <= m.watermark {
			ends = append(ends, p)
		}
	}
	slices.SortFunc(ends, func(a, b pane) int { return int(a.end - b.end) })
	for _, p := range ends {
		for _, c := range m.panes[p] {
			emit(c.result())
		}
		delete(m.panes, p)
	}
}

// interest takes an event in the order of the log.
func (m *Model) interest(e script.Event) arrived {
	k := pair{e.User, e.Item}
	came := append(m.came[k], e)
	now := came[0].At
	for _, c := range came {
		now = max(now, c.At)
	}
	came = slices.DeleteFunc(came, func(c script.Event) bool { return c.At < now-2*3_600_000 })
	m.came[k] = came
	tenMinutes, hour := now-now%25_000-600_000, now-now%150_000-3_600_000
	a := arrived{Event: e}
	for _, c := range came {
		switch {
		case c.Kind == script.View && c.At >= tenMinutes:
			a.views++
		case c.Kind == script.Remove && c.At >= hour:
			a.removes++
		case c.Kind == script.Buy && c.At >= hour:
			a.spent += c.Price
		}
	}
	return a
}

// look looks at an event in the order of event time.
func (m *Model) look(e arrived, emit func(Result)) {
	k := pair{e.User, e.Item}
	past := slices.DeleteFunc(m.past[k], func(p arrived) bool { return e.At-p.At > script.Within })
	if e.Kind == script.Remove {
		if n, ok := hesitation(past, e); ok {
			emit(n.result())
			emit(e.moment(true).expected(0, m.forests))
			delete(m.past, k)
			return
		}
	}
	m.past[k] = append(past, e)
}

// hesitation tries every view as the first.
func hesitation(past []arrived, removed arrived) (Nudge, bool) {
	for i := range past {
		if past[i].Kind != script.View {
			continue
		}
		third := after(past, after(past, i, script.View), script.View)
		added := after(past, third, script.Add)
		if added < len(past) && after(past, added, script.Remove) == len(past) {
			return Nudge{
				User: removed.User, Item: removed.Item, Viewed: past[i].At, Added: past[added].At, Removed: removed.At,
				Views: removed.views, Removes: removed.removes, Spent: removed.spent,
			}, true
		}
	}
	return Nudge{}, false
}

// after returns the place of the first event of a kind after place i, len(past) if
// there is none.
func after(past []arrived, i int, kind string) int {
	for i++; i < len(past); i++ {
		if past[i].Kind == kind {
			return i
		}
	}
	return len(past)
}
