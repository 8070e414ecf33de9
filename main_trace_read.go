package weir

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/base"
)

const (
	// maxTraced bounds the events of a trace, maxPayloads the bytes of their payloads.
	maxTraced   = 1_000_000
	maxPayloads = 64 << 20
	// maxDepth is how many parts a subject may have before the correlation ID.
	maxDepth = 6
)

// tracer looks for the events of a chain. It keeps those alone, and no payloads unless
// asked.
type tracer struct {
	nc       *nats.Conn
	id       string
	limit    int
	payloads bool

	searched []string
	found    []TracedEvent
	bytes    int
	cut      bool
}

// search goes through the streams; none named are all.
func (t *tracer) search(ctx context.Context, names []string) error {
	js, err := natsjs.New(t.nc)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		list := js.StreamNames(ctx)
		for name := range list.Name() {
			if !strings.HasPrefix(name, "KV_") && !strings.HasPrefix(name, "OBJ_") {
				names = append(names, name)
			}
		}
		if err := list.Err(); err != nil {
			return &base.Error{Code: codeInspect, What: "the server does not list its streams", Cause: err,
				Next: "check that JetStream is enabled and that the user may ask for it, or name streams with --streams"}
		}
		slices.Sort(names)
	}
	for _, name := range names {
		if t.cut {
			return nil
		}
		s, err := js.Stream(ctx, name)
		if errors.Is(err, natsjs.ErrStreamNotFound) {
			return &base.Error{Code: codeValue, What: fmt.Sprintf("there is no stream %q", name), Where: "flag --streams"}
		}
		if err == nil {
			t.searched = append(t.searched, name)
			err = t.stream(ctx, js, s)
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", name, err)
		}
	}
	return nil
}

// stream takes the events of the chain from one stream: by their subjects where the
// stream has them, else by reading it all.
func (t *tracer) stream(ctx context.Context, js natsjs.JetStream, s natsjs.Stream) error {
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return nil
	}
	subjects, err := t.subjects(ctx, s)
	if err != nil {
		return err
	}
	for _, subject := range subjects {
		if err := t.onSubject(ctx, s, subject); err != nil {
			return err
		}
	}
	if len(subjects) > 0 {
		return nil
	}
	if apart, err := bySubject(ctx, s, state.FirstSeq); err != nil || apart {
		return err
	}
	return t.scan(ctx, js, s, state.LastSeq)
}

