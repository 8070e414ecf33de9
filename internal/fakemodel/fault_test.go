package fakemodel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/clock"
)

const oneInput = `{"inputs":[{"name":"x","shape":[2],"datatype":"FP64","data":[1,2]}]}`

// requests are one for each protocol, with two inputs where it has batches.
var requests = map[string][2]string{
	"oip":       {"/v2/models/m/infer", oneInput},
	"chat":      {"/v1/chat/completions", ragBody + "}"},
	"stream":    {"/v1/chat/completions", ragBody + `,"stream":true}`},
	"embedding": {"/v1/embeddings", `{"model":"m","input":["a","b"],"dimensions":2}`},
	"base64":    {"/v1/embeddings", `{"model":"m","input":["a","b"],"dimensions":2,"encoding_format":"base64"}`},
	"tf":        {"/v1/models/m:predict", `{"instances":[1,2]}`},
	"json":      {"/json/m", `[1,2]`},
	"json1":     {"/json/m", `{"a":1}`},
}

// underRule asks under a script with one rule, and returns what the books say.
func underRule(t *testing.T, r Rule, request [2]string) (answer, Call) {
	t.Helper()
	s := start(t, Options{Script: Script{Rules: []Rule{r}}})
	a := ask(t, s, request[0], request[1], "Idempotency-Key", "k")
	eventually(t, func() bool { return s.Stats().InFlight == 0 })
	calls := s.Calls()
	if len(calls) != 1 || calls[0].Key != "k" || calls[0].Finished < calls[0].Started {
		t.Fatalf("the books say %+v", calls)
	}
	return a, calls[0]
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come about")
		}
	}
}

func TestStatuses(t *testing.T) {
	for name, req := range requests {
		a, c := underRule(t, Rule{Status: 429, RetryAfter: 1.5, Message: "slow \"down\""}, req)
		if a.status != 429 || a.header.Get("Retry-After") != "2" || a.header.Get("retry-after-ms") != "1500" || c.Outcome != Failed || c.Processed || c.Status != 429 {
			t.Errorf("%s: status %d, headers %v, books %+v", name, a.status, a.header, c)
		}
		if openAI := strings.HasPrefix(req[0], "/v1/") && !strings.Contains(req[0], ":"); openAI {
			loadSchemas(t, "openai.json").check(t, "error", a.body)
			if a.header.Get("x-ratelimit-remaining-requests") != "0" || a.header.Get("x-ratelimit-reset-requests") != "1.5s" {
				t.Errorf("%s: headers %v", name, a.header)
			}
		} else {
			loadSchemas(t, "oip.json").check(t, "error", a.body)
		}
		if !bytes.Contains(a.body, []byte(`slow \"down\"`)) {
			t.Errorf("%s: %s", name, a.body)
		}
	}
}

func TestBrokenConnections(t *testing.T) {
	for name, req := range requests {
		a, c := underRule(t, Rule{Fault: Reset}, req)
		if !errors.Is(a.err, syscall.ECONNRESET) || c.Outcome != Outcome(Reset) || c.Processed {
			t.Errorf("%s, reset: %v, books %+v", name, a.err, c)
		}
		a, c = underRule(t, Rule{Fault: ResetAfter}, req)
		if !errors.Is(a.err, syscall.ECONNRESET) || c.Outcome != Outcome(ResetAfter) || !c.Processed {
			t.Errorf("%s, reset after: %v, books %+v", name, a.err, c)
		}
		whole, _ := underRule(t, Rule{Latency: &Latency{}}, req)
		a, c = underRule(t, Rule{Fault: Truncate}, req)
		if !errors.Is(a.err, io.ErrUnexpectedEOF) || a.status != 200 || len(a.body) == 0 || len(a.body) > len(whole.body)*3/4 || c.Outcome != Outcome(Truncate) || !c.Processed {
			t.Errorf("%s, truncated: %v after %d bytes, books %+v", name, a.err, len(a.body), c)
		}
	}
}

