package torture

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The files of a run, in its directory.
const (
	InputFile  = "input.jsonl"
	OutputFile = "output.jsonl"
	FaultsFile = "faults.jsonl"

	crashFile = "crash.log"
)

// Line is one line of output.jsonl: a message that the reader saw, or, with
// Event, something that must not happen.
type Line struct {
	// Seq is the sequence of the message in its stream.
	Seq     uint64          `json:"seq"`
	Subject string          `json:"subject,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	// Event is "vanished" when a message that was read before is gone, and
	// "changed" when there is another in its place.
	Event string `json:"event,omitempty"`
}

// FaultLine is one line of faults.jsonl, written before the act.
type FaultLine struct {
	// Time is the wall clock, Millis the time since the storm began.
	Time   time.Time `json:"time"`
	Millis int64     `json:"ms"`
	// Kind is kill-job, kill-nats, arm (the job is killed and started with a crash
	// point armed), crash-point (the armed job has died), not-reached,
	// restart-job, restart-nats, job-exit, or storm-over.
	Kind string `json:"kind"`
	// Point and Hit are the crash point that is armed.
	Point string `json:"point,omitempty"`
	Hit   int    `json:"hit,omitempty"`
	// DuringRecovery marks faults that land before the job has published anything
	// since the one before.
	DuringRecovery bool   `json:"during_recovery,omitempty"`
	Parallelism    int    `json:"parallelism,omitempty"`
	Detail         string `json:"detail,omitempty"`
}

// journal appends to faults.jsonl. It may be used from several goroutines.
type journal struct {
	mu    sync.Mutex
	f     *os.File
	began time.Time
}

func openJournal(dir string) (*journal, error) {
	f, err := os.Create(filepath.Join(dir, FaultsFile))
	return &journal{f: f, began: time.Now()}, err
}

func (j *journal) note(l FaultLine) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	l.Time = time.Now().UTC()
	l.Millis = time.Since(j.began).Milliseconds()
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = j.f.Write(append(b, '\n'))
	return err
}

// eachLine decodes a file of JSON lines. An incomplete last line is an error.
func eachLine[T any](path string, f func(*T) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, 1<<16)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		v := new(T)
		if err := json.Unmarshal(line, v); err != nil {
			return fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		if err := f(v); err != nil {
			return fmt.Errorf("%s, line %d: %w", path, n, err)
		}
	}
}

// ReadInput reads input.jsonl.
func ReadInput(path string) ([]Record, error) {
	var out []Record
	err := eachLine(path, func(r *Record) error {
		if r.ID != uint64(len(out))+1 {
			return fmt.Errorf("record %d follows record %d", r.ID, len(out))
		}
		out = append(out, *r)
		return nil
	})
	return out, err
}

// CheckDir judges the files of a run and returns the verdict and the model.
func CheckDir(dir string) (*Report, *Model, error) {
	records, err := ReadInput(filepath.Join(dir, InputFile))
	if err != nil {
		return nil, nil, err
	}
	m := NewModel(records)
	c := NewCheck(m)
	err = eachLine(filepath.Join(dir, OutputFile), func(l *Line) error { return c.TakeLine(l) })
	if err != nil {
		return nil, nil, err
	}
	return c.Finish(), m, nil
}

// TakeLine takes the next line of output.jsonl. Its error says that the line
// cannot be read.
func (c *Check) TakeLine(l *Line) error {
	if l.Event != "" {
		c.rep.add(Wrong, 1, "message %d, seen before, has %s", l.Seq, l.Event)
		return nil
	}
	var o Output
	if err := json.Unmarshal(l.Data, &o); err != nil {
		return err
	}
	c.Take(&o)
	return nil
}
