package file

import (
	"bytes"
	"io"
)

const (
	// minBuffer is the first size of a scanner's buffer.
	minBuffer = 64 << 10
	// turnBytes is how much one call of next may read in vain before it gives its
	// caller a turn.
	turnBytes = 1 << 20
)

// scanner cuts a stream of bytes into lines, or into CSV rows. It holds at most
// max bytes of a line, whatever the input; the rest of a longer line is read and
// dropped.
type scanner struct {
	src io.Reader
	max int
	// comma is the separator when the lines are CSV rows, whose quoted fields may
	// hold line breaks; 0 for lines.
	comma byte
	// final: the end of the stream ends the last line.
	final bool

	buf     []byte
	r, w    int      // buf[r:w] is unread
	seen    int      // buf[r:r+seen] holds no end of the line
	dropped uint64   // bytes of the line that were read and dropped
	off     uint64   // offset of the start of the line, in the stream
	state   rowState // of a row, after the bytes seen
	ended   bool
}

// outcome is what next found.
type outcome uint8

const (
	gotLine outcome = iota
	gotLong         // a line over the limit; line is its beginning
	gotNone         // the stream has no further line now
	gotTurn         // much was read, and no line ended yet
)

// next returns the next line without its line break, and the offset behind it. The
// line is valid until the next call.
func (s *scanner) next() (line []byte, end uint64, what outcome, err error) {
	for budget := turnBytes; ; {
		if i := s.find(); i >= 0 {
			line, end, what = s.cut(i, 1)
			return line, end, what, nil
		}
		if s.ended {
			if !s.final || s.r == s.w && s.dropped == 0 {
				s.ended = false // a file may grow
				return nil, 0, gotNone, nil
			}
			line, end, what = s.cut(s.w-s.r, 0)
			return line, end, what, nil
		}
		if budget <= 0 {
			return nil, 0, gotTurn, nil
		}
		n, err := s.fill()
		if err != nil {
			return nil, 0, gotNone, err
		}
		budget -= max(n, 1)
	}
}

// cut ends the line after n unread bytes; skip is the length of the line break.
func (s *scanner) cut(n, skip int) (line []byte, end uint64, what outcome) {
	line = s.buf[s.r : s.r+n]
	if s.dropped > 0 || n > s.max {
		line, what = line[:min(n, s.max)], gotLong
	}
	end = s.off + s.dropped + uint64(n+skip)
	s.r += n + skip
	s.off, s.dropped, s.seen, s.state = end, 0, 0, fieldStart
	return line, end, what
}

// find returns the index of the line break in the unread bytes, or -1.
func (s *scanner) find() int {
	unread := s.buf[s.r:s.w]
	if s.comma != 0 {
		return s.findRow(unread)
	}
	if i := bytes.IndexByte(unread[s.seen:], '\n'); i >= 0 {
		return s.seen + i
	}
	s.seen = len(unread)
	return -1
}

// rowState says where in a CSV row the scanner stands.
type rowState uint8

const (
	fieldStart rowState = iota
	bareField
	quotedField
	quoteClosed // a quote ended the quoted field, or is the first of two
)

// findRow is find for CSV: a quote opens a quoted field at the start of a field
// only.
func (s *scanner) findRow(unread []byte) int {
	for ; s.seen < len(unread); s.seen++ {
		c := unread[s.seen]
		switch {
		case s.state == quotedField:
			if c == '"' {
				s.state = quoteClosed
			}
		case c == '\n':
			return s.seen
		case c == s.comma:
			s.state = fieldStart
		case c == '"' && s.state != bareField:
			s.state = quotedField
		default:
			s.state = bareField
		}
	}
	return -1
}

// fill reads more bytes of the line and returns how many.
func (s *scanner) fill() (int, error) {
	if s.w-s.r > s.max {
		// The line is too long. Its beginning stays, and the rest makes room.
		keep := s.r + s.max
		s.dropped += uint64(s.w - keep)
		s.seen -= s.w - keep
		s.w = keep
	}
	if s.r > 0 && s.w == len(s.buf) {
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.r = 0
	}
	if s.w == len(s.buf) {
		grown := make([]byte, max(minBuffer, 2*len(s.buf)))
		s.w = copy(grown, s.buf[s.r:s.w])
		s.r, s.buf = 0, grown
	}
	n, err := s.src.Read(s.buf[s.w:])
	s.w += n
	if err == io.EOF {
		s.ended, err = true, nil
	}
	return n, err
}
