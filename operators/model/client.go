// Package model asks models for predictions, from within a job.
package model

import (
	"context"
	"fmt"
	"time"
)

// Call is one input for a model.
type Call[In any] struct {
	// Key is the idempotency key: the same for every attempt and every replay of one
	// input, and of no other.
	Key string
	// Attempt counts from 1. Above 1, an earlier call may have been made, also by an
	// earlier run: a record that was in flight at the checkpoint that the job was restored
	// from begins with 2. At 1 there may have been one too, if the record came after that
	// checkpoint, and comes again.
	Attempt int
	In      In
}

// Result is the answer to one call. Err is set, or else Out is the prediction.
type Result[Out any] struct {
	Out Out
	Err error
	// Version is the version of the model that answered, as the model says it; it may
	// be empty.
	Version string
	Usage   Usage
	// Degraded is set when another than the model asked for has answered: a fallback,
	// an answer of the cache past its time, a default value. By names it; it may name
	// the model itself too.
	Degraded bool
	By       string
	// Cached is set when the answer is a copy of an earlier one and no call was made.
	Cached bool
	// Asked is what the operator adds.
	Asked
}

// Usage is what a call has used up, where the model says so.
type Usage struct {
	InputTokens, OutputTokens int64
}

// Client asks one model at one endpoint, or in this process. It is safe for
// concurrent use.
type Client[In, Out any] interface {
	// Invoke answers calls: results[i] is that of calls[i]. An error concerns all of
	// them. It returns when ctx is done, with an error.
	Invoke(ctx context.Context, calls []Call[In]) (results []Result[Out], err error)
}

// Kind says what a failure means for what to do next.
type Kind uint8

// Kinds of failures.
const (
	// Permanent: the same call fails again.
	Permanent Kind = iota
	// Unavailable: the model was not reached, or did not take the call. It is safe to
	// repeat.
	Unavailable
	// Limited: the model takes no more calls for now; RetryAfter says for how long,
	// where the model does.
	Limited
	// Unknown: whether the model answered is not known: the connection broke or time
	// ran out after the call was sent.
	Unknown
	// Invalid: the model's answer makes no sense: it cannot be decoded, has another
	// shape or number of results, or NaN where a number is due.
	Invalid
)

// Failure is a call that failed. Clients return no other errors.
type Failure struct {
	Kind Kind
	// RetryAfter is the least time before another attempt; 0 if the model says none.
	RetryAfter time.Duration
	// Status is the HTTP or gRPC status; 0 if there was none.
	Status int
	// What is one line for people, without secrets and without the whole answer.
	What  string
	Cause error
}

// Error implements error.
func (f *Failure) Error() string {
	if f.Cause != nil {
		return fmt.Sprintf("%s: %v", f.What, f.Cause)
	}
	return f.What
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }
