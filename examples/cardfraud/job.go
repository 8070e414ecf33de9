package main

import (
	"slices"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/file"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/pattern"
	"github.com/weirflow/weir/window"
)

// Payment is one payment by card.
type Payment struct {
	ID       int64  `json:"id"`
	Card     string `json:"card"`
	Merchant string `json:"merchant"`
	// Country is where the card was used.
	Country string `json:"country"`
	// Amount in cents.
	Amount int64 `json:"amount"`
	// At is the event time in milliseconds since the epoch.
	At int64 `json:"at"`
}

const (
	// bound is how much later than one with a greater time a payment may come.
	bound = 10 * time.Second
	// smallMost and largeLeast are amounts in cents: what counts as small and as large.
	smallMost, largeLeast = 5_00, 200_00
	// testingLeast is how many small payments make a test, and testingWithin the
	// longest time from the first of them to the large one.
	testingLeast  = 3
	testingWithin = 5 * time.Minute
	// caseGap ends a case: longer without another signal.
	caseGap = 30 * time.Minute
	// alertScore makes an alert of a payment alone, suspectScore a reason to look at it
	// together with others of its card; both in percent.
	alertScore, suspectScore = 80, 30
)

// cardTesting is the pattern: somebody tries out a stolen card with small payments,
// three or more, and then uses it for a large one, within five minutes, exactly five
// included. Payments of other amounts may come in between.
//
// It sees the payments of a card in the order of their event times. A match has all
// the small payments since the first one that is near enough, and uses them up.
func cardTesting() *pattern.Pattern[Payment] {
	return pattern.Begin("small", Payment.isSmall).TimesOrMore(testingLeast).Greedy().
		FollowedBy("large", Payment.isLarge).
		// A window is half open, and event times are in milliseconds.
		Within(testingWithin + time.Millisecond).
		SkipStrategy(pattern.Skip{Kind: pattern.SkipPastLast})
}

// Testing is a match of cardTesting.
type Testing struct {
	Card string `json:"card"`
	// Small lists the small payments, Large is the large one, by their numbers.
	Small []int64 `json:"small"`
	Large int64   `json:"large"`
	// At is the time of the large one.
	At int64 `json:"at"`
}

func tested(card string, m *pattern.Match[Payment]) Testing {
	large, _ := m.First("large")
	t := Testing{Card: card, Large: large.ID, At: large.At}
	for _, p := range m.Events("small") {
		t.Small = append(t.Small, p.ID)
	}
	return t
}

// Signal is one reason to look at a card: a suspicious payment or a match.
type Signal struct {
	Card    string
	Payment int64
	// Score is how certain it is, in percent.
	Score   int
	Reasons Reasons
}

// Case is what the signals of one card come to, as long as each comes at most
// caseGap after the one before.
type Case struct {
	// Payments lists the payments with signals by their numbers, in ascending order.
	Payments []int64
	// Best is the highest score of a payment.
	Best    int
	Reasons Reasons
}

// cases adds up signals; the order in which they come does not matter.
type cases struct{}

var _ weir.AggregateFunction[Signal, Case, Case] = cases{}

func (cases) Add(c *Case, s Signal) {
	if i, found := slices.BinarySearch(c.Payments, s.Payment); !found {
		c.Payments = slices.Insert(c.Payments, i, s.Payment)
	}
	c.Best, c.Reasons = max(c.Best, s.Score), c.Reasons|s.Reasons
}

func (f cases) Merge(dst, src *Case) {
	for _, p := range src.Payments {
		f.Add(dst, Signal{Payment: p, Score: src.Best, Reasons: src.Reasons})
	}
}

func (cases) Result(c *Case) Case { return Case{slices.Clone(c.Payments), c.Best, c.Reasons} }

// Alert says that a card is likely misused.
type Alert struct {
	Card string `json:"card"`
	// From and To are the times of the first and last signal, in milliseconds.
	From     int64   `json:"from"`
	To       int64   `json:"to"`
	Payments []int64 `json:"payments"`
	Score    int     `json:"score"`
	Reasons  Reasons `json:"reasons"`
}

// severalSignals is how many suspicious payments make an alert when none of them does.
const severalSignals = 3

// alarming is the rule that joins both: the pattern, a payment that the model is sure
// of, or several payments that are suspicious.
func alarming(w weir.Windowed[string, Case]) bool {
	c := w.Value
	return c.Reasons&CardTesting != 0 || c.Best >= alertScore || len(c.Payments) >= severalSignals
}

func alert(w weir.Windowed[string, Case]) Alert {
	return Alert{
		Card: w.Key, From: w.Start.UnixMilli(), To: w.End.Add(-caseGap).UnixMilli(),
		Payments: w.Value.Payments, Score: w.Value.Best, Reasons: w.Value.Reasons,
	}
}

// job reads payments and writes four directories of JSON lines below out: scored,
// predictions, testings and alerts.
//
//	payments ─┬─▶ history (by card, by merchant, by both) ─┬─▶ scored
//	          │                                            └─▶ fraud ─┬─▶ predictions
//	          │                                                       └─▶ suspects ─┐
//	          └─▶ by-card ─▶ card-testing ──┬─▶ testings                            ├─▶ cases ─▶ alerts
//	                                        └─▶ tested ─────────────────────────────┘
func job(payments connectors.Source[Payment], out string) weir.JobSpec {
	return weir.NewJob("cardfraud", func(j *weir.Job) {
		in := weir.From(j, "payments", payments, weir.BoundedOutOfOrderness(bound, Payment.eventTime))

		scored := weir.RollingBy(in, "history", score,
			weir.GroupBy("card", Payment.card, cardFeatures()),
			weir.GroupBy("merchant", Payment.merchant, merchantFeatures()),
			weir.GroupBy("pair", Payment.pair, pairFeatures()))
		weir.To(scored, "scored", file.WriteJSONL[Scored](out+"/scored"))

		// The pattern gets its payments from the source, in the source's order, and not
		// behind the features: which of them are late then depends on nothing else.
		byCard := weir.KeyBy(in, "by-card", Payment.card)
		testings := weir.Detect(byCard, "card-testing", cardTesting(), tested)
		weir.To(testings, "testings", file.WriteJSONL[Testing](out+"/testings"))

		byScored := weir.KeyBy(scored, "by-scored", func(s Scored) string { return s.Card })
		predictions := weir.Predict(byScored, "fraud", weir.Arms[[]float64, float64]{"trees": fraudModel}, model.Everything("trees"), row, judged,
			weir.DropFailures(), weir.LogFeatures(model.FeatureHash))
		weir.To(predictions, "predictions", file.WriteJSONL[Judged](out+"/predictions"))

		suspects := weir.Filter(predictions, "suspects", func(j Judged) bool { return j.certainty() >= suspectScore })
		signals := weir.Union("signals",
			weir.Map(suspects, "suspect", Judged.signal),
			weir.Map(testings, "tested", func(t Testing) Signal { return Signal{t.Card, t.Large, 100, CardTesting} }))
		byCase := weir.KeyBy(signals, "by-case", func(s Signal) string { return s.Card })
		found := weir.Aggregate(byCase, "cases", window.Session(caseGap), cases{})
		alerts := weir.Map(weir.Filter(found, "alarming", alarming), "alert", alert)
		weir.To(alerts, "alerts", file.WriteJSONL[Alert](out+"/alerts"))
	})
}
