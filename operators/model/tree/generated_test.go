package tree_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/weirflow/weir/operators/model/tree"
)

// TestNewLibraries holds predictions against those of new versions of the
// libraries: missing values, categories and objectives that the older fixtures do
// not have. testdata/made tells how they were made.
func TestNewLibraries(t *testing.T) {
	all := files(t, "testdata/made")
	ran := 0
	for name, model := range all {
		base, form, _ := strings.Cut(name, ".")
		if form != "txt" && form != "json" && form != "ubj" {
			continue
		}
		ran++
		t.Run(name, func(t *testing.T) {
			m, err := tree.Read(model, tree.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			rows, want := table(t, all[base+".rows.tsv"]), table(t, all[base+".pred.tsv"])
			if len(rows) != 60 || len(want) != len(rows) {
				t.Fatalf("%d rows and %d predictions", len(rows), len(want))
			}
			tolerance := 1e-9
			if strings.HasPrefix(name, "xgb") {
				tolerance = 1e-6
			}
			compare(t, m, rows, want, tolerance)
			if leaves := all[base+".leaf.tsv"]; leaves != nil {
				compareLeaves(t, m, rows, table(t, leaves))
			}
		})
	}
	if ran < 30 {
		t.Errorf("%d models", ran)
	}
}

func compare(t *testing.T, m *tree.Model, rows, want [][]float64, tolerance float64) {
	t.Helper()
	one := make([]float64, m.Info().NumOutputs)
	batch := make([]float64, len(rows)*len(one))
	m.PredictBatch(batch, slices.Concat(rows...))
	worst := 0.0
	for i, row := range rows {
		m.Predict(one, row)
		if len(want[i]) != len(one) {
			t.Fatalf("%d outputs, want %d", len(one), len(want[i]))
		}
		for k, w := range want[i] {
			d := math.Abs(one[k]-w) / max(math.Abs(w), 1e-3)
			if worst = max(worst, d); !(d <= tolerance) {
				t.Fatalf("row %d %v: %v, want %v", i, row, one, want[i])
			}
			if batch[i*len(one)+k] != one[k] {
				t.Fatalf("row %d: another prediction in a batch", i)
			}
		}
	}
	t.Logf("largest relative difference %.2g", worst)
}

func compareLeaves(t *testing.T, m *tree.Model, rows, want [][]float64) {
	t.Helper()
	got := make([]int, m.Info().NumTrees)
	for i, row := range rows {
		m.Leaves(got, row)
		for k := range got {
			if len(got) != len(want[i]) || got[k] != int(want[i][k]) {
				t.Fatalf("row %d: leaves %v, want %v", i, got, want[i])
			}
		}
	}
}
