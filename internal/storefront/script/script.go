// Package script writes the play of the storefront demo: an endless sequence of
// click events that depends on a seed and on nothing else, so that a generator
// which was killed goes on at any index exactly where it stopped.
//
// Among the clicks of ordinary visitors it plants hesitations (an item viewed
// three times, added to the cart and removed within ten minutes) and sequences
// that just fail to be one, each with the number of nudges that it must cause.
//
// The package knows nothing of the engine. The wire form of an event is the JSON
// form of Event.
package script

import (
	"fmt"
	"math/bits"
)

// Kinds of events.
const (
	View   = "view"
	Add    = "add"
	Remove = "remove"
	Buy    = "buy"
)

// Event is one click as it is sent.
type Event struct {
	User string `json:"user"`
	Item string `json:"item"`
	Kind string `json:"kind"`
	// Price is that of the item in cents.
	Price int64 `json:"price"`
	// At is the event time in milliseconds since the epoch.
	At int64 `json:"at"`
}

// Times of the play, in milliseconds.
const (
	// Base is the event time of the first event: 2026-01-05T00:00:00Z.
	Base int64 = 1767571200000
	// Bound is how late an event may be and still count.
	Bound = 5_000
	// Within is the longest time from the first of three views to the removal.
	Within = 600_000
	// closing is how far beyond the last event the closing one is.
	closing = 3_600_000
)

// Config says what is played. Events and their times depend on all of it.
type Config struct {
	Seed uint64 `json:"seed"`
	// Rate is the number of events per second of wall time.
	Rate int `json:"rate"`
	// Speed is how many times faster than the wall clock event time runs.
	Speed int `json:"speed"`
}

// Bounds of a Config.
const (
	MinRate, MaxRate   = 50, 50_000
	MinSpeed, MaxSpeed = 1, 1_000
)

// Check reports values that cannot be played.
func (c Config) Check() error {
	if c.Rate < MinRate || c.Rate > MaxRate {
		return fmt.Errorf("the rate is %d events a second; use %d to %d", c.Rate, MinRate, MaxRate)
	}
	if c.Speed < MinSpeed || c.Speed > MaxSpeed {
		return fmt.Errorf("event time runs %d times as fast as the clock; use %d to %d", c.Speed, MinSpeed, MaxSpeed)
	}
	return nil
}

// nominal is the event time that event i would have if nothing were delayed. No
// event before i has a later one.
func (c Config) nominal(i uint64) int64 {
	return Base + int64(i)*int64(c.Speed)*1000/int64(c.Rate)
}

// at is the first event whose nominal time is t or later.
func (c Config) at(t int64) uint64 {
	if t <= Base {
		return 0
	}
	per := int64(c.Speed) * 1000
	return uint64(((t-Base)*int64(c.Rate) + per - 1) / per)
}

// ChapterLen is the number of events of a chapter: about an hour of event time. A
// chapter does not depend on the one before it, so that a generator can go on
// without playing everything again.
func (c Config) ChapterLen() uint64 {
	return max(1000, uint64(3600*c.Rate/c.Speed))
}

// Due is when event i is due, in nanoseconds after the start: the play is open
// loop.
func (c Config) Due(i uint64) int64 {
	hi, lo := bits.Mul64(i, 1e9)
	q, _ := bits.Div64(hi, lo, uint64(c.Rate))
	return int64(q)
}

// Closing is an event that ends the play after n events: its time is so late that
// it closes every window and decides every sequence before it. No event may
// follow.
func (c Config) Closing(n uint64) Event {
	return Event{User: "closing", Item: "closing", Kind: View, At: c.nominal(n) + closing}
}

// Player plays the events one after another. It is used by one goroutine.
type Player struct {
	c       Config
	next    uint64
	max     int64 // the latest event time of the chapter so far
	chapter uint64
	plants  map[uint64]plantStep // of the chapter, by index
}

// Play returns a player that plays event i next.
func Play(c Config, i uint64) *Player {
	p := &Player{c: c, next: i - i%c.ChapterLen()}
	for p.next < i {
		p.Next()
	}
	return p
}

// Index returns the index of the event that Next plays.
func (p *Player) Index() uint64 { return p.next }

// Next plays the next event. plant is not nil when the event is the last one of a
// planted sequence.
func (p *Player) Next() (e Event, plant *Plant) {
	i := p.next
	if n := p.c.ChapterLen(); i%n == 0 {
		p.chapter = i / n
		p.plants = plan(p.c, p.chapter)
		// The first event of a chapter is on time, and so the latest of all: from
		// here on nothing depends on the chapters before.
		p.max = p.c.nominal(i)
	}
	p.next++
	if s, ok := p.plants[i]; ok {
		e = s.event(p.max)
		plant = s.ends
	} else {
		e = p.c.visitor(i)
	}
	p.max = max(p.max, e.At)
	return e, plant
}

// visitor is an event of ordinary visitors.
func (c Config) visitor(i uint64) Event {
	d := dice{seed: c.Seed ^ 0x5eed, at: i}
	e := Event{User: user(d.skewed(users)), Kind: View}
	item := d.skewed(items)
	e.Item, e.Price = fmt.Sprintf("item-%02d", item), int64(199+item*150)
	switch r := d.upTo(100); {
	case r < 60:
	case r < 76:
		e.Kind = Add
	case r < 88:
		e.Kind = Remove
	default:
		e.Kind = Buy
	}
	e.At = c.nominal(i)
	if i%c.ChapterLen() == 0 {
		return e
	}
	switch r := d.upTo(1000); {
	case r < 750:
		e.At -= int64(d.upTo(1000))
	case r < 970:
		e.At -= int64(d.upTo(Bound))
	case r < 990:
		e.At -= Bound
	default: // too late for the pattern, and perhaps for some windows
		e.At -= Bound + 1 + int64(d.upTo(85_000))
	}
	return e
}

const (
	users = 100
	items = 40
)

func user(n int) string { return fmt.Sprintf("user-%02d", n) }

// dice gives numbers that depend on a seed, an index and how many were taken.
type dice struct{ seed, at, n uint64 }

func (d *dice) roll() uint64 {
	d.n++
	x := d.seed + d.at*0x9e3779b97f4a7c15 + d.n*0xd1342543de82ef95
	for range 2 {
		x ^= x >> 32
		x *= 0xd6e8feb86659fd93
	}
	return x ^ x>>32
}

// upTo returns a number from 0 to n-1.
func (d *dice) upTo(n int) int {
	hi, _ := bits.Mul64(d.roll(), uint64(n))
	return int(hi)
}

// skewed returns a number from 0 to n-1, small ones more often.
func (d *dice) skewed(n int) int { return d.upTo(d.upTo(n) + 1) }
