package weir

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/codec"
)

const (
	// maxTraced bounds the events of a trace, maxPayloads the bytes of their payloads.
	maxTraced   = 1_000_000
	maxPayloads = 64 << 20
)

// tracer looks for the events of a chain. It keeps those alone, and no payloads unless
// asked.
type tracer struct {
	id       string
	limit    int
	payloads bool
	// needle is part of every record about the chain; nil when that cannot be said.
	needle []byte

	events  *codec.Codec[Event]
	letters *codec.Codec[DeadLetterRecord]

	found []TracedEvent
	bytes int
	cut   bool
}

func newTracer(id string, limit int, payloads bool) (*tracer, error) {
	t := &tracer{id: id, limit: limit, payloads: payloads}
	// JSON writes some characters in another way; such IDs are looked for by decoding.
	if quoted, err := json.Marshal(id); err == nil && len(quoted) == len(id)+2 {
		t.needle = []byte(id)
	}
	var err error
	if t.events, err = codec.For[Event](); err != nil {
		return nil, err
	}
	t.letters, err = codec.For[DeadLetterRecord]()
	return t, err
}

// search is what the tracer looks for in streams; none named are all.
func (t *tracer) search(streams []string) *jetstream.Search {
	return &jetstream.Search{
		Streams: streams, Token: t.id, Each: t.record,
		TokenOf: func(data []byte) (string, bool) {
			e, ok := t.event(data)
			return e.Correlation, ok
		},
	}
}

// record keeps a record if it is an event of the chain, or a dead letter with one. It
// reports whether there is room for more.
func (t *tracer) record(f jetstream.Found) bool {
	if len(f.Data) == 0 || !bytes.Contains(f.Data, t.needle) {
		return true
	}
	e := TracedEvent{Stream: f.Stream, Seq: f.Seq, StoredAt: f.At.UnixMilli()}
	var ok bool
	if e.Event, ok = t.event(f.Data); ok {
		e.Note = note(e.Event)
	} else if !t.dead(&e, f.Data) {
		return true
	}
	if e.Correlation != t.id {
		return true
	}
	if len(t.found) >= t.limit || t.bytes > maxPayloads {
		t.cut = true
		return false
	}
	if t.payloads {
		t.bytes += len(e.Payload)
	} else {
		e.Payload = nil
	}
	t.found = append(t.found, e)
	return true
}

// event reads an Event in JSON or MessagePack.
func (t *tracer) event(data []byte) (e Event, ok bool) {
	if len(data) == 0 {
		return e, false
	}
	var err error
	if data[0] == '{' {
		err = json.Unmarshal(data, &e)
	} else {
		err = t.events.Decode(data, &e)
	}
	return e, err == nil && e.ID != "" && e.Correlation != ""
}

// dead makes an event of a dead letter whose record is an event of the chain or has one
// in it. It is caused by that event.
func (t *tracer) dead(e *TracedEvent, data []byte) bool {
	var d DeadLetterRecord
	var err error
	if data[0] == '{' {
		err = json.Unmarshal(data, &d)
	} else {
		err = t.letters.Decode(data, &d)
	}
	if err != nil || d.ID == "" || d.Operator == "" {
		return false
	}
	in, ok := t.event(d.Raw)
	if !ok {
		if in.ID, ok = t.within(d.Raw); !ok {
			return false
		}
		in = Event{ID: in.ID, Correlation: t.id}
	}
	e.Event = Event{
		ID: d.ID, Type: "dead-letter", Correlation: in.Correlation, Causation: in.ID, Key: in.Key,
		At: d.Refused.UnixMilli(), Attempt: d.Attempt,
	}
	e.Dead, e.Note = true, fmt.Sprintf("%s of job %s refused %s: %s", d.Operator, d.Job, cmpOr(in.Type, "a record"), d.Error)
	return true
}

// within looks for an event of the chain within a record in MessagePack, which has the
// fields of an event in their order, and returns its ID; "" for one in JSON that is
// damaged.
func (t *tracer) within(raw []byte) (id string, ok bool) {
	field := append([]byte("\xaecorrelation_id"), packedString(t.id)...)
	at := bytes.Index(raw, field)
	if at < 0 {
		return "", bytes.Contains(raw, []byte(`"correlation_id"`)) && bytes.Contains(raw, []byte(`"`+t.id+`"`))
	}
	start := bytes.LastIndex(raw[:at], []byte("\xa2id"))
	if start < 0 {
		return "", true
	}
	return unpackString(raw[start+3 : at]), true
}

// packedString is a string in MessagePack.
func packedString(s string) []byte {
	switch n := len(s); {
	case n < 32:
		return append([]byte{0xa0 | byte(n)}, s...)
	case n < 1<<8:
		return append([]byte{0xd9, byte(n)}, s...)
	default:
		return append(binary.BigEndian.AppendUint16([]byte{0xda}, uint16(min(n, 1<<16-1))), s...)
	}
}

// unpackString is the string of less than 256 bytes at the start of b, "" if there is none.
func unpackString(b []byte) string {
	switch {
	case len(b) > 0 && b[0]&0xe0 == 0xa0 && len(b) > int(b[0]&0x1f):
		return string(b[1 : 1+int(b[0]&0x1f)])
	case len(b) > 1 && b[0] == 0xd9 && len(b) > 1+int(b[1]):
		return string(b[2 : 2+int(b[1])])
	}
	return ""
}

// note says what a control event wants.
func note(e Event) string {
	switch e.Type {
	case RetryRequestedType:
		if r, err := EventPayload[RetryRequested](e); err == nil {
			return fmt.Sprintf("%s: attempt %d not before %s, because of: %s", r.Step, r.Attempt, clockTime(r.NotBefore), r.Why)
		}
	case StepFailedType:
		if f, err := EventPayload[StepFailed](e); err == nil {
			return fmt.Sprintf("%s: given up after attempt %d (%s): %s", f.Step, f.Attempts, f.Kind, f.Why)
		}
	}
	return ""
}
