package proof

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/weirflow/weir/internal/storefront/script"
)

// Moment is what a model of the job is asked about: a click, or the end of a
// hesitation, and what the visitor had done about the item by then.
type Moment struct {
	User  string `json:"user"`
	Item  string `json:"item"`
	Kind  string `json:"kind"`
	Price int64  `json:"price"` // in cents
	At    int64  `json:"at"`    // in milliseconds since the epoch
	// Hesitates is set for the end of a hesitation, which is a removal.
	Hesitates bool  `json:"hesitates"`
	Views     int64 `json:"views_10m"`
	Removes   int64 `json:"removes_1h"`
	Spent     int64 `json:"spent_1h"` // in cents
}

// Row returns the features in the order of the models' files.
func (m *Moment) Row() []float64 {
	kind := map[string]float64{script.View: 0, script.Add: 1, script.Remove: 2, script.Buy: 3}[m.Kind]
	hesitates := 0.0
	if m.Hesitates {
		hesitates = 1
	}
	return []float64{kind, float64(m.Price), hesitates, float64(m.Views), float64(m.Removes), float64(m.Spent)}
}

func (a arrived) moment(hesitates bool) *Moment {
	return &Moment{
		User: a.User, Item: a.Item, Kind: a.Kind, Price: a.Price, At: a.At, Hesitates: hesitates,
		Views: a.views, Removes: a.removes, Spent: a.spent,
	}
}

// Score is a message of stream PREDICTIONS.
type Score struct {
	V            int     `json:"v"`
	ID           string  `json:"id"`
	Model        string  `json:"model"`
	ModelVersion string  `json:"model_version"`
	Arm          string  `json:"arm"`
	Propensity   float64 `json:"propensity"`
	Routing      uint64  `json:"routing"`
	Features     Moment  `json:"features"`
	Out          float64 `json:"out"`
	// LatencyMicros is in microseconds, At in nanoseconds since the epoch.
	LatencyMicros int64 `json:"latency_us"`
	At            int64 `json:"at"`
}

// arms are the models that may answer, with their versions.
var arms = []struct{ name, version string }{{"steady", "1"}, {"canary", "2"}}

// scoreKey begins the keys of scores of clicks, endKey those of ends of hesitations.
const (
	scoreKey = "score of "
	endKey   = "score of a hesitation of "
)

// scored is what a message about a moment says when an arm gave that score.
func (m *Moment) scored(arm, version string, score float64) string {
	return fmt.Sprintf("%+v by %s %s: %.12f", *m, arm, version, score)
}

// expected is the result about a moment: one of the arms answers. n is the number of
// its click in the stream.
func (m *Moment) expected(n uint64, forests []forest) Result {
	r := m.result(n)
	for i, a := range arms {
		r.Values = append(r.Values, m.scored(a.name, a.version, forests[i].score(m)))
	}
	r.Value, r.Moment = r.Values[0], m
	return r
}

func (m *Moment) result(n uint64) Result {
	if m.Hesitates {
		key := endKey + m.User + " for " + m.Item
		return Result{Key: key, ID: fmt.Sprintf("%s at %d", key, m.At), At: m.At}
	}
	return Result{Key: scoreKey + m.User + " for " + m.Item, ID: fmt.Sprint("score of click ", n), At: m.At}
}

// Value is what the message says.
func (s *Score) Value() string { return s.Features.scored(s.Arm, s.ModelVersion, s.Out) }

// result reads what the message says. Its ID has the number of the click in the
// stream: operator/split-number-part-hash, in hexadecimal.
func (s *Score) result() (Result, error) {
	words := strings.Split(s.ID, "-")
	if len(words) != 4 {
		return Result{}, fmt.Errorf("the ID %q has not four words", s.ID)
	}
	n, err := strconv.ParseUint(words[1], 16, 64)
	if err != nil && !s.Features.Hesitates {
		return Result{}, fmt.Errorf("the ID %q has no number: %w", s.ID, err)
	}
	if s.V != 1 || s.Model != "scores" || s.At != s.Features.At*1_000_000 {
		return Result{}, errors.New("this is not a prediction of scores in the first version")
	}
	r := s.Features.result(n)
	r.Value = s.Value()
	return r, nil
}

// routes judges who answered: a visitor and item go from the steady arm to the canary
// when its share grows, and never back, and there are both.
type routes struct {
	canary map[pair]bool
	count  [2]uint64 // of scores, by arm
}

// see returns an error if an arm answered that must not.
func (r *routes) see(s *Score) error {
	k, canary := pair{s.Features.User, s.Features.Item}, s.Arm == arms[1].name
	if r.canary[k] && !canary {
		return fmt.Errorf("%s and %s had come to the canary, and %s answers", k.user, k.item, s.Arm)
	}
	if canary {
		r.canary[k] = true
		r.count[1]++
	} else {
		r.count[0]++
	}
	return nil
}
