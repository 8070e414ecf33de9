package main

import (
	"encoding/json"
	"slices"
)

// Reasons is a set of reasons for an alert, a bit for each.
type Reasons uint16

// The reasons.
const (
	CardTesting Reasons = 1 << iota // the pattern
	Velocity
	Countries
	Amount
	Spending
	Newcomer
	MerchantTesting
	Model
)

var reasonNames = []string{"card-testing", "velocity", "countries", "amount", "spending", "newcomer", "merchant-testing", "model"}

// Names lists the reasons.
func (r Reasons) Names() []string {
	names := []string{}
	for i, n := range reasonNames {
		if r>>i&1 != 0 {
			names = append(names, n)
		}
	}
	return names
}

// MarshalJSON writes a list of names.
func (r Reasons) MarshalJSON() ([]byte, error) { return json.Marshal(r.Names()) }

// UnmarshalJSON reads a list of names; those that it does not know are left out.
func (r *Reasons) UnmarshalJSON(b []byte) error {
	var names []string
	if err := json.Unmarshal(b, &names); err != nil {
		return err
	}
	*r = 0
	for _, n := range names {
		if i := slices.Index(reasonNames, n); i >= 0 {
			*r |= 1 << i
		}
	}
	return nil
}

// rule gives points to a payment. The rules are plain on purpose: thresholds that a
// person would set. They say why a payment looks odd; what is done about it is up to
// the model.
type rule struct {
	reason  Reasons
	points  int
	applies func(s *Scored) bool
}

// ruledOut is how many points would make an alert of a payment, if only the rules
// decided: for comparison with the model.
const ruledOut = 100

var rules = []rule{
	{Velocity, 60, func(s *Scored) bool { return s.Card1m >= 3 }},
	{Velocity, 50, func(s *Scored) bool { return s.Card5m >= 5 }},
	{Countries, 60, func(s *Scored) bool { return s.Countries >= 1 && s.LastIn != s.Country }},
	{Countries, 60, func(s *Scored) bool { return s.Countries >= 3 }},
	{Amount, 50, func(s *Scored) bool { return s.Ratio >= 8 }},
	{Amount, 30, func(s *Scored) bool { return s.Deviation >= 6 && s.Amount > s.Most30d }},
	{Spending, 30, func(s *Scored) bool { return s.Spend1h+s.Amount >= 1000_00 }},
	{Newcomer, 15, func(s *Scored) bool { return s.Pair30d == 0 && s.isLarge() }},
	{MerchantTesting, 100, func(s *Scored) bool {
		return s.MerchantCards >= 8 && s.MerchantSmall >= 8 && s.Pair30d == 0 && s.isSmall()
	}},
}
