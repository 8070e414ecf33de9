package fakemodel_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/weirflow/weir/weirtest/fakemodel"
)

// TestAsAUserWould: a model that is down for its first two calls, asked with an
// idempotency key until it answers.
func TestAsAUserWould(t *testing.T) {
	s := fakemodel.Start(t, fakemodel.Script{Rules: []fakemodel.Rule{{Model: "fraud", Count: 2, Status: http.StatusServiceUnavailable}}})
	ask := func() (status int, score float64) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/json/fraud", strings.NewReader(`{"amount":12.5,"country":"NL"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", "payment-1")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var out struct{ Score float64 }
		if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, out.Score
	}
	attempts := 1
	status, score := ask()
	for status != http.StatusOK && attempts < 10 {
		status, score = ask()
		attempts++
	}
	if want := fakemodel.Score("fraud", "1", fakemodel.Row(12.5, "NL")); score != want || attempts != 3 {
		t.Errorf("the score is %v after %d attempts, want %v", score, attempts, want)
	}
	if got := s.Count("payment-1"); got != (fakemodel.KeyCount{Key: "payment-1", Calls: 3, Processed: 1}) {
		t.Errorf("the books say %+v", got)
	}
	if got := s.Calls(); got[0].Outcome != fakemodel.Failed || got[2].Outcome != fakemodel.OK {
		t.Errorf("the books say %+v", got)
	}
}

func ExampleScore() {
	fmt.Println(fakemodel.Row(12.5, "NL"), fakemodel.Score("fraud", "1", fakemodel.Row(12.5, "NL")) < 1)
	// Output: [12.5,"NL"] true
}

func ExampleChatAnswer() {
	answer := fakemodel.ChatAnswer("gpt", "1", []fakemodel.Message{
		{Role: "system", Content: "A weir raises the level of a river.\nCats sleep."},
		{Role: "user", Content: "What does a weir raise?"},
	})
	fmt.Println(answer[len("answer:01234567"):])
	// Output: | A weir raises the level of a river.
}
