package weir

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
)

// letterQueue is a stream of dead letters with what was decided on them. It is read
// anew by every command; what it keeps of a letter is small.
type letterQueue struct {
	ctx             context.Context
	log             *jetstream.Log
	stream, retries string
	// decided is what the retry stream says, by ID; noRetries that there is none.
	decided   map[string]*decision
	noRetries bool
}

// decision is what was decided on the letters of one ID. There are several of them
// where the job had a record twice.
type decision struct {
	retried, dropped int
	// last is the sequence of the last entry for the ID, seen how many letters of the
	// ID were read.
	last uint64
	seen int
}

// state is what has become of the letter that was read last.
func (d *decision) state() string {
	switch {
	case d.seen <= d.retried:
		return "retried"
	case d.seen <= d.retried+d.dropped:
		return "dropped"
	}
	return "open"
}

// load reads the retry stream.
func (q *letterQueue) load() error {
	q.decided = map[string]*decision{}
	for _, name := range []string{q.stream, q.retries} {
		ok, err := q.log.Exists(q.ctx, name)
		switch {
		case err != nil:
			return err
		case ok:
		case name == q.stream:
			return &base.Error{
				Code: codeNoQueue, What: "the server has no stream " + name + " of dead letters",
				Next: "the job makes it when it first runs; check --nats and --data-dir, or name the stream with --stream",
			}
		default:
			q.noRetries = true
			return nil
		}
	}
	return q.read(q.retries, func(seq uint64, data []byte) error {
		e, err := decodeRetry(data)
		if err != nil {
			return nil // the job leaves it out, too
		}
		d := q.of(e.ID)
		d.last = seq
		n := max(e.Times, 1)
		if e.Action == operators.DropAction {
			d.dropped += n
		} else {
			d.retried += n
		}
		return nil
	})
}

func (q *letterQueue) of(id string) *decision {
	d := q.decided[id]
	if d == nil {
		d = &decision{}
		q.decided[id] = d
	}
	return d
}

// letters calls f with every letter in the order of the stream, and its state. What is
// no letter is passed over and counted.
func (q *letterQueue) letters(f func(l *DeadLetterRecord, state string) error) (strange int, err error) {
	err = q.read(q.stream, func(_ uint64, data []byte) error {
		l, err := DecodeDeadLetter(data)
		if err != nil {
			strange++
			return nil
		}
		d := q.of(l.ID)
		d.seen++
		return f(&l, d.state())
	})
	return strange, err
}

// read calls f with the records of a stream as it is now.
func (q *letterQueue) read(stream string, f func(seq uint64, data []byte) error) error {
	err := q.log.Read(q.ctx, stream, operators.RetryLimits, f)
	if errors.Is(err, context.DeadlineExceeded) {
		return &base.Error{Code: codeInspect, What: "the streams were not read in time", Cause: err, Next: "give it more time with --timeout"}
	}
	return err
}

// DecodeDeadLetter reads a dead letter as a sink in MessagePack or JSON writes it, such
// as the data of a message of DeadLetterStream. The error is that of the format, or says
// that it is something else.
func DecodeDeadLetter(data []byte) (DeadLetterRecord, error) {
	l, err := decodeAny[DeadLetterRecord](data)
	if err == nil && (l.ID == "" || l.Operator == "" || l.Attempt < 1) {
		err = &base.Error{Code: codec.CodeMalformed, What: "it is no dead letter: it has no ID, operator or attempt"}
	}
	return l, err
}

func decodeRetry(data []byte) (DeadLetterRetry, error) { return decodeAny[DeadLetterRetry](data) }

func decodeAny[T any](data []byte) (v T, err error) {
	lim := codec.Limits{MaxRecord: operators.RetryLimits.MaxRecord}
	make := codec.MsgPack[T]
	if len(data) > 0 && data[0] == '{' {
		make = func(lim codec.Limits) (codec.Format[T], error) { return codec.JSON[T](codec.JSONOptions{Limits: lim}) }
	}
	f, err := make(lim)
	if err == nil {
		err = f.Decode(data, &v)
	}
	return v, err
}

// decide appends an entry on one letter to the retry stream, unless somebody else has
// meanwhile.
func (q *letterQueue) decide(l *DeadLetterRecord, action string) error {
	if q.noRetries {
		return &base.Error{
			Code: codeNoQueue, What: "the server has no stream " + q.retries, Where: "dead letters in " + q.stream,
			Next: "the job makes it when it runs; a job with weir.NoRetries or RetriesFrom has none",
		}
	}
	e := RetryOf(*l)
	if e.Action, e.At = action, time.Unix(0, clock.Real().Now()).UTC(); action == operators.DropAction {
		e.Letter = DeadLetterRecord{}
	}
	f, err := codec.MsgPack[DeadLetterRetry](codec.Limits{MaxRecord: operators.RetryLimits.MaxRecord})
	if err != nil {
		return err
	}
	data, err := f.Encode(nil, &e)
	if err != nil {
		return err
	}
	d := q.of(l.ID)
	seq, err := q.log.Append(q.ctx, q.retries+"."+subjectToken(l.ID), data, d.last)
	if errors.Is(err, connectors.ErrConflict) {
		return &base.Error{Code: codeTakenOver, What: "somebody else decided on dead letter " + l.ID + " meanwhile", Cause: err, Next: "look with dlq ls at what is still open"}
	}
	if err != nil {
		return err
	}
	d.last = seq
	return nil
}

// subjectToken makes an ID fit for a subject; those that Weir makes are.
func subjectToken(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, id)
}