// subjects are those of the stream that end with the correlation ID.
func (t *tracer) subjects(ctx context.Context, s natsjs.Stream) ([]string, error) {
	if strings.ContainsAny(t.id, " .*>\t\r\n") {
		return nil, nil // it is part of no subject
	}
	var all []string
	for depth := range maxDepth + 1 {
		info, err := s.Info(ctx, natsjs.WithSubjectFilter(strings.Repeat("*.", depth)+t.id))
		if err != nil {
			return nil, err
		}
		for subject := range info.State.Subjects {
			if len(all) < t.limit {
				all = append(all, subject)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// onSubject reads all messages on a subject.
func (t *tracer) onSubject(ctx context.Context, s natsjs.Stream, subject string) error {
	for seq := uint64(1); !t.cut; {
		m, err := s.GetMsg(ctx, seq, natsjs.WithGetMsgSubject(subject))
		if errors.Is(err, natsjs.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		t.message(s.CachedInfo().Config.Name, m.Sequence, m.Time, m.Header, m.Data)
		seq = m.Sequence + 1
	}
	return nil
}

// bySubject reports whether the stream's first message is an event on a subject that
// ends with its correlation ID. Then others of the chain would have been found.
func bySubject(ctx context.Context, s natsjs.Stream, first uint64) (bool, error) {
	m, err := s.GetMsg(ctx, first)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e, ok := decodeEvent(m.Data)
	return ok && strings.HasSuffix(m.Subject, "."+e.Correlation), nil
}

// scan reads the stream up to a sequence.
func (t *tracer) scan(ctx context.Context, js natsjs.JetStream, s natsjs.Stream, last uint64) error {
	name := s.CachedInfo().Config.Name
	c, err := js.OrderedConsumer(ctx, name, natsjs.OrderedConsumerConfig{DeliverPolicy: natsjs.DeliverAllPolicy})
	if err != nil {
		return err
	}
	it, err := c.Messages(natsjs.PullMaxMessages(1000))
	if err != nil {
		return err
	}
	defer it.Stop()
	for !t.cut {
		m, err := it.Next(natsjs.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		t.message(name, meta.Sequence.Stream, meta.Timestamp, m.Headers(), m.Data())
		if meta.Sequence.Stream >= last || meta.NumPending == 0 {
			return nil
		}
	}
	return nil
}

// message looks at one message, which may be a block of records.
func (t *tracer) message(stream string, seq uint64, at time.Time, header nats.Header, data []byte) {
	if len(data) == 0 {
		return
	}
	if quoted, err := json.Marshal(t.id); err == nil && len(quoted) == len(t.id)+2 && !bytes.Contains(data, []byte(t.id)) {
		return // most messages; an ID that JSON writes in another way is looked for by decoding
	}
	where := TracedEvent{Stream: stream, Seq: seq, StoredAt: at.UnixMilli()}
	if records, err := jetstream.Unblock(data); err == nil {
		for _, r := range records {
			t.record(where, r.Data)
		}
		return
	}
	t.record(where, data)
}

// record keeps a record if it is an event of the chain, or a dead letter with one.
func (t *tracer) record(e TracedEvent, data []byte) {
	event, ok := decodeEvent(data)
	if ok {
		e.Event, e.Note = event, note(event)
	} else if e, ok = deadEvent(e, data, t.id); !ok {
		return
	}
	if e.Correlation != t.id {
		return
	}
	if len(t.found) >= t.limit || t.bytes > maxPayloads {
		t.cut = true
		return
	}
	if t.payloads {
		t.bytes += len(e.Payload)
	} else {
		e.Payload = nil
	}
	t.found = append(t.found, e)
}

// deadEvent makes an event of a dead letter whose record is an event of the chain or
// has one in it. It is caused by that event.
func deadEvent(e TracedEvent, data []byte, id string) (TracedEvent, bool) {
	var d DeadLetterRecord
	var err error
	if data[0] == '{' {
		err = json.Unmarshal(data, &d)
	} else {
		err = msgpack.Unmarshal(data, &d)
	}
	if err != nil || d.ID == "" || d.Operator == "" {
		return e, false
	}
	in, ok := decodeEvent(d.Raw)
	if !ok {
		var tree any
		if msgpack.Unmarshal(d.Raw, &tree) != nil && json.Unmarshal(d.Raw, &tree) != nil {
			return e, false
		}
		if in, ok = eventIn(tree, id, 8); !ok {
			return e, false
		}
	}
	e.Event = Event{
		ID: d.ID, Type: "dead-letter", Correlation: in.Correlation, Causation: in.ID, Key: in.Key,
		At: d.Refused.UnixMilli(), Attempt: d.Attempt,
	}
	e.Dead, e.Note = true, fmt.Sprintf("%s of job %s refused %s: %s", d.Operator, d.Job, cmpOr(in.Type, "it"), d.Error)
	return e, true
}

// eventIn looks for an event of a chain in a decoded record.
func eventIn(tree any, id string, depth int) (Event, bool) {
	if depth == 0 {
		return Event{}, false
	}
	switch v := tree.(type) {
	case map[string]any:
		text := func(name string) string { s, _ := v[name].(string); return s }
		if text("correlation_id") == id && text("id") != "" {
			return Event{ID: text("id"), Type: text("type"), Correlation: id, Key: text("key")}, true
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if e, ok := eventIn(v[name], id, depth-1); ok {
				return e, true
			}
		}
	case []any:
		for _, x := range v {
			if e, ok := eventIn(x, id, depth-1); ok {
				return e, true
			}
		}
	}
	return Event{}, false
}

// decodeEvent reads an Event in JSON or MessagePack.
func decodeEvent(data []byte) (e Event, ok bool) {
	if len(data) == 0 {
		return e, false
	}
	if data[0] == '{' {
		err := json.Unmarshal(data, &e)
		return e, err == nil && e.ID != "" && e.Correlation != ""
	}
	err := msgpack.Unmarshal(data, &e)
	return e, err == nil && e.ID != "" && e.Correlation != ""
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
