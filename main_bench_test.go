package weir

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/nab"
	"github.com/weirflow/weir/operators/anomaly"
)

const nabSample = "internal/nab/testdata"

// TestBenchNABIsThatOfTheDetectors holds the scores of the job against those of
// detectors that run without one.
func TestBenchNABIsThatOfTheDetectors(t *testing.T) {
	c, err := nab.Load(nabSample)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{nabDefault, nabBest}
	for _, parallelism := range []int{1, 3} {
		got, err := runNAB(t.Context(), c, names, parallelism)
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			want, _, err := c.Run(nab.Entry{Name: name, Spec: func(*nab.Series) anomaly.Spec { return nabDetector(name) }})
			if err != nil {
				t.Fatal(err)
			}
			for s := range c.Series {
				for row := range want[s] {
					if math.Float64bits(got[i][s][row]) != math.Float64bits(want[s][row]) {
						t.Fatalf("%s, %s row %d: %v, without a job %v", name, c.Series[s].Name, row, got[i][s][row], want[s][row])
					}
				}
			}
		}
	}
}

// nabWithResults is the sample with results of others.
func nabWithResults(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(nabSample)); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, "expected")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "numenta.scores.tsv.gz"), filepath.Join(at, "numenta.scores.tsv.gz")); err != nil {
		t.Fatal(err)
	}
	const results = `{"numenta": {"standard": 70.1, "reward_low_FP_rate": 63.12, "reward_low_FN_rate": 74.32},
		"other": {"standard": 71, "reward_low_FP_rate": 1, "reward_low_FN_rate": 2.5}}`
	if err := os.WriteFile(filepath.Join(at, "final_results.json"), []byte(results), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBenchNABTable(t *testing.T) {
	code, out, errs := command("bench", "nab", "--data", nabWithResults(t))
	if code != ExitOK {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	for _, want := range []string{
		"5 series, 12316 rows, 9 labelled windows: one job",
		"detector              standard    low FP    low FN  standard    low FP    low FN\nweir default ",
		"\nweir best ",
		"         -         -         -\nother                        -         -         -     71.00      1.00      2.50\n",
		"\nnumenta                  55.75     53.30     59.39     70.10     63.12     74.32\n",
		"\nPublished scores are for all 116 windows",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	code, out, errs = command("bench", "nab", "--data", nabSample, "--detector", "best")
	if code != ExitOK || !strings.Contains(out, "weir best ") || strings.Contains(out, "default") || strings.Contains(out, "ublished") {
		t.Errorf("exit code %d: %s\n%s", code, errs, out)
	}
}

func TestBenchNABJSON(t *testing.T) {
	code, out, errs := command("bench", "nab", "--json", "--detector", "default", "--data", nabWithResults(t))
	var v nabView
	if err := json.Unmarshal([]byte(out), &v); code != ExitOK || err != nil {
		t.Fatalf("exit code %d, %v: %s", code, err, errs)
	}
	if v.Series != 5 || v.Rows != 12316 || v.Windows != 9 || v.Seconds <= 0 || len(v.Detectors) != 3 {
		t.Fatalf("%+v", v)
	}
	ours, other, numenta := v.Detectors[0], v.Detectors[1], v.Detectors[2]
	if !ours.Weir || ours.Detector != nabDefault || ours.Published != nil || ours.Scores.Standard <= 0 || ours.Thresholds.Standard < 0.5 {
		t.Errorf("%+v", ours)
	}
	if other.Weir || other.Scores != nil || other.Thresholds != nil || *other.Published != (nabScores{71, 1, 2.5}) {
		t.Errorf("%+v", other)
	}
	if math.Abs(numenta.Scores.Standard-55.7473900276) > 1e-9 || numenta.Published.LowFN != 74.32 {
		t.Errorf("%+v", numenta)
	}
}

func TestBenchNABErrors(t *testing.T) {
	broken := func(file, content string) string {
		dir := nabWithResults(t)
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"no flag", nil, ExitUsage, []string{"error WEIR-0202", "flag --data"}},
		{"no such detector", []string{"--data", nabSample, "--detector", "bset"}, ExitUsage, []string{"error WEIR-0202", "default, best, both"}},
		{"an argument", []string{nabSample}, ExitUsage, []string{"error WEIR-0201"}},
		{"no directory", []string{"--data", filepath.Join(t.TempDir(), "x")}, ExitFailed, []string{"error WEIR-0615", "data/ and labels/"}},
		{"labels", []string{"--data", broken("labels/combined_windows.json", "[]")}, ExitFailed, []string{"error WEIR-0615", "combined_windows.json"}},
		{"a series", []string{"--data", broken("data/realTraffic/speed_7578.csv.gz", "x")}, ExitFailed, []string{"error WEIR-0615", "speed_7578"}},
		{"results", []string{"--data", broken("expected/final_results.json", "{")}, ExitFailed, []string{"error WEIR-0615", "final_results.json"}},
		{"raw scores", []string{"--data", broken("expected/numenta.scores.tsv.gz", "x")}, ExitFailed, []string{"error WEIR-0615", "numenta.scores.tsv.gz"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := command(append([]string{"bench", "nab"}, c.args...)...)
			if code != c.code || out != "" {
				t.Errorf("exit code %d, output %q", code, out)
			}
			for _, want := range c.want {
				if !strings.Contains(errs, want) {
					t.Errorf("no %q in:\n%s", want, errs)
				}
			}
		})
	}
}

func TestBenchNABStops(t *testing.T) {
	c, err := nab.Load(nabSample)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := runNAB(ctx, c, []string{nabDefault}, 1); err == nil {
		t.Error("a job that was stopped has scores")
	}
}
