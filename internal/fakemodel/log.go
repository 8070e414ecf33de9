package fakemodel

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/weirflow/weir/internal/base"
)

// logFile appends to the file of the books. A nil one does nothing. Each line is
// handed to the operating system before the call goes on: it survives the end of the
// process, not that of the machine.
type logFile struct{ f *os.File }

// logLine is one line of the log: a request began, or ended.
type logLine struct {
	At  string `json:"at"` // "begin" or "end"
	Seq uint64 `json:"seq"`

	Model   string   `json:"model,omitempty"`
	Version string   `json:"version,omitempty"`
	Path    string   `json:"path,omitempty"`
	Items   int      `json:"items,omitempty"`
	Keys    []string `json:"keys,omitempty"`
	Started int64    `json:"started,omitempty"`

	Finished  int64   `json:"finished,omitempty"`
	Outcome   Outcome `json:"outcome,omitempty"`
	Status    int     `json:"status,omitempty"`
	Processed bool    `json:"processed,omitempty"`
}

func (l *logFile) begin(r *record) error {
	c := &r.call
	return l.write(logLine{
		At: "begin", Seq: c.Seq, Model: c.Model, Version: c.Version, Path: c.Path, Items: c.Items, Keys: r.keys, Started: c.Started,
	})
}

func (l *logFile) end(r *record) error {
	c := &r.call
	return l.write(logLine{At: "end", Seq: c.Seq, Finished: c.Finished, Outcome: c.Outcome, Status: c.Status, Processed: c.Processed})
}

func (l *logFile) write(line logLine) error {
	if l == nil {
		return nil
	}
	text, err := json.Marshal(line)
	if err == nil {
		_, err = l.f.Write(append(text, '\n'))
	}
	return err
}

func (l *logFile) close() error {
	if l == nil {
		return nil
	}
	return l.f.Close()
}

// maxLogLine bounds a line that is read back.
const maxLogLine = 64 << 20

// openLog opens the file, reads into the books what earlier processes wrote, and
// makes the books append to it. A line that a kill cut off is passed over.
func (b *book) openLog(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return logError(path, err)
	}
	if err := b.replay(f); err != nil {
		_ = f.Close()
		return logError(path, err)
	}
	b.log = &logFile{f: f}
	return nil
}

func logError(path string, err error) error {
	return &base.Error{
		Code: codeValue, What: "the log of the fake model server cannot be used", Where: path, Cause: err,
		Next: "name a file that a fake model server wrote, or one that does not exist yet",
	}
}

func (b *book) replay(f *os.File) error {
	in := bufio.NewScanner(f)
	in.Buffer(make([]byte, 64<<10), maxLogLine)
	running := map[uint64]*record{}
	for n := 1; in.Scan(); n++ {
		var l logLine
		err := json.Unmarshal(in.Bytes(), &l)
		switch {
		case err != nil && !cutOff(in.Text()):
			return fmt.Errorf("line %d is not of a log", n)
		case err != nil:
		case l.At == "begin":
			r := &record{keys: l.Keys, call: Call{
				Seq: l.Seq, Model: l.Model, Version: l.Version, Path: l.Path, Items: l.Items, Started: l.Started, Outcome: Running,
			}}
			b.add(r)
			b.seq = max(b.seq, l.Seq)
			running[l.Seq] = r
		case l.At == "end" && running[l.Seq] != nil:
			b.finish(running[l.Seq], l.Finished, l.Outcome, l.Status, l.Processed)
			delete(running, l.Seq)
		case l.At != "end":
			return fmt.Errorf("line %d is not of a log", n)
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	for _, r := range running {
		b.finish(r, 0, Lost, 0, false)
	}
	b.stats.MaxInFlight = b.stats.InFlight // of this process
	for _, m := range b.models {
		m.MaxInFlight = m.InFlight
	}
	return endLine(f)
}

// cutOff reports whether a line begins as those of a log do.
func cutOff(line string) bool {
	const begin = `{"at":"`
	n := min(len(line), len(begin))
	return line[:n] == begin[:n]
}

// endLine ends a line that was cut off.
func endLine(f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, size-1); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if last[0] != '\n' {
		_, err = f.Write([]byte{'\n'})
	}
	return err
}
