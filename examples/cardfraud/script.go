package main

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Config is what a script depends on, and on nothing else.
type Config struct {
	Seed        uint64
	Cards, Days int
}

// Plant is something that was planted among the payments.
type Plant struct {
	Kind string `json:"kind"`
	// Fraud says that its payments are misuse, Testing that the pattern must find it.
	Fraud   bool `json:"fraud"`
	Testing bool `json:"testing"`
	// Payments are its payments by their numbers, Match those that a match of the
	// pattern has: the small ones, then the large one.
	Payments []int64 `json:"payments"`
	Match    []int64 `json:"match,omitempty"`
}

const (
	// begin is when scripts begin: Monday, 6 January 2025, UTC.
	begin                = 1_736_121_600_000
	second, minute, hour = int64(1000), int64(60_000), int64(3_600_000)
	dayLong              = 24 * hour
	// calmBefore is the first day of plants: cards have a past then.
	calmBefore = 5
	// quiet is how far from a plant the payments are that have nothing to do with it.
	quiet = 10 * minute
	// spaced is the least time between payments of a card that are not planted: three
	// small ones and a large one are never within five minutes.
	spaced = 150 * second
)

// holder is a card and the habits of who owns it.
type holder struct {
	card, home string
	level      float64 // typical amount in cents
	merchants  []int   // where most payments go
}

// sent is a payment and when it is sent, in milliseconds.
type sent struct {
	Payment
	arrival int64
	aside   bool // planted, but no part of the match
}

// script makes payments.
type script struct {
	Config
	rng      *rand.Rand
	holders  []holder
	payments [][]sent // by card
	// taken lists, by card, the times from and to of plants.
	taken  [][][2]int64
	plants []Plant
	// members are the planted payments in the order of plants.
	members [][]*sent
}

var countries = []string{"DE", "FR", "IT", "ES", "PL", "NL", "PT", "SE"}

// play returns the payments of a script in the order in which they are sent, numbered
// in that order, and what was planted among them. Payments are out of order by less
// than bound.
func play(c Config) ([]Payment, []Plant) {
	s := &script{Config: c, rng: rand.New(rand.NewPCG(c.Seed, 1))}
	s.payments, s.taken = make([][]sent, c.Cards), make([][][2]int64, c.Cards)
	for i := range c.Cards {
		h := holder{card: fmt.Sprintf("card-%04d", i), home: countries[s.rng.IntN(3)], level: 1500 * math.Exp(s.rng.NormFloat64()*0.4)}
		for range 6 {
			h.merchants = append(h.merchants, s.rng.IntN(s.merchants()))
		}
		s.holders = append(s.holders, h)
	}
	s.plantAll()
	for i := range s.holders {
		s.live(i)
	}
	return s.finish()
}

func (s *script) merchants() int { return s.Cards/2 + 10 }

func merchantName(i int) string { return fmt.Sprintf("merchant-%03d", i) }

// live makes the ordinary payments of a card, around its plants.
func (s *script) live(card int) {
	h := &s.holders[card]
	abroad := ""
	end := begin + int64(s.Days)*dayLong
	for at := begin + int64(s.rng.ExpFloat64()*float64(6*hour)); at < end; {
		if s.rng.IntN(60) == 0 { // a journey begins or ends
			if abroad = ""; s.rng.IntN(2) == 0 {
				abroad = countries[s.rng.IntN(len(countries))]
			}
		}
		p := Payment{Card: h.card, Merchant: merchantName(s.merchantOf(h)), Country: cmp.Or(abroad, h.home), Amount: s.amountOf(h), At: at}
		if !s.near(card, at, at) {
			s.payments[card] = append(s.payments[card], s.send(p))
		}
		gap := int64(s.rng.ExpFloat64() * float64(6*hour))
		if s.rng.IntN(8) == 0 { // shopping
			gap = int64(s.rng.ExpFloat64() * float64(4*minute))
		}
		at += spaced + gap
	}
}

func (s *script) merchantOf(h *holder) int {
	if s.rng.IntN(4) == 0 {
		return s.rng.IntN(s.merchants())
	}
	return h.merchants[s.rng.IntN(len(h.merchants))]
}

// amountOf is what somebody pays: usually about their level, at times a coffee, a
// rent or something expensive.
func (s *script) amountOf(h *holder) int64 {
	switch r := s.rng.IntN(100); {
	case r < 12:
		return 80 + s.rng.Int64N(smallMost-80+1)
	case r < 14:
		return largeLeast + s.rng.Int64N(600_00)
	}
	return max(100, int64(h.level*math.Exp(s.rng.NormFloat64()*0.7)))
}

// near says that a span of time is close to a plant of the card.
func (s *script) near(card int, from, to int64) bool {
	return slices.ContainsFunc(s.taken[card], func(t [2]int64) bool { return to > t[0]-quiet && from < t[1]+quiet })
}

// send decides when a payment is sent.
func (s *script) send(p Payment) sent {
	delay := int64(s.rng.ExpFloat64() * 800)
	return sent{Payment: p, arrival: p.At + min(delay, bound.Milliseconds()-1)}
}

// finish puts everything in the order of sending, and numbers it.
func (s *script) finish() ([]Payment, []Plant) {
	var all []*sent
	for i := range s.payments {
		for k := range s.payments[i] {
			all = append(all, &s.payments[i][k])
		}
	}
	for _, m := range s.members {
		all = append(all, m...)
	}
	slices.SortStableFunc(all, func(a, b *sent) int {
		return cmp.Or(cmp.Compare(a.arrival, b.arrival), cmp.Compare(a.At, b.At), cmp.Compare(a.Card, b.Card))
	})
	payments := make([]Payment, len(all))
	for i, p := range all {
		p.ID = int64(i + 1)
		payments[i] = p.Payment
	}
	for i, m := range s.members {
		for _, p := range m {
			s.plants[i].Payments = append(s.plants[i].Payments, p.ID)
			if s.plants[i].Testing && !p.aside {
				s.plants[i].Match = append(s.plants[i].Match, p.ID)
			}
		}
	}
	return payments, s.plants
}

// somewhere picks a card and a time for a plant that is as long: one at which neither
// the card nor the next one has another.
func (s *script) somewhere(length int64) (card int, at int64) {
	for {
		card := s.rng.IntN(s.Cards)
		at := begin + calmBefore*dayLong + s.rng.Int64N(int64(s.Days-calmBefore)*dayLong-hour)
		if !s.near(card, at, at+length) && !s.near(s.next(card), at, at+length) {
			return card, at
		}
	}
}
