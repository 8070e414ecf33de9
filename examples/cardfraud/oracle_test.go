package main

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/weirflow/weir/operators/feature"
	"github.com/weirflow/weir/operators/model/tree"
)

// oracle computes by brute force, over all payments so far, what the job must find.
type oracle struct {
	hops map[time.Duration]int64 // of each horizon, in milliseconds
	keys map[any]*past
}

// past is what came for one key, in the order in which it came.
type past struct {
	clock    int64
	payments []Payment
}

func newOracle() *oracle {
	m := &oracle{hops: map[time.Duration]int64{}, keys: map[any]*past{}}
	for _, g := range []*feature.Group[Payment]{cardFeatures(), merchantFeatures(), pairFeatures()} {
		p, err := g.Compile()
		if err != nil {
			panic(err)
		}
		for _, h := range p.Horizons() {
			m.hops[h.Length] = h.Hop.Milliseconds()
		}
	}
	return m
}

// view is what counts for the features of a key: what happened strictly before its
// clock, in the order of times.
type view struct {
	m     *oracle
	clock int64
	list  []Payment
}

// see takes a payment of a key, and returns what counts for its features.
func (m *oracle) see(key any, p Payment) view {
	k := m.keys[key]
	if k == nil {
		k = &past{clock: p.At}
		m.keys[key] = k
	}
	k.clock = max(k.clock, p.At)
	v := view{m: m, clock: k.clock}
	for _, x := range k.payments {
		if x.At < k.clock {
			v.list = append(v.list, x)
		}
	}
	slices.SortStableFunc(v.list, func(a, b Payment) int { return cmp.Compare(a.At, b.At) })
	k.payments = append(k.payments, p)
	return v
}

// over is what lies within a horizon, which begins at a tile.
func (v view) over(horizon time.Duration) view {
	hop, ok := v.m.hops[horizon]
	if !ok {
		panic("no such horizon")
	}
	w := horizon.Milliseconds()
	from := (v.clock/hop - (w+hop-1)/hop) * hop
	v.list = slices.DeleteFunc(slices.Clone(v.list), func(p Payment) bool { return p.At < from })
	return v
}

func (v view) count() int64 { return int64(len(v.list)) }

func (v view) sum() (s int64) {
	for _, p := range v.list {
		s += p.Amount
	}
	return s
}

func (v view) mean() float64 {
	if len(v.list) == 0 {
		return 0
	}
	return float64(v.sum()) / float64(len(v.list))
}

func (v view) stddev() float64 {
	if len(v.list) == 0 {
		return 0
	}
	mean, m2 := v.mean(), 0.0
	for _, p := range v.list {
		m2 += (float64(p.Amount) - mean) * (float64(p.Amount) - mean)
	}
	return math.Sqrt(m2 / float64(len(v.list)))
}

func (v view) most() (n int64) {
	for _, p := range v.list {
		n = max(n, p.Amount)
	}
	return n
}

func (v view) different(of func(Payment) string) int64 {
	seen := map[string]bool{}
	for _, p := range v.list {
		seen[of(p)] = true
	}
	return int64(len(seen))
}

func (v view) lastIn() string {
	if len(v.list) == 0 {
		return ""
	}
	return v.list[len(v.list)-1].Country
}

// since is the time from the last payment to the clock, in seconds.
func (v view) since() float64 {
	if len(v.list) == 0 {
		return 0
	}
	return float64(v.clock-v.list[len(v.list)-1].At) / 1000
}

func (v view) small() view {
	v.list = slices.DeleteFunc(slices.Clone(v.list), func(p Payment) bool { return p.Amount > smallMost })
	return v
}

