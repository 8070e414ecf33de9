package main

import (
	"time"

	"github.com/weirflow/weir/operators/feature"
)

const day = 24 * time.Hour

// cardMerchant is the key of what a card did at one merchant.
type cardMerchant struct{ Card, Merchant string }

func (p Payment) card() string         { return p.Card }
func (p Payment) merchant() string     { return p.Merchant }
func (p Payment) pair() cardMerchant   { return cardMerchant{p.Card, p.Merchant} }
func (p Payment) cents() int64         { return p.Amount }
func (p Payment) country() string      { return p.Country }
func (p Payment) isSmall() bool        { return p.Amount <= smallMost }
func (p Payment) isLarge() bool        { return p.Amount >= largeLeast }
func (p Payment) eventTime() time.Time { return time.UnixMilli(p.At) }

// History is what had happened strictly before a payment. Amounts are in cents,
// times in seconds; what there is no value of, such as the mean of nothing, is 0.
type History struct {
	Card1m    int64   `feature:"card_count_1m" json:"card_count_1m"`
	Card5m    int64   `feature:"card_count_5m" json:"card_count_5m"`
	Card1h    int64   `feature:"card_count_1h" json:"card_count_1h"`
	Card30d   int64   `feature:"card_count_30d" json:"card_count_30d"`
	Spend1h   int64   `feature:"card_spend_1h" json:"card_spend_1h"`
	Spend24h  int64   `feature:"card_spend_24h" json:"card_spend_24h"`
	Mean30d   float64 `feature:"card_mean_30d" json:"card_mean_30d"`
	Stddev30d float64 `feature:"card_stddev_30d" json:"card_stddev_30d"`
	Most30d   int64   `feature:"card_most_30d" json:"card_most_30d"`
	Countries int64   `feature:"card_countries_1h" json:"card_countries_1h"`
	LastIn    string  `feature:"card_country_1h" json:"card_country_1h"`
	Since     float64 `feature:"card_since_30d" json:"card_since_30d"`

	Merchant5m    int64   `feature:"merchant_count_5m" json:"merchant_count_5m"`
	Merchant24h   int64   `feature:"merchant_count_24h" json:"merchant_count_24h"`
	MerchantMean  float64 `feature:"merchant_mean_24h" json:"merchant_mean_24h"`
	MerchantCards int64   `feature:"merchant_cards_5m" json:"merchant_cards_5m"`
	MerchantSmall int64   `feature:"merchant_small_5m" json:"merchant_small_5m"`

	Pair30d   int64   `feature:"pair_count_30d" json:"pair_count_30d"`
	PairSpend int64   `feature:"pair_spend_24h" json:"pair_spend_24h"`
	PairSince float64 `feature:"pair_since_30d" json:"pair_since_30d"`
}

// cardFeatures, merchantFeatures and pairFeatures declare the features. None of them
// counts the payment in hand. A horizon begins at a tile, so that it is up to a
// twenty-fourth longer than it says.
func cardFeatures() *feature.Group[Payment] {
	return feature.Set(
		feature.Count[Payment]("count").Over(time.Minute, 5*time.Minute, time.Hour, 30*day),
		feature.Sum("spend", Payment.cents).Over(time.Hour, day),
		feature.Mean("mean", Payment.cents).Over(30*day),
		feature.Stddev("stddev", Payment.cents).Over(30*day),
		feature.Max("most", Payment.cents).Over(30*day),
		feature.Distinct("countries", Payment.country).Over(time.Hour),
		feature.Last("country", Payment.country).Over(time.Hour),
		feature.SinceLast[Payment]("since").Over(30*day),
	).Prefix("card_")
}

func merchantFeatures() *feature.Group[Payment] {
	return feature.Set(
		feature.Count[Payment]("count").Over(5*time.Minute, day),
		feature.Mean("mean", Payment.cents).Over(day),
		feature.Distinct("cards", Payment.card).Over(5*time.Minute),
		feature.Count[Payment]("small").Where(Payment.isSmall).Over(5*time.Minute),
	).Prefix("merchant_")
}

func pairFeatures() *feature.Group[Payment] {
	return feature.Set(
		feature.Count[Payment]("count").Over(30*day),
		feature.Sum("spend", Payment.cents).Over(day),
		feature.SinceLast[Payment]("since").Over(30*day),
	).Prefix("pair_")
}

// Scored is a payment with its history and with what the rules make of them.
type Scored struct {
	Payment
	History
	// Ratio is the amount as a multiple of the card's mean, Deviation how many
	// standard deviations it is above; 0 for a card without enough of a past.
	Ratio     float64 `json:"ratio"`
	Deviation float64 `json:"deviation"`
	// Score is the sum of the points of the rules that apply.
	Score   int     `json:"score"`
	Reasons Reasons `json:"reasons"`
}

// enough is how many payments make a past.
const enough = 10

// score derives what the declared features do not say, and applies the rules.
func score(p Payment, h History) Scored {
	s := Scored{Payment: p, History: h}
	if h.Card30d >= enough {
		s.Ratio = float64(p.Amount) / h.Mean30d
		if h.Stddev30d > 0 {
			s.Deviation = (float64(p.Amount) - h.Mean30d) / h.Stddev30d
		}
	}
	for _, r := range rules {
		if r.applies(&s) {
			s.Score += r.points
			s.Reasons |= r.reason
		}
	}
	return s
}
