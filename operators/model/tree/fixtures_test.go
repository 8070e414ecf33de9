package tree_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/weirflow/weir/operators/model/tree"
)

// All fixtures are not in the repository. With them, unpacked in DIR or packed as
// DIR/fixtures.tar.gz:
//
//	go test ./operators/model/tree -run Fixtures -v -args -fixtures DIR
var fixturesDir = flag.String("fixtures", "", "directory of all fixtures; a few are in testdata")

// files returns the content of all files of a directory, packed ones too.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(e.Name(), ".tar.gz") {
			out[e.Name()] = b
			continue
		}
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		for r := tar.NewReader(z); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if out[path.Base(h.Name)], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

// fixture is a model with rows and the predictions of the library that trained it.
type fixture struct {
	model, rows, predictions string
	// libsvm: rows name the features that they have, from number first on; the
	// others are missing.
	libsvm  bool
	missing float64
	// label: the first column is none of the features.
	label bool
	raw   bool
	// sigmoid: the file does not say that the predictions are probabilities.
	sigmoid bool
	// leaves: the predictions are numbers of leaves.
	leaves    bool
	tolerance float64
	small     bool
}

var nan = math.NaN()

func fixtures() []fixture {
	return []fixture{
		{model: "lg_breast_cancer.txt", rows: "lg_breast_cancer_data.txt", predictions: "lg_breast_cancer_data_pred_leaves.txt", leaves: true},
		{model: "lg_dart_breast_cancer.model", rows: "breast_cancer_test.tsv", predictions: "lg_dart_breast_cancer_true_predictions.txt", tolerance: 1e-9, small: true},
		{model: "lg_dart_breast_cancer.json", rows: "breast_cancer_test.tsv", predictions: "lg_dart_breast_cancer_true_predictions.txt", sigmoid: true, tolerance: 1e-9},
		{model: "lg_kddcup99.model", rows: "kddcup99_test.tsv", predictions: "lg_kddcup99_true_predictions.txt", raw: true, tolerance: 1e-9, small: true},
		{model: "lg_rf_iris.model", rows: "iris_test.libsvm", predictions: "lg_rf_iris_true_predictions.txt", libsvm: true, tolerance: 1e-9, small: true},
		{model: "lgmulticlass.model", rows: "multiclass_test.tsv", predictions: "lgmulticlass_true_predictions.txt", label: true, tolerance: 1e-9},
		{model: "xgagaricus.model", rows: "agaricus_test.libsvm", predictions: "xgagaricus_true_predictions.txt", libsvm: true, missing: nan, tolerance: 1e-6},
		{model: "xgblin_agaricus.model", rows: "agaricus_test.libsvm", predictions: "xgblin_agaricus_true_predictions.txt", libsvm: true, missing: nan, tolerance: 1e-6},
		{model: "xgdermatology.model", rows: "dermatology_test.libsvm", predictions: "xgdermatology_true_predictions.txt", libsvm: true, missing: nan, raw: true, tolerance: 1e-6, small: true},
	}
}

// TestFixtures holds predictions against those of the C libraries, row by row, one
// by one and in batches.
func TestFixtures(t *testing.T) {
	dir := "testdata/models"
	if *fixturesDir != "" {
		dir = *fixturesDir
	}
	all := files(t, dir)
	ran := 0
	for _, f := range fixtures() {
		if *fixturesDir == "" && !f.small {
			continue
		}
		ran++
		t.Run(f.model, func(t *testing.T) { f.run(t, all) })
	}
	if ran == 0 {
		t.Error("no fixtures")
	}
}

func (f *fixture) run(t *testing.T, all map[string][]byte) {
	for _, name := range []string{f.model, f.rows, f.predictions} {
		if len(all[name]) == 0 {
			t.Fatalf("%s is missing or empty", name)
		}
	}
	m, err := tree.Read(all[f.model], tree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	info := m.Info()
	rows := f.matrix(t, all[f.rows], info.NumFeatures)
	want := table(t, all[f.predictions])
	if len(rows) != len(want) || len(rows) == 0 {
		t.Fatalf("%d rows, %d predictions", len(rows), len(want))
	}
	if f.leaves {
		f.runLeaves(t, m, rows, want)
		return
	}
	k := info.NumOutputs
	worst := 0.0
	one := make([]float64, k)
	batch := make([]float64, k*len(rows))
	var flat []float64
	for i, row := range rows {
		flat = append(flat, row...)
		if m.PredictRaw(one, row); !f.raw {
			m.Predict(one, row)
		}
		if f.sigmoid {
			one[0] = 1 / (1 + math.Exp(-one[0]))
		}
		if len(want[i]) != k {
			t.Fatalf("row %d: %d predictions, the model has %d", i, len(want[i]), k)
		}
		for j := range one {
			worst = max(worst, math.Abs(one[j]-want[i][j])/math.Abs(want[i][j]))
		}
	}
	t.Logf("%s, %d trees, %d nodes, %d features, %d outputs, objective %q: %d rows, largest relative difference %.2g",
		info.Format, info.NumTrees, info.NumNodes, info.NumFeatures, k, info.Objective, len(rows), worst)
	if !(worst <= f.tolerance) {
		t.Errorf("relative difference %g, more than %g", worst, f.tolerance)
	}
	if m.PredictBatchRaw(batch, flat); !f.raw {
		m.PredictBatch(batch, flat)
	}
	for i, row := range rows {
		if m.PredictRaw(one, row); !f.raw {
			m.Predict(one, row)
		}
		for j := range one {
			if batch[i*k+j] != one[j] {
				t.Fatalf("row %d: %v in a batch, %v alone", i, batch[i*k:(i+1)*k], one)
			}
		}
	}
}

func (f *fixture) runLeaves(t *testing.T, m *tree.Model, rows, want [][]float64) {
	got := make([]int, m.Info().NumTrees)
	for i, row := range rows {
		m.Leaves(got, row)
		if len(want[i]) != len(got) {
			t.Fatalf("%d leaves for %d trees", len(want[i]), len(got))
		}
		for j := range got {
			if got[j] != int(want[i][j]) {
				t.Fatalf("row %d, tree %d: leaf %d, want %g", i, j, got[j], want[i][j])
			}
		}
	}
	t.Logf("%d rows reach the leaves of all %d trees that they should", len(rows), len(got))
}

// matrix reads the rows.
func (f *fixture) matrix(t *testing.T, b []byte, features int) [][]float64 {
	if !f.libsvm {
		rows := table(t, b)
		for i := range rows {
			if f.label {
				rows[i] = rows[i][1:]
			}
			if len(rows[i]) != features {
				t.Fatalf("row %d has %d values, the model %d features", i, len(rows[i]), features)
			}
		}
		return rows
	}
	var rows [][]float64
	for line := range strings.Lines(string(b)) {
		row := make([]float64, features)
		for i := range row {
			row[i] = f.missing
		}
		for _, part := range strings.Fields(line)[1:] {
			var at int
			var v float64
			if _, err := fmt.Sscanf(part, "%d:%g", &at, &v); err != nil || at >= features {
				t.Fatalf("%q: %v", part, err)
			}
			row[at] = v
		}
		rows = append(rows, row)
	}
	return rows
}

// table reads lines of numbers.
func table(t testing.TB, b []byte) (rows [][]float64) {
	t.Helper()
	for line := range strings.Lines(string(b)) {
		var row []float64
		for _, part := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t,\r\n", r) }) {
			v, err := strconv.ParseFloat(part, 64)
			if err != nil {
				t.Fatal(err)
			}
			row = append(row, v)
		}
		rows = append(rows, row)
	}
	return rows
}