func TestHangs(t *testing.T) {
	for _, fault := range []Fault{Hang, Stall} {
		for _, name := range []string{"oip", "stream"} {
			s := start(t, Options{Script: Script{Rules: []Rule{{Fault: fault, Skip: 1}}}})
			whole := ask(t, s, requests[name][0], requests[name][1]).body
			half := len(whole) / 2
			if name == "stream" {
				events := bytes.SplitAfter(whole, []byte("\n\n"))
				half = len(bytes.Join(events[:(len(events)-1)/2], nil))
			}
			ctx, cancel := context.WithCancel(t.Context())
			got := make(chan error)
			go func() { got <- hangOn(ctx, s, requests[name], half, fault == Stall, got) }()
			eventually(t, func() bool { return s.Stats().InFlight == 1 })
			if c := s.Calls()[1]; c.Outcome != Running || c.Finished != 0 {
				t.Errorf("%s, %s: books %+v", fault, name, c)
			}
			if fault == Stall {
				if err := <-got; err != nil {
					t.Errorf("%s, %s: no half of the answer: %v", fault, name, err)
				}
			}
			cancel()
			if err := <-got; !errors.Is(err, context.Canceled) {
				t.Errorf("%s, %s: %v", fault, name, err)
			}
			eventually(t, func() bool { return s.Stats().InFlight == 0 })
			if c := s.Calls()[1]; c.Outcome != Outcome(fault) || c.Processed != (fault == Stall) {
				t.Errorf("%s, %s: books %+v", fault, name, c)
			}
		}
	}
	// A hang that ends gives a late answer.
	a, c := underRule(t, Rule{Fault: Hang, HangSeconds: 0.001}, requests["oip"])
	if a.status != 200 || a.err != nil || c.Outcome != Outcome(Hang) || !c.Processed {
		t.Errorf("a late answer: %+v, books %+v", a, c)
	}
}

