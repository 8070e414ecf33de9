package jetstream

import (
	"context"
	"fmt"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

// SourceOption configures Stream.
type SourceOption interface{ source(*sourceOptions) }

type sourceOptions struct {
	filter     string
	partitions int
	start      startAt
	end        endAt
	onGap      GapPolicy
	format     formatChoice
	bufMsgs    int
	create     *StreamSpec
	conn       *Config
}

type sourceOption func(*sourceOptions)

func (f sourceOption) source(o *sourceOptions) { f(o) }

// source implements SourceOption.
func (c ConnOption) source(o *sourceOptions) { o.conn = &c.cfg }

// Subject reads only messages on subjects that match one filter, such as
// "orders.*.new". There is no form with several filters: the server reads such
// consumers a hundred times slower. With Partitions the filter contains
// "{partition}" where the partition's number stands, such as "ev.{partition}.>".
func Subject(filter string) SourceOption {
	return sourceOption(func(o *sourceOptions) { o.filter = filter })
}

// Partitions reads the stream as n splits, numbered 0 to n-1, one for each value
// of a partition number that the stream's subject mapping puts into the subjects:
// a stream with the subjects "ev.*" and the mapping
//
//	ev.*  →  ev.{{partition(n,1)}}.{{wildcard(1)}}
//
// (see StreamSpec.Partitions) is read by splits with the filters "ev.0.*",
// "ev.1.*", … The filters follow from the mapping unless Subject gives their form.
// A key is always in the same partition, so its order is kept.
func Partitions(n int) SourceOption {
	return sourceOption(func(o *sourceOptions) { o.partitions = n })
}

// Buffer sets how many messages a reader fetches ahead, 64 to 65536; the default
// is 4096. Their bytes are limited too, to about 4 MiB or four of the largest
// messages, twice for a moment.
func Buffer(messages int) SourceOption {
	return sourceOption(func(o *sourceOptions) { o.bufMsgs = messages })
}

// GapPolicy says what happens when records after the stored position are gone.
type GapPolicy uint8

const (
	// Fail stops the job with WEIR-0410. It is the default.
	Fail GapPolicy = iota
	// Skip goes on with the first record there is and counts what is missing.
	Skip
)

// OnGap sets what happens when retention removed records before they were read.
// Messages that a limit per subject replaced are not missing: such a stream is
// read as the compacted log that it is.
//
// The check is conservative: with a filter it cannot be known whether removed
// messages matched, so it counts them as missing. Near the old end of a stream
// records are held back until the check is done; elsewhere it follows within a
// second.
func OnGap(p GapPolicy) SourceOption { return sourceOption(func(o *sourceOptions) { o.onGap = p }) }

// startKind says where a split without a position begins.
type startKind uint8

const (
	fromEarliest startKind = iota
	fromLatest
	fromSequence
	fromTime
)

type startAt struct {
	kind startKind
	seq  uint64
	time time.Time
}

// FromEarliest starts at the first message of the stream. It is the default.
func FromEarliest() SourceOption { return from(startAt{kind: fromEarliest}) }

// FromLatest starts after the last message that the stream has when the split is
// first opened.
func FromLatest() SourceOption { return from(startAt{kind: fromLatest}) }

// FromSequence starts at the message with a sequence, which must exist or be the
// next one.
func FromSequence(seq uint64) SourceOption { return from(startAt{kind: fromSequence, seq: seq}) }

// FromTime starts at the first message stored at or after t.
func FromTime(t time.Time) SourceOption { return from(startAt{kind: fromTime, time: t}) }

func from(s startAt) SourceOption { return sourceOption(func(o *sourceOptions) { o.start = s }) }

// endKind says where a split ends.
type endKind uint8

const (
	never endKind = iota
	untilNow
	untilSequence
	untilTime
)

type endAt struct {
	kind endKind
	seq  uint64
	time time.Time
}

// UntilNow ends after the last message that the stream has when the split is first
// opened. That sequence becomes part of the split's stored position: a restart
// ends at the same message.
func UntilNow() SourceOption { return until(endAt{kind: untilNow}) }

// UntilSequence ends after the message with a sequence; it waits for it.
func UntilSequence(seq uint64) SourceOption { return until(endAt{kind: untilSequence, seq: seq}) }

// UntilTime ends before the first message stored at or after t; it waits for t to
// pass on the server's clock.
func UntilTime(t time.Time) SourceOption { return until(endAt{kind: untilTime, time: t}) }

func until(e endAt) SourceOption { return sourceOption(func(o *sourceOptions) { o.end = e }) }

// source reads one stream.
type source[T any] struct {
	link
	stream string
	o      sourceOptions
	err    error
}

// Stream is a source of the records of a stream, MessagePack unless a format is
// among the options. It is one split, or several with Partitions. The server and
// the stream are looked at when the job starts, not here.
func Stream[T any](stream string, opts ...SourceOption) connectors.Source[T] {
	s := &source[T]{stream: stream, o: sourceOptions{bufMsgs: defaultBuffer}}
	for _, opt := range opts {
		opt.source(&s.o)
	}
	s.cfg = s.o.conn
	if s.err = s.o.check(stream); s.err == nil {
		_, s.err = resolveFormat[T](s.o.format, codec.Limits{})
	}
	return s
}

// check reports what is wrong with the options.
func (o *sourceOptions) check(stream string) error {
	bad := func(what, next string) error {
		return &base.Error{Code: CodeSource, What: what, Where: "source on stream " + quote(stream), Next: next}
	}
	switch {
	case stream == "":
		return bad("the source names no stream", "give the stream's name")
	case o.partitions < 0 || o.partitions > maxPartitions:
		return bad(fmt.Sprintf("a source has 1 to %d partitions", maxPartitions), "correct Partitions")
	case o.create != nil && o.create.Name != "" && o.create.Name != stream:
		return bad("Create describes the stream "+quote(o.create.Name), "leave its name out")
	case o.bufMsgs < 64 || o.bufMsgs > 1<<16:
		return bad("a reader buffers 64 to 65536 messages", "correct Buffer")
	case o.start.kind == fromSequence && o.start.seq == 0:
		return bad("sequences begin at 1", "correct FromSequence")
	case o.end.kind == untilSequence && o.start.kind == fromSequence && o.end.seq < o.start.seq:
		return bad("the source ends before it starts", "correct FromSequence or UntilSequence")
	}
	return o.checkFilter(bad)
}

// Kind implements connectors.Source.
func (s *source[T]) Kind() string { return "jetstream" }

// BuildError reports what is wrong with the options, or nil. A job's build asks
// for it; otherwise Splits and Open fail with it.
func (s *source[T]) BuildError() error { return s.err }

// Splits implements connectors.Source.
func (s *source[T]) Splits(ctx context.Context) ([]connectors.Split, error) {
	if s.err != nil {
		return nil, base.Fatal(s.err)
	}
	nc, release, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := ensure(ctx, nc, s.stream, s.o.create); err != nil {
		return nil, err
	}
	info, err := streamInfo(ctx, nc, s.stream)
	if err != nil {
		return nil, streamError(CodeSource, s.stream, err)
	}
	filters, err := s.o.filters(info.Config)
	if err != nil {
		return nil, base.Fatal(err)
	}
	splits := make([]connectors.Split, len(filters))
	for i, f := range filters {
		splits[i] = connectors.Split{ID: splitID(s.stream, f), Identity: identity(info)}
	}
	sortSplits(splits)
	return splits, nil
}

// Open implements connectors.Source. Position.Identity holds, besides the stream's
// creation time, what else a restart needs; see cursor.
func (s *source[T]) Open(ctx context.Context, split connectors.Split, after connectors.Position, env connectors.ReaderEnv) (connectors.Reader[T], error) {
	if s.err != nil {
		return nil, base.Fatal(s.err)
	}
	f, err := resolveFormat[T](s.o.format, codec.Limits{MaxRecord: env.Limits.MaxRecord, Depth: env.Limits.MaxDepth, Elems: env.Limits.MaxElems})
	if err != nil {
		return nil, base.Fatal(err)
	}
	nc, release, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	st := &streamer{nc: nc, stream: s.stream, filter: splitFilter(s.stream, split.ID), o: &s.o, env: env}
	cur, free, err := st.locate(ctx, after)
	if err != nil {
		release()
		return nil, err
	}
	r := &reader[T]{format: f, limit: env.Limits.MaxRecord, cur: cur, release: release, until: s.o.end}
	if r.cur.done {
		release()
		return r, nil
	}
	r.session = st.start(cur, free)
	return r, nil
}

// Redecode implements connectors.Redecoder.
func (s *source[T]) Redecode(raw []byte, limits connectors.Limits, v *T) error {
	f, err := resolveFormat[T](s.o.format, codec.Limits{MaxRecord: limits.MaxRecord, Depth: limits.MaxDepth, Elems: limits.MaxElems})
	if err != nil {
		return err
	}
	return f.Decode(raw, v)
}
