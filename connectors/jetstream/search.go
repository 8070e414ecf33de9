package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/internal/base"
)

// Found is one record of a stream, which may be one of many in a block message.
type Found struct {
	Stream string
	// Seq is the sequence of its message, At when that was stored.
	Seq  uint64
	At   time.Time
	Data []byte
}

// Search describes what is looked for in streams. Records of which some have a token as
// the last part of their subject are found without reading the others.
type Search struct {
	// Streams to search; none: all but key-value and object stores.
	Streams []string
	// Token is the last part of the subjects of what is looked for.
	Token string
	// TokenOf returns the token of a record. A stream whose first message has its token
	// at the end of its subject is taken to have all by their tokens; other streams are
	// read from the beginning to the end that they had when the search came to them.
	TokenOf func(data []byte) (token string, ok bool)
	// Each takes the records, those of other tokens among them; false ends the search.
	Each func(Found) bool
}

// tokenDepth is how many parts a subject may have before the token.
const tokenDepth = 6

// Run searches and returns the names of the streams that it has looked into. A stream
// that does not exist is an Error with the code CodeSource.
func (q *Search) Run(ctx context.Context, nc *nats.Conn) (searched []string, err error) {
	js, err := natsjs.New(nc)
	if err != nil {
		return nil, err
	}
	names := q.Streams
	if len(names) == 0 {
		list := js.StreamNames(ctx)
		for name := range list.Name() {
			if !strings.HasPrefix(name, "KV_") && !strings.HasPrefix(name, "OBJ_") {
				names = append(names, name)
			}
		}
		if err := list.Err(); err != nil {
			return nil, &base.Error{Code: CodeSource, What: "the server does not list its streams", Cause: err,
				Next: "check that JetStream is enabled and that the user may ask for it, or name the streams"}
		}
		slices.Sort(names)
	}
	for _, name := range names {
		s, err := js.Stream(ctx, name)
		if err != nil {
			return searched, streamError(CodeSource, name, err)
		}
		searched = append(searched, name)
		more, err := q.stream(ctx, js, s)
		if err != nil {
			return searched, fmt.Errorf("stream %s: %w", name, err)
		}
		if !more {
			break
		}
	}
	return searched, nil
}

// stream searches one stream: by subjects where it has them, else by reading it all.
func (q *Search) stream(ctx context.Context, js natsjs.JetStream, s natsjs.Stream) (more bool, err error) {
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return true, nil
	}
	subjects, err := q.subjects(ctx, s)
	if err != nil {
		return false, err
	}
	for _, subject := range subjects {
		if more, err := q.onSubject(ctx, s, subject); err != nil || !more {
			return false, err
		}
	}
	if len(subjects) > 0 {
		return true, nil
	}
	if apart, err := q.bySubject(ctx, s, state.FirstSeq); err != nil || apart {
		return true, err
	}
	return q.scan(ctx, js, s, state.LastSeq)
}

// subjects are those of the stream that end with the token.
func (q *Search) subjects(ctx context.Context, s natsjs.Stream) ([]string, error) {
	if checkSubject(q.Token) != nil || strings.Contains(q.Token, ".") {
		return nil, nil // it is part of no subject
	}
	var all []string
	for depth := range tokenDepth + 1 {
		info, err := s.Info(ctx, natsjs.WithSubjectFilter(strings.Repeat("*.", depth)+q.Token))
		if err != nil {
			return nil, err
		}
		for subject := range info.State.Subjects {
			all = append(all, subject)
		}
	}
	slices.Sort(all)
	return all, nil
}

// onSubject reads all messages on a subject.
func (q *Search) onSubject(ctx context.Context, s natsjs.Stream, subject string) (more bool, err error) {
	for seq := uint64(1); ; {
		m, err := s.GetMsg(ctx, seq, natsjs.WithGetMsgSubject(subject))
		if errors.Is(err, natsjs.ErrMsgNotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if !q.message(Found{s.CachedInfo().Config.Name, m.Sequence, m.Time, m.Data}, m.Header) {
			return false, nil
		}
		seq = m.Sequence + 1
	}
}

// bySubject reports whether the first message has its token at the end of its subject,
// and not so deep in it that subjects would not find it.
func (q *Search) bySubject(ctx context.Context, s natsjs.Stream, first uint64) (bool, error) {
	m, err := s.GetMsg(ctx, first)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	token, ok := q.TokenOf(m.Data)
	return ok && strings.HasSuffix(m.Subject, "."+token) && strings.Count(m.Subject, ".") <= tokenDepth, nil
}

// scan reads the stream up to a sequence.
func (q *Search) scan(ctx context.Context, js natsjs.JetStream, s natsjs.Stream, last uint64) (more bool, err error) {
	name := s.CachedInfo().Config.Name
	c, err := js.OrderedConsumer(ctx, name, natsjs.OrderedConsumerConfig{DeliverPolicy: natsjs.DeliverAllPolicy})
	if err != nil {
		return false, err
	}
	it, err := c.Messages(natsjs.PullMaxMessages(1000))
	if err != nil {
		return false, err
	}
	defer it.Stop()
	for {
		m, err := it.Next(natsjs.NextContext(ctx))
		if err != nil {
			return false, err
		}
		meta, err := m.Metadata()
		if err != nil {
			return false, err
		}
		if !q.message(Found{name, meta.Sequence.Stream, meta.Timestamp, m.Data()}, m.Headers()) {
			return false, nil
		}
		if meta.Sequence.Stream >= last || meta.NumPending == 0 {
			return true, nil
		}
	}
}

// message hands on a message, or the records of a block. A damaged block is none.
func (q *Search) message(f Found, h nats.Header) (more bool) {
	if h.Get(hdrMarker) != "" {
		return true
	}
	if h.Get(hdrBlock) == "" {
		return q.Each(f)
	}
	records, err := Unblock(f.Data)
	if err != nil {
		return true
	}
	for _, r := range records {
		f.Data = r.Data
		if !q.Each(f) {
			return false
		}
	}
	return true
}
