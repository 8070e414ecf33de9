package feature

import (
	"math/rand/v2"
	"testing"
)

// TestLevelNumbersTiles compares the division by multiplication with the plain one.
func TestLevelNumbersTiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200_000 {
		hop := 1 + rng.Int64N(1<<(1+rng.IntN(61)))
		l := newLevel(hop, hop)
		at := rng.Int64() >> rng.IntN(63)
		switch rng.IntN(4) {
		case 0:
			at = -at
		case 1:
			at = at / hop * hop
		case 2:
			at = at/hop*hop - 1
		}
		if got, want := l.number(at), floorDiv(at, hop); got != want {
			t.Fatalf("⌊%d/%d⌋ is %d, want %d", at, hop, got, want)
		}
	}
}
