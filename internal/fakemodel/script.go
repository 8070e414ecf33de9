package fakemodel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/weirflow/weir/internal/base"
)

// Codes of errors.
const (
	codeValue  = "WEIR-0202" // a script or an option that cannot be used
	codeListen = "WEIR-0206" // an address that other machines reach
	codeInUse  = "WEIR-0207" // an address that cannot be had
)

// Script says what the models are and how they misbehave. The zero value is a server
// on which every model exists, answers at once and never fails.
type Script struct {
	// Seed makes every random choice. The same call (by its idempotency keys, or else
	// by its body) at the same attempt has the same fate under the same script,
	// whatever else is asked and in whatever order.
	Seed uint64 `json:"seed,omitempty"`
	// Models describes some models by name. Others exist too, unless Closed.
	Models map[string]Model `json:"models,omitempty"`
	Closed bool             `json:"closed,omitempty"`
	// Limits bound how much is worked on at a time; the first whose Model fits a call
	// counts for it.
	Limits []Limit `json:"limits,omitempty"`
	// Rules apply always, behind those of the current phase.
	Rules []Rule `json:"rules,omitempty"`
	// Phases follow one another. Behind the last that ends, only Rules are left.
	Phases []Phase `json:"phases,omitempty"`
}

// Phase is a time with rules of its own. It ends after so many calls or so many
// seconds, whichever comes first; one with neither does not end. The first phase
// begins when the script is loaded, each other one when the one before it ends.
type Phase struct {
	Name    string  `json:"name,omitempty"`
	Calls   int64   `json:"calls,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Rules   []Rule  `json:"rules,omitempty"`
}

// Rule changes what happens to some calls. Of the rules that fit a call, in order, the
// first with a latency gives it its latency and the first with a status or fault its
// failure. Patterns are matched with * for any text; "" fits everything.
type Rule struct {
	Name string `json:"name,omitempty"`

	Model   string `json:"model,omitempty"`
	Version string `json:"version,omitempty"`
	// Path is a pattern of the URL's path. Health and metadata are subject only to
	// rules with a Path, and only to their Status.
	Path string `json:"path,omitempty"`
	// Key is a pattern that one of the call's idempotency keys must fit.
	Key string `json:"key,omitempty"`
	// Contains is a text that the body of the request must hold.
	Contains string `json:"contains,omitempty"`
	// Skip is how many calls that fit are let through first, Count how many are
	// affected thereafter; 0 is no limit.
	Skip  int64 `json:"skip,omitempty"`
	Count int64 `json:"count,omitempty"`
	// Share is the part of the calls, by chance, that is affected; 0 means all. Skip and
	// Count are about calls in it.
	Share float64 `json:"share,omitempty"`

	Latency *Latency `json:"latency,omitempty"`
	// Status, from 400 to 599, answers with an error of the protocol, at once or after
	// the Latency of the same rule. Nothing is computed.
	Status  int    `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
	// RetryAfter, in seconds, goes with Status. The header is rounded up to whole
	// seconds; retry-after-ms is exact.
	RetryAfter float64 `json:"retry_after_s,omitempty"`
	Fault      Fault   `json:"fault,omitempty"`
	// HangSeconds bounds Hang and Stall; 0 is until the client gives up.
	HangSeconds float64 `json:"hang_s,omitempty"`
	// Bytes is the size of a Huge body.
	Bytes int64 `json:"bytes,omitempty"`
}

// Fault is a way to fail other than an HTTP status.
type Fault string

// Faults.
const (
	// Hang gives no answer until the client gives up, or answers after HangSeconds.
	Hang Fault = "hang"
	// Reset breaks the connection before the call is worked on.
	Reset Fault = "reset"
	// ResetAfter works on the call, then breaks the connection instead of answering.
	ResetAfter Fault = "reset-after"
	// Truncate closes the connection after half of the answer.
	Truncate Fault = "truncate"
	// Stall sends half of the answer and hangs.
	Stall Fault = "stall"
	// BadJSON is a whole answer with half of the body.
	BadJSON Fault = "bad-json"
	// Empty is an answer with an empty body.
	Empty Fault = "empty"
	// HTML is a page instead of JSON, such as proxies send, with status 200.
	HTML Fault = "html"
	// Huge is a valid answer with Bytes of white space in it.
	Huge Fault = "huge"
	// NaN puts NaN, which is no JSON, in the place of the first number of each answer;
	// base64 embeddings hold one. A chat answers with the word.
	NaN Fault = "nan"
	// Null puts null in the place of the first value of each answer.
	Null Fault = "null"
	// WrongShape leaves out the last value of the last row while the shape, where there
	// is one, stays as it is. A chat has no choices.
	WrongShape Fault = "wrong-shape"
	// WrongCount gives the result of the last input twice, with a shape that fits. A
	// chat has no choices.
	WrongCount Fault = "wrong-count"
)

// Faults returns all faults.
func Faults() []Fault {
	return []Fault{Hang, Reset, ResetAfter, Truncate, Stall, BadJSON, Empty, HTML, Huge, NaN, Null, WrongShape, WrongCount}
}

