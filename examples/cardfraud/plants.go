package main

import "cmp"

// planted is a payment of a plant, on the way to the script.
type planted struct {
	// at is the time in milliseconds after the plant's, delay how much later than its
	// time the payment is sent; a delay of -1 is any.
	at, delay int64
	amount    int64
	// other puts it on another card.
	other bool
	// aside says that it is no part of the match.
	aside bool
	// country is where, if not at home.
	country string
}

func (s *script) smallAmount() int64 { return 80 + s.rng.Int64N(smallMost-80+1) }
func (s *script) largeAmount() int64 { return largeLeast + s.rng.Int64N(900_00) }
func (s *script) anyAmount() int64   { return smallMost + 1 + s.rng.Int64N(largeLeast-smallMost-1) }

// plantAll plants every kind as often as the size of the script allows.
func (s *script) plantAll() {
	for range max(1, s.Cards*(s.Days-calmBefore)/700) {
		for _, k := range testingKinds {
			s.plant(Plant{Kind: k.name, Fraud: k.testing, Testing: k.testing}, k.payments(s))
		}
		s.burst()
		s.travel()
		s.spree()
		s.attack("merchant attack", true, 12)
		s.attack("coffee break", false, 9)
	}
}

// plant puts payments of one card, at a time of its own, among those of the script.
func (s *script) plant(p Plant, list []planted) {
	length := int64(0)
	for _, l := range list {
		length = max(length, l.at)
	}
	card, at := s.somewhere(length)
	var members []*sent
	for _, l := range list {
		h := &s.holders[card]
		if l.other {
			h = &s.holders[s.next(card)]
		}
		m := s.send(Payment{Card: h.card, Merchant: merchantName(s.rng.IntN(s.merchants())), Country: cmp.Or(l.country, h.home), Amount: l.amount, At: at + l.at})
		if l.delay >= 0 {
			m.arrival = m.At + l.delay
		}
		m.aside = l.aside
		members = append(members, &m)
	}
	s.take(card, at, at+length)
	s.take(s.next(card), at, at+length)
	s.plants, s.members = append(s.plants, p), append(s.members, members)
}

// next is the other card of a plant that has two.
func (s *script) next(card int) int { return (card + 1) % s.Cards }

func (s *script) take(card int, from, to int64) {
	s.taken[card] = append(s.taken[card], [2]int64{from, to})
}

// testingKind is a kind of card testing, or something that just misses being one.
type testingKind struct {
	name     string
	testing  bool
	payments func(s *script) []planted
}

const within = int64(testingWithin / 1e6)

// small and large make payments at a time after the plant's.
func (s *script) small(at int64) planted { return planted{at: at, delay: -1, amount: s.smallAmount()} }
func (s *script) large(at int64) planted { return planted{at: at, delay: -1, amount: s.largeAmount()} }
func (s *script) other(at int64) planted { return planted{at: at, delay: -1, amount: s.anyAmount()} }

// three makes three small payments, the first at once, and then a large one.
func (s *script) three(last int64) []planted {
	a, b := 1+s.rng.Int64N(last/2), last/2+s.rng.Int64N(last/2)
	return []planted{s.small(0), s.small(a), s.small(max(b, a+1)), s.large(last)}
}

