package nab

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Published is what a detector scored according to those who published it.
type Published struct {
	Detector string
	// Scores are those under Profiles, in their order.
	Scores []float64
	// File has the raw scores that they were computed from, for LoadScores; "" when
	// it is not there.
	File string
}

// resultDirs are where results may be in a directory of the benchmark, and
// rawSuffix is how the names of files with raw scores end.
var resultDirs = []string{"expected", "results"}

const rawSuffix = ".scores.tsv.gz"

// LoadPublished reads the published scores in the directory of the corpus, best
// first: final_results.json, and raw scores <detector>.scores.tsv.gz, in expected/
// or results/. None are no error.
func LoadPublished(dir string) ([]Published, error) {
	for _, sub := range resultDirs {
		at := filepath.Join(dir, sub)
		b, err := os.ReadFile(filepath.Join(at, "final_results.json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, dataError(at, err)
		}
		out, err := parsePublished(b)
		if err != nil {
			return nil, dataError(at, fmt.Errorf("final_results.json: %w", err))
		}
		raw, err := filepath.Glob(filepath.Join(at, "*"+rawSuffix))
		if err != nil {
			return nil, dataError(at, err)
		}
		for _, file := range raw {
			name := strings.TrimSuffix(filepath.Base(file), rawSuffix)
			if i := slices.IndexFunc(out, func(p Published) bool { return p.Detector == name }); i >= 0 {
				out[i].File = file
			}
		}
		return out, nil
	}
	return nil, nil
}

func parsePublished(b []byte) ([]Published, error) {
	var raw map[string]map[string]*float64
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, err
	}
	var out []Published
	for name, scores := range raw {
		p := Published{Detector: name}
		for _, profile := range Profiles() {
			v := scores[profile.Name]
			if v == nil {
				return nil, fmt.Errorf("detector %s has no score for %s", name, profile.Name)
			}
			p.Scores = append(p.Scores, *v)
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Published) int {
		return cmp.Or(cmp.Compare(b.Scores[0], a.Scores[0]), strings.Compare(a.Detector, b.Detector))
	})
	return out, nil
}

// EvaluateAll is Evaluate for each of Profiles.
func (c *Corpus) EvaluateAll(scores [][]float64) ([]Score, error) {
	var out []Score
	for _, p := range Profiles() {
		s, err := c.Evaluate(scores, p)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}
