// Package fakemodel runs a model server for tests: it speaks the Open Inference
// Protocol (REST), OpenAI's chats and embeddings, TensorFlow Serving's REST and plain
// JSON, answers what a documented formula says, fails as a script tells it, and counts
// its calls by idempotency key. The command "weir fakemodel" runs the same server on
// its own.
//
// Answers are functions of model, version and input: a test computes what is right
// with [Score], [Embedding] and [ChatAnswer]. The version is "1" unless the call or
// the script names another.
//
//   - [Score] takes the input of a model with numbers as [Row] makes it, from the
//     features in the order in which the request has them.
//   - [Embedding] is a unit vector of hashed words: texts that share words are near.
//   - [ChatAnswer] is a hash of the prompt and those of its lines that share most words
//     with the question.
//
// A [Script] says what goes wrong: latencies, statuses and faults by model, path, key,
// share and count, in phases that follow one another, and limits on how much is worked
// on at a time. It may be replaced while the server runs, by [Server.SetScript] or by
// PUT /control/script.
//
// The header Idempotency-Key carries the key of a call; for a call with many inputs it
// may occur once for each, in their order. The Open Inference Protocol has the
// parameter idempotency_keys besides: an array of strings, or one string with that
// array as JSON or with the keys on lines of their own.
package fakemodel

import (
	"context"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/fakemodel"
)

type (
	// Server is a running server. URL is its base URL; OpenAI's clients want /v1 behind.
	Server = fakemodel.Server
	// Options of a server. The zero value listens on a free port of 127.0.0.1.
	Options = fakemodel.Options
	// Script says what the models are and how they misbehave; the zero value is a server
	// on which every model exists, answers at once and never fails.
	Script = fakemodel.Script
	// Rule changes what happens to some calls.
	Rule = fakemodel.Rule
	// Phase is a time with rules of its own.
	Phase = fakemodel.Phase
	// Latency is how long a call is worked on.
	Latency = fakemodel.Latency
	// Limit bounds the work on some models.
	Limit = fakemodel.Limit
	// Model describes a model.
	Model = fakemodel.Model
	// Tensor describes an input of a model.
	Tensor = fakemodel.Tensor
	// Output describes an output of a model.
	Output = fakemodel.Output
	// Fault is a way to fail other than an HTTP status.
	Fault = fakemodel.Fault
	// Outcome is how a call ended.
	Outcome = fakemodel.Outcome
	// Call is what the books say about one idempotency key of one request.
	Call = fakemodel.Call
	// KeyCount says how often an idempotency key was seen.
	KeyCount = fakemodel.KeyCount
	// Stats are the totals.
	Stats = fakemodel.Stats
	// ModelStats counts the calls of one model.
	ModelStats = fakemodel.ModelStats
	// Message is one turn of a chat.
	Message = fakemodel.Message
)

// Faults; the documentation of [Fault] in a script, by their values.
const (
	Hang       = fakemodel.Hang       // no answer until the client gives up, or Rule.HangSeconds
	Reset      = fakemodel.Reset      // the connection breaks before the call is worked on
	ResetAfter = fakemodel.ResetAfter // the connection breaks instead of the answer
	Truncate   = fakemodel.Truncate   // the connection ends after half of the answer
	Stall      = fakemodel.Stall      // half of the answer, then nothing
	BadJSON    = fakemodel.BadJSON    // half of the body as if it were all
	Empty      = fakemodel.Empty      // an empty body
	HTML       = fakemodel.HTML       // a page instead of JSON
	Huge       = fakemodel.Huge       // Rule.Bytes of white space in the body
	NaN        = fakemodel.NaN        // NaN in the place of the first number
	Null       = fakemodel.Null       // null in the place of the first value
	WrongShape = fakemodel.WrongShape // the last value is missing
	WrongCount = fakemodel.WrongCount // the last result comes twice
)

// Outcomes in the books, besides the faults.
const (
	OK          = fakemodel.OK          // answered
	Running     = fakemodel.Running     // not ended yet
	Invalid     = fakemodel.Invalid     // the request was wrong
	Failed      = fakemodel.Failed      // a status of the script's
	Limited     = fakemodel.Limited     // beyond a rate, status 429
	QueueFull   = fakemodel.QueueFull   // too many calls waited, status 503
	Canceled    = fakemodel.Canceled    // the client was gone before the answer was ready
	Undelivered = fakemodel.Undelivered // the answer could not be written
	Lost        = fakemodel.Lost        // the server ended first, says its log
)

// stopTimeout bounds how long a server is waited for when its test ends.
const stopTimeout = 5 * time.Second

// Start runs a server until the test ends.
func Start(t testing.TB, script Script) *Server {
	t.Helper()
	s, err := Run(Options{Script: script})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("the fake model server does not stop: %v", err)
		}
	})
	return s
}

// Run runs a server until its Close.
func Run(o Options) (*Server, error) { return fakemodel.Start(o) }

// ParseScript reads a script in JSON; an unknown field is an error.
func ParseScript(text []byte) (Script, error) { return fakemodel.ParseScript(text) }

// Faults returns all faults.
func Faults() []Fault { return fakemodel.Faults() }

// Row is the text of one input with these values: the compact JSON array that
// json.Marshal writes. Slices are flattened.
func Row(values ...any) string { return fakemodel.Row(values...) }

// Score is what a model with the function "hash" answers to an input: a number in
// [0,1).
func Score(model, version, row string) float64 { return fakemodel.Score(model, version, row) }

// Logistic is what a model with the function "logistic" answers: 1/(1+e^-s), where s
// is the bias plus the sum of each number times its weight, which is 1 if missing.
func Logistic(bias float64, weights, numbers []float64) float64 {
	return fakemodel.Logistic(bias, weights, numbers)
}

// OutputValue is value j of output i of a model, for an input with this score.
func OutputValue(score float64, i, j int) float64 { return fakemodel.OutputValue(score, i, j) }

// Embedding is a model's vector for a text, of length 1.
func Embedding(model, version, text string, dimensions int) []float32 {
	return fakemodel.Embedding(model, version, text, dimensions)
}

// ChatAnswer is a model's answer to a chat.
func ChatAnswer(model, version string, messages []Message) string {
	return fakemodel.ChatAnswer(model, version, messages)
}