var testingKinds = []testingKind{
	{"testing", true, func(s *script) []planted { return s.three(minute + s.rng.Int64N(3*minute)) }},
	{"testing, many small", true, func(s *script) []planted {
		var list []planted
		for i := range 4 + s.rng.Int64N(6) {
			list = append(list, s.small(i*(15*second)+s.rng.Int64N(10*second)))
		}
		return append(list, s.large(4*minute))
	}},
	{"testing, others in between", true, func(s *script) []planted {
		list := []planted{s.small(0), s.other(10 * second), s.small(20 * second), s.small(90 * second), s.other(2 * minute), s.large(3 * minute)}
		list[1].aside, list[4].aside = true, true
		return list
	}},
	{"testing, exactly five minutes", true, func(s *script) []planted { return s.three(within) }},
	{"testing, a millisecond less", true, func(s *script) []planted { return s.three(within - 1) }},
	{"testing, the amounts at the edge", true, func(s *script) []planted {
		list := s.three(2 * minute)
		list[0].amount, list[3].amount = smallMost, largeLeast
		return list
	}},
	{"testing, all at once", true, func(s *script) []planted {
		return []planted{s.small(0), s.small(1), s.small(2), s.large(3)}
	}},
	{"testing, sent in another order", true, func(s *script) []planted {
		list := []planted{s.small(0), s.small(1 * second), s.small(2 * second), s.large(3 * second)}
		for i := range list {
			list[i].delay = int64(3-i) * 2 * second
		}
		return list
	}},
	{"testing, the first small one too early", true, func(s *script) []planted {
		list := []planted{s.small(0), s.small(1), s.small(2), s.small(3), s.large(within + 1)}
		list[0].aside = true
		return list
	}},

	{"a millisecond too long", false, func(s *script) []planted { return s.three(within + 1) }},
	{"two small ones", false, func(s *script) []planted {
		return []planted{s.small(0), s.small(30 * second), s.large(minute)}
	}},
	{"a cent too much", false, func(s *script) []planted {
		list := s.three(2 * minute)
		list[1].amount = smallMost + 1
		return list
	}},
	{"a cent too little", false, func(s *script) []planted {
		list := s.three(2 * minute)
		list[3].amount = largeLeast - 1
		return list
	}},
	{"the large one earlier", false, func(s *script) []planted {
		return []planted{s.large(0), s.small(30 * second), s.small(60 * second), s.small(90 * second)}
	}},
	{"the right order only as sent", false, func(s *script) []planted {
		list := []planted{s.small(1 * second), s.small(2 * second), s.small(4 * second), s.large(3 * second)}
		for i, l := range list {
			list[i].delay = 5*second + int64(i)*second - l.at
		}
		return list
	}},
	{"two cards", false, func(s *script) []planted {
		list := s.three(2 * minute)
		list[1].other = true
		return list
	}},
	{"no large one", false, func(s *script) []planted {
		return []planted{s.small(0), s.small(20 * second), s.small(40 * second), s.other(minute)}
	}},
}

// burst is a card that is used over and over.
func (s *script) burst() {
	var list []planted
	for i := range 6 + s.rng.Int64N(5) {
		list = append(list, planted{at: i*(9*second) + s.rng.Int64N(4*second), delay: -1, amount: s.anyAmount()})
	}
	s.plant(Plant{Kind: "burst", Fraud: true}, list)
}

// travel is a card that is in many countries within an hour.
func (s *script) travel() {
	var list []planted
	first := s.rng.IntN(len(countries))
	for i := range 4 {
		p := s.other(int64(i) * (8*minute + s.rng.Int64N(4*minute)))
		p.country = countries[(first+i)%len(countries)]
		list = append(list, p)
	}
	s.plant(Plant{Kind: "travel", Fraud: true}, list)
}

// spree is a few payments that are far too high for the card.
func (s *script) spree() {
	var list []planted
	for i := range 2 + s.rng.Int64N(3) {
		list = append(list, planted{at: i * (7*minute + s.rng.Int64N(5*minute)), delay: -1, amount: 700_00 + s.rng.Int64N(900_00)})
	}
	s.plant(Plant{Kind: "spree", Fraud: true}, list)
}

// attack is many cards that make a small payment each at one merchant, or two, within a
// few minutes: stolen numbers that are tried out, or people having coffee.
func (s *script) attack(kind string, fraud bool, cards int) {
	_, at := s.somewhere(0)
	merchant := merchantName(s.rng.IntN(s.merchants()))
	var members []*sent
	for i, card := range s.rng.Perm(s.Cards)[:min(cards+s.rng.IntN(4), s.Cards)] {
		h := &s.holders[card]
		first := at + int64(i)*(15*second)
		if s.near(card, first, first+minute) {
			continue
		}
		s.take(card, first, first+minute)
		for k := range int64(1 + one(!fraud && i%3 == 0)) { // a second cup
			m := s.send(Payment{Card: h.card, Merchant: merchant, Country: h.home, Amount: s.smallAmount(), At: first + k*minute})
			members = append(members, &m)
		}
	}
	s.plants, s.members = append(s.plants, Plant{Kind: kind, Fraud: fraud}), append(s.members, members)
}
