package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

// Error codes of sinks.
const (
	// CodeSink: the options of a sink are wrong.
	CodeSink = "WEIR-0520"
	// CodeOwner: the directory belongs to another job or sink.
	CodeOwner = "WEIR-0521"
	// CodeMarker: a commit marker is damaged or does not fit the files.
	CodeMarker = "WEIR-0522"
	// CodeLine: a record cannot be written as one line.
	CodeLine = "WEIR-0523"
	// CodeGrade: a directory cannot give the durability that the job requires.
	CodeGrade = "WEIR-0524"
)

// DefaultLanes is the number of lanes of a sink that does not set it.
const DefaultLanes = 4

// maxLanes bounds Lanes.
const maxLanes = 256

// partLimits bounds one part file.
var partLimits = connectors.ChunkLimits{MaxMessages: 1_000_000, MaxBytes: 64 << 20, MaxMessage: 16 << 20}

// SinkOption configures a sink.
type SinkOption interface{ sink(*sinkOptions) }

type sinkOptions struct {
	fs      vfs.FS
	lanes   int
	comma   rune
	columns []string
}

type sinkOption func(*sinkOptions)

func (f sinkOption) sink(o *sinkOptions) { f(o) }

func (f FSOption) sink(o *sinkOptions) { o.fs = f.fs }

func (c CSVOption) sink(o *sinkOptions) {
	if c.comma != 0 {
		o.comma = c.comma
	}
	if c.columns != nil {
		o.columns = c.columns
	}
}

// Lanes sets how many lanes the sink has, 1 to 256, for the life of the job. Each
// lane with records makes at least one file per checkpoint. The default is
// DefaultLanes.
func Lanes(n int) SinkOption { return sinkOption(func(o *sinkOptions) { o.lanes = n }) }

// WriteJSONL writes records to part files in a directory, one JSON value a line,
// exactly once. The directory belongs to this sink of this job alone.
//
// The files are named part-EPOCH-LANE-CHUNK.jsonl, with leading zeros, and appear
// when the checkpoint that covers their records is durable, each complete and at
// once. A file never changes. Within a lane, the order of the names is the order of
// the records, and records with one key, or from one split where there is no key,
// are in one lane; the lanes of an epoch appear independently. Readers may delete
// part files, and must leave alone what begins with an underscore: the commit
// markers are there, one small file for each part. Headers of records are not
// written.
func WriteJSONL[T any](dir string, opts ...SinkOption) connectors.Sink[T] {
	f, err := codec.JSON[T](codec.JSONOptions{Limits: sinkLimits})
	return write(dir, "jsonl", f, nil, err, opts)
}

// sinkLimits leaves the limit to partLimits.
var sinkLimits = codec.Limits{MaxRecord: 64 << 20, Elems: 64 << 20}

// WriteCSV is WriteJSONL with one CSV row for each record. Each file begins with a
// row of column names; Columns chooses and orders the columns, and does not leave
// that row out.
func WriteCSV[T any](dir string, opts ...SinkOption) connectors.Sink[T] {
	o := resolve(opts)
	f, err := codec.CSV[T](codec.CSVOptions{Limits: sinkLimits, Comma: o.comma, Columns: o.columns})
	if err != nil {
		return write[T](dir, "csv", nil, nil, err, opts)
	}
	return write(dir, "csv", f, append(f.Header(), '\n'), nil, opts)
}

// WriteLines is WriteJSONL with strings as they are. A string with a line break is
// refused with WEIR-0523.
func WriteLines(dir string, opts ...SinkOption) connectors.Sink[string] {
	return write(dir, "txt", codec.Raw[string](sinkLimits), nil, nil, opts)
}

func resolve(opts []SinkOption) sinkOptions {
	o := sinkOptions{fs: vfs.Default, lanes: DefaultLanes}
	for _, opt := range opts {
		opt.sink(&o)
	}
	return o
}

func write[T any](dir, ext string, f codec.Format[T], header []byte, err error, opts []SinkOption) connectors.Sink[T] {
	o := resolve(opts)
	t := &target{fs: o.fs, dir: dir, ext: ext, header: header, lanes: o.lanes, err: err}
	switch bad := func(what string) error {
		return &base.Error{Code: CodeSink, Where: "file sink " + dir, What: what, Next: "correct the option"}
	}; {
	case dir == "":
		t.err = bad("the sink names no directory")
	case o.lanes < 1 || o.lanes > maxLanes:
		t.err = bad(fmt.Sprintf("a sink has 1 to %d lanes", maxLanes))
	}
	rows := ext == "csv"
	encode := func(msg *connectors.Message, _ *base.Meta, v *T) error {
		if t.err != nil {
			return base.Fatal(t.err)
		}
		msg.Subject, msg.Headers = "", nil
		var err error
		if msg.Data, err = f.Encode(msg.Data[:0], v); err != nil {
			return err
		}
		if !rows && bytes.IndexByte(msg.Data, '\n') >= 0 {
			return &base.Error{Code: CodeLine, Where: "file sink " + dir, What: "the record has a line break", Next: "write it as JSON, or replace its line breaks before"}
		}
		return nil
	}
	return connectors.Sink[T]{Encode: encode, Target: t}
}

