package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
)

// StreamSpec describes a stream for Ensure. Everything but the name and the
// subjects has a default.
type StreamSpec struct {
	// Name of the stream: letters, digits, - and _.
	Name string
	// Subjects that the stream takes. The subjects of commit markers are added.
	Subjects []string
	// MarkerPrefix is where commit markers live, see MarkerPrefix; "" for the
	// default.
	MarkerPrefix string
	// Partitions, when above 0, spreads the messages over that many partitions by
	// the first wildcard of Subjects[0]: "ev.*" is stored as
	// "ev.{{partition(n,1)}}.{{wildcard(1)}}", and a source reads it with
	// Partitions(n). There must be one subject, with one wildcard * at least.
	Partitions int
	// Replicas of the stream; 0 means 1.
	Replicas int
	// MaxAge, MaxBytes and MaxMsgs limit what the stream keeps; 0 means no limit.
	// Markers are exempt from MaxAge only.
	MaxAge   time.Duration
	MaxBytes int64
	MaxMsgs  int64
	// DuplicateWindow is how long the server remembers Nats-Msg-Id headers; 0
	// means two minutes. BatchPublisher relies on it, exactly-once sinks do not.
	DuplicateWindow time.Duration
}

// Create makes a source or sink create its stream when it is absent, by Ensure. The
// name in the specification may be left out. It is meant for the embedded server
// and for development; on a server in production streams are made by its operators.
func Create(spec StreamSpec) CreateOption { return CreateOption{spec} }

// CreateOption is an option of Stream and of Publish.
type CreateOption struct{ spec StreamSpec }

// sink implements SinkOption.
func (c CreateOption) sink(o *sinkOptions) { o.create = &c.spec }

// source implements SourceOption.
func (c CreateOption) source(o *sourceOptions) { o.create = &c.spec }

// ensure creates the stream of a connector that has the option Create.
func ensure(ctx context.Context, nc *nats.Conn, stream string, spec *StreamSpec) error {
	if spec == nil {
		return nil
	}
	s := *spec
	s.Name = stream
	_, err := Ensure(ctx, nc, s)
	return err
}

// Ensure creates the stream when it is absent: on disk, with atomic batches,
// message TTLs and rollups allowed, deletes of single messages denied. To a stream
// that exists it adds what an exactly-once sink needs and the subjects it lacks;
// limits, replicas and partitions it leaves as they are. It reports whether it
// created the stream. A stream that cannot be made to fit fails with WEIR-0510.
func Ensure(ctx context.Context, nc *nats.Conn, spec StreamSpec) (created bool, err error) {
	want, err := spec.config()
	if err != nil {
		return false, err
	}
	js, err := natsjs.New(nc)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*apiTimeout)
	defer cancel()
	s, err := js.Stream(ctx, spec.Name)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		if err = create(ctx, js, want); err == nil {
			return true, nil
		}
		if !errors.Is(err, natsjs.ErrStreamNameAlreadyInUse) {
			return false, createError(spec.Name, err)
		}
		s, err = js.Stream(ctx, spec.Name) // another process was faster
	}
	if err != nil {
		return false, streamError(CodeStream, spec.Name, err)
	}
	have := s.CachedInfo().Config
	if add(&have, want) {
		if _, err := js.UpdateStream(ctx, have); err != nil {
			return false, createError(spec.Name, err)
		}
	}
	return false, checkSinkStream(have, 0, nil)
}

// storeFailed is the server's error code for a stream whose files it cannot make. It
// also comes for a moment after a stream of that name was deleted, while the old
// files are being removed.
const storeFailed natsjs.ErrorCode = 10049

// create creates a stream, and tries again for a second when its files cannot be made.
func create(ctx context.Context, js natsjs.JetStream, want natsjs.StreamConfig) (err error) {
	for range 20 {
		_, err = js.CreateStream(ctx, want)
		api, ok := errors.AsType[*natsjs.APIError](err)
		if !ok || api.ErrorCode != storeFailed || clock.Real().Sleep(ctx, 50*time.Millisecond) != nil {
			return err
		}
	}
	return err
}

// config is the server's form of the specification.
func (spec StreamSpec) config() (natsjs.StreamConfig, error) {
	bad := func(what string) (natsjs.StreamConfig, error) {
		return natsjs.StreamConfig{}, &base.Error{Code: CodeStream, What: what, Where: "stream " + quote(spec.Name), Next: "correct the stream's specification"}
	}
	if spec.Name == "" || strings.ContainsAny(spec.Name, " .*>/\\\t\r\n") {
		return bad("a stream cannot have this name")
	}
	if len(spec.Subjects) == 0 {
		return bad("the stream has no subjects")
	}
	c := natsjs.StreamConfig{
		Name: spec.Name, Subjects: slices.Clone(spec.Subjects), Storage: natsjs.FileStorage, Replicas: max(spec.Replicas, 1),
		MaxAge: spec.MaxAge, MaxBytes: orNone(spec.MaxBytes), MaxMsgs: orNone(spec.MaxMsgs), Duplicates: spec.DuplicateWindow,
		AllowAtomicPublish: true, AllowMsgTTL: true, AllowRollup: true, DenyDelete: true,
	}
	if c.Duplicates == 0 && c.MaxAge > 0 {
		c.Duplicates = min(2*time.Minute, c.MaxAge) // the server wants it no longer than MaxAge
	}
	if p := markerSpace(spec.Name, spec.MarkerPrefix); !inSpace(c.Subjects, p) {
		c.Subjects = append(c.Subjects, p)
	}
	if spec.Partitions > 0 {
		t, err := partitionTransform(spec.Subjects, spec.Partitions)
		if err != nil {
			return bad(err.Error())
		}
		c.SubjectTransform = t
	}
	return c, nil
}