// history takes a payment and returns what the job must make of its past.
func (m *oracle) history(p Payment) History {
	card, merchant, pair := m.see(p.Card, p), m.see([1]string{p.Merchant}, p), m.see([2]string{p.Card, p.Merchant}, p)
	month := card.over(30 * day)
	return History{
		Card1m: card.over(time.Minute).count(), Card5m: card.over(5 * time.Minute).count(), Card1h: card.over(time.Hour).count(), Card30d: month.count(),
		Spend1h: card.over(time.Hour).sum(), Spend24h: card.over(day).sum(), Mean30d: month.mean(), Stddev30d: month.stddev(), Most30d: month.most(),
		Countries: card.over(time.Hour).different(Payment.country), LastIn: card.over(time.Hour).lastIn(), Since: month.since(),
		Merchant5m: merchant.over(5 * time.Minute).count(), Merchant24h: merchant.over(day).count(), MerchantMean: merchant.over(day).mean(),
		MerchantCards: merchant.over(5 * time.Minute).different(Payment.card), MerchantSmall: merchant.over(5 * time.Minute).small().count(),
		Pair30d: pair.over(30 * day).count(), PairSpend: pair.over(day).sum(), PairSince: pair.over(30 * day).since(),
	}
}

// tests finds what the pattern must find: for each large payment, the small ones of its
// card that came before it in event time, at most five minutes, and were not used up.
func tests(payments []Payment) []Testing {
	byCard := map[string][]Payment{}
	for _, p := range payments {
		byCard[p.Card] = append(byCard[p.Card], p)
	}
	var found []Testing
	for card, list := range byCard {
		slices.SortStableFunc(list, func(a, b Payment) int { return cmp.Compare(a.At, b.At) })
		used := 0
		for i, p := range list {
			if p.Amount < largeLeast {
				continue
			}
			t := Testing{Card: card, Large: p.ID, At: p.At}
			for _, x := range list[used:i] {
				if x.Amount <= smallMost && x.At >= p.At-testingWithin.Milliseconds() {
					t.Small = append(t.Small, x.ID)
				}
			}
			if len(t.Small) >= testingLeast {
				found, used = append(found, t), i+1
			}
		}
	}
	sortTestings(found)
	return found
}

func sortTestings(list []Testing) {
	slices.SortFunc(list, func(a, b Testing) int { return cmp.Compare(a.Large, b.Large) })
}

// readTrees returns the model. The package that reads it is tested against the
// library that wrote it.
func readTrees() func(row []float64) float64 {
	b, err := models.ReadFile("models/fraud.txt")
	if err != nil {
		panic(err)
	}
	m, err := tree.Read(b, tree.Limits{})
	if err != nil {
		panic(err)
	}
	return func(row []float64) float64 {
		var out [1]float64
		m.Predict(out[:], row)
		return out[0]
	}
}

// alertsOf joins signals to cases and those to alerts.
func alertsOf(predictions []Judged, scored []Scored, testings []Testing) []Alert {
	type signal struct {
		at, id  int64
		score   int
		reasons Reasons
	}
	byCard := map[string][]signal{}
	for i, s := range scored {
		if p := int(math.Round(100 * predictions[i].Prediction.Out)); p >= suspectScore {
			byCard[s.Card] = append(byCard[s.Card], signal{s.At, s.ID, p, s.Reasons | Model})
		}
	}
	for _, t := range testings {
		byCard[t.Card] = append(byCard[t.Card], signal{t.At, t.Large, 100, CardTesting})
	}
	var alerts []Alert
	for card, list := range byCard {
		slices.SortFunc(list, func(a, b signal) int { return cmp.Compare(a.at, b.at) })
		for len(list) > 0 {
			a := Alert{Card: card, From: list[0].at, To: list[0].at}
			for len(list) > 0 && list[0].at <= a.To+caseGap.Milliseconds() {
				a.To, a.Score, a.Reasons = list[0].at, max(a.Score, list[0].score), a.Reasons|list[0].reasons
				a.Payments = append(a.Payments, list[0].id)
				list = list[1:]
			}
			slices.Sort(a.Payments)
			a.Payments = slices.Compact(a.Payments)
			if a.Reasons&CardTesting != 0 || a.Score >= alertScore || len(a.Payments) >= severalSignals {
				alerts = append(alerts, a)
			}
		}
	}
	sortAlerts(alerts)
	return alerts
}

func sortAlerts(list []Alert) {
	slices.SortFunc(list, func(a, b Alert) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Card, b.Card)) })
}
