package tree_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model/tree"
)

// header begins a LightGBM model of two features.
const header = `tree
version=v3
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=regression
feature_names=a b

Tree=0
`

// threeLeaves: b in {3, 4} is 1; otherwise a at most 2.5 is 2, above it 4.
const threeLeaves = `num_leaves=3
num_cat=1
split_feature=1 0
threshold=0 2.5
decision_type=1 2
left_child=-1 -2
right_child=1 -3
leaf_value=1 2 4
cat_boundaries=0 1
cat_threshold=24
shrinkage=1

end of trees
`

func predict(t *testing.T, m *tree.Model, row ...float64) []float64 {
	t.Helper()
	out := make([]float64, m.Info().NumOutputs)
	m.Predict(out, row)
	return out
}

func TestSmallTree(t *testing.T) {
	m, err := tree.Read([]byte(header+threeLeaves), tree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct{ a, b, want float64 }{
		{0, 3, 1}, {9, 4, 1}, {0, 4.9, 1}, {0, 5, 2}, {2.5, 0, 2}, {2.6, 0, 4}, {nan, 0, 2}, {nan, 3, 1}, {inf, nan, 4},
		{-inf, -1, 2}, {0, 1e300, 2}, {0, inf, 2}, {3, -inf, 4}, {0, 35, 2},
	} {
		if got := predict(t, m, c.a, c.b); got[0] != c.want {
			t.Errorf("%g, %g: %g, want %g", c.a, c.b, got[0], c.want)
		}
	}
	m, err = tree.Read([]byte(header+strings.Replace(threeLeaves, "cat_threshold=24", "cat_threshold=25", 1)), tree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for b, want := range map[float64]float64{0: 1, -0.9: 1, -1: 2, 1: 2, 32: 2} { // 0 is in the set
		if got := predict(t, m, 0, b); got[0] != want {
			t.Errorf("category %g: %g, want %g", b, got[0], want)
		}
	}
	if f := m.Info().Features; len(f) != 2 || f[0] != "a" {
		t.Errorf("features %q", f)
	}
}

func TestTreeOfOneLeaf(t *testing.T) {
	m, err := tree.Read([]byte(header+"num_leaves=1\nnum_cat=0\nsplit_feature=\nthreshold=\nleaf_value=0.123\nshrinkage=1.03754e-322\n\nend of trees\n"), tree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := predict(t, m, 1, 2); got[0] != 0.123 {
		t.Error(got)
	}
}

func TestLinear(t *testing.T) {
	b, err := json.Marshal(tree.Linear{
		Features: []string{"a", "b"}, Coefficients: [][]float64{{2, -1}, {0, 1}}, Intercept: []float64{1, 0}, Link: "softmax",
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := tree.Read(b, tree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]float64, 2)
	if m.PredictRaw(raw, []float64{3, 4}); raw[0] != 3 || raw[1] != 4 {
		t.Errorf("raw %v", raw)
	}
	if got := predict(t, m, 3, 4); math.Abs(got[1]-1/(1+math.Exp(-1))) > 1e-12 || math.Abs(got[0]+got[1]-1) > 1e-12 {
		t.Errorf("softmax %v", got)
	}
}

// TestSinglePrecisionConditions holds conditions of XGBoost against comparisons of
// single-precision numbers, around the places where numbers are rounded.
func TestSinglePrecisionConditions(t *testing.T) {
	for _, cond := range []float32{0, float32(math.Copysign(0, -1)), 1, 0.1, -0.1, 16777216, 1e-45, -1e-45, 1.1754944e-38, 3.4e38, -3.4e38, math.MaxFloat32, 0.3, 7.25} {
		m, err := tree.Read(xgbStump(cond), tree.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		c := float64(cond)
		around := []float64{c, 0, -c, math.Nextafter(c, 9e99), math.Nextafter(c, -9e99), math.MaxFloat64, -math.MaxFloat64}
		for _, n := range []float32{math.Nextafter32(cond, math.MaxFloat32), math.Nextafter32(cond, -math.MaxFloat32)} {
			mid := (float64(n) + c) / 2
			around = append(around, float64(n), mid, math.Nextafter(mid, 9e99), math.Nextafter(mid, -9e99))
		}
		for _, x := range around {
			want := 2.0
			if float32(x) < cond {
				want = 1
			}
			if got := predict(t, m, x); got[0] != want {
				t.Errorf("%g < %g: leaf %g, want %g", x, cond, got[0], want)
			}
		}
	}
}

// xgbStump is a model in XGBoost's binary format: 1 below the condition, else 2.
func xgbStump(cond float32) []byte {
	var b bytes.Buffer
	put := func(vs ...any) {
		for _, v := range vs {
			if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
				panic(err)
			}
		}
	}
	text := func(s string) { put(uint64(len(s)), []byte(s)) }
	put(float32(0), uint32(1), int32(0), make([]byte, 136-12))
	text("reg:linear")
	text("gbtree")
	put(int32(1), make([]byte, 160-4))
	put(int32(1), int32(3), make([]byte, 148-8))
	put(int32(-1), int32(1), int32(2), uint32(1)<<31, cond)
	put(int32(0), int32(-1), int32(-1), uint32(0), float32(1))
	put(int32(0), int32(-1), int32(-1), uint32(0), float32(2))
	put(make([]byte, 3*16), int32(0))
	return b.Bytes()
}

func TestBadFilesAreRefused(t *testing.T) {
	all := files(t, "testdata/models")
	made := files(t, "testdata/made")
	text := header + threeLeaves
	edit := func(s, from, to string) string {
		if !strings.Contains(s, from) {
			t.Fatalf("%q is not in the model", from)
		}
		return strings.Replace(s, from, to, 1)
	}
	for _, c := range []struct{ name, model, want string }{
		{"empty", "", "empty"},
		{"text", "hello, world", "format is not known"},
		{"other JSON", `{"a": 1}`, "there is no learner, tree_info or coefficients"},
		{"JSON cut off", `{"tree_info": [`, "unexpected EOF"},
		{"no trees", header[:strings.Index(header, "Tree=0")] + "end of trees\n", "no trees"},
		{"cycle", edit(text, "right_child=1 -3", "right_child=0 -3"), "two parents"},
		{"leaf twice", edit(text, "left_child=-1 -2", "left_child=-1 -1"), "two parents"},
		{"node beyond", edit(text, "right_child=1 -3", "right_child=7 -3"), "node 7 of 2"},
		{"leaf beyond", edit(text, "right_child=1 -3", "right_child=1 -9"), "leaf 8 of 3"},
		{"unreached", edit(text, "right_child=1 -3", "right_child=-2 -3"), "are reached"},
		{"feature beyond", edit(text, "split_feature=1 0", "split_feature=1 2"), "feature 2 of 2"},
		{"NaN leaf", edit(text, "leaf_value=1 2 4", "leaf_value=1 nan 4"), "value NaN"},
		{"NaN threshold", edit(text, "threshold=0 2.5", "threshold=0 nan"), "no threshold"},
		{"short list", edit(text, "threshold=0 2.5", "threshold=0"), "threshold has"},
		{"huge count", edit(text, "num_leaves=3", "num_leaves=2000000000"), "2000000000 leaves"},
		{"set beyond", edit(text, "threshold=0 2.5", "threshold=5 2.5"), "set 5 of 1"},
		{"bad bounds", edit(text, "cat_boundaries=0 1", "cat_boundaries=2 1"), "set 0 goes from"},
		{"linear tree", edit(text, "num_leaves=3", "is_linear=1\nnum_leaves=3"), "linear models"},
		{"objective", edit(text, "objective=regression", "objective=magic"), `objective "magic" is not known`},
		{"cut off", text[:len(text)-20], "cut off"},
		{"names", edit(text, "feature_names=a b", "feature_names=a b c"), "3 feature names for 2 features"},
		{"too many features", edit(text, "max_feature_idx=1", "max_feature_idx=1999999999"), "features"},
		{"iterations", edit(text, "num_tree_per_iteration=1", "num_tree_per_iteration=2"), "not whole iterations"},
		{"XGBoost cut off", string(all["xgdermatology.model"][:4000]), "do not fit the file"},
		{"XGBoost's header cut off", string(all["xgdermatology.model"][:140]), "cut off"},
		{"UBJ cut off", string(made["xgb_reg.ubj"][:3000]), "bytes left"},
		{"XGBoost's JSON without trees", `{"learner": {}}`, `no object "learner_model_param"`},
		{"UBJ nested", "{#U\x01U\x01a" + strings.Repeat("[#U\x01", 100), "nested more than 64"},
		{"ragged linear", `{"coefficients": [[1], [1, 2]]}`, "output 1 has 2 coefficients"},
		{"link", `{"coefficients": [[1]], "link": "x"}`, `link "x"`},
	} {
		_, err := tree.Read([]byte(c.model), tree.Limits{})
		if err == nil || !strings.Contains(err.Error(), c.want) || base.CodeOf(err) != tree.CodeModel {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	for name, l := range map[string]tree.Limits{
		"larger than 100 bytes": {Bytes: 100}, "features": {Features: 1}, "nodes": {Nodes: 3}, "trees": {Trees: 1},
	} {
		twice := header + strings.Replace(threeLeaves, "end of trees", "Tree=1\n"+threeLeaves, 1)
		if _, err := tree.Read([]byte(twice), l); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("limits %+v: error %v", l, err)
		}
	}
}

func TestOpenChecksWhatIsExpected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.txt")
	if err := os.WriteFile(path, []byte(header+threeLeaves), 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := tree.Load(path, tree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	good := tree.Expect{
		SHA256: m.Info().SHA256, Features: []string{"a", "b"}, NumFeatures: 2, NumOutputs: 1,
		SelfTest: []tree.TestRow{{Row: []float64{0, 3}, Prediction: []float64{1}}, {Row: []float64{math.NaN(), 0}, Prediction: []float64{2}, Raw: true}},
	}
	b, err := json.Marshal(good)
	if err != nil || !strings.Contains(string(b), "[null,0]") {
		t.Fatalf("%s, %v", b, err)
	}
	var again tree.Expect
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Open(path, again, tree.Limits{}); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		change func(*tree.Expect)
		want   string
	}{
		{func(e *tree.Expect) { e.SHA256 = strings.Repeat("0", 64) }, "its SHA-256 is"},
		{func(e *tree.Expect) { e.Features = []string{"b", "a"} }, `feature 0 is "a", not "b"`},
		{func(e *tree.Expect) { e.Features = []string{"a"} }, "2 features, not 1"},
		{func(e *tree.Expect) { e.NumOutputs = 3 }, "1 outputs, not 3"},
		{func(e *tree.Expect) { e.SelfTest = []tree.TestRow{{Row: []float64{0, 3}, Prediction: []float64{1.01}}} }, "gives 1, not 1.01"},
		{func(e *tree.Expect) { e.SelfTest = []tree.TestRow{{Row: []float64{0}, Prediction: []float64{1}}} }, "has 1 values"},
	} {
		e := good
		c.change(&e)
		_, err := tree.Open(path, e, tree.Limits{})
		if err == nil || !strings.Contains(err.Error(), c.want) || base.CodeOf(err) != tree.CodeExpect || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
	if _, err := tree.Load(path+".gone", tree.Limits{}); base.CodeOf(err) != tree.CodeModel {
		t.Errorf("a file that is not there: %v", err)
	}
}

// FuzzRead: whatever is read predicts, and everything else is refused with an
// error.
func FuzzRead(f *testing.F) {
	f.Add([]byte(header + threeLeaves))
	f.Add(xgbStump(3))
	f.Add([]byte(`{"coefficients": [[1, 2]], "link": "logit"}`))
	made := files(f, "testdata/made")
	for _, name := range []string{"xgb_linear.ubj", "xgb_linear.json"} {
		f.Add(made[name])
	}
	models := files(f, "testdata/models")
	f.Add(models["lg_rf_iris.model"][:2600])
	f.Add(models["xgdermatology.model"])
	small := tree.Limits{Bytes: 1 << 20, Features: 1000, Outputs: 100, Trees: 1000, Nodes: 10_000}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := tree.Read(b, small)
		if err != nil {
			if base.CodeOf(err) != tree.CodeModel {
				t.Fatalf("error without code: %v", err)
			}
			return
		}
		i := m.Info()
		rows := make([]float64, 5*i.NumFeatures)
		for k := range rows {
			rows[k] = []float64{0, 1, -1, math.NaN(), math.Inf(1), 1e300, 17}[k%7]
		}
		m.PredictBatch(make([]float64, 5*i.NumOutputs), rows)
		m.Leaves(make([]int, i.NumTrees), rows[:i.NumFeatures])
	})
}
