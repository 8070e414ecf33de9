package main

import (
	"testing"
	"time"
)

// BenchmarkFeatures is the operator in memory, for profiles: 40 features of 100,000
// keys at four rates.
func BenchmarkFeatures(b *testing.B) {
	for _, load := range []struct {
		gap    time.Duration
		before int
	}{{time.Second, 40}, {time.Minute, 40}, {10 * time.Minute, 45}, {8 * time.Hour, 45}} {
		f := &featureLoad{cards: 100_000, gap: load.gap, memory: 4 << 30}
		b.Run(load.gap.String(), func(b *testing.B) {
			if f.store == nil {
				if err := openFeatures(f, eightAggregates(fiveHorizons...), boundTo[spending]); err != nil {
					b.Fatal(err)
				}
				if err := f.feed(load.before*f.cards, false); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				ns, err := f.perCore(1 << 20)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(ns, "ns/record")
			}
		})
		if err := f.close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFeaturesSpill is the operator with more state than memory, for profiles.
func BenchmarkFeaturesSpill(b *testing.B) {
	f := &featureLoad{cards: 500_000, gap: 24 * time.Hour, memory: 100 << 20, disk: true}
	if err := openFeatures(f, eightAggregates(fiveHorizons...), boundTo[spending]); err != nil {
		b.Fatal(err)
	}
	if err := f.history(); err != nil {
		b.Fatal(err)
	}
	f.hot = true
	for b.Loop() {
		ns, err := f.time(1 << 18)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(ns, "ns/record")
	}
	if err := f.close(); err != nil {
		b.Fatal(err)
	}
}
