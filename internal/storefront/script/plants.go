package script

import (
	"fmt"
	"slices"
	"strings"
)

// Plant is a planted sequence of events on an item that only it uses.
type Plant struct {
	// Name is unique, Kind says what is special about the sequence.
	Name string `json:"name"`
	Kind string `json:"kind"`
	User string `json:"user"`
	// Item is the item; a second one, if there is one, begins with the same name.
	Item string `json:"item"`
	// Want is how many nudges the sequence causes.
	Want int `json:"want"`
}

// step is one event of a plot.
type step struct {
	kind string
	// after is the event time in milliseconds after that of the first event.
	after int64
	// delay is how long after its event time the event is sent, in milliseconds
	// of event time.
	delay int64
	// behind, if not 0, sets the event time when the event is sent: so many
	// milliseconds behind the latest event so far.
	behind int64
	other  bool // on the second item
}

// plot is a kind of sequence. want nudges come of it.
type plot struct {
	name  string
	want  int
	steps func(d *dice) []step
}

// hesitation is three views, an addition, and a removal at the given time after
// the first view.
func hesitation(d *dice, removed int64) []step {
	t := [4]int64{0, 10_000 + int64(d.upTo(20_000)), 40_000 + int64(d.upTo(10_000)), 55_000 + int64(d.upTo(4_000))}
	return []step{{kind: View}, {kind: View, after: t[1]}, {kind: View, after: t[2]}, {kind: Add, after: t[3]}, {kind: Remove, after: removed}}
}

// plots lists everything that is planted. Sequences take more than one minute.
var plots = []plot{
	{"hesitation", 1, func(d *dice) []step { return hesitation(d, 61_000+int64(d.upTo(530_000))) }},
	{"ten minutes less 1 ms", 1, func(d *dice) []step { return hesitation(d, Within-1) }},
	{"ten minutes", 1, func(d *dice) []step { return hesitation(d, Within) }},
	{"ten minutes and 1 ms", 0, func(d *dice) []step { return hesitation(d, Within+1) }},
	{"two views only", 0, func(d *dice) []step { return slices.Delete(hesitation(d, 90_000), 1, 2) }},
	{"added before the third view", 0, func(*dice) []step {
		return []step{{kind: View}, {kind: View, after: 20_000}, {kind: Add, after: 40_000}, {kind: View, after: 60_000}, {kind: Remove, after: 90_000}}
	}},
	{"removed before it was added", 0, func(*dice) []step {
		return []step{{kind: View}, {kind: View, after: 20_000}, {kind: View, after: 40_000}, {kind: Remove, after: 60_000}, {kind: Add, after: 90_000}}
	}},
	{"other product removed", 0, func(d *dice) []step {
		s := hesitation(d, 100_000)
		s[4].other = true
		return s
	}},
	{"one view of another product", 0, func(d *dice) []step {
		s := hesitation(d, 100_000)
		s[1].other = true
		return s
	}},
	{"sent in another order", 1, func(*dice) []step {
		return []step{{kind: View}, {kind: View, after: 20_000}, {kind: Add, after: 61_500}, {kind: View, after: 60_000, delay: 4_500}, {kind: Remove, after: 100_000}}
	}},
	{"right only in the order sent", 0, func(*dice) []step {
		return []step{{kind: View}, {kind: View, after: 20_000}, {kind: View, after: 61_500}, {kind: Add, after: 60_000, delay: 4_500}, {kind: Remove, after: 100_000}}
	}},
	{"third view as late as allowed", 1, func(*dice) []step { return lateView(Bound) }},
	{"third view 1 ms too late", 0, func(*dice) []step { return lateView(Bound + 1) }},
	{"added twice and removed twice", 1, func(d *dice) []step {
		return append(hesitation(d, 90_000), step{kind: Add, after: 110_000}, step{kind: Remove, after: 130_000})
	}},
	{"two hesitations", 2, func(d *dice) []step {
		s := hesitation(d, 90_000)
		for _, again := range hesitation(d, 90_000) {
			again.after += 120_000
			s = append(s, again)
		}
		return s
	}},
	{"added and removed at once", 1, func(*dice) []step {
		return []step{{kind: View}, {kind: View, after: 20_000}, {kind: View, after: 40_000}, {kind: Add, after: 60_000}, {kind: Remove, after: 60_000}}
	}},
	{"removed and added at once", 0, func(*dice) []step {
		return []step{{kind: View}, {kind: View, after: 20_000}, {kind: View, after: 40_000}, {kind: Remove, after: 60_000}, {kind: Add, after: 60_000}}
	}},
}

