package pattern

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestWords holds the index of texts against a map.
func TestWords(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	text := func() string {
		b := make([]byte, rng.IntN(20))
		for i := range b {
			b[i] = "\x00ab"[rng.IntN(3)]
		}
		if rng.IntN(4) == 0 {
			return fmt.Sprint("a longer text, number ", rng.IntN(2000))
		}
		return string(b)
	}
	var w words
	if w.get("a") != 0 {
		t.Fatal("an empty index has a word")
	}
	want := map[string]int32{}
	for id := range int32(5000) {
		if s := text(); rng.IntN(2) == 0 {
			w.put(s, id+2)
			want[s] = id + 2
		}
		if s := text(); w.get(s) != want[s] {
			t.Fatalf("%q: got %d, want %d", s, w.get(s), want[s])
		}
	}
	for s, id := range want {
		if w.get(s) != id {
			t.Fatalf("%q: got %d, want %d", s, w.get(s), id)
		}
	}
	if len(want) != w.used || 2*w.used > len(w.slots) {
		t.Fatalf("%d words, %d used of %d slots", len(want), w.used, len(w.slots))
	}
}