// hangOn asks and, if there is to be half an answer, reports on came that it is there; it
// returns the error behind that.
func hangOn(ctx context.Context, s *Server, request [2]string, half int, first bool, came chan<- error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+request[0], strings.NewReader(request[1]))
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if first {
		_, err := io.CopyN(io.Discard, res.Body, int64(half))
		came <- err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

func TestAServerStopsWhileCallsHang(t *testing.T) {
	s, err := Start(Options{Script: Script{Rules: []Rule{{Fault: Hang}}}})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan answer)
	go func() { got <- ask(t, s, requests["oip"][0], requests["oip"][1]) }()
	eventually(t, func() bool { return s.Stats().InFlight == 1 })
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if a := <-got; a.err == nil {
		t.Errorf("the client gets %+v", a)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestGarbage(t *testing.T) {
	for name, req := range requests {
		a, c := underRule(t, Rule{Fault: BadJSON}, req)
		if a.err != nil || a.status != 200 || json.Valid(a.body) && name != "stream" || bytes.HasSuffix(a.body, []byte("[DONE]\n\n")) || c.Outcome != Outcome(BadJSON) {
			t.Errorf("%s, bad JSON: %+v, books %+v", name, a, c)
		}
		if a, c = underRule(t, Rule{Fault: Empty}, req); a.err != nil || a.status != 200 || len(a.body) != 0 || !c.Processed {
			t.Errorf("%s, empty: %+v, books %+v", name, a, c)
		}
		if a, _ = underRule(t, Rule{Fault: HTML}, req); a.err != nil || a.status != 200 || a.header.Get("Content-Type") != "text/html" || a.body[0] != '<' {
			t.Errorf("%s, HTML: %+v", name, a)
		}
		whole, _ := underRule(t, Rule{Latency: &Latency{}}, req)
		a, c = underRule(t, Rule{Fault: Huge, Bytes: 300_000}, req)
		if a.err != nil || len(a.body) != len(whole.body)+300_000 || !json.Valid(a.body) && name != "stream" || c.Outcome != Outcome(Huge) {
			t.Errorf("%s, huge: %d bytes instead of %d, %v, books %+v", name, len(a.body), len(whole.body), a.err, c)
		}
	}
}

func TestAClientNeedNotTakeAHugeBody(t *testing.T) {
	s := start(t, Options{Script: Script{Rules: []Rule{{Fault: Huge, Bytes: 8 << 30}}}})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/json/m", strings.NewReader("1"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, res.Body, 10<<20); n != 10<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	_ = res.Body.Close()
	eventually(t, func() bool { return s.Stats().InFlight == 0 })
}

func TestWrongValues(t *testing.T) {
	score := func(x float64) string { return numberText(Score("m", "1", Row(x))) }
	e := Embedding("m", "1", "b", 2)
	for _, c := range []struct {
		request string
		fault   Fault
		holds   string
	}{
		{"oip", NaN, `"shape":[2],"data":[NaN,` + score(2) + "]"},
		{"oip", Null, `"shape":[2],"data":[null,` + score(2) + "]"},
		{"oip", WrongShape, `"shape":[2],"data":[` + score(1) + "]"},
		{"oip", WrongCount, `"shape":[3],"data":[` + score(1) + "," + score(2) + "," + score(2) + "]"},
		{"tf", NaN, `[NaN,` + score(2) + "]"},
		{"tf", Null, `[null,` + score(2) + "]"},
		{"tf", WrongShape, `[` + score(1) + "]"},
		{"tf", WrongCount, `[` + score(1) + "," + score(2) + "," + score(2) + "]"},
		{"json", NaN, `[{"score":NaN},`},
		{"json", Null, `[{"score":null},`},
		{"json", WrongShape, `[{"score":` + score(1) + "}]"},
		{"json", WrongCount, `{"score":` + score(2) + `},{"score":` + score(2) + "}]"},
		{"json1", NaN, `"score":NaN}`},
		{"json1", Null, `"score":null}`},
		{"json1", WrongShape, `"version":"1"}`},
		{"json1", WrongCount, `"results":[{"score":` + score(1) + `},{"score":` + score(1) + "}]"},
		{"embedding", NaN, `"embedding":[NaN,`},
		{"embedding", Null, `"embedding":[null,`},
		{"embedding", WrongShape, `"embedding":[` + numberText(e[0]) + "]}]"},
		{"embedding", WrongCount, `"index":2`},
		{"base64", Null, `"index":0,"embedding":null`},
		{"base64", WrongCount, `"index":2`},
		{"chat", NaN, `"content":"NaN"`},
		{"chat", Null, `"content":null`},
		{"chat", WrongShape, `"choices":[]`},
		{"chat", WrongCount, `"choices":[]`},
		{"stream", NaN, `"content":"NaN"`},
		{"stream", Null, `"delta":{},"logprobs":null,"finish_reason":null`},
		{"stream", WrongShape, `"choices":[]`},
	} {
		a, call := underRule(t, Rule{Fault: c.fault}, requests[c.request])
		if a.err != nil || a.status != 200 || !strings.Contains(string(a.body), c.holds) || call.Outcome != Outcome(c.fault) || !call.Processed {
			t.Errorf("%s, %s: no %s in %d %s; books %+v", c.request, c.fault, c.holds, a.status, a.body, call)
		}
	}
	a, _ := underRule(t, Rule{Fault: NaN}, requests["base64"])
	var v struct{ Data []struct{ Embedding string } }
	if err := json.Unmarshal(a.body, &v); err != nil || !math.IsNaN(float64(vectorOf(t, v.Data[0].Embedding)[0])) {
		t.Errorf("base64, NaN: %s, %v", a.body, err)
	}
	a, _ = underRule(t, Rule{Fault: WrongShape}, requests["base64"])
	if err := json.Unmarshal(a.body, &v); err != nil || len(vectorOf(t, v.Data[1].Embedding)) != 1 {
		t.Errorf("base64, wrong shape: %s, %v", a.body, err)
	}
}

func TestRateHeaders(t *testing.T) {
	s := start(t, Options{Script: Script{Limits: []Limit{{Requests: 0.001, Tokens: 1000, Burst: 2000}}}})
	a := ask(t, s, "/v1/embeddings", `{"model":"m","input":"a b c"}`)
	for name, want := range map[string]string{
		"limit-requests": "2", "remaining-requests": "1", "limit-tokens": "2000000", "remaining-tokens": "1999997",
	} {
		if got := a.header.Get("x-ratelimit-" + name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	ask(t, s, "/json/m", "1")
	a = ask(t, s, "/v1/embeddings", `{"model":"m","input":"a b c"}`)
	if a.status != 429 || a.header.Get("Retry-After") == "" || a.header.Get("x-ratelimit-remaining-requests") != "0" || s.Stats().Outcomes[Limited] != 1 {
		t.Errorf("status %d, headers %v", a.status, a.header)
	}
}

func TestHealthFollowsRulesWithAPath(t *testing.T) {
	s := start(t, Options{Script: Script{Rules: []Rule{{Status: 503}, {Status: 500, Path: "/v2/health/ready"}}}})
	if live, ready := ask(t, s, "/v2/health/live", ""), ask(t, s, "/v2/health/ready", ""); live.status != 200 || ready.status != 500 {
		t.Errorf("live %d, ready %d", live.status, ready.status)
	}
	if s.Stats().Calls != 0 {
		t.Error("health is in the books")
	}
}

func TestOnlyLocalhostIsServed(t *testing.T) {
	s := start(t, Options{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/control/stats", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	s := start(t, Options{MaxConnections: 1})
	first, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return len(s.l.(*limitedListener).free) == 1 })
	got := make(chan answer)
	go func() { got <- ask(t, s, "/v2", "") }()
	select {
	case a := <-got:
		t.Errorf("a second connection got %+v", a)
	case <-time.After(50 * time.Millisecond):
	}
	_ = first.Close()
	if a := <-got; a.status != 200 {
		t.Errorf("%+v", a)
	}
}

// TestLatencyIsServed: an answer comes when the model's time is over, not earlier, and
// a stream takes the time of its tokens one by one.
func TestLatencyIsServed(t *testing.T) {
	clk := clock.NewVirtual(0)
	s := start(t, Options{Clock: clk, Script: Script{Rules: []Rule{
		{Model: "refuses", Status: 500, Latency: &Latency{Base: 3}},
		{Latency: &Latency{Base: 5, PerItem: 0.5, PerToken: 2}},
	}}})
	tokens := time.Duration(Tokens(ChatAnswer("gpt", "1", ragMessages)))
	for _, c := range []struct {
		request [2]string
		first   time.Duration
		steps   time.Duration
	}{
		{requests["oip"], 6 * time.Millisecond, 0},
		{[2]string{"/json/refuses", "1"}, 3 * time.Millisecond, 0},
		{requests["chat"], 5500*time.Microsecond + tokens*2*time.Millisecond, 0},
		{requests["stream"], 5500 * time.Microsecond, tokens},
	} {
		got := make(chan answer, 1)
		go func() { got <- ask(t, s, c.request[0], c.request[1]) }()
		wait := func(d time.Duration) {
			t.Helper()
			eventually(t, func() bool { return clk.Pending() == 1 })
			if next, _ := clk.Next(); next != d || s.Stats().InFlight != 1 {
				t.Errorf("%s: %v to go, %d in flight, want %v", c.request[0], next, s.Stats().InFlight, d)
			}
			clk.Advance(d)
		}
		begin := clk.Mono()
		wait(c.first)
		for range c.steps {
			wait(2 * time.Millisecond)
		}
		if a := <-got; a.err != nil || time.Duration(clk.Mono()-begin) != c.first+c.steps*2*time.Millisecond {
			t.Errorf("%s: %v", c.request[0], a.err)
		}
	}
	calls := s.Calls()
	if d := calls[0].Finished - calls[0].Started; d != 6e6 {
		t.Errorf("the books say %v", time.Duration(d))
	}
}

// TestWhoHasAnAnswerFindsItInTheBooks: as long as the end is not booked, the answer is
// not complete.
func TestWhoHasAnAnswerFindsItInTheBooks(t *testing.T) {
	for _, name := range []string{"oip", "stream"} {
		clk := clock.NewVirtual(0)
		s := start(t, Options{Clock: clk, Script: Script{Rules: []Rule{{Latency: &Latency{Base: 1}}}}})
		got := make(chan answer, 1)
		go func() { got <- ask(t, s, requests[name][0], requests[name][1]) }()
		eventually(t, func() bool { return clk.Pending() == 1 })
		s.book.mu.Lock()
		clk.Advance(time.Millisecond)
		select {
		case a := <-got:
			t.Errorf("%s: the answer came first: %+v", name, a)
		case <-time.After(50 * time.Millisecond):
		}
		s.book.mu.Unlock()
		if a := <-got; a.err != nil || a.status != 200 {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// TestTheTimeForABodyDoesNotBoundTheCall: it did, if the deadline for reading stayed.
func TestTheTimeForABodyDoesNotBoundTheCall(t *testing.T) {
	clk := clock.NewVirtual(0)
	s := start(t, Options{Clock: clk, transfer: 20 * time.Millisecond, Script: Script{Rules: []Rule{{Model: "m", Latency: &Latency{Base: 60_000}}}}})
	got := make(chan answer, 1)
	go func() { got <- ask(t, s, "/json/m", "1") }()
	eventually(t, func() bool { return clk.Pending() == 1 })
	time.Sleep(60 * time.Millisecond)
	clk.Advance(time.Minute)
	if a := <-got; a.err != nil || a.status != 200 {
		t.Errorf("%+v", a)
	}
	// But it bounds the body.
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /json/m HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n1"); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(conn)
	if !bytes.HasPrefix(text, []byte("HTTP/1.1 400 ")) {
		t.Errorf("a body that does not come gets %q", text)
	}
	// The deadline of one answer is not that of the next.
	again, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for _, path := range []string{"/v2", "/control/keys?min=x"} {
		if _, err := io.WriteString(again, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if n, err := again.Read(make([]byte, 4096)); err != nil || n == 0 {
			t.Errorf("%s: %v", path, err)
		}
		time.Sleep(60 * time.Millisecond)
	}
}