// Latency is how long a call is worked on: Base + PerItem·n + PerToken·tokens +
// Jitter·u, in milliseconds, where n is the number of inputs, tokens are those of a
// chat's answer, and u is by chance from [0,1). A streamed answer takes its tokens'
// time while it is sent.
type Latency struct {
	Base     float64 `json:"base_ms,omitempty"`
	PerItem  float64 `json:"per_item_ms,omitempty"`
	PerToken float64 `json:"per_token_ms,omitempty"`
	Jitter   float64 `json:"jitter_ms,omitempty"`
}

// Limit bounds the work on the models that fit the pattern Model, together.
type Limit struct {
	Model string `json:"model,omitempty"`
	// Concurrency is how many calls are worked on at a time; 0 is no limit. Others wait
	// in the order of their arrival, up to Queue of them (default 10,000); more get
	// status 503. One at a time with a latency of 1 ms per item is a model that does
	// 1,000 items per second. A call that hangs waits for nobody and holds up nobody.
	Concurrency int `json:"concurrency,omitempty"`
	Queue       int `json:"queue,omitempty"`
	// Requests and Tokens per second, with up to Burst seconds of them saved up (default
	// 1), beyond which calls get status 429. Tokens are those of the request.
	Requests float64 `json:"requests_per_s,omitempty"`
	Tokens   float64 `json:"tokens_per_s,omitempty"`
	Burst    float64 `json:"burst_s,omitempty"`
}

// Model describes one model.
type Model struct {
	// Versions are all there are; none: any exists. The last one answers calls that
	// name none.
	Versions []string `json:"versions,omitempty"`
	// Inputs, if given, are those that every call must have, with these datatypes and
	// shapes; a dimension of -1 may have any size. Open Inference Protocol only.
	Inputs []Tensor `json:"inputs,omitempty"`
	// Outputs are what the model gives besides or instead of a score; none: one output
	// "score" of datatype FP64, one number per input.
	Outputs []Output `json:"outputs,omitempty"`
	// Function is "hash" (default) or "logistic".
	Function string    `json:"function,omitempty"`
	Weights  []float64 `json:"weights,omitempty"`
	// Bias of the logistic function, by version.
	Bias map[string]float64 `json:"bias,omitempty"`
	// Dimensions of embeddings; 0 is DefaultDimensions.
	Dimensions int `json:"dimensions,omitempty"`
}

// Tensor describes an input.
type Tensor struct {
	Name     string `json:"name"`
	Datatype string `json:"datatype"`
	Shape    []int  `json:"shape"`
}

// Output describes an output. Width 0 is one value per input, of shape [n]; otherwise
// it is [n, Width]. Value j of output i comes from the score s of the input: s itself
// for i = j = 0, else the upper 53 bits of Mix(bits of s, i<<32+j) as a number in
// [0,1). The datatype turns it into what it can hold: FP32 and FP64 the number, BOOL
// and INT64 whether it is at least 0.5, BYTES its digits.
type Output struct {
	Name     string `json:"name"`
	Datatype string `json:"datatype"`
	Width    int    `json:"width,omitempty"`
}

// Bounds of what a script may ask for.
const (
	maxHangSeconds = 3600
	maxHuge        = 8 << 30
	maxLatencyMS   = 3_600_000
	maxRules       = 1000
	maxWidth       = 4096
	maxDimensions  = 4096
	defaultQueue   = 10_000
	defaultHuge    = 256 << 20
)

// ParseScript reads a script in JSON; an unknown field is an error.
func ParseScript(text []byte) (Script, error) {
	var s Script
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return Script{}, &base.Error{
			Code: codeValue, What: "the script of the fake model server is not JSON of its form",
			Where: fmt.Sprintf("byte %d", d.InputOffset()), Cause: err, Next: "see docs/reference/fakemodel.md",
		}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Script{}, bad("behind the script", "something follows", "keep one JSON object in the file")
	}
	return s, s.Validate()
}

func bad(where, what, next string) error {
	return &base.Error{Code: codeValue, What: "the script of the fake model server is wrong: " + what, Where: where, Next: next}
}

