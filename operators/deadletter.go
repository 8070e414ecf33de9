package operators

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

// DeadLetterVersion is the version of DeadLetter that this program writes. Fields
// are only added to a version; see docs/format/dead-letters.md.
const DeadLetterVersion = 1

// DeadLetter is a record that an operator refused, with all that is needed to find
// out why and to send it back into the operator. Programs read it outside of the
// job: fields keep their names and meanings.
type DeadLetter struct {
	// Version is DeadLetterVersion of the program that wrote it.
	Version int
	// ID names the letter: 32 hexadecimal digits made of operator, origin, attempt
	// and content, the same in every replay.
	ID string
	// Job is the job's name; JobVersion the version or revision of its binary, "" if
	// the build does not know it; Plan the hash of its plan, as weir plan shows it.
	Job, JobVersion, Plan string
	// Operator is the UID of the operator that refused the record.
	Operator string
	// Kind says what was refused; see the constants.
	Kind string
	// Source says in words where the record came from, such as "source in, split 0";
	// Origin is the record's origin (three hexadecimal words).
	Source, Origin string
	// EventTime is the record's event time, or that of a source that could not
	// decode it; the zero time when there is none.
	EventTime time.Time
	// KeyHash is the hash of the record's key, 16 hexadecimal digits; zeros before
	// the first KeyBy.
	KeyHash string
	// Attempt counts how often the operator refused the record, from 1.
	Attempt int
	// Refused is the wall-clock time of the refusal; a replay changes it.
	Refused time.Time
	// Code is the code of the error, Error its text, Stack the stack of a panic.
	Code, Error, Stack string
	// Raw is the record: as the source read it, or in the encoding of the operator's
	// input, as ContentType says. Size is its full length in bytes; Raw is shorter
	// where the source or the sink has a limit, and the letter cannot be retried then.
	Raw  []byte
	Size int
	// ContentType is that of Raw, Schema the schema of its MessagePack form; "" for
	// what a source read.
	ContentType, Schema string
	// Headers are those of the record.
	Headers base.Headers
}

// Kinds of dead letters.
const (
	// RecordLetter is a record that a function of the job refused.
	RecordLetter = "record"
	// SourceLetter is what a source read and could not decode.
	SourceLetter = "source"
	// EventTimerLetter and ProcessingTimerLetter are timers whose function failed:
	// Raw is the encoded key, EventTime the time of the timer.
	EventTimerLetter      = "event-timer"
	ProcessingTimerLetter = "processing-timer"
)

// Content types of DeadLetter.Raw.
const (
	// MsgPackContent is a record in the encoding of the operator's input.
	MsgPackContent = "application/msgpack"
	// BytesContent is a record as a source read it.
	BytesContent = "application/octet-stream"
	// KeyContent is an encoded key.
	KeyContent = "application/x-weir-key"
)

// Truncated says that Raw is not all of the record.
func (d *DeadLetter) Truncated() bool { return len(d.Raw) < d.Size }

// Bounds of texts in a dead letter, in bytes.
const (
	maxErrorText = 4 << 10
	maxStackText = 16 << 10
)

// JobInfo is what dead letters say about the job. It is complete before the first
// subtask is built.
type JobInfo struct{ Version, Plan string }

// Letters is what an operator with records of T needs to make dead letters.
type Letters[T any] struct {
	// Codec encodes the operator's input; a source may have none.
	Codec *codec.Codec[T]
	// Out makes what takes the letters.
	Out Bind[DeadLetter]
	Job *JobInfo
}

// Refuser applies an error policy to the records of one operator in one subtask.
type Refuser[T any] struct {
	s       *Subtask
	uid     string
	op      int32
	policy  ErrorPolicy
	letters Letters[T]
	out     func(*base.Meta, *DeadLetter)
	// attempt is that of the record in hand; 0 for the first.
	attempt int
	counts  map[string]*base.Figure
}

// NewRefuser returns the refuser of an operator, whose number in the chain is op
// (see Register). It must be made where the operator's outputs are bound, for with
// the policy to send dead letters it binds one.
func NewRefuser[T any](s *Subtask, uid string, op int32, policy ErrorPolicy, l Letters[T]) *Refuser[T] {
	r := &Refuser[T]{s: s, uid: uid, op: op, policy: policy, letters: l}
	if policy == connectors.DeadLetterBad {
		r.out, r.counts = l.Out(s).One, map[string]*base.Figure{}
	}
	return r
}

// Refuse applies the policy to a record for which a function of the job failed: the
// subtask fails, or the record is counted and dropped or becomes a dead letter. A
// panic is an error made by Protect.
func (r *Refuser[T]) Refuse(m *base.Meta, v *T, err error) {
	if r.fails(err) {
		r.s.at = r.op
		r.s.bad(m, err)
		return
	}
	r.s.Env.Stats.BadRecords.Add(1)
	if r.out == nil {
		return
	}
	d := DeadLetter{Kind: RecordLetter, Raw: r.letters.Codec.Append(nil, v), ContentType: MsgPackContent, Schema: r.letters.Codec.Schema().String()}
	r.send(m, &d, err, codeRefused)
}

