package main

import (
	"strings"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/jetstream"
)

// Types of events. Each has a stream of its own, see stream.
const (
	documentAdded    = "document-added"
	documentRemoved  = "document-removed"
	documentEmbedded = "document-embedded"

	prompted  = "prompted"
	retrieved = "retrieved"
	reranked  = "reranked"
	generated = "generated"
	evaluated = "evaluated"
	answered  = "answered"
	notified  = "notified"

	memoryUpdated = "memory-updated"
	memoryUndone  = "memory-undone"
	undoRequested = "undo-requested"
	abandoned     = "abandoned"
	moderated     = "moderated"

	retryRequested = weir.RetryRequestedType
	stepFailed     = weir.StepFailedType
)

// Document is the payload of document-added, with its ID alone of document-removed.
// The key of these events is the collection.
type Document struct {
	ID   string `json:"id"`
	Text string `json:"text,omitempty"`
}

// Embedded is the payload of document-embedded.
type Embedded struct {
	Document
	Vector []float32 `json:"vector"`
	// Version is when the document was added, in milliseconds since the epoch; the
	// newest is kept.
	Version int64 `json:"version"`
}

// Prompt is the payload of prompted. The key of this event and of all that follow
// from it is the conversation.
type Prompt struct {
	// Collection is where documents are looked for.
	Collection string `json:"collection"`
	Question   string `json:"question"`
	// Channel is where the notification goes, such as "mail:ann".
	Channel string `json:"channel"`
}

// Passage is a document that was found, with how well it fits, at most 1.
type Passage struct {
	ID    string  `json:"id"`
	Text  string  `json:"text"`
	Score float64 `json:"score"`
}

// Turn is one question of a conversation with its answer: the payload of
// memory-updated and memory-undone. Turns are numbered from 1.
type Turn struct {
	Turn     int    `json:"turn"`
	Question string `json:"question"`
	Answer   string `json:"answer"`
}

// Context is the payload of retrieved and reranked: what the model is to know.
type Context struct {
	Prompt
	// Passages are the best ones first.
	Passages []Passage `json:"passages"`
	// Memory is what was said last in the conversation, in its order.
	Memory []Turn `json:"memory,omitempty"`
}

// Generation is the payload of generated.
type Generation struct {
	Context
	Answer string `json:"answer"`
	// Model is the version that the model says it has.
	Model string `json:"model"`
}

// Evaluation is the payload of evaluated.
type Evaluation struct {
	Generation
	// Grounded is the share of the answer's words that are in what the model was given.
	Grounded float64 `json:"grounded"`
}

// Answer is the payload of answered.
type Answer struct {
	Turn
	Channel  string   `json:"channel"`
	Sources  []string `json:"sources"`
	Grounded float64  `json:"grounded"`
}

// Notification is the payload of notified, and of abandoned when there is no answer.
type Notification struct {
	Channel string `json:"channel,omitempty"`
	Text    string `json:"text"`
}

// Verdict is the payload of moderated.
type Verdict struct {
	Allowed bool     `json:"allowed"`
	Words   []string `json:"words,omitempty"`
}

// prefix stands before the subjects of all events.
const prefix = "rag"

// stream is the name of the stream of a type of events.
func stream(typ string) string { return "RAG_" + strings.ToUpper(strings.ReplaceAll(typ, "-", "_")) }

// spec describes that stream. Steps create the streams that they read and write, so
// that they can be started in any order.
func spec(typ string) jetstream.StreamSpec {
	return jetstream.StreamSpec{Subjects: []string{prefix + "." + typ + ".*"}}
}

// read is the events of a type, from the beginning of their stream.
func read(j *weir.Job, typ string) weir.Stream[weir.Event] {
	return weir.From(j, typ, jetstream.Stream[weir.Event](stream(typ), jetstream.JSON(), jetstream.Create(spec(typ))),
		weir.ProcessingTime[weir.Event](), refused)
}

// refused is the policy of all steps for what cannot be decoded or processed: it becomes
// a dead letter.
var refused = weir.OnError(weir.DeadLetter)

// deadLetters is the stream of the dead letters of a step. Each has its own, for they are
// sent back by way of it.
func deadLetters(step string) string { return "RAG_DEAD_" + strings.ToUpper(step) }

// publish sends the events of these types to their streams, exactly once.
func publish(j *weir.Job, events weir.Stream[weir.Event], types ...string) {
	for _, typ := range types {
		of := events
		if len(types) > 1 {
			of = weir.Filter(events, "only-"+typ, func(e weir.Event) bool { return e.Type == typ })
		}
		weir.To(of, "publish-"+typ, jetstream.Publish(stream(typ), func(e weir.Event) string { return e.Subject(prefix) },
			jetstream.JSON(), jetstream.Lanes(1), jetstream.Create(spec(typ))), weir.RequireExactlyOnce())
	}
}

// then makes a function of a step that makes one event of another.
func then[In, Out any](typ string, f func(e weir.Event, in In) (Out, error)) func(weir.Event) (weir.Event, error) {
	return func(e weir.Event) (weir.Event, error) {
		in, err := weir.EventPayload[In](e)
		if err != nil {
			return weir.Event{}, err
		}
		out, err := f(e, in)
		if err != nil {
			return weir.Event{}, err
		}
		return e.Next(typ, time.Now(), out)
	}
}
