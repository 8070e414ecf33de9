package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/weirflow/weir/internal/base"
)

// Options says where a journal is and what it starts from.
type Options struct {
	// Dir is the operator's directory; it is made when it is absent.
	Dir string
	// Subtask is the number of the subtask that the journal belongs to, Parallelism how
	// many there are: each deletes the old files under its own number, and those under
	// numbers that are no more.
	Subtask, Parallelism int
	// Epoch is the checkpoint that the job starts from; 0 for none.
	Epoch base.Epoch
	// Keep says that the subtask has the records of a key hash.
	Keep func(hash uint64) bool
	// Freed is called, from another goroutine, when Bytes has shrunk; may be nil.
	Freed  func()
	Logger *slog.Logger
}

// Bounds of how long results that nobody asks for are kept: a record that comes out
// different in a replay leaves one behind.
const (
	maxConfirms = 1000   // epochs of one run
	maxAge      = 10_000 // epochs since it was written
)

// Journal is the journal of one subtask. Take, Left, Append, Barrier, Confirm and Close
// are for one goroutine, except that Append may be called by any; the writing is done by
// a goroutine of the journal.
type Journal struct {
	o      Options
	loaded map[ID][]byte
	// covered is the epoch with which all that was loaded is covered; 0: not yet.
	covered  base.Epoch
	confirms int

	bytes  atomic.Int64
	failed atomic.Int64

	mu     sync.Mutex
	cond   *sync.Cond
	queue  []order
	closed bool
	ended  chan struct{}

	// Of the writer.
	files     []*file
	confirmed base.Epoch
	told      base.Epoch // of the last error that was logged
	old       []string   // files of earlier runs
	carried   string     // the file of what was loaded; "" for none
	buf       []byte
}

// file is a file that is written, or was and is still needed.
type file struct {
	f     *os.File // nil: closed
	path  string
	epoch base.Epoch
	bytes int64
}

// order is something for the writer to do.
type order struct {
	recs []Record
	done func()
	// confirm, if done is nil, is the epoch that is durable; drop says that carry is
	// needed no more.
	confirm base.Epoch
	drop    bool
}

// Open reads what earlier runs have left, and starts the writer. An error of the file
// system is returned as it is.
func Open(o Options) (*Journal, error) {
	j := &Journal{o: o, loaded: map[ID][]byte{}, ended: make(chan struct{}), confirmed: o.Epoch}
	j.cond = sync.NewCond(&j.mu)
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	recs, err := j.load()
	if err != nil {
		return nil, fmt.Errorf("the journal in %s: %w", o.Dir, err)
	}
	if err := j.copy(recs); err != nil {
		return nil, fmt.Errorf("the journal in %s: %w", o.Dir, err)
	}
	go j.run()
	return j, nil
}

// load reads the files of earlier runs. Those that no checkpoint to come can need are
// deleted.
func (j *Journal) load() ([]Record, error) {
	entries, err := os.ReadDir(j.o.Dir)
	if err != nil {
		return nil, err
	}
	var recs []Record
	for _, e := range entries {
		epoch, subtask, carried, ok := parse(e.Name())
		if !ok || e.IsDir() {
			continue
		}
		path := filepath.Join(j.o.Dir, e.Name())
		if !carried && epoch <= j.o.Epoch {
			j.remove(path)
			continue
		}
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) { // another subtask knows that it is not needed
			continue
		}
		if err != nil {
			return nil, err
		}
		err = readRecords(f, func(r Record) {
			if _, dup := j.loaded[r.ID]; !dup && j.o.Keep(r.Hash) && r.Epoch+maxAge > j.o.Epoch {
				j.loaded[r.ID] = r.Data
				recs = append(recs, r)
			}
		})
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if errors.Is(err, errTorn) {
			j.o.Logger.Info("a journal of model calls ends in the middle of a result, as after a crash; its call is made again", "file", path)
		} else if err != nil {
			return nil, err
		}
		// What another subtask has under its number may be of this run already.
		if subtask == j.o.Subtask || subtask >= j.o.Parallelism {
			j.old = append(j.old, path)
		}
	}
	return recs, nil
}

// copy writes what was loaded to a file of this run, so that the old ones can go.
func (j *Journal) copy(recs []Record) error {
	if len(recs) == 0 {
		return nil
	}
	f, err := create(j.o.Dir, 0, true, j.o.Subtask)
	if err != nil {
		return err
	}
	j.carried = f.Name()
	for i := range recs {
		j.buf = appendRecord(j.buf[:0], &recs[i])
		if _, err := f.Write(j.buf); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Sync(), f.Close())
}

// Take returns the result of an input that an earlier run has journaled, and forgets
// it.
func (j *Journal) Take(id ID) (data []byte, ok bool) {
	if data, ok = j.loaded[id]; ok {
		delete(j.loaded, id)
	}
	return data, ok
}

// Left returns how many results of earlier runs have not been taken.
func (j *Journal) Left() int { return len(j.loaded) }

// Bytes returns the size of the files that this run has written and still needs.
func (j *Journal) Bytes() int64 { return j.bytes.Load() }

// Failed returns how many results could not be written.
func (j *Journal) Failed() int64 { return j.failed.Load() }

// Append writes records and calls done, from another goroutine, when they are durable or
// cannot be made so. Calls are carried out in their order. The records' data must not
// change until then. After Close it does nothing.
func (j *Journal) Append(recs []Record, done func()) { j.put(order{recs: recs, done: done}) }

// Barrier says that the snapshot of an epoch is taken: it holds every record whose
// result was taken by now, or the record's effects.
func (j *Journal) Barrier(n base.Epoch) {
	if len(j.loaded) == 0 && j.covered == 0 {
		j.covered = n
	}
}

// Confirm says that an epoch is durable.
func (j *Journal) Confirm(n base.Epoch) {
	if j.confirms++; j.confirms > maxConfirms && len(j.loaded) > 0 {
		j.o.Logger.Warn("results of model calls from before the start were not asked for and are dropped", "dir", j.o.Dir, "results", len(j.loaded))
		clear(j.loaded)
	}
	j.put(order{confirm: n, drop: j.covered != 0 && j.covered <= n})
}

func (j *Journal) put(o order) {
	j.mu.Lock()
	if !j.closed {
		j.queue = append(j.queue, o)
	}
	j.mu.Unlock()
	j.cond.Signal()
}

// Close writes what is queued and ends the writer. The files stay.
func (j *Journal) Close() error {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	j.cond.Signal()
	<-j.ended
	var errs []error
	for _, f := range j.files {
		if f.f != nil {
			errs = append(errs, f.f.Close())
		}
	}
	return errors.Join(errs...)
}
