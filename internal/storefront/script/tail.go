package script

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Tail reads a log while it is written. It is used by one goroutine.
type Tail struct {
	dir     string
	c       Config
	known   bool // c was read
	f       *os.File
	chapter uint64
	off     int64 // behind the last whole line that was read
	buf     []byte
	rest    []byte
	start   Start
	next    uint64
}

// NewTail returns a reader of the log in a directory, which need not exist yet.
func NewTail(dir string) *Tail { return &Tail{dir: dir} }

// Next returns the next line. ok is false when there is none yet. due, in
// nanoseconds since the epoch, is set for events.
func (t *Tail) Next() (line Line, due int64, ok bool, err error) {
	for {
		raw, ok, err := t.line()
		if err != nil || !ok {
			return line, 0, false, err
		}
		line = Line{}
		if err := json.Unmarshal(raw, &line); err != nil {
			return line, 0, false, fmt.Errorf("%s: %w", t.f.Name(), err)
		}
		switch {
		case line.Start != nil:
			t.start = *line.Start
		case line.Sent != nil:
			if line.Sent.I != t.next {
				return line, 0, false, fmt.Errorf("%s: event %d where %d should be", t.f.Name(), line.Sent.I, t.next)
			}
			t.next++
			return line, t.start.due(t.c, line.Sent.I), true, nil
		default:
			return line, 0, true, nil
		}
	}
}

// line returns the next whole line, turning to the next chapter where one ends.
func (t *Tail) line() ([]byte, bool, error) {
	for {
		if i := bytes.IndexByte(t.rest, '\n'); i >= 0 {
			raw := t.rest[:i]
			t.rest = t.rest[i+1:]
			t.off += int64(i + 1)
			return raw, true, nil
		}
		// A torn line may still be replaced by another, so it is read again.
		t.rest = nil
		if err := t.open(); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return nil, false, nil
			}
			return nil, false, err
		}
		if t.buf == nil {
			t.buf = make([]byte, 256<<10)
		}
		n, err := t.f.ReadAt(t.buf, t.off)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, false, err
		}
		t.rest = t.buf[:n]
		if bytes.IndexByte(t.rest, '\n') >= 0 {
			continue
		}
		if n == len(t.buf) {
			return nil, false, fmt.Errorf("%s: a line is longer than %d bytes", t.f.Name(), len(t.buf))
		}
		if t.next < (t.chapter+1)*t.c.ChapterLen() {
			return nil, false, nil
		}
		if ok, err := t.turn(); err != nil || !ok {
			return nil, false, err
		}
	}
}

// open opens the chapter if it is not.
func (t *Tail) open() error {
	if t.f != nil {
		return nil
	}
	if !t.known {
		c, err := readConfig(t.dir)
		if err != nil {
			return err
		}
		t.c, t.known = c, true
	}
	f, err := os.Open(chapterFile(t.dir, t.chapter))
	t.f = f
	return err
}

// turn turns to the next chapter if it has begun.
func (t *Tail) turn() (bool, error) {
	f, err := os.Open(chapterFile(t.dir, t.chapter+1))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = t.f.Close()
	t.f, t.off, t.chapter = f, 0, t.chapter+1
	return true, err
}

// Events returns how many events were read.
func (t *Tail) Events() uint64 { return t.next }

// Prune removes the chapters that were read, except the last one.
func (t *Tail) Prune() error {
	files, err := filepath.Glob(filepath.Join(t.dir, "events-*.jsonl"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if t.chapter > 0 && f < chapterFile(t.dir, t.chapter-1) {
			if err := os.Remove(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close closes the log.
func (t *Tail) Close() error {
	if t.f == nil {
		return nil
	}
	return t.f.Close()
}
