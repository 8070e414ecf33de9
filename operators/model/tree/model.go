package tree

import (
	"fmt"
	"math"
	"slices"
)

// Model is a model that was read from a file.
type Model struct {
	info Info
	link link
	// single: sums are rounded to single precision, as XGBoost has them.
	single bool
	// average: sums are divided by the number of trees of an output.
	average bool
	// base is what an output has before the first tree.
	base []float64

	// roots are the trees: the index of a node, or ^i for leaf i; groups are the
	// outputs that they belong to.
	roots  []int32
	groups []int32
	nodes  []node
	// leaves are the values; leafIDs their numbers in the file's tree.
	leaves  []float64
	leafIDs []int32
	sets    [][]uint32

	// weights of a linear model: outputs for each feature, then, in base, the rest.
	weights []float64
}

// Info describes a model.
type Info struct {
	// Format is one of the Format constants.
	Format string
	// Objective is the one the model was trained for, as the file has it; "" when
	// the file does not say, and then predictions are raw.
	Objective string
	// Features are the names of the features in the order of a row; nil when the
	// file has none.
	Features []string
	// NumFeatures and NumOutputs are the numbers of values in a row and in a
	// prediction.
	NumFeatures, NumOutputs int
	// NumTrees and NumNodes are 0 for a linear model.
	NumTrees, NumNodes int
	// SHA256 is the checksum of the file, in hexadecimal.
	SHA256 string
}

// The formats.
const (
	FormatLightGBM     = "lightgbm-text"
	FormatLightGBMJSON = "lightgbm-json"
	FormatXGBoost      = "xgboost-binary"
	FormatXGBoostJSON  = "xgboost-json"
	FormatXGBoostUBJ   = "xgboost-ubj"
	FormatLinear       = "linear-json"
)

// Info returns what there is to know of the model.
func (m *Model) Info() Info {
	i := m.info
	i.Features = slices.Clone(i.Features)
	return i
}

// Predict computes the prediction for a row of NumFeatures values into dst, which
// has NumOutputs. Other lengths panic.
func (m *Model) Predict(dst, row []float64) {
	m.PredictRaw(dst, row)
	m.link.apply(dst)
}

// PredictRaw is Predict before the objective is applied.
func (m *Model) PredictRaw(dst, row []float64) { m.raw(dst, row, 1) }

// PredictBatch computes the predictions for rows that lie one after the other in
// rows, NumFeatures values each, into dst, NumOutputs each. It is faster by row
// than Predict. Lengths that do not fit panic.
func (m *Model) PredictBatch(dst, rows []float64) {
	m.PredictBatchRaw(dst, rows)
	for k := m.info.NumOutputs; len(dst) > 0; dst = dst[k:] {
		m.link.apply(dst[:k])
	}
}

// PredictBatchRaw is PredictBatch before the objective is applied.
func (m *Model) PredictBatchRaw(dst, rows []float64) {
	n := len(rows) / m.info.NumFeatures
	// Rows that stay in the cache while all trees go over them.
	const block = 256
	for at := 0; at < n; at += block {
		end := min(at+block, n)
		m.raw(dst[at*m.info.NumOutputs:end*m.info.NumOutputs], rows[at*m.info.NumFeatures:end*m.info.NumFeatures], end-at)
	}
	if n*m.info.NumFeatures != len(rows) || n*m.info.NumOutputs != len(dst) {
		panic(fmt.Sprintf("tree: %d values and %d results are not whole rows of %d and %d", len(rows), len(dst), m.info.NumFeatures, m.info.NumOutputs))
	}
}

// Leaves writes the number of the leaf that a row reaches in each tree into dst,
// which has NumTrees: LightGBM counts leaves, XGBoost all nodes.
func (m *Model) Leaves(dst []int, row []float64) {
	m.fits(len(dst), m.info.NumTrees, len(row), m.info.NumFeatures)
	for t, root := range m.roots {
		dst[t] = int(m.leafIDs[m.walk(root, row)])
	}
}

// fits panics unless both lengths are right.
func (m *Model) fits(results, wantResults, values, wantValues int) {
	if results != wantResults || values != wantValues {
		panic(fmt.Sprintf("tree: %d values and %d results, where the model has %d and %d", values, results, wantValues, wantResults))
	}
}

// raw computes the raw predictions of n rows.
func (m *Model) raw(dst, rows []float64, n int) {
	k := m.info.NumOutputs
	m.fits(len(dst), n*k, len(rows), n*m.info.NumFeatures)
	for r := range n {
		copy(dst[r*k:(r+1)*k], m.base)
	}
	if m.weights != nil {
		m.linear(dst, rows, n)
		return
	}
	m.sum(dst, rows, n)
	if m.average {
		trees := float64(max(1, len(m.roots)/k))
		for i := range dst {
			dst[i] /= trees
		}
	}
}

// linear adds the products of a linear model.
func (m *Model) linear(dst, rows []float64, n int) {
	k, f := m.info.NumOutputs, m.info.NumFeatures
	for r := range n {
		out := dst[r*k : (r+1)*k]
		for i, x := range rows[r*f : (r+1)*f] {
			switch {
			case !m.single:
				for j, w := range m.weights[i*k : (i+1)*k] {
					out[j] += w * x
				}
			case !math.IsNaN(x): // a value that XGBoost does not have adds nothing
				for j, w := range m.weights[i*k : (i+1)*k] {
					out[j] = float64(float32(out[j]) + float32(w)*float32(x))
				}
			}
		}
	}
}
