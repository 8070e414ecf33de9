package nab

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Profile weighs detections: one inside a window earns up to TP, one outside costs
// up to FP, a window without any costs FN.
type Profile struct {
	Name       string
	TP, FP, FN float64
}

// Profiles returns the three of the benchmark: standard, reward_low_FP_rate and
// reward_low_FN_rate.
func Profiles() []Profile {
	return []Profile{
		{"standard", 1, 0.11, 1},
		{"reward_low_FP_rate", 1, 0.22, 1},
		{"reward_low_FN_rate", 1, 0.11, 2},
	}
}

// Score is how a detector did under a profile.
type Score struct {
	Profile string
	// Value is 0 for a detector that never detects and 100 for a perfect one. It
	// may be negative.
	Value float64
	// Threshold is the score from which on a row counts as detected: the one, for
	// the whole corpus, that makes Value largest. It is +Inf when detecting
	// nothing is best.
	Threshold float64
}

// sigmoid is the value of a position: 1 far left, 0 at 0, -1 far right.
func sigmoid(x float64) float64 {
	if x > 3 {
		return -1
	}
	return 2/(1+math.Exp(5*x)) - 1
}

// row is a row of the corpus that counts: its score, what detecting it is worth,
// and its window, -1 outside of all.
type row struct {
	score, value float64
	window       int
}

// rows lists the rows of a series that count. Its windows are numbered from base.
func (s *Series) rows(out []row, scores []float64, p Profile, base int) []row {
	probation, w, prev := Probation(len(s.Values)), 0, -1
	for i, score := range scores {
		if w < len(s.Windows) && i > s.Windows[w][1] {
			prev, w = w, w+1
		}
		r := row{score: score, window: -1}
		switch {
		case w < len(s.Windows) && i >= s.Windows[w][0]:
			left, right := s.Windows[w][0], s.Windows[w][1]
			at := -float64(right-i+1) / float64(right-left+1)
			r.value, r.window = p.TP*sigmoid(at)/sigmoid(-1), base+w
		case prev < 0:
			r.value = -p.FP
		default:
			left, right := s.Windows[prev][0], s.Windows[prev][1]
			r.value = p.FP * sigmoid(float64(i-right)/float64(right-left))
		}
		if i >= probation {
			out = append(out, r)
		}
	}
	return out
}

// Evaluate scores a detector's raw scores, one for each row of each series, by
// sweeping the threshold over all of them. Scores that are not numbers are
// refused.
func (c *Corpus) Evaluate(scores [][]float64, p Profile) (Score, error) {
	var all []row
	windows := 0
	for i := range c.Series {
		s := &c.Series[i]
		if i >= len(scores) || len(scores[i]) != len(s.Values) {
			return Score{}, fmt.Errorf("series %s: one score for each row is needed", s.Name)
		}
		if slices.ContainsFunc(scores[i], math.IsNaN) {
			return Score{}, fmt.Errorf("series %s: a score is not a number", s.Name)
		}
		all = s.rows(all, scores[i], p, windows)
		windows += len(s.Windows)
	}
	if windows == 0 {
		return Score{}, fmt.Errorf("the corpus has no labelled window: nothing can be scored")
	}
	slices.SortFunc(all, func(a, b row) int { return cmp.Compare(b.score, a.score) })
	null := -p.FN * float64(windows)
	raw, best, at := null, null, math.Inf(1)
	// A window counts with the best of its detected rows; -1 says that there are
	// none yet.
	got := make([]float64, windows)
	for i := range got {
		got[i] = -1
	}
	for i, r := range all {
		switch {
		case r.window < 0:
			raw += r.value
		case got[r.window] < 0:
			raw += p.FN + r.value
			got[r.window] = r.value
		case r.value > got[r.window]:
			raw += r.value - got[r.window]
			got[r.window] = r.value
		}
		if (i+1 == len(all) || all[i+1].score < r.score) && raw > best {
			best, at = raw, r.score
		}
	}
	return Score{p.Name, 100 * (best - null) / (p.TP*float64(windows) - null), at}, nil
}
