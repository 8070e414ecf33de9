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

// Line is one line of the generator's log: exactly one field is set. A log is a
// directory with the file run.json, which holds the Config, and a file for every
// chapter; each of these begins with a Start.
type Line struct {
	Start *Start `json:"start,omitempty"`
	// Plant comes before the last event of a planted sequence. A generator that
	// was killed between the two may write it again.
	Plant *Plant `json:"plant,omitempty"`
	Sent  *Sent  `json:"sent,omitempty"`
	// End is the number of events in all; nothing follows.
	End uint64 `json:"end,omitempty"`
}

// Start says when events are due from one on.
type Start struct {
	// Session tells the runs of the demo on one log apart.
	Session string `json:"session"`
	From    uint64 `json:"from"`
	// Nanos is when event From was due, in nanoseconds since the epoch.
	Nanos int64 `json:"nanos"`
}

// Sent is an event that was sent or will be: the log is written ahead.
type Sent struct {
	I uint64 `json:"i"`
	Event
}

const configFile = "run.json"

func chapterFile(dir string, chapter uint64) string {
	return filepath.Join(dir, fmt.Sprintf("events-%06d.jsonl", chapter))
}

// Log is a log that is being written. It is used by one goroutine. After an error
// it must be opened anew.
type Log struct {
	dir     string
	c       Config
	f       *os.File
	chapter uint64
	buf     bytes.Buffer
	start   Start
	next    uint64
	ended   bool
}

// Reasons why a play cannot go on.
var (
	// ErrOther: the log was written with another Config.
	ErrOther = errors.New("the log is of another run")
	// ErrEnded: the log has its end.
	ErrEnded = errors.New("the run has ended")
)

// OpenLog opens the log in a directory or begins one. A session that is not that
// of the log's last Start gets a Start of its own, at now, in nanoseconds since
// the epoch.
func OpenLog(dir string, c Config, session string, now int64) (*Log, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := beginLog(dir, c); err != nil {
		return nil, err
	}
	l := &Log{dir: dir, c: c, chapter: lastChapter(dir)}
	l.next = l.chapter * c.ChapterLen()
	if err := l.recover(); err != nil {
		return nil, err
	}
	if l.ended || l.start.Session == session {
		return l, nil
	}
	l.start = Start{Session: session, From: l.next, Nanos: now}
	return l, errors.Join(l.put(Line{Start: &l.start}), l.Flush())
}

// lastChapter returns the number of the last chapter file; earlier ones may have
// been pruned.
func lastChapter(dir string) uint64 {
	files, err := filepath.Glob(filepath.Join(dir, "events-*.jsonl"))
	if err != nil || len(files) == 0 {
		return 0
	}
	var n uint64
	_, _ = fmt.Sscanf(filepath.Base(files[len(files)-1]), "events-%06d.jsonl", &n)
	return n
}

// CheckLog reports why the play of c cannot go on in a directory, nil where there
// is no log yet: ErrOther, ErrEnded, or that the log cannot be read.
func CheckLog(dir string, c Config) error {
	have, err := readConfig(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if have != c {
		return other(have, c)
	}
	b, err := os.ReadFile(chapterFile(dir, lastChapter(dir)))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && bytes.Contains(b, []byte(`{"end":`)) {
		err = ErrEnded
	}
	return err
}

func other(have, want Config) error {
	return fmt.Errorf("%w: it has seed %d, rate %d and speed %d, and wanted are %d, %d and %d",
		ErrOther, have.Seed, have.Rate, have.Speed, want.Seed, want.Rate, want.Speed)
}

// beginLog writes the configuration, or compares it.
func beginLog(dir string, c Config) error {
	path := filepath.Join(dir, configFile)
	have, err := readConfig(dir)
	switch {
	case err == nil && have != c:
		return other(have, c)
	case err == nil || !errors.Is(err, os.ErrNotExist):
		return err
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// readConfig fails with os.ErrNotExist where there is no log yet.
func readConfig(dir string) (Config, error) {
	var c Config
	b, err := os.ReadFile(filepath.Join(dir, configFile))
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("%s: %w", configFile, err)
	}
	return c, c.Check()
}

// recover opens the last chapter, cuts off a torn line and finds what is in it.
func (l *Log) recover() error {
	f, err := os.OpenFile(chapterFile(l.dir, l.chapter), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	l.f = f
	data, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	for line := range bytes.Lines(data[:whole]) {
		var v Line
		if err := json.Unmarshal(line, &v); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		switch {
		case v.Start != nil:
			l.start = *v.Start
		case v.Sent != nil:
			l.next = v.Sent.I + 1
		case v.End > 0:
			l.ended = true
		}
	}
	if err := f.Truncate(int64(whole)); err != nil {
		return err
	}
	_, err = f.Seek(int64(whole), io.SeekStart)
	return err
}

// Next returns the number of events in the log.
func (l *Log) Next() uint64 { return l.next }

// From returns the number of events of earlier sessions.
func (l *Log) From() uint64 { return l.start.From }

// Ended reports that the log has its End.
func (l *Log) Ended() bool { return l.ended }

// Due returns when event i is due, in nanoseconds since the epoch.
func (l *Log) Due(i uint64) int64 { return l.start.due(l.c, i) }

// due is s.Nanos for what an earlier session has left to send.
func (s Start) due(c Config, i uint64) int64 { return s.Nanos + c.Due(max(i, s.From)-s.From) }

// Append adds event i, which must be the next one, and what it ends. The lines
// are in the file after Flush.
func (l *Log) Append(e Event, plant *Plant) error {
	if ch := l.next / l.c.ChapterLen(); ch != l.chapter {
		if err := l.turnTo(ch); err != nil {
			return err
		}
	}
	if plant != nil {
		if err := l.put(Line{Plant: plant}); err != nil {
			return err
		}
	}
	err := l.put(Line{Sent: &Sent{I: l.next, Event: e}})
	l.next++
	return err
}

// End ends the log.
func (l *Log) End() error {
	l.ended = true
	return errors.Join(l.put(Line{End: l.next}), l.Flush())
}

func (l *Log) turnTo(chapter uint64) error {
	if err := errors.Join(l.Flush(), l.f.Close()); err != nil {
		return err
	}
	l.chapter = chapter
	var err error
	// Readers may look into a chapter as soon as it is there.
	if l.f, err = os.OpenFile(chapterFile(l.dir, chapter), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return err
	}
	return l.put(Line{Start: &l.start})
}

func (l *Log) put(v Line) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	l.buf.Write(b)
	return l.buf.WriteByte('\n')
}

// Flush writes what was added to the file. It is not synced: a log that lost its
// end with the machine is completed from the stream's length.
func (l *Log) Flush() error {
	if l.buf.Len() == 0 {
		return nil
	}
	_, err := l.f.Write(l.buf.Bytes())
	l.buf.Reset()
	return err
}

// Close closes the log without writing what was not flushed.
func (l *Log) Close() error { return l.f.Close() }
