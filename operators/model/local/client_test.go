package local_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/local"
	"github.com/weirflow/weir/operators/model/tree"
)

type features struct{ A, B float64 }

// codec predicts the only score, and counts nothing of it as infinite.
func codec() local.Codec[features, float64] {
	return local.Codec[features, float64]{
		Features: []string{"a", "b"},
		Row: func(f *features, row []float64) {
			if row[0] = f.A; f.B != -7 { // which is left out
				row[1] = f.B
			}
		},
		Prediction: func(scores []float64) (float64, error) {
			if scores[0] == 13 {
				return 1, errors.New("unlucky")
			}
			return scores[0], nil
		},
	}
}

// linear writes a model that predicts weight*a + b, and returns it with its checksum
// and a self-test.
func linear(t *testing.T, dir, name string, weight float64, names ...string) local.File {
	t.Helper()
	if names == nil {
		names = []string{"a", "b"}
	}
	coefficients := make([]float64, len(names))
	for i := range coefficients {
		coefficients[i] = 1
	}
	coefficients[0] = weight
	b, err := json.Marshal(tree.Linear{Features: names, Coefficients: [][]float64{coefficients}, Intercept: []float64{0}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	row := make(tree.Numbers, len(names))
	row[0], row[1] = 2, 3
	return local.File{Path: path, Version: name, Expect: tree.Expect{
		SHA256: hex.EncodeToString(sum[:]), SelfTest: []tree.TestRow{{Row: row, Prediction: tree.Numbers{2*weight + 3}}},
	}}
}

func open(t *testing.T, f local.File, o local.Options) *local.Client[features, float64] {
	t.Helper()
	c, err := local.Open(f, codec(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func calls(in ...features) []model.Call[features] {
	out := make([]model.Call[features], len(in))
	for i := range in {
		out[i] = model.Call[features]{Key: fmt.Sprint(i), Attempt: 1, In: in[i]}
	}
	return out
}

func wantFailure(t *testing.T, err error, kind model.Kind, says string) {
	t.Helper()
	f, ok := err.(*model.Failure)
	if !ok || f.Kind != kind || !strings.Contains(f.Error(), says) {
		t.Errorf("error %T %v, want kind %d, %q", err, err, kind, says)
	}
}

func TestInvoke(t *testing.T) {
	c := open(t, linear(t, t.TempDir(), "m1", 10), local.Options{})
	in := make([]features, 1000) // more than a block
	for i := range in {
		in[i] = features{float64(i), 0.5}
	}
	results, err := c.Invoke(t.Context(), calls(in...))
	if err != nil || len(results) != len(in) {
		t.Fatal(len(results), err)
	}
	for i, r := range results {
		if want := 10*float64(i) + 0.5; r.Err != nil || r.Out != want || r.Version != "m1" {
			t.Fatalf("%d: %+v, want %g", i, r, want)
		}
	}
	results, err = c.Invoke(t.Context(), calls(features{math.MaxFloat64, 0}, features{1, 3}, features{math.NaN(), 0}, features{1, 1}, features{1, -7}))
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, results[0].Err, model.Invalid, "Inf")
	wantFailure(t, results[1].Err, model.Invalid, "unlucky")
	wantFailure(t, results[2].Err, model.Invalid, "NaN")
	if results[1].Out != 0 || results[3].Out != 11 || results[4].Out != 10 {
		t.Errorf("%+v", results)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Invoke(ctx, calls(in...))
	wantFailure(t, err, model.Unavailable, "canceled")
	if results, err := c.Invoke(t.Context(), nil); err != nil || len(results) != 0 {
		t.Error(results, err)
	}
}

// TestTrees: a model of LightGBM, with the predictions of its own library.
func TestTrees(t *testing.T) {
	const dir = "../tree/testdata/models/"
	text, err := os.ReadFile(dir + "breast_cancer_test.tsv")
	if err != nil {
		t.Fatal(err)
	}
	truth, err := os.ReadFile(dir + "lg_dart_breast_cancer_true_predictions.txt")
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]float64
	for line := range strings.Lines(string(text)) {
		var row []float64
		for _, field := range strings.Fields(line) {
			var v float64
			if _, err := fmt.Sscan(field, &v); err != nil {
				t.Fatal(err)
			}
			row = append(row, v)
		}
		rows = append(rows, row)
	}
	names := make([]string, len(rows[0]))
	for i := range names {
		names[i] = fmt.Sprintf("Column_%d", i)
	}
	c, err := local.Open(local.File{Path: dir + "lg_dart_breast_cancer.model"}, local.Codec[[]float64, float64]{
		Features: names, Row: func(in *[]float64, row []float64) { copy(row, *in) },
		Prediction: func(s []float64) (float64, error) { return s[0], nil },
	}, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var in []model.Call[[]float64]
	for _, r := range rows {
		in = append(in, model.Call[[]float64]{In: r})
	}
	results, err := c.Invoke(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(truth))
	if len(lines) != len(results) || len(lines) < 50 {
		t.Fatalf("%d predictions, %d of the library", len(results), len(lines))
	}
	for i, r := range results {
		var want float64
		if _, err := fmt.Sscan(lines[i], &want); err != nil {
			t.Fatal(err)
		}
		if r.Err != nil || math.Abs(r.Out-want) > 1e-9 || len(r.Version) != 12 {
			t.Errorf("%d: %+v, want %g", i, r, want)
		}
	}
}

// TestBadSwapChangesNothing: the old model goes on.
func TestBadSwapChangesNothing(t *testing.T) {
	dir := t.TempDir()
	c := open(t, linear(t, dir, "m1", 10), local.Options{})
	for name, change := range map[string]func(f *local.File){
		"missing":   func(f *local.File) { f.Path += "x" },
		"checksum":  func(f *local.File) { f.Expect.SHA256 = strings.Repeat("0", 64) },
		"self-test": func(f *local.File) { f.Expect.SelfTest[0].Prediction[0]++ },
		"features":  func(f *local.File) { *f = linear(t, dir, "other", 20, "a", "c") },
		"expected": func(f *local.File) {
			*f = linear(t, dir, "expected", 20, "a", "c")
			f.Expect.Features = []string{"a", "c"} // as the file has it, and the codec not
		},
		"too many": func(f *local.File) { *f = linear(t, dir, "many", 20, "a", "b", "c") },
		"garbage": func(f *local.File) {
			if err := os.WriteFile(f.Path, []byte("garbage"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"outputs": func(f *local.File) {
			if err := os.WriteFile(f.Path, []byte(`{"features":["a","b"],"coefficients":[[1,2],[3,4]]}`), 0o600); err != nil {
				t.Fatal(err)
			}
			f.Expect = tree.Expect{}
		},
	} {
		f := linear(t, dir, "m2", 20)
		change(&f)
		err := c.Swap(f)
		if code := base.CodeOf(err); code != tree.CodeModel && code != tree.CodeExpect {
			t.Errorf("%s: %v", name, err)
		}
		results, err := c.Invoke(t.Context(), calls(features{1, 0}))
		if err != nil || results[0].Out != 10 || results[0].Version != "m1" || c.Current().Name() != "m1" {
			t.Fatalf("%s: %+v, %v", name, results, err)
		}
	}
	if err := c.Swap(linear(t, dir, "m2", 20)); err != nil {
		t.Fatal(err)
	}
	results, err := c.Invoke(t.Context(), calls(features{1, 0}))
	if err != nil || results[0].Out != 20 || results[0].Version != "m2" || c.Current().Info().NumFeatures != 2 {
		t.Fatalf("%+v, %v", results, err)
	}
}

// TestSwapsUnderLoad: no call fails, and no Invoke mixes models.
func TestSwapsUnderLoad(t *testing.T) {
	dir := t.TempDir()
	var files []local.File
	for i := range 4 {
		files = append(files, linear(t, dir, fmt.Sprint(i), float64(i+100)))
	}
	c := open(t, files[0], local.Options{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			seen := map[string]bool{}
			for n := 0; ; n++ {
				results, err := c.Invoke(t.Context(), calls(make([]features, 300)...))
				if err != nil {
					t.Error(err)
					return
				}
				for i := range results {
					if results[i].Err != nil || results[i].Version != results[0].Version {
						t.Errorf("%d: %+v beside %s", i, results[i], results[0].Version)
						return
					}
				}
				seen[results[0].Version] = true
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 200 {
		if err := c.Swap(files[i%len(files)]); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

// TestOldModelStaysForItsCalls and is let go of after the last of them.
func TestOldModelStaysForItsCalls(t *testing.T) {
	dir := t.TempDir()
	inside, goOn := make(chan struct{}), make(chan struct{})
	cd := codec()
	row := cd.Row
	cd.Row = func(f *features, r []float64) {
		if f.B == -1 {
			inside <- struct{}{}
			<-goOn
		}
		row(f, r)
	}
	c, err := local.Open(linear(t, dir, "m1", 10), cd, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	first := c.Current()
	done := make(chan []model.Result[float64])
	for range 2 {
		go func() {
			r, _ := c.Invoke(t.Context(), calls(features{1, -1}))
			done <- r
		}()
		<-inside
	}
	next, err := c.Load(linear(t, dir, "m2", 20))
	if err != nil {
		t.Fatal(err)
	}
	ended, err := c.Use(next)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.Invoke(t.Context(), calls(features{1, 0})); err != nil || r[0].Version != "m2" || r[0].Out != 20 {
		t.Errorf("new calls: %+v, %v", r, err)
	}
	for range 2 {
		select {
		case <-ended:
			t.Fatal("the old model was let go of with calls left")
		default:
		}
		goOn <- struct{}{}
		if r := <-done; r[0].Version != "m1" || r[0].Out != 9 {
			t.Errorf("old call: %+v", r)
		}
	}
	<-ended
	// Back to the first, which nobody uses: it is at once free of calls of the second.
	ended, err = c.Use(first)
	if err != nil {
		t.Fatal(err)
	}
	<-ended
	if c.Current() != first {
		t.Error("the first version is not in use")
	}
	other, err := local.Open(linear(t, dir, "o", 1, "x", "y"), local.Codec[features, float64]{Features: []string{"x", "y"}, Row: cd.Row, Prediction: cd.Prediction}, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Use(other.Current()); base.CodeOf(err) != tree.CodeExpect || c.Current() != first {
		t.Errorf("a version for other features: %v", err)
	}
}

func TestDir(t *testing.T) {
	outer := t.TempDir()
	dir := filepath.Join(outer, "models")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := linear(t, dir, "m1", 10)
	f.Path = "m1"
	c := open(t, f, local.Options{Dir: dir})
	outside := linear(t, outer, "m2", 20)
	if err := os.Symlink("../m2", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"../m2", outside.Path, "link", "none", "."} {
		g := outside
		g.Path = path
		if err := c.Swap(g); base.CodeOf(err) != tree.CodeModel {
			t.Errorf("%s: %v", path, err)
		}
	}
	f.Expect.SHA256 = strings.Repeat("0", 64)
	if err := c.Swap(f); base.CodeOf(err) != tree.CodeExpect || !strings.Contains(err.Error(), "m1") {
		t.Error(err)
	}
	if _, err := local.Open(f, codec(), local.Options{Dir: dir, Limits: tree.Limits{Bytes: 10}}); base.CodeOf(err) != tree.CodeModel {
		t.Error(err)
	}
	if _, err := local.Open(f, codec(), local.Options{Dir: filepath.Join(dir, "none")}); base.CodeOf(err) != tree.CodeModel {
		t.Error(err)
	}
	if _, err := local.Open(f, local.Codec[features, float64]{}, local.Options{}); base.CodeOf(err) != model.CodeAccess {
		t.Error(err)
	}
}

func TestFS(t *testing.T) {
	dir := t.TempDir()
	f := linear(t, dir, "m1", 10)
	f.Path = "m1"
	c := open(t, f, local.Options{FS: os.DirFS(dir)})
	if got := c.Current().Info().SHA256; got != f.Expect.SHA256 {
		t.Errorf("checksum %s, want %s", got, f.Expect.SHA256)
	}
	f.Path = "none"
	if _, err := local.Open(f, codec(), local.Options{FS: os.DirFS(dir)}); base.CodeOf(err) != tree.CodeModel {
		t.Errorf("error %v", err)
	}
	if _, err := local.Open(f, codec(), local.Options{FS: os.DirFS(dir), Dir: dir}); err == nil {
		t.Error("both Dir and FS were taken")
	}
}