// Validate reports the first thing in the script that cannot be done.
func (s *Script) Validate() error {
	count := len(s.Rules)
	for i := range s.Rules {
		if err := s.Rules[i].validate(fmt.Sprintf("rules[%d]", i)); err != nil {
			return err
		}
	}
	for i := range s.Phases {
		p, at := &s.Phases[i], fmt.Sprintf("phases[%d]", i)
		if p.Calls < 0 || !within(p.Seconds, 0, math.MaxInt32) {
			return bad(at, "a phase has a negative end", "give calls or seconds above 0, or neither")
		}
		if p.Calls == 0 && p.Seconds == 0 && i < len(s.Phases)-1 {
			return bad(at, "a phase does not end, and others follow", "give it calls or seconds")
		}
		for j := range p.Rules {
			if err := p.Rules[j].validate(fmt.Sprintf("%s.rules[%d]", at, j)); err != nil {
				return err
			}
		}
		count += len(p.Rules)
	}
	if count > maxRules || len(s.Phases) > maxRules || len(s.Limits) > maxRules || len(s.Models) > maxRules {
		return bad("", fmt.Sprintf("it has more than %d rules, phases, limits or models", maxRules), "use patterns")
	}
	for i := range s.Limits {
		l := &s.Limits[i]
		if l.Concurrency < 0 || l.Queue < 0 || !within(l.Requests, 0, 1e9) || !within(l.Tokens, 0, 1e9) || !within(l.Burst, 0, 1e6) || l.Concurrency > 1<<16 || l.Queue > 1<<20 {
			return bad(fmt.Sprintf("limits[%d]", i), "a limit is negative or too large", "use at most 65,536 calls at a time and 1,048,576 in the queue")
		}
	}
	for name, m := range s.Models {
		if err := m.validate("models." + name); err != nil {
			return err
		}
	}
	return nil
}

func within(x, lo, hi float64) bool { return x >= lo && x <= hi } // false for NaN

func (r *Rule) validate(at string) error {
	if r.Skip < 0 || r.Count < 0 || !within(r.Share, 0, 1) {
		return bad(at, "skip, count or share is out of range", "use 0 or more, and a share up to 1")
	}
	if r.Latency == nil && r.Status == 0 && r.Fault == "" {
		return bad(at, "a rule does nothing", "give it a latency, a status or a fault")
	}
	if r.Status != 0 && r.Fault != "" {
		return bad(at, "a rule has both a status and a fault", "make two rules of it")
	}
	if r.Status != 0 && (r.Status < 400 || r.Status > 599) {
		return bad(at, fmt.Sprintf("the status %d is no error", r.Status), "use 400 to 599")
	}
	if r.Status == 0 && (r.Message != "" || r.RetryAfter != 0) {
		return bad(at, "a message or retry_after_s goes with a status", "add one")
	}
	if !within(r.RetryAfter, 0, 1e6) {
		return bad(at, "retry_after_s is out of range", "use 0 to 1,000,000")
	}
	if r.Fault != "" && !slices.Contains(Faults(), r.Fault) {
		return bad(at, fmt.Sprintf("there is no fault %q", r.Fault), fmt.Sprintf("use one of %q", Faults()))
	}
	if !within(r.HangSeconds, 0, maxHangSeconds) || r.HangSeconds > 0 && r.Fault != Hang && r.Fault != Stall {
		return bad(at, "hang_s is out of range, or goes with no fault that hangs", fmt.Sprintf("use up to %d, with hang or stall", maxHangSeconds))
	}
	if r.Bytes < 0 || r.Bytes > maxHuge || r.Bytes > 0 && r.Fault != Huge {
		return bad(at, "bytes is out of range, or goes with another fault than huge", fmt.Sprintf("use up to %d", int64(maxHuge)))
	}
	if l := r.Latency; l != nil && (!within(l.Base, 0, maxLatencyMS) || !within(l.PerItem, 0, maxLatencyMS) ||
		!within(l.PerToken, 0, maxLatencyMS) || !within(l.Jitter, 0, maxLatencyMS)) {
		return bad(at, "a latency is out of range", fmt.Sprintf("use 0 to %d ms", maxLatencyMS))
	}
	return nil
}

func (m *Model) validate(at string) error {
	if m.Function != "" && m.Function != "hash" && m.Function != "logistic" {
		return bad(at, fmt.Sprintf("there is no function %q", m.Function), "use hash or logistic")
	}
	if m.Function != "logistic" && (len(m.Weights) > 0 || len(m.Bias) > 0) {
		return bad(at, "weights and bias go with the function logistic", "set it, or drop them")
	}
	if m.Dimensions < 0 || m.Dimensions > maxDimensions {
		return bad(at, "the dimensions are out of range", fmt.Sprintf("use up to %d", maxDimensions))
	}
	for _, in := range m.Inputs {
		if _, ok := datatypes[in.Datatype]; !ok || in.Name == "" || len(in.Shape) == 0 {
			return bad(at, fmt.Sprintf("the input %q has no name, no shape or an unknown datatype", in.Name), "use a datatype such as FP64, and a shape such as [-1, 3]")
		}
	}
	seen := map[string]bool{}
	for _, o := range m.Outputs {
		if !slices.Contains([]string{"FP32", "FP64", "INT64", "BOOL", "BYTES"}, o.Datatype) || o.Name == "" || seen[o.Name] || o.Width < 0 || o.Width > maxWidth {
			return bad(at, fmt.Sprintf("the output %q has no name of its own, a wrong width or a datatype that it cannot have", o.Name), "use FP32, FP64, INT64, BOOL or BYTES")
		}
		seen[o.Name] = true
	}
	return nil
}

// fits matches a pattern, in which * stands for any text.
func fits(pattern, text string) bool {
	if pattern == "" {
		return true
	}
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(text, p)
		if i < 0 {
			return false
		}
		text = text[i+len(p):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}
