package fakemodel

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
)

const fullScript = `{
  "seed": 7, "closed": true,
  "models": {"m": {"versions": ["1", "2"], "function": "logistic", "weights": [1], "bias": {"2": 3}, "dimensions": 8,
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}], "outputs": [{"name": "p", "datatype": "FP32", "width": 2}]}},
  "limits": [{"model": "m", "concurrency": 2, "queue": 3, "requests_per_s": 10, "tokens_per_s": 100, "burst_s": 2}],
  "rules": [{"name": "r", "model": "m*", "version": "1", "path": "/v2/*", "key": "k*", "contains": "x", "skip": 1, "count": 2, "share": 0.5,
    "latency": {"base_ms": 5, "per_item_ms": 0.2, "per_token_ms": 0.1, "jitter_ms": 1}, "status": 429, "message": "no", "retry_after_s": 0.5}],
  "phases": [{"name": "up", "calls": 100}, {"seconds": 60, "rules": [{"fault": "hang", "hang_s": 2}]}, {"rules": [{"fault": "huge", "bytes": 10}]}]
}`

func TestParseScript(t *testing.T) {
	s, err := ParseScript([]byte(fullScript))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseScript(text)
	if err != nil || !reflect.DeepEqual(s, again) {
		t.Errorf("%v; a script does not survive JSON:\n%+v\n%+v", err, s, again)
	}
	var want, got any
	if json.Unmarshal([]byte(fullScript), &want) != nil || json.Unmarshal(text, &got) != nil || !reflect.DeepEqual(want, got) {
		t.Errorf("the script is written as %s", text)
	}
	rules := func(text string) string { return `{"rules":[` + text + `]}` }
	for _, c := range []struct{ text, what string }{
		{``, "EOF"},
		{`{"seed":-1}`, "seed"},
		{`{"nope":1}`, "nope"},
		{`{} {}`, "something follows"},
		{rules(`{}`), "does nothing"},
		{rules(`{"status":200}`), "no error"},
		{rules(`{"status":503,"fault":"hang"}`), "both"},
		{rules(`{"fault":"nope"}`), `no fault "nope"`},
		{rules(`{"status":503,"share":1.5}`), "share"},
		{rules(`{"status":503,"skip":-1}`), "skip"},
		{rules(`{"fault":"nan","retry_after_s":1}`), "goes with a status"},
		{rules(`{"status":429,"retry_after_s":-1}`), "out of range"},
		{rules(`{"fault":"nan","hang_s":1}`), "hang_s"},
		{rules(`{"fault":"hang","hang_s":4000}`), "hang_s"},
		{rules(`{"fault":"hang","bytes":4000}`), "bytes"},
		{rules(`{"latency":{"base_ms":-1}}`), "latency"},
		{rules(strings.TrimSuffix(strings.Repeat(`{"status":500},`, 1001), ",")), "more than"},
		{`{"phases":[{},{}]}`, "does not end"},
		{`{"phases":[{"seconds":-1}]}`, "negative"},
		{`{"phases":[{"rules":[{}]}]}`, "phases[0].rules[0]"},
		{`{"limits":[{"concurrency":-1}]}`, "limits[0]"},
		{`{"models":{"m":{"function":"cube"}}}`, "cube"},
		{`{"models":{"m":{"weights":[1]}}}`, "logistic"},
		{`{"models":{"m":{"dimensions":-1}}}`, "dimensions"},
		{`{"models":{"m":{"inputs":[{"name":"x","datatype":"FP65","shape":[1]}]}}}`, `"x"`},
		{`{"models":{"m":{"outputs":[{"name":"x","datatype":"UINT8"}]}}}`, `"x"`},
		{`{"models":{"m":{"outputs":[{"name":"x","datatype":"FP32"},{"name":"x","datatype":"FP32"}]}}}`, `"x"`},
	} {
		if _, err := ParseScript([]byte(c.text)); err == nil || base.CodeOf(err) != codeValue || !strings.Contains(err.Error(), c.what) {
			t.Errorf("%.60s: %v, want %q", c.text, err, c.what)
		}
	}
}

// testCall is a call of a model with a key.
func testCall(model, key string) *call {
	return &call{model: model, version: "1", path: "/v2/models/" + model + "/infer", keys: []string{key}, items: 1, body: []byte("body")}
}

// play makes calls under a script and renders their fates as a letter each.
func play(t *testing.T, p *program, calls ...*call) string {
	t.Helper()
	out := ""
	for _, c := range calls {
		switch f := p.decide(c); {
		case f.failure == nil:
			out += "."
		case f.failure.Status != 0:
			out += fmt.Sprint(f.failure.Status / 100)
		default:
			out += string(f.failure.Fault[0])
		}
	}
	return out
}

func repeat(n int, model string) (out []*call) {
	for i := range n {
		out = append(out, testCall(model, fmt.Sprint("key-", i)))
	}
	return out
}