// target is a directory of part files.
type target struct {
	fs     vfs.FS
	dir    string
	ext    string
	header []byte
	lanes  int
	err    error
}

// Kind implements connectors.Target.
func (t *target) Kind() string { return "file" }

// Class implements connectors.Target.
func (t *target) Class() connectors.Class { return connectors.ExactlyOnce }

// Lanes implements connectors.LaneTarget.
func (t *target) Lanes() int { return t.lanes }

// BuildError implements connectors.BuildChecker.
func (t *target) BuildError() error { return t.err }

// path joins names below the directory.
func (t *target) path(names ...string) string {
	return t.fs.PathJoin(append([]string{t.dir}, names...)...)
}

// The names below the directory. They must not change: jobs that run for years
// find their markers by them.
const (
	adminDir  = "_weir"
	stagedDir = "staged"
	ownerFile = "owner"
	partStart = "part-"
)

func (t *target) partName(epoch base.Epoch, lane int, chunk uint32) string {
	return fmt.Sprintf("%s%020d-%04d-%06d.%s", partStart, uint64(epoch), lane, chunk, t.ext)
}

func (t *target) laneDir(lane int) string { return t.path(adminDir, fmt.Sprintf("lane-%04d", lane)) }

// OpenLanes implements connectors.LaneTarget. It makes the directory and takes
// possession of it.
func (t *target) OpenLanes(_ context.Context, env connectors.SinkEnv) (connectors.LaneWriter, error) {
	if t.err != nil {
		return nil, base.Fatal(t.err)
	}
	if env.Require.Replicas > 1 {
		return nil, base.Fatal(&base.Error{Code: CodeGrade, Where: t.dir, What: fmt.Sprintf("the job requires %d replicas, and a directory holds one copy", env.Require.Replicas), Next: "require less, or write to a replicated stream"})
	}
	w := &laneWriter{t: t, lanes: make([]laneHint, t.lanes)}
	dirs := []string{t.dir, t.path(adminDir), t.path(adminDir, stagedDir)}
	for lane := range t.lanes {
		dirs = append(dirs, t.laneDir(lane))
	}
	for _, dir := range dirs {
		if err := t.fs.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{filepath.Dir(filepath.Clean(t.dir)), t.dir, t.path(adminDir)} {
		if err := syncDir(t.fs, dir); err != nil {
			return nil, err
		}
	}
	if err := w.own(env); err != nil {
		return nil, err
	}
	return w, nil
}

// own claims the directory for a sink of a job, or checks that it has it already.
func (w *laneWriter) own(env connectors.SinkEnv) error {
	t := w.t
	mine := fmt.Sprintf("job %s\nsink %s\nlanes %d\n", env.Job, env.Sink, t.lanes)
	owner := t.path(adminDir, ownerFile)
	if _, err := t.fs.Stat(owner); errors.Is(err, os.ErrNotExist) {
		names, err := t.fs.List(t.dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			if strings.HasPrefix(name, partStart) {
				return t.foreign("it holds part files and no owner")
			}
		}
		tmp := w.staged(".owner")
		if err := writeFile(t.fs, tmp, func(f *fileWriter) { f.write([]byte(mine)) }); err != nil {
			return errors.Join(err, w.discard(tmp))
		}
		err = t.fs.Link(tmp, owner)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return errors.Join(err, w.discard(tmp))
		}
		if err := errors.Join(w.discard(tmp), syncDir(t.fs, t.path(adminDir))); err != nil {
			return err
		}
	}
	theirs, err := readFile(t.fs, owner)
	if err != nil {
		return err
	}
	if string(theirs) != mine {
		return t.foreign(fmt.Sprintf("it belongs to %q, and this is %q", theirs, mine))
	}
	return nil
}

func (t *target) foreign(why string) error {
	return base.Fatal(&base.Error{Code: CodeOwner, Where: t.dir, What: "the directory cannot be written to: " + why, Next: "give each sink of each job a directory of its own, and keep its number of lanes"})
}
