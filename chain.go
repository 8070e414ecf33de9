package weir

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/weirflow/weir/internal/base"
)

// CodeEvent is the code of errors in an Event: one that cannot be made or read.
const CodeEvent = "WEIR-0630"

// Event is the envelope of what happens in a chain of steps: jobs that know nothing
// of each other and are connected by the streams that they read and write. Whoever
// begins a chain makes its first event with NewEvent; a step makes its events from
// the one that it works on, with Next. `weir trace` shows a chain by its correlation.
//
//	{"id": "9f…", "type": "retrieved", "correlation_id": "p-17", "causation_id": "4c…",
//	 "key": "user-3", "ts": 1767225600000, "attempt": 1, "schema": "retrieved/1", "payload": {…}}
type Event struct {
	// ID names the event. That of one made by Next follows from its cause and its
	// type, so a replay makes the same.
	ID string `json:"id" msgpack:"id"`
	// Type says what happened, in the past tense, such as "retrieved".
	Type string `json:"type" msgpack:"type"`
	// Correlation names the chain; all events of it have the same. Causation is the ID
	// of the event that led to this one, which may be a request to try again; "" in the
	// first.
	Correlation string `json:"correlation_id" msgpack:"correlation_id"`
	Causation   string `json:"causation_id,omitempty" msgpack:"causation_id,omitempty"`
	// Key names the entity that it is about, such as a user or a conversation.
	Key string `json:"key" msgpack:"key"`
	// At is when the event was made, in milliseconds since the epoch.
	At int64 `json:"ts" msgpack:"ts"`
	// Attempt is which attempt of the step made it, from 1.
	Attempt int `json:"attempt" msgpack:"attempt"`
	// Schema names the form of the payload: the type and a version, as in "retrieved/1".
	Schema string `json:"schema,omitempty" msgpack:"schema,omitempty"`
	// Payload is what the event tells, as JSON.
	Payload json.RawMessage `json:"payload,omitempty" msgpack:"payload,omitempty"`
}

// NewEvent makes the first event of a chain. The correlation is 1 to 128 bytes of UTF-8
// without white space, control characters, dots and the wildcards * and >, because it
// becomes part of subjects; so is the type. The payload is encoded as JSON. Errors have
// the code CodeEvent.
func NewEvent(typ, correlation, key string, at time.Time, payload any) (Event, error) {
	if err := checkPart("correlation", correlation); err != nil {
		return Event{}, err
	}
	e := Event{ID: eventID(correlation, typ, 1), Type: typ, Correlation: correlation, Key: key, At: at.UnixMilli(), Attempt: 1, Schema: typ + "/1"}
	return e.with(payload)
}

// checkPart returns what keeps a text from being a part of a subject.
func checkPart(what, text string) error {
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(".*>", r) }
	if text != "" && len(text) <= 128 && utf8.ValidString(text) && !strings.ContainsFunc(text, bad) {
		return nil
	}
	return &base.Error{
		Code: CodeEvent, What: fmt.Sprintf("an event cannot have the %s %q", what, text),
		Next: "use 1 to 128 bytes without white space, control characters, dots, * and >",
	}
}

// Next makes the event that a step makes of e: of the same chain and key, caused by e.
// An event causes at most one of each type. The type is as in NewEvent.
func (e Event) Next(typ string, at time.Time, payload any) (Event, error) {
	n := Event{
		ID: eventID(e.ID, typ, 1), Type: typ, Correlation: e.Correlation, Causation: e.ID, Key: e.Key,
		At: at.UnixMilli(), Attempt: 1, Schema: typ + "/1",
	}
	return n.with(payload)
}

func (e Event) with(payload any) (Event, error) {
	if err := checkPart("type", e.Type); err != nil {
		return Event{}, err
	}
	b, err := json.Marshal(payload)
	if err != nil {
		return Event{}, &base.Error{Code: CodeEvent, What: "the payload of an event is no JSON", Where: "event " + e.Type, Cause: err}
	}
	e.Payload = b
	return e, nil
}

// Subject is where an event of the chain goes below a prefix:
// "PREFIX.TYPE.CORRELATION". A reader can then have the events of a type or, as
// `weir trace` does, those of a chain without reading the others.
func (e Event) Subject(prefix string) string { return prefix + "." + e.Type + "." + e.Correlation }

// EventPayload decodes the payload of an event. Errors have the code CodeEvent.
func EventPayload[T any](e Event) (v T, err error) {
	if err = json.Unmarshal(e.Payload, &v); err != nil {
		err = &base.Error{Code: CodeEvent, What: fmt.Sprintf("the payload of an event is no %T", v), Where: "event " + e.Type + " " + e.ID, Cause: err}
	}
	return v, err
}

// eventID is the name of what an event with this name causes.
func eventID(cause, typ string, attempt int) string {
	sum := sha256.Sum256([]byte(cause + "\x00" + typ + "\x00" + strconv.Itoa(attempt)))
	return hex.EncodeToString(sum[:12])
}

// Types of the events by which steps control each other.
const (
	// RetryRequestedType: a step shall try an event again; the payload is a
	// RetryRequested.
	RetryRequestedType = "retry-requested"
	// StepFailedType: a step has given an event up; the payload is a StepFailed.
	StepFailedType = "step-failed"
)

// RetryRequested is the payload of the event by which another attempt is requested.
type RetryRequested struct {
	Step string `json:"step"`
	// Attempt is the number of the attempt, from 2, and NotBefore the earliest time for
	// it, in milliseconds since the epoch.
	Attempt   int   `json:"attempt"`
	NotBefore int64 `json:"not_before"`
	// Why is what the last attempt failed with.
	Why string `json:"why"`
	// Event is what shall be tried again.
	Event Event `json:"event"`
}

// StepFailed is the payload of the event by which a step gives an event up.
type StepFailed struct {
	Step string `json:"step"`
	// Attempts were made, and the last failed with Why; Kind is that of the failure, as
	// in model.Failed.
	Attempts int    `json:"attempts"`
	Kind     string `json:"kind"`
	Why      string `json:"why"`
	// Event is what was given up.
	Event Event `json:"event"`
}