func TestPhases(t *testing.T) {
	clk := clock.NewVirtual(0)
	p := newProgram(Script{
		Rules: []Rule{{Fault: NaN, Skip: 5, Count: 1}},
		Phases: []Phase{
			{Calls: 3}, {Seconds: 60, Rules: []Rule{{Status: 503}}}, {Calls: 2, Seconds: 10, Rules: []Rule{{Fault: Reset, Count: 1}}},
			{Calls: 2}, {Rules: []Rule{{Fault: Hang}}},
		},
	}, clk, 100)
	step := func(d time.Duration, n int, want string) {
		t.Helper()
		clk.Advance(d)
		if got := play(t, p, repeat(n, "m")...); got != want {
			t.Errorf("at %v: %q, want %q", time.Duration(clk.Mono()), got, want)
		}
	}
	step(time.Hour, 3, "...") // the first phase does not end by time
	step(0, 1, "5")
	step(60*time.Second-1, 2, "55")
	step(1, 1, "r")
	step(9*time.Second, 1, ".") // and its second call ends the phase
	step(0, 1, ".")             // the fifth that the general rule lets pass
	step(0, 1, "n")
	step(0, 2, "hh")
	step(time.Hour, 1, "h")
	if p.current() != 4 {
		t.Errorf("the phase is %d", p.current())
	}
	// Phases may pass without a call.
	p = newProgram(Script{Phases: []Phase{{Seconds: 1}, {Seconds: 1, Rules: []Rule{{Status: 500}}}, {Seconds: 1}}}, clk, 100)
	step(1999*time.Millisecond, 1, "5")
	step(time.Millisecond, 1, ".")
	step(5*time.Second, 1, ".")
	if p.current() != 3 {
		t.Errorf("the phase is %d", p.current())
	}
}

func TestRulesSelect(t *testing.T) {
	batch := testCall("m", "a")
	batch.keys = []string{"a", "poison", "b"}
	for i, c := range []struct {
		rule Rule
		call *call
		want string
	}{
		{Rule{Model: "m"}, testCall("m", ""), "5"},
		{Rule{Model: "m"}, testCall("mm", ""), "."},
		{Rule{Model: "m*"}, testCall("mm", ""), "5"},
		{Rule{Model: "*a*b"}, testCall("xayb", ""), "5"},
		{Rule{Model: "*a*b"}, testCall("xaybz", ""), "."},
		{Rule{Model: "a*a"}, testCall("a", ""), "."},
		{Rule{Version: "2"}, testCall("m", ""), "."},
		{Rule{Path: "/v2/*"}, testCall("m", ""), "5"},
		{Rule{Path: "/v1/*"}, testCall("m", ""), "."},
		{Rule{Key: "poi*"}, batch, "5"},
		{Rule{Key: "q*"}, batch, "."},
		{Rule{Contains: "od"}, batch, "5"},
		{Rule{Contains: "odd"}, batch, "."},
	} {
		c.rule.Status = 500
		if got := play(t, newProgram(Script{Rules: []Rule{c.rule}}, clock.NewVirtual(0), 100), c.call); got != c.want {
			t.Errorf("case %d: %q, want %q", i, got, c.want)
		}
	}
}

// TestChanceIsByCall: a call has the same fate whenever it comes, and another one
// when it is repeated.
func TestChanceIsByCall(t *testing.T) {
	const n = 2000
	fates := func(seed uint64, backwards bool) (out [n]string, failed int) {
		p := newProgram(Script{Seed: seed, Rules: []Rule{{Status: 503, Share: 0.3}, {Latency: &Latency{Base: 1, Jitter: 10}}}}, clock.NewVirtual(0), n)
		for i := range n {
			if backwards {
				i = n - 1 - i
			}
			f := p.decide(testCall("m", fmt.Sprint(i)))
			if f.failure != nil {
				failed++
			}
			out[i] = fmt.Sprint(f.failure != nil, f.duration(1, 0))
		}
		return out, failed
	}
	a, failed := fates(1, false)
	if share := float64(failed) / n; math.Abs(share-0.3) > 0.04 {
		t.Errorf("a share of %v failed", share)
	}
	if b, _ := fates(1, true); a != b {
		t.Error("the order of the calls changes their fates")
	}
	if b, _ := fates(2, false); a == b {
		t.Error("the seed does nothing")
	}
	p := newProgram(Script{Rules: []Rule{{Status: 503, Share: 0.5}}}, clock.NewVirtual(0), n)
	if got := play(t, p, repeat(40, "same")[:1]...); len(got) != 1 {
		t.Fatal(got)
	}
	again := ""
	for range 40 {
		again += play(t, p, testCall("m", "k"))
	}
	if !strings.Contains(again, "5") || !strings.Contains(again, ".") {
		t.Errorf("40 attempts of one call end as %q", again)
	}
}

func TestLatency(t *testing.T) {
	p := newProgram(Script{Rules: []Rule{
		{Version: "2", Latency: &Latency{Base: 1}},
		{Latency: &Latency{Base: 5, PerItem: 0.2, PerToken: 2}},
		{Latency: &Latency{Base: 100}},
		{Fault: NaN},
	}}, clock.NewVirtual(0), 100)
	f := p.decide(testCall("m", "k"))
	if got := f.duration(50, 3); got != 21*time.Millisecond || f.failure.Fault != NaN {
		t.Errorf("the fate is %v, %+v", got, f)
	}
}
