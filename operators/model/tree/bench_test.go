package tree_test

import (
	"slices"
	"testing"

	"github.com/weirflow/weir/operators/model/tree"
)

// BenchmarkKDDCup99 predicts by an ensemble of 130 trees and reports nanoseconds
// for each row and tree, on one core. A published figure for comparison: 500 trees
// over 1,000 rows in 49 to 51 ms, that is, 100 ns (the C library, LightGBM, and
// dmitryikh/leaves alike, on other trees and another machine).
func BenchmarkKDDCup99(b *testing.B) {
	all := files(b, "testdata/models")
	m, err := tree.Read(all["lg_kddcup99.model"], tree.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	rows := table(b, all["kddcup99_test.tsv"])
	flat := slices.Concat(rows...)
	out := make([]float64, len(rows)*m.Info().NumOutputs)
	per := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(rows)*m.Info().NumTrees), "ns/row/tree")
		b.ReportMetric(float64(len(rows)*b.N)/b.Elapsed().Seconds(), "rows/s")
	}
	b.Run("batch", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.PredictBatch(out, flat)
		}
		per(b)
	})
	b.Run("one by one", func(b *testing.B) {
		b.ReportAllocs()
		k := m.Info().NumOutputs
		for b.Loop() {
			for i, row := range rows {
				m.Predict(out[i*k:(i+1)*k], row)
			}
		}
		per(b)
	})
}
