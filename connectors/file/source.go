// Package file reads records from files and writes records to files, exactly once.
//
// Reading: JSON lines, CSV and plain lines; gzip and zstd by the ending of the
// name. Each file is a split and is read from its beginning. By default the source
// ends where the files ended when they were listed; Follow waits for more. The
// position of a record in an uncompressed file is the offset of the byte after it,
// so that a restored job goes on there at once; in a compressed file it is the
// number of the record, and a restored job unpacks the file again up to it.
//
// A file may grow while it is read, and may not change otherwise. What is noticed,
// and stops the job: another beginning (up to 4 KiB are compared), a file that
// became shorter, a compressed file of another size, and a position that is not
// the start of a line. A change behind the beginning that keeps the lines' places
// is not noticed.
//
// Follow does not follow a file that is renamed away and made anew; give each file
// a name of its own instead, and restart the job to have new files read.
//
// Writing: see WriteJSONL.
package file

import (
	"context"
	"errors"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

// Error codes of this package.
const (
	// CodeSource: the options of a source are wrong.
	CodeSource = "WEIR-0420"
	// CodeRead: a file cannot be listed, opened or read.
	CodeRead = "WEIR-0421"
	// CodePosition: the stored position is not in the file any more.
	CodePosition = "WEIR-0422"
	// CodeIdentity: the file is another one than before.
	CodeIdentity = "WEIR-0423"
	// CodeDamaged: a compressed file is damaged, or unpacks to too much.
	CodeDamaged = "WEIR-0424"
	// CodeHeader: the first row of a CSV file does not fit the record type.
	CodeHeader = "WEIR-0425"
	// CodeTooLong: a line is longer than the record limit.
	CodeTooLong = "WEIR-0426"
)

// DefaultMaxRatio is how many bytes one byte of a compressed file may unpack to, on
// average, once it unpacked to 64 MiB.
const DefaultMaxRatio = 500

// maxSplitID bounds the path of a file: it is stored in every manifest.
const maxSplitID = 1000

// Compression says how a file is packed.
type Compression uint8

const (
	// Auto goes by the name: .gz is gzip, .zst and .zstd are zstd, others plain.
	Auto Compression = iota
	// Plain files are not packed.
	Plain
	// Gzip files may have several members.
	Gzip
	// Zstd files need a window of at most 64 MiB.
	Zstd
)

// SourceOption configures a source.
type SourceOption interface{ source(*sourceOptions) }

type sourceOptions struct {
	fs          vfs.FS
	follow      time.Duration
	compression Compression
	ratio       int
	comma       rune
	columns     []string
	err         error
}

type sourceOption func(*sourceOptions)

func (f sourceOption) source(o *sourceOptions) { f(o) }

// Follow waits for files to grow and looks every so often; the source has no end.
// A line counts once its line break is there. Compressed files cannot be followed.
func Follow(every time.Duration) SourceOption {
	return sourceOption(func(o *sourceOptions) {
		if every <= 0 {
			o.fail("Follow needs a time above 0")
		}
		o.follow = every
	})
}

// Packed sets how all files are packed, whatever their names.
func Packed(c Compression) SourceOption {
	return sourceOption(func(o *sourceOptions) { o.compression = c })
}

// MaxRatio sets how many bytes one byte of a compressed file may unpack to, on
// average, once it unpacked to 64 MiB. More is taken for an attack, and the job
// stops. The default is DefaultMaxRatio.
func MaxRatio(n int) SourceOption {
	return sourceOption(func(o *sourceOptions) {
		if n < 1 {
			o.fail("MaxRatio needs a number above 0")
		}
		o.ratio = n
	})
}

// CSVOption is an option of CSV and WriteCSV.
type CSVOption struct {
	comma   rune
	columns []string
}

func (c CSVOption) source(o *sourceOptions) {
	if c.comma != 0 {
		o.comma = c.comma
	}
	if c.columns != nil {
		o.columns = c.columns
	}
}

// Comma sets what separates the fields of a CSV row; the default is a comma.
func Comma(r rune) CSVOption { return CSVOption{comma: r} }

// Columns says that CSV files have no first row of column names, and these columns
// instead.
func Columns(names ...string) CSVOption { return CSVOption{columns: names} }

// FSOption is an option of sources and sinks.
type FSOption struct{ fs vfs.FS }

func (f FSOption) source(o *sourceOptions) { o.fs = f.fs }

// FS sets the file system; the default is that of the operating system.
func FS(fs vfs.FS) FSOption { return FSOption{fs} }

func (o *sourceOptions) fail(what string) {
	if o.err == nil {
		o.err = &base.Error{Code: CodeSource, Where: "file source", What: what, Next: "correct the option"}
	}
}

// Source reads files. It is safe for concurrent use.
type Source[T any] struct {
	sourceOptions
	pattern string
	// format makes the format for the limits of a reader.
	format func(codec.Limits) (codec.Format[T], error)
	// rows: records are CSV rows; blanks: empty lines are records.
	rows, blanks bool
}

// JSONL reads one JSON value from each line; empty lines are skipped. pattern is a
// file, a directory, or a directory and a pattern for names, such as
// "logs/*.jsonl.gz". Of a directory all files are read but those whose names begin
// with a dot or an underscore.
func JSONL[T any](pattern string, opts ...SourceOption) *Source[T] {
	return newSource(pattern, opts, func(lim codec.Limits) (codec.Format[T], error) {
		return codec.JSON[T](codec.JSONOptions{Limits: lim})
	})
}

// CSV reads one record from each row. The first row of each file names the columns,
// unless Columns does. A quoted field may hold line breaks; one that does not end
// takes the rows after it along, up to the record limit, into one bad record.
func CSV[T any](pattern string, opts ...SourceOption) *Source[T] {
	var s *Source[T]
	s = newSource(pattern, opts, func(lim codec.Limits) (codec.Format[T], error) {
		f, err := codec.CSV[T](codec.CSVOptions{Limits: lim, Comma: s.comma, Header: s.columns == nil, Columns: s.columns})
		if err != nil {
			return nil, err
		}
		return f, nil
	})
	s.rows = true
	return s
}

// Lines reads each line as it is, without its line break. Empty lines are records.
func Lines(pattern string, opts ...SourceOption) *Source[string] {
	s := newSource(pattern, opts, func(lim codec.Limits) (codec.Format[string], error) { return codec.Raw[string](lim), nil })
	s.blanks = true
	return s
}

// Read reads one record of a format of the caller's own from each line; empty lines
// are skipped. The format's limits are its own affair.
func Read[T any](pattern string, f codec.Format[T], opts ...SourceOption) *Source[T] {
	return newSource(pattern, opts, func(codec.Limits) (codec.Format[T], error) {
		if f == nil {
			return nil, errors.New("the format is nil")
		}
		return f, nil
	})
}

func newSource[T any](pattern string, opts []SourceOption, format func(codec.Limits) (codec.Format[T], error)) *Source[T] {
	s := &Source[T]{pattern: pattern, format: format, sourceOptions: sourceOptions{fs: vfs.Default, ratio: DefaultMaxRatio}}
	for _, o := range opts {
		o.source(&s.sourceOptions)
	}
	if pattern == "" {
		s.fail("the source names no file")
	}
	if _, err := path.Match(path.Base(pattern), ""); err != nil {
		s.fail("the pattern " + pattern + " is malformed")
	}
	return s
}

// Kind implements connectors.Source.
func (s *Source[T]) Kind() string { return "file" }

// Timeless implements connectors.Timeless.
func (s *Source[T]) Timeless() {}

// BuildError implements connectors.BuildChecker.
func (s *Source[T]) BuildError() error {
	if s.err != nil {
		return s.err
	}
	_, err := s.format(codec.Limits{})
	return err
}

// Splits implements connectors.Source: one split for each file, sorted by path. It
// fails with WEIR-0421 when there is none.
func (s *Source[T]) Splits(ctx context.Context) ([]connectors.Split, error) {
	if err := s.BuildError(); err != nil {
		return nil, base.Fatal(err)
	}
	files, err := s.list()
	if err != nil {
		return nil, err
	}
	splits := make([]connectors.Split, len(files))
	for i, name := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		id, err := s.identify(name)
		if err != nil {
			return nil, readError(name, err)
		}
		splits[i] = connectors.Split{ID: name, Identity: id.String()}
	}
	return splits, nil
}