func orNone(limit int64) int64 {
	if limit <= 0 {
		return -1
	}
	return limit
}

// partitionTransform is the subject mapping of StreamSpec.Partitions.
func partitionTransform(subjects []string, n int) (*natsjs.SubjectTransformConfig, error) {
	if len(subjects) != 1 || !strings.Contains(subjects[0], "*") {
		return nil, errors.New("partitions need exactly one subject with a wildcard *, the part to spread by")
	}
	parts := strings.Split(subjects[0], ".")
	var dest []string
	wild := 0
	for _, p := range parts {
		switch p {
		case "*":
			if wild++; wild == 1 {
				dest = append(dest, fmt.Sprintf("{{partition(%d,1)}}", n))
			}
			dest = append(dest, "{{wildcard("+strconv.Itoa(wild)+")}}")
		default:
			dest = append(dest, p)
		}
	}
	return &natsjs.SubjectTransformConfig{Source: subjects[0], Destination: strings.Join(dest, ".")}, nil
}

// add puts what want has and have lacks into have and reports whether that
// changed anything. It never takes away or narrows.
func add(have *natsjs.StreamConfig, want natsjs.StreamConfig) (changed bool) {
	for _, s := range want.Subjects {
		if !inSpace(have.Subjects, s) {
			// The server wants no subject of a stream to overlap with another.
			covered := func(h string) bool { return matches(s, h) }
			have.Subjects = append(slices.DeleteFunc(have.Subjects, covered), s)
			changed = true
		}
	}
	for _, f := range []struct {
		have *bool
		want bool
	}{
		{&have.AllowAtomicPublish, want.AllowAtomicPublish},
		{&have.AllowMsgTTL, want.AllowMsgTTL},
		{&have.AllowRollup, want.AllowRollup},
	} {
		if f.want && !*f.have {
			*f.have = true
			changed = true
		}
	}
	return changed
}

func createError(stream string, err error) error {
	e := &base.Error{Code: CodeStream, What: "the server refuses the stream", Where: "stream " + quote(stream), Cause: err,
		Next: "correct the stream's specification, or change the stream by hand"}
	if strings.Contains(err.Error(), "overlap") {
		e.Next = "another stream has one of its subjects; choose others"
	}
	if apiCode(err) == 0 {
		return fmt.Errorf("stream %s: %w", stream, err) // no answer: it may work later
	}
	return e
}

// markerSpace is the subject pattern that holds all commit markers of a stream.
func markerSpace(stream, prefix string) string { return markerPrefix(stream, prefix) + ".commit.>" }

// markerPrefix is what stands before "commit.JOB.SINK.LANE". Two streams of a
// server cannot share subjects, so the default contains the stream's name.
func markerPrefix(stream, prefix string) string {
	if prefix != "" {
		return prefix
	}
	return "weir." + stream
}

// checkSinkStream reports what an exactly-once sink misses. warn receives what
// works but may end badly; it may be nil.
func checkSinkStream(c natsjs.StreamConfig, replicas int, warn func(msg string)) error {
	var lacks []string
	lack := func(cond bool, what string) {
		if cond {
			lacks = append(lacks, what)
		}
	}
	lack(!c.AllowAtomicPublish, "atomic batches (allow_atomic)")
	lack(!c.AllowMsgTTL, "message TTLs (allow_msg_ttl), without which a marker could expire")
	lack(!c.AllowRollup, "rollups (allow_rollup_hdrs)")
	lack(c.DenyPurge, "purge (deny_purge is set, which forbids rollups)")
	lack(c.Storage != natsjs.FileStorage, "storage on disk")
	lack(c.PersistMode == natsjs.AsyncPersistMode, "synchronous persistence (persist_mode is async)")
	lack(c.Mirror != nil, "writes (it is a mirror)")
	lack(c.Sealed, "writes (it is sealed)")
	lack(c.Retention != natsjs.LimitsPolicy, "limits retention: other policies delete markers")
	lack(c.AllowMsgCounter, "plain messages (it is a counter stream)")
	lack(c.MaxMsgsPerSubject > 0 && c.DiscardNewPerSubject, "more messages on a subject (discard_new_per_subject is set)")
	if len(lacks) > 0 {
		return base.Fatal(&base.Error{Code: CodeStream, What: "the stream lacks " + strings.Join(lacks, ", "), Where: "stream " + c.Name,
			Next: "change the stream, or use Immediate() and accept at-least-once"})
	}
	if c.Replicas < replicas {
		return base.Fatal(&base.Error{Code: CodeStream, Where: "stream " + c.Name,
			What: fmt.Sprintf("the stream has %d replicas and the job requires %d", c.Replicas, replicas),
			Next: "raise the stream's replicas, or lower what the job requires"})
	}
	if warn != nil && c.Discard == natsjs.DiscardOld && (c.MaxBytes > 0 || c.MaxMsgs > 0) {
		warn("max_bytes or max_msgs with discard old can delete the commit marker of a lane that is idle for long; the job then stops rather than publish twice")
	}
	if warn != nil && !c.DenyDelete {
		warn("deny_delete is not set: whoever deletes a commit marker stops the job")
	}
	return nil
}
