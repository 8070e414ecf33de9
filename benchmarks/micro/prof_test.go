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
