package jetstream

import (
	"context"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

// DefaultLanes is the number of lanes of a sink that does not set it.
const DefaultLanes = 4

// maxEncoded bounds an encoded record before the target's own limit is known; no
// NATS server takes larger messages.
const maxEncoded = 64 << 20

// SinkOption configures Publish.
type SinkOption interface{ sink(*sinkOptions) }

type sinkOptions struct {
	lanes     int
	immediate bool
	window    int
	block     string
	markers   string
	format    formatChoice
	create    *StreamSpec
	conn      *Config
}

type sinkOption func(*sinkOptions)

func (f sinkOption) sink(o *sinkOptions) { f(o) }

// sink implements SinkOption.
func (c ConnOption) sink(o *sinkOptions) { o.conn = &c.cfg }

// Lanes sets how many lanes an exactly-once sink has, 1 to 64, for the life of the
// job. More lanes let more tasks write at once and cost a batch each per
// checkpoint; a few are best.
func Lanes(n int) SinkOption { return sinkOption(func(o *sinkOptions) { o.lanes = n }) }

// Immediate publishes records as they come, at least once: with low latency, and
// after a failure some again. A duplicate is known by its header
// connectors.OriginHeader, which is the same in every replay.
func Immediate() SinkOption { return sinkOption(func(o *sinkOptions) { o.immediate = true }) }

// Window sets how many messages of an Immediate sink may wait for their
// acknowledgement, 1 to 4096, the default.
func Window(n int) SinkOption { return sinkOption(func(o *sinkOptions) { o.window = n }) }

// Blocks packs the records of a chunk into as few messages as their size allows,
// for streams that jobs read from each other: a source of this package reads them
// without being told, anyone else by Unblock. The messages of lane i go to the
// subject "SUBJECT.i"; the sink's subject function is not called and may be nil.
// Wildcards cannot select records inside a block.
func Blocks(subject string) SinkOption { return sinkOption(func(o *sinkOptions) { o.block = subject }) }

// MarkerPrefix sets where the sink keeps its commit markers: on subjects
// "PREFIX.commit.JOB.SINK.LANE", which the stream must take. The default is
// "weir.STREAM". Change it only before the job first runs.
func MarkerPrefix(prefix string) SinkOption {
	return sinkOption(func(o *sinkOptions) { o.markers = prefix })
}

// target is what all sinks on one stream have in common.
type target struct {
	link
	stream       string
	lanes        int
	window       int
	blockSubject string
	markers      string
	create       *StreamSpec
	err          error
	// space holds the stream's subjects once a writer was opened in this process.
	space atomic.Pointer[[]string]
	// largest is the largest message that an immediate sink may write, in bytes, once a
	// writer was opened in this process.
	largest atomic.Int64
}

// Kind implements connectors.Target.
func (t *target) Kind() string { return "jetstream" }

// BuildError reports what is wrong with the options, or nil. A job's build asks
// for it; otherwise opening the sink fails with it.
func (t *target) BuildError() error { return t.err }

// Stream returns the name of the stream.
func (t *target) Stream() string { return t.stream }

// checkSubject reports why a record cannot be published on s. As long as no
// writer was opened in this process the stream's subjects are not known.
func (t *target) checkSubject(s string) error {
	if err := checkSubject(s); err != nil {
		return subjectError(t.stream, s, err)
	}
	if space := t.space.Load(); space != nil && !inSpace(*space, s) {
		return subjectError(t.stream, s, nil)
	}
	if matches(markerSpace(t.stream, t.markers), s) {
		return &base.Error{Code: CodeSubject, What: "a record may not be published on a commit marker's subject", Where: "subject " + quote(s),
			Next: "correct the sink's subject function"}
	}
	return nil
}

// open returns the connection, or what is wrong with the options. It creates the
// stream when that was asked for.
func (t *target) open(ctx context.Context) (nc *nats.Conn, release func(), err error) {
	if t.err != nil {
		return nil, nil, base.Fatal(t.err)
	}
	nc, release, err = t.acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := ensure(ctx, nc, t.stream, t.create); err != nil {
		release()
		return nil, nil, err
	}
	return nc, release, nil
}

// Publish is a sink that writes records to a stream: exactly once, unless
// Immediate is among the options. subject names the subject of a record, which
// must belong to the stream; it must be a pure function. Records are encoded as
// MessagePack unless a format is among the options.
//
// Exactly-once output becomes visible with the checkpoint that covers it, and each
// chunk of at most 999 messages at once. A stream takes about 30,000 to 40,000
// messages a second that way; Blocks carries ten times the records.
func Publish[T any](stream string, subject func(T) string, opts ...SinkOption) connectors.Sink[T] {
	o := sinkOptions{lanes: DefaultLanes, window: maxWindow}
	for _, opt := range opts {
		opt.sink(&o)
	}
	f, err := resolveFormat[T](o.format, codec.Limits{MaxRecord: maxEncoded})
	t := &target{stream: stream, lanes: o.lanes, window: o.window, blockSubject: o.block, markers: o.markers}
	t.cfg = o.conn
	if t.create = o.create; t.create != nil && t.create.MarkerPrefix == "" {
		t.create.MarkerPrefix = o.markers
	}
	if t.err = o.check(stream, subject == nil); t.err == nil {
		t.err = err
	}
	encode := func(msg *connectors.Message, m *base.Meta, v *T) error {
		if t.err != nil {
			return base.Fatal(t.err)
		}
		msg.Subject, msg.Headers = "", nil
		if t.blockSubject == "" {
			msg.Subject = subject(*v)
			if err := t.checkSubject(msg.Subject); err != nil {
				return err
			}
		}
		if m.Headers != nil {
			msg.Headers = *m.Headers
		}
		var err error
		msg.Data, err = f.Encode(msg.Data[:0], v)
		return err
	}
	if o.immediate {
		return connectors.Sink[T]{Encode: encode, Target: directTarget{t}}
	}
	return connectors.Sink[T]{Encode: encode, Target: laneTarget{t}}
}

// check reports what is wrong with the options.
func (o *sinkOptions) check(stream string, noSubject bool) error {
	bad := func(what, next string) error {
		return &base.Error{Code: CodeSink, What: what, Where: "sink on stream " + quote(stream), Next: next}
	}
	switch {
	case stream == "":
		return bad("the sink names no stream", "give the stream's name")
	case o.create != nil && o.create.Name != "" && o.create.Name != stream:
		return bad("Create describes the stream "+quote(o.create.Name), "leave its name out")
	case o.lanes < 1 || o.lanes > 64:
		return bad("a sink has 1 to 64 lanes", "correct Lanes")
	case o.window < 1 || o.window > maxWindow:
		return bad("the window of an immediate sink is 1 to 4096 messages", "correct Window")
	case o.immediate && o.block != "":
		return bad("Blocks and Immediate exclude each other: a block waits for its records", "drop one of them")
	case noSubject && o.block == "":
		return bad("the sink has no subject function", "give one")
	}
	for what, s := range map[string]string{"Blocks": o.block, "MarkerPrefix": o.markers} {
		if s == "" {
			continue
		}
		if err := checkSubject(s); err != nil {
			return bad(what+": "+err.Error(), "give a subject without wildcards")
		}
	}
	return nil
}
