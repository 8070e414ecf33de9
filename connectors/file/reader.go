package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
)

// byteOrderMark may stand at the beginning of a text file and means nothing.
var byteOrderMark = []byte("\xef\xbb\xbf")

// reader reads one file.
type reader[T any] struct {
	name   string
	f      vfs.File
	plain  bool
	raw    *fileReader
	free   func() // the decoder
	scan   scanner
	format codec.Format[T]
	blanks bool
	follow time.Duration
	clock  clock.Clock

	known identity
	pos   uint64 // of the last record handed over
	done  bool
	// header: the first row, which names the columns, was not read yet.
	header bool
	// resume is the position to go to before the first record; in a compressed
	// file records counts up to it.
	resume, records uint64
}

// Open implements connectors.Source.
func (s *Source[T]) Open(_ context.Context, split connectors.Split, after connectors.Position, env connectors.ReaderEnv) (connectors.Reader[T], error) {
	if err := s.BuildError(); err != nil {
		return nil, base.Fatal(err)
	}
	name := split.ID
	c := s.compressionOf(name)
	if s.follow > 0 && c != Plain {
		return nil, base.Fatal(&base.Error{Code: CodeSource, Where: name, What: "a compressed file cannot be followed", Next: "drop Follow, or exclude the file by the pattern"})
	}
	limits := codec.Limits{MaxRecord: env.Limits.MaxRecord, Depth: env.Limits.MaxDepth, Elems: env.Limits.MaxElems}.WithDefaults()
	format, err := s.format(limits)
	if err != nil {
		return nil, base.Fatal(err)
	}
	f, err := s.fs.Open(name)
	if err != nil {
		return nil, readError(name, err)
	}
	r := &reader[T]{
		name: name, f: f, plain: c == Plain, free: func() {}, format: format, blanks: s.blanks, follow: s.follow, clock: env.Clock,
		pos: after.Offset, done: after.Done, resume: after.Offset, header: s.rows && s.columns == nil,
	}
	if err := s.start(r, split, after, c, limits.MaxRecord); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

// start checks the file against what is known of it and sets the reader to its
// beginning.
func (s *Source[T]) start(r *reader[T], split connectors.Split, after connectors.Position, c Compression, maxRecord int) error {
	text := after.Identity
	if text == "" {
		text = split.Identity
	}
	var offset uint64
	if r.plain {
		offset = after.Offset
	}
	known, err := identifyFile(r.f)
	if err != nil {
		return readError(r.name, err)
	}
	if text != "" {
		if known, err = parseIdentity(text); err != nil {
			return base.Fatal(&base.Error{Code: CodeIdentity, Where: r.name, What: "the stored position does not belong to a file", Next: "start the job without its state", Cause: errors.Join(err, connectors.ErrIdentity)})
		}
	}
	if r.known, err = s.verify(r.f, r.name, known, offset); err != nil {
		return err
	}
	r.raw = &fileReader{f: r.f, end: r.known.size}
	r.scan = scanner{src: r.raw, max: maxRecord, final: s.follow == 0}
	if s.rows {
		r.scan.comma = ','
		if s.comma != 0 {
			r.scan.comma = byte(s.comma)
		}
	}
	if !r.plain {
		u, err := unpack(r.name, c, r.raw, s.ratio)
		if err != nil {
			return err
		}
		r.scan.src, r.free = u, u.free
	}
	return nil
}

// Poll implements connectors.Reader.
func (r *reader[T]) Poll(dst *connectors.Records[T], max int) (connectors.Poll, error) {
	if r.done {
		return connectors.Poll{End: true}, nil
	}
	budget := turnBytes
	for n := 0; n < max; {
		if r.plain && !r.header && r.resume > r.scan.off {
			r.seek(r.resume)
		}
		before := r.scan.off
		line, end, what, err := r.scan.next()
		switch {
		case err != nil:
			return connectors.Poll{}, r.wrap(err)
		case what == gotTurn:
			return connectors.Poll{More: true}, nil
		case what == gotNone:
			return r.exhausted()
		}
		if took, err := r.take(dst, line, end, what); err != nil {
			return connectors.Poll{}, err
		} else if took {
			n++
		}
		// Lines that give no record count too, so that a turn has an end.
		if budget -= int(end - before); budget <= 0 {
			break
		}
	}
	return connectors.Poll{More: true}, nil
}

// take hands a line over, unless it is no record or one that was handed over in
// an earlier run.
func (r *reader[T]) take(dst *connectors.Records[T], line []byte, end uint64, what outcome) (bool, error) {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if r.header {
		return false, r.takeHeader(line, what)
	}
	if r.records == 0 && r.pos == 0 {
		line = bytes.TrimPrefix(line, byteOrderMark)
	}
	if what == gotLine && r.blank(line) {
		return false, nil
	}
	r.records++
	pos := end
	if !r.plain {
		if pos = r.records; pos <= r.resume {
			return false, nil
		}
	}
	r.pos = pos
	if what == gotLong {
		r.bad(dst, line, &base.Error{
			Code: CodeTooLong, Where: r.name, What: fmt.Sprintf("a line is longer than %d bytes", r.scan.max),
			Next: "raise the record limit if such records are legitimate",
		})
		return true, nil
	}
	var v T
	if err := r.format.Decode(line, &v); err != nil {
		r.bad(dst, line, err)
		return true, nil
	}
	dst.Append(v, 0, pos, nil)
	return true, nil
}

// blank reports whether a line is none. A CSV row of blanks may be a row of empty
// fields.
func (r *reader[T]) blank(line []byte) bool {
	switch {
	case r.blanks:
		return false
	case r.scan.comma != 0:
		return len(line) == 0
	}
	return len(bytes.TrimSpace(line)) == 0
}

func (r *reader[T]) bad(dst *connectors.Records[T], line []byte, err error) {
	dst.Bad = append(dst.Bad, connectors.BadRecord{Pos: r.pos, Raw: bytes.Clone(line), Err: err})
}

// takeHeader lays the columns out by the first row of a file.
func (r *reader[T]) takeHeader(line []byte, what outcome) error {
	fail := func(cause error) error {
		return base.Fatal(&base.Error{Code: CodeHeader, Where: r.name, What: "the first row does not name the columns of the record type", Next: "correct the file, or name the columns by Columns", Cause: cause})
	}
	if what == gotLong {
		return fail(errors.New("it is longer than a record may be"))
	}
	f, err := any(r.format).(*codec.CSVFormat[T]).WithHeader(line)
	if err != nil {
		return fail(err)
	}
	r.format, r.header = f, false
	return nil
}

// seek goes to an offset of a plain file. What the scanner holds is dropped.
func (r *reader[T]) seek(off uint64) {
	s := &r.scan
	r.raw.off = int64(off)
	s.r, s.w, s.seen, s.dropped, s.off, s.state, s.ended = 0, 0, 0, 0, off, fieldStart, false
}

// exhausted says what follows when the file has no further line now.
func (r *reader[T]) exhausted() (connectors.Poll, error) {
	if !r.plain && r.records < r.resume {
		return connectors.Poll{}, lost(r.name, fmt.Sprintf("record %d was read before, and the file has %d", r.resume, r.records))
	}
	if r.follow == 0 {
		r.done = true
		return connectors.Poll{End: true}, nil
	}
	info, err := r.f.Stat()
	if err != nil {
		return connectors.Poll{}, readError(r.name, err)
	}
	if info.Size() < r.raw.off {
		return connectors.Poll{}, lost(r.name, fmt.Sprintf("the file was read up to byte %d and now has %d", r.raw.off, info.Size()))
	}
	return connectors.Poll{Due: r.clock.Now() + int64(r.follow)}, nil
}

// wrap gives an error of the scanner its code.
func (r *reader[T]) wrap(err error) error {
	if base.CodeOf(err) != "" {
		return err
	}
	return readError(r.name, err)
}

// Position implements connectors.Reader.
func (r *reader[T]) Position() connectors.Position {
	return connectors.Position{Started: true, Offset: r.pos, Identity: r.known.String(), Done: r.done}
}

// Lag implements connectors.Reader: the number of records that wait is not known.
func (r *reader[T]) Lag() int64 { return -1 }

// Close implements connectors.Reader.
func (r *reader[T]) Close() error {
	r.free()
	return r.f.Close()
}