// lateView is a hesitation whose third view is late by exactly so much.
func lateView(behind int64) []step {
	return []step{{kind: View}, {kind: View, after: 10_000}, {kind: View, after: 40_000, behind: behind}, {kind: Add, after: 60_000}, {kind: Remove, after: 90_000}}
}

// Kinds lists the kinds of plants.
func Kinds() []string {
	out := make([]string, len(plots))
	for i := range plots {
		out[i] = plots[i].name
	}
	return out
}

// plantStep is a step at the index at which it is sent.
type plantStep struct {
	Event
	behind int64
	ends   *Plant
}

// event is the event to send when the latest so far is at latest.
func (s plantStep) event(latest int64) Event {
	e := s.Event
	if s.behind > 0 {
		e.At = latest - s.behind
	}
	return e
}

const (
	// plantEvery is the number of events from one plant to the next; plants are
	// then about an eighth of all events.
	plantEvery = 40
	// maxWait is how long after its event time an event that is not meant to be
	// late may be sent; sequences that meet with too many others are left out.
	maxWait = Bound - 200
)

// plan places the plants of a chapter and returns their events by index.
func plan(c Config, chapter uint64) map[uint64]plantStep {
	length := c.ChapterLen()
	first := chapter * length
	taken := map[uint64]plantStep{}
	order := dice{seed: c.Seed ^ 0x9107, at: chapter}
	var turn []int // the plots still to come in this round
	n := 0
	for i := first + 1; i < first+length; i += plantEvery {
		if len(turn) == 0 {
			turn = shuffled(&order, len(plots))
		}
		pl := &plots[turn[0]]
		d := dice{seed: c.Seed ^ 0xab1e, at: i}
		p := &Plant{
			Name: fmt.Sprintf("%d-%d", chapter, n), Kind: pl.name, Want: pl.want,
			User: user(d.upTo(users)), Item: fmt.Sprintf("rare-%d-%d", chapter, n),
		}
		if place(c, taken, first+length, p, c.nominal(i+uint64(d.upTo(plantEvery))), pl.steps(&d)) {
			turn = turn[1:]
			n++
		}
	}
	return taken
}

func shuffled(d *dice, n int) []int {
	out := make([]int, n)
	for i := range out {
		j := d.upTo(i + 1)
		out[i], out[j] = out[j], i
	}
	return out
}

// place gives each step of a plant a free index below end, or none if one would
// be sent too late or the steps would be sent in another order than meant.
func place(c Config, taken map[uint64]plantStep, end uint64, p *Plant, start int64, steps []step) bool {
	at := make([]uint64, len(steps))
	for k, s := range steps {
		i := c.at(start + s.after + s.delay)
		for ; ; i++ {
			if _, busy := taken[i]; !busy && !slices.Contains(at[:k], i) {
				break
			}
		}
		if i >= end || s.behind == 0 && c.nominal(i)-(start+s.after) > maxWait {
			return false
		}
		at[k] = i
	}
	if !slices.IsSorted(at) {
		return false
	}
	for k, s := range steps {
		e := Event{User: p.User, Item: p.Item, Kind: s.kind, Price: 2500, At: start + s.after}
		if s.other {
			e.Item += "-other"
		}
		ps := plantStep{Event: e, behind: s.behind}
		if k == len(steps)-1 {
			ps.ends = p
		}
		taken[at[k]] = ps
	}
	return true
}

// PlantOf returns the name of the plant that an item belongs to, or "".
func PlantOf(item string) string {
	name, ok := strings.CutPrefix(item, "rare-")
	if !ok {
		return ""
	}
	return strings.TrimSuffix(name, "-other")
}
