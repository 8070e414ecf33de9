package operators

import (
	"fmt"
	"time"

	"github.com/weirflow/weir/internal/base"
)

// Retry is an entry of a job's retry stream: what was decided on a dead letter.
type Retry struct {
	// Version is DeadLetterVersion of the program that wrote it.
	Version int
	// ID is that of the letter, Action RetryAction or DropAction.
	ID, Action string
	// Times counts the letters of that ID that this is about; more than one when a
	// stream and a copy of it had the same record. 0 means 1.
	Times int
	// At is when it was decided.
	At time.Time
	// Letter is the letter, without its stack; empty for DropAction.
	Letter DeadLetter
}

// Actions of Retry.
const (
	RetryAction = "retry"
	DropAction  = "drop"
)

// maxTimes bounds how often one entry of the retry stream sends a record.
const maxTimes = 1000

// times returns how often the entry sends its record.
func (e *Retry) times() int { return min(max(e.Times, 1), maxTimes) }

// sends says that the entry sends a letter back into the job of that name: jobs may
// share a stream.
func (e *Retry) sends(job string) bool { return e.Action == RetryAction && e.Letter.Job == job }

// codeRetry: a dead letter cannot be sent back into its operator.
const codeRetry = "WEIR-0740"

func retryError(what string) error {
	return &base.Error{Code: codeRetry, What: what}
}

// meta makes the metadata of the record in a letter.
func (d *DeadLetter) meta(now base.Timestamp) (m base.Meta, err error) {
	m.Ingest = now
	if _, err = fmt.Sscanf(d.Origin, "%x-%x-%x", &m.Origin.Split, &m.Origin.Pos, &m.Origin.Emit); err != nil {
		return m, retryError(fmt.Sprintf("the origin %.80q is none", d.Origin))
	}
	if _, err = fmt.Sscanf(d.KeyHash, "%x", &m.Hash); err != nil {
		return m, retryError(fmt.Sprintf("the key hash %.80q is none", d.KeyHash))
	}
	if !d.EventTime.IsZero() {
		m.Time = nanosOf(d.EventTime)
	}
	if len(d.Headers) > 0 {
		m.Headers = &d.Headers
	}
	return m, nil
}

// retries registers the operator's function for letters of records that come back.
func (r *Refuser[T]) retries(one func(*base.Meta, *T)) {
	r.retriesOf(func(m *base.Meta, d *DeadLetter) error {
		v, err := r.decode(d)
		if err == nil {
			r.s.at, r.s.cur = r.op, m
			one(m, &v)
		}
		return err
	})
}

// retriesOf registers what takes letters that come back; an error makes them dead
// letters again.
func (r *Refuser[T]) retriesOf(take func(*base.Meta, *DeadLetter) error) {
	if r.out == nil {
		return
	}
	if r.s.retried == nil {
		r.s.retried = map[string]func(*DeadLetter){}
	}
	r.s.retried[r.uid] = func(d *DeadLetter) {
		r.attempt = d.Attempt + 1
		m, err := d.meta(r.s.Env.Clock.Now())
		if err == nil {
			err = take(&m, d)
		}
		if err != nil {
			r.again(&m, d, err, codeRetry)
		}
		r.attempt = 0
	}
}

// decode returns the record in a letter.
func (r *Refuser[T]) decode(d *DeadLetter) (v T, err error) {
	switch {
	case d.Truncated():
		return v, retryError(fmt.Sprintf("only %d of the %d bytes of the record are there", len(d.Raw), d.Size))
	case d.ContentType != MsgPackContent || r.letters.Codec == nil:
		return v, retryError(fmt.Sprintf("the operator takes records of its input, and this is %.80q", d.ContentType))
	}
	return v, r.letters.Codec.Decode(d.Raw, &v)
}

// again makes a dead letter of one that could not be retried; code is that of an error
// without one.
func (r *Refuser[T]) again(m *base.Meta, d *DeadLetter, err error, code string) {
	r.s.Env.Stats.BadRecords.Add(1)
	c := DeadLetter{Operator: d.Operator, Source: d.Source, Kind: d.Kind, EventTime: d.EventTime, Raw: d.Raw, Size: d.Size, ContentType: d.ContentType, Schema: d.Schema}
	r.send(m, &c, err, code)
}