// fails says that the error stops the subtask in spite of any policy, or by it.
func (r *Refuser[T]) fails(err error) bool {
	return r.policy == connectors.FailOnBad || errors.Is(err, base.ErrFatal)
}

// refuseTimer is Refuse for a timer of a key.
func (r *Refuser[T]) refuseTimer(m *base.Meta, kind string, at base.Timestamp, key []byte, err error) {
	if r.fails(err) {
		r.s.bad(m, err)
		return
	}
	r.s.Env.Stats.BadRecords.Add(1)
	if r.out != nil {
		r.send(m, &DeadLetter{Kind: kind, EventTime: timeOf(at), Raw: key, ContentType: KeyContent}, err, codeRefused)
	}
}

// Codes of errors that have none of their own.
const (
	codePanic   = "WEIR-0701"
	codeRefused = "WEIR-0702"
)

// send completes a letter and hands it on.
func (r *Refuser[T]) send(m *base.Meta, d *DeadLetter, err error, code string) {
	d.Version, d.Job = DeadLetterVersion, r.s.Env.JobName
	if d.Operator == "" {
		d.Operator = r.uid
	}
	d.JobVersion, d.Plan = r.letters.Job.Version, r.letters.Job.Plan
	if source, ok := r.s.Env.Splits.of(m.Origin.Split); ok {
		d.Source = source
	}
	d.Origin, d.KeyHash = m.Origin.String(), fmt.Sprintf("%016x", m.Hash)
	if d.EventTime.IsZero() && m.Time != 0 {
		d.EventTime = timeOf(m.Time)
	}
	d.Attempt, d.Refused = max(r.attempt, 1), timeOf(r.s.Env.Clock.Now())
	if own := base.CodeOf(err); own != "" {
		code = own
	}
	if p, ok := errors.AsType[*Panic](err); ok {
		code, d.Stack = codePanic, clip(p.Stack, maxStackText)
	}
	d.Code, d.Error = clip(code, 64), clip(err.Error(), maxErrorText)
	d.Size = max(d.Size, len(d.Raw))
	if m.Headers != nil {
		d.Headers = *m.Headers
	}
	id := r.identify(m, d)
	d.ID = fmt.Sprintf("%016x%016x", id[0], id[1])
	r.count(d.Code)
	// The letter has an origin of its own: the record itself may go on elsewhere.
	out := base.Meta{Time: m.Time, Hash: m.Hash, Ingest: m.Ingest, Origin: m.Origin, Headers: letterHeaders(d)}
	out.Origin.Emit = base.Mix(out.Origin.Emit, id[0])
	r.out(&out, d)
	r.s.at = r.op
}

// identify makes the two words of a letter's ID.
func (r *Refuser[T]) identify(m *base.Meta, d *DeadLetter) (id [2]uint64) {
	b := make([]byte, 0, 64)
	for _, u := range []uint64{base.HashString(d.Operator), m.Origin.Split, m.Origin.Pos, m.Origin.Emit, uint64(d.Attempt), base.HashKey(d.Raw)} {
		b = binary.LittleEndian.AppendUint64(b, u)
	}
	b = append(b, d.Kind...)
	id[0] = base.HashKey(b)
	id[1] = base.HashKey(append(b, 1))
	return id
}

// Headers of the messages that carry dead letters.
const (
	LetterIDHeader       = "Weir-Dead-Letter"
	LetterOperatorHeader = "Weir-Dead-Operator"
	LetterCodeHeader     = "Weir-Dead-Code"
)

func letterHeaders(d *DeadLetter) *base.Headers {
	return &base.Headers{{Name: LetterIDHeader, Value: d.ID}, {Name: LetterOperatorHeader, Value: d.Operator}, {Name: LetterCodeHeader, Value: plainCode(d.Code)}}
}

// maxCodes bounds the codes that an operator's metric tells apart.
const maxCodes = 32

// count counts a letter by the code of its error.
func (r *Refuser[T]) count(code string) {
	code = plainCode(code)
	if r.counts[code] == nil && len(r.counts) >= maxCodes {
		code = otherCode
	}
	f := r.counts[code]
	if f == nil {
		f = r.s.Env.Stats.Figures.New("dead_letters_total", r.uid, code)
		r.counts[code] = f
	}
	f.Add(1)
}

const otherCode = "other"

// plainCode returns a code of the form WEIR-NNNN, and "other" for any other: functions
// of a job may make up what they like, and labels and headers may not hold that.
func plainCode(code string) string {
	num, ok := strings.CutPrefix(code, "WEIR-")
	if _, err := strconv.ParseUint(num, 10, 32); !ok || err != nil || len(num) != 4 {
		return otherCode
	}
	return code
}

// clip cuts a text to a number of bytes and makes it valid UTF-8.
func clip(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
