package fakemodel

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestAnswersStay pins the formulas: tests of users have results written down.
func TestAnswersStay(t *testing.T) {
	if got := Row(1, 2.5, float32(0.1), "a<b", true, []float64{1e21, 3}); got != `[1,2.5,0.1,"a\u003cb",true,1e+21,3]` {
		t.Errorf("Row: %s", got)
	}
	if got := Score("fraud", "2", Row(1.0, "x")); got != 0.7661157940341609 {
		t.Errorf("Score: %v", got)
	}
	if got := OutputValue(0.25, 1, 2); got != 0.8777443962652596 {
		t.Errorf("OutputValue: %v", got)
	}
	if got := ChatAnswer("gpt", "1", ragMessages); got != "answer:0c283a44 | A weir raises the water level of a river. | Weirs hold back water." {
		t.Errorf("ChatAnswer: %v", got)
	}
	if got := Embedding("e", "1", "Fox, fox!", 4); !slices.Equal(got, []float32{0, 0.70710677, 0, -0.70710677}) {
		t.Errorf("Embedding: %v", got)
	}
}

func TestRowIsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOf(rapid.OneOf(
			rapid.Float64().AsAny(), rapid.Float32().AsAny(), rapid.Int64().AsAny(), rapid.Uint64().AsAny(), rapid.String().AsAny(), rapid.Bool().AsAny(),
		)).Draw(t, "values")
		want, err := json.Marshal(append([]any{}, values...))
		if got := Row(values...); err == nil && got != string(want) || err != nil && got != "" {
			t.Fatalf("%s, want %s, %v", got, want, err)
		}
	})
	for _, v := range []any{nil, math.NaN(), struct{}{}, []any{map[string]any{}}} {
		if got := Row(1, v); got != "" {
			t.Errorf("Row(%v) is %q", v, got)
		}
	}
}

func TestScoresAreSpread(t *testing.T) {
	const n = 10_000
	var sum float64
	var tenths [10]int
	for i := range n {
		s := Score("m", "1", Row(i))
		if s < 0 || s >= 1 || s == Score("m", "2", Row(i)) || s == Score("n", "1", Row(i)) {
			t.Fatalf("the score of %d is %v", i, s)
		}
		sum += s
		tenths[int(s*10)]++
	}
	if mean := sum / n; math.Abs(mean-0.5) > 0.02 {
		t.Errorf("the mean is %v", mean)
	}
	for i, k := range tenths {
		if k < 850 || k > 1150 {
			t.Errorf("%d scores lie in tenth %d", k, i)
		}
	}
}

func TestSimilarTextsAreNear(t *testing.T) {
	dot := func(a, b string) (sum float64) {
		x, y := Embedding("e", "1", a, 64), Embedding("e", "1", b, 64)
		for i := range x {
			sum += float64(x[i]) * float64(y[i])
		}
		return sum
	}
	const text = "the weir raises the level of the river"
	same, near, far := dot(text, strings.ToUpper(text)), dot(text, "a weir raises the level of a river"), dot(text, "cats sleep on warm roofs all day")
	if math.Abs(same-1) > 1e-6 || near < 0.5 || far > 0.4 || near > same {
		t.Errorf("the same %v, near %v, far %v", same, near, far)
	}
	if one := dot("", ""); one != 1 {
		t.Errorf("without words: %v", one)
	}
}

func TestQuotes(t *testing.T) {
	say := func(role, text string) Message { return Message{role, text} }
	var mixed strings.Builder
	for i := range 40 {
		fmt.Fprintf(&mixed, "%s\n", []string{fmt.Sprintf("p%d a", i), fmt.Sprintf("q%d a b", i)}[i%2])
	}
	for _, c := range []struct {
		messages []Message
		quoted   string
	}{
		{nil, ""},
		{[]Message{say("system", "red apples")}, ""},
		{[]Message{say("user", "red apples")}, ""},
		{[]Message{say("user", "red\n  Apples grow \n\napples red?\n--")}, " | red | Apples grow"},
		{[]Message{say("user", "old"), say("assistant", "blue old"), say("user", "old?")}, " | old | blue old"},
		{[]Message{say("user", mixed.String()+"a b")}, " | q1 a b | q3 a b"},
		{[]Message{say("tool", "a b\nb c a\na b c c"), say("user", "a b c")}, " | b c a | a b c c"},
	} {
		got := ChatAnswer("m", "1", c.messages)
		if got[len("answer:00000000"):] != c.quoted {
			t.Errorf("%v: %q, want %q", c.messages, got, c.quoted)
		}
	}
}