// list returns the paths of the files.
func (s *Source[T]) list() ([]string, error) {
	dir, pattern := s.pattern, "*"
	info, err := s.fs.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return []string{s.pattern}, nil
	case err != nil:
		dir, pattern = s.fs.PathDir(s.pattern), s.fs.PathBase(s.pattern)
	}
	names, err := s.fs.List(dir)
	if err != nil {
		return nil, readError(dir, err)
	}
	var files []string
	for _, name := range names {
		full := s.fs.PathJoin(dir, name)
		if ok, _ := path.Match(pattern, name); !ok || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
			continue
		}
		if info, err := s.fs.Stat(full); err != nil {
			return nil, readError(full, err)
		} else if info.IsDir() {
			continue
		}
		if len(full) > maxSplitID {
			return nil, &base.Error{Code: CodeRead, Where: full, What: "the path of the file is too long", Next: "use a shorter directory"}
		}
		files = append(files, full)
	}
	if len(files) == 0 {
		return nil, &base.Error{Code: CodeRead, Where: s.pattern, What: "there is no such file", Next: "check the path", Cause: os.ErrNotExist}
	}
	slices.Sort(files)
	return files, nil
}

func readError(name string, err error) error {
	return &base.Error{Code: CodeRead, Where: name, What: "the file cannot be read", Next: "check that it is there and may be read", Cause: err}
}

// compressionOf returns how a file is packed.
func (s *Source[T]) compressionOf(name string) Compression {
	if s.compression != Auto {
		return s.compression
	}
	switch path.Ext(name) {
	case ".gz":
		return Gzip
	case ".zst", ".zstd":
		return Zstd
	}
	return Plain
}

// Redecode implements connectors.Redecoder. Rows of files whose first row names the
// columns cannot be decoded alone.
func (s *Source[T]) Redecode(raw []byte, limits connectors.Limits, v *T) error {
	if s.rows && s.columns == nil {
		return errors.New("the columns of the row are named in its file")
	}
	f, err := s.format(codec.Limits{MaxRecord: limits.MaxRecord, Depth: limits.MaxDepth, Elems: limits.MaxElems})
	if err != nil {
		return err
	}
	return f.Decode(raw, v)
}
