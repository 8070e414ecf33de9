package main

import "testing"

func BenchmarkExchangeWeir(b *testing.B) {
	for b.Loop() {
		if _, err := exchangeWeir(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExchangeHand(b *testing.B) {
	for b.Loop() {
		if _, err := exchangeHand(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKeyed(b *testing.B) {
	k := keyedJob{records: 6_000_000, keys: 1_000_000, interval: 1e9}
	for b.Loop() {
		ns, err := k.run()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(ns, "ns/record")
	}
}
