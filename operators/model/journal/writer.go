package journal

import (
	"errors"
	"os"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// run carries out orders: all appends that have come in the meantime share a sync.
func (j *Journal) run() {
	defer close(j.ended)
	var taken []order
	for {
		j.mu.Lock()
		for len(j.queue) == 0 && !j.closed {
			j.cond.Wait()
		}
		if len(j.queue) == 0 {
			j.mu.Unlock()
			return
		}
		taken, j.queue = j.queue, taken[:0]
		j.mu.Unlock()
		for rest := taken; len(rest) > 0; {
			if rest[0].done == nil {
				j.confirm(&rest[0])
				rest = rest[1:]
				continue
			}
			k := slices.IndexFunc(rest, func(o order) bool { return o.done == nil })
			if k < 0 {
				k = len(rest)
			}
			j.write(rest[:k])
			rest = rest[k:]
		}
		clear(taken)
	}
}

// write appends the records of orders, each to the file of its epoch, and makes them
// durable.
func (j *Journal) write(orders []order) {
	var at base.Epoch
	n := 0
	flush := func() {
		if n == 0 {
			return
		}
		if err := j.flush(at); err != nil {
			j.failed.Add(int64(n))
			if j.told != at+1 { // once an epoch
				j.told = at + 1
				j.o.Logger.Error("results of model calls cannot be journaled and would be asked for again after a crash", "dir", j.o.Dir, "error", err)
			}
		}
		n, j.buf = 0, j.buf[:0]
	}
	for _, o := range orders {
		for i := range o.recs {
			r := &o.recs[i]
			if r.Epoch <= j.confirmed { // the checkpoint has it
				continue
			}
			if len(r.Data) > MaxRecord {
				j.failed.Add(1)
				continue
			}
			if r.Epoch != at {
				flush()
				at = r.Epoch
			}
			j.buf = appendRecord(j.buf, r)
			if n++; len(j.buf) > flushBytes {
				flush()
			}
		}
	}
	flush()
	for _, o := range orders {
		o.done()
	}
	if cap(j.buf) > 2*flushBytes {
		j.buf = nil
	}
}

// flushBytes is how much is gathered for one write at most, but for a larger record.
const flushBytes = 4 << 20

// flush writes the buffer to the file of an epoch and syncs it. A file whose write
// failed is not written again.
func (j *Journal) flush(epoch base.Epoch) error {
	i := slices.IndexFunc(j.files, func(f *file) bool { return f.epoch == epoch && f.f != nil })
	if i < 0 {
		f, err := create(j.o.Dir, epoch, false, j.o.Subtask)
		if err != nil {
			return err
		}
		j.files = append(j.files, &file{f: f, path: f.Name(), epoch: epoch})
		i = len(j.files) - 1
	}
	f := j.files[i]
	_, err := f.f.Write(j.buf)
	if err == nil {
		err = f.f.Sync()
	}
	f.bytes += int64(len(j.buf))
	j.bytes.Add(int64(len(j.buf)))
	if err != nil {
		err = errors.Join(err, f.f.Close())
		f.f = nil
	}
	return err
}

// confirm deletes what a durable epoch makes needless.
func (j *Journal) confirm(o *order) {
	j.confirmed = max(j.confirmed, o.confirm)
	// All subtasks have copied what they need of the old files: none confirms before
	// all have started.
	for _, path := range j.old {
		j.remove(path)
	}
	j.old = nil
	if o.drop && j.carried != "" {
		j.remove(j.carried)
		j.carried = ""
	}
	before := j.bytes.Load()
	j.files = slices.DeleteFunc(j.files, func(f *file) bool {
		if f.epoch > j.confirmed {
			return false
		}
		if f.f != nil {
			if err := f.f.Close(); err != nil {
				j.o.Logger.Warn("a journal could not be closed", "file", f.path, "error", err)
			}
		}
		j.remove(f.path)
		j.bytes.Add(-f.bytes)
		return true
	})
	if j.o.Freed != nil && j.bytes.Load() < before {
		j.o.Freed()
	}
}

func (j *Journal) remove(path string) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		j.o.Logger.Warn("a journal that is not needed could not be deleted", "file", path, "error", err)
	}
}
