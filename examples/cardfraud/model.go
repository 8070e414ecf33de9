package main

import (
	"bufio"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/local"
)

//go:embed models/fraud.txt models/expect.json
var models embed.FS

// fraudModel opens the model, trees trained by models/train.py on other payments. It
// is held against its checksum, and against predictions of the library that made it.
func fraudModel(model.Env) (model.Client[[]float64, float64], error) {
	file := local.File{Path: "models/fraud.txt", Version: "1"}
	b, err := models.ReadFile("models/expect.json")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &file.Expect); err != nil {
		return nil, err
	}
	codec := local.Codec[[]float64, float64]{
		Row:        func(in *[]float64, row []float64) { copy(row, *in) },
		Prediction: func(scores []float64) (float64, error) { return scores[0], nil },
	}
	for _, in := range inputs {
		codec.Features = append(codec.Features, in.name)
	}
	return local.Open(file, codec, local.Options{FS: models})
}

// row is what the model is asked with.
func row(s Scored) []float64 {
	out := make([]float64, len(inputs))
	for i := range inputs {
		out[i] = inputs[i].value(&s)
	}
	return out
}

// Judged is a payment with what the model says of it: how likely it is part of a fraud.
type Judged struct {
	ID      int64   `json:"payment"`
	Card    string  `json:"card"`
	Reasons Reasons `json:"reasons"`
	// Prediction has the hash of the model's input; scored has all of that.
	Prediction model.Prediction[[]float64, float64] `json:"prediction"`
}

func judged(s Scored, p model.Prediction[[]float64, float64]) Judged {
	return Judged{ID: s.ID, Card: s.Card, Reasons: s.Reasons, Prediction: p}
}

// certainty is the probability in percent.
func (j Judged) certainty() int { return int(math.Round(100 * j.Prediction.Out)) }

func (j Judged) signal() Signal { return Signal{j.Card, j.ID, j.certainty(), j.Reasons | Model} }

// inputs are what the model is asked with, by name and in the order of its file.
var inputs = []struct {
	name  string
	value func(s *Scored) float64
}{
	{"amount", func(s *Scored) float64 { return float64(s.Payment.Amount) }},
	{"ratio", func(s *Scored) float64 { return s.Ratio }},
	{"deviation", func(s *Scored) float64 { return s.Deviation }},
	{"abroad", func(s *Scored) float64 { return yes(s.LastIn != "" && s.LastIn != s.Country) }},
	{"countries_1h", func(s *Scored) float64 { return float64(s.Countries) }},
	{"card_count_1m", func(s *Scored) float64 { return float64(s.Card1m) }},
	{"card_count_5m", func(s *Scored) float64 { return float64(s.Card5m) }},
	{"card_count_1h", func(s *Scored) float64 { return float64(s.Card1h) }},
	{"card_spend_1h", func(s *Scored) float64 { return float64(s.Spend1h) }},
	{"card_spend_24h", func(s *Scored) float64 { return float64(s.Spend24h) }},
	{"card_most_30d", func(s *Scored) float64 { return float64(s.Most30d) }},
	{"card_since", func(s *Scored) float64 { return s.Since }},
	{"merchant_count_5m", func(s *Scored) float64 { return float64(s.Merchant5m) }},
	{"merchant_cards_5m", func(s *Scored) float64 { return float64(s.MerchantCards) }},
	{"merchant_small_5m", func(s *Scored) float64 { return float64(s.MerchantSmall) }},
	{"pair_count_30d", func(s *Scored) float64 { return float64(s.Pair30d) }},
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// writeTable writes what a model is trained on: inputs, and whether the payment is part
// of a fraud.
func (t *truth) writeTable(w io.Writer, scored []Scored) error {
	fraud := map[int64]bool{}
	for _, p := range t.Plants {
		for _, id := range p.Payments {
			fraud[id] = p.Fraud
		}
	}
	out := bufio.NewWriter(w)
	for _, in := range inputs {
		fmt.Fprint(out, in.name, ",")
	}
	fmt.Fprintln(out, "fraud")
	for i := range scored {
		var line strings.Builder
		for _, in := range inputs {
			fmt.Fprintf(&line, "%g,", in.value(&scored[i]))
		}
		fmt.Fprintf(out, "%s%g\n", line.String(), yes(fraud[scored[i].ID]))
	}
	return out.Flush()
}
