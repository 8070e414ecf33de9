package main

import "testing"

// BenchmarkPatterns runs the first arm of each benchmark of patterns, for profiles.
func BenchmarkPatterns(b *testing.B) {
	for _, x := range patternBenches() {
		b.Run(x.name, func(b *testing.B) {
			var sum float64
			for b.Loop() {
				ns, err := x.arms[0].run()
				if err != nil {
					b.Fatal(err)
				}
				sum += ns
			}
			b.ReportMetric(sum/float64(b.N), "ns-cpu/record")
		})
	}
}
