package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
)

// spillDir is the directory below Options.Dir that is emptied at each start.
const spillDir = "spill"

// disk is the spill store: one Pebble for all backends of a store, without a
// log, opened when something has to be spilled for the first time. It is safe for
// concurrent use.
type disk struct {
	fs     vfs.FS
	dir    string // "" forbids spilling
	budget int64  // for block cache and memtables
	log    *slog.Logger

	once sync.Once
	db   *pebble.DB
	// fault is the first error; nothing is trusted after it.
	fault atomic.Pointer[base.Error]
	dead  atomic.Bool
	ids   atomic.Uint64

	mono    func() int64
	stalled atomic.Int64 // nanoseconds
	// life is held while opened, the same as db, is closed or looked at from outside.
	life   sync.RWMutex
	opened atomic.Pointer[pebble.DB]
}

// openDisk prepares the spill store and returns how much of the budget is left
// for tables and buffers.
func openDisk(o *Options) (*disk, int64, error) {
	d := &disk{fs: o.FS, log: o.Logger, mono: o.Clock.Mono}
	if o.Dir == "" {
		return d, o.Memory, nil
	}
	d.dir = o.FS.PathJoin(o.Dir, spillDir)
	d.budget = max(o.Memory/6, 2<<20)
	err := o.FS.RemoveAll(d.dir)
	if err == nil {
		err = o.FS.MkdirAll(d.dir, 0o700)
	}
	if err != nil {
		return nil, 0, stateError(CodeOpen, "the state directory cannot be used", d.dir, "name a directory that this user may write to", err)
	}
	return d, max(o.Memory*2/3-d.budget/4, 4<<20), nil
}

// enabled says that entries may be spilled.
func (d *disk) enabled() bool { return d.dir != "" }

// open opens Pebble once and returns it; nil after a fault.
func (d *disk) open() *pebble.DB {
	d.once.Do(func() {
		limitArenas()
		db, err := pebble.Open(d.dir, d.options())
		if err != nil {
			d.fail(err)
			return
		}
		d.db = db
		d.opened.Store(db)
	})
	if d.fault.Load() != nil {
		return nil
	}
	return d.db
}

// options size Pebble for the budget. Memtables are charged to the cache, so it
// is larger than the two of them.
func (d *disk) options() *pebble.Options {
	memtable := min(max(d.budget/4, 256<<10), 64<<20)
	o := &pebble.Options{
		FS:                          &spillFS{d.fs, &d.dead, vfs.NewMem()},
		Logger:                      spillLogger{d},
		DisableWAL:                  true,
		CacheSize:                   d.budget,
		MemTableSize:                uint64(memtable),
		MemTableStopWritesThreshold: 2,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               max(3*d.budget, 64<<20), // one level less to ask
		MaxOpenFiles:                512,
		FormatMajorVersion:          pebble.FormatNewest,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
	}
	for i := range o.Levels {
		o.Levels[i].BlockSize = 4 << 10        // reads are of single entries
		o.Levels[i].IndexBlockSize = 256 << 10 // one level of index
		o.Levels[i].FilterPolicy = pebble.NoFilterPolicy
		if i < len(o.Levels)-1 { // Get does not ask those of the last level
			o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		}
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	o.Experimental.ValueSeparationPolicy = separation
	o.EventListener = &pebble.EventListener{BackgroundError: func(err error) { d.fail(err) }}
	d.stalls(o.EventListener)
	return o
}

// separation keeps larger values in files of their own, so that compactions, which
// take as much time as reads, move keys only. Values change at random, so a file of
// them is rewritten when half of it is garbage: they take up to twice their size.
func separation() pebble.ValueSeparationPolicy {
	return pebble.ValueSeparationPolicy{
		Enabled: true, MinimumSize: separateMin, MaxBlobReferenceDepth: 64, RewriteMinimumAge: 5 * time.Second, TargetGarbageRatio: 0.5,
	}
}

// separateMin is the size of a value from which it is kept apart from its key.
const separateMin = 256

// fail records the first fault and lets Pebble run empty.
func (d *disk) fail(err error) {
	e := stateError(CodeSpill, "state that does not fit in memory cannot be kept on disk", d.dir,
		"make room on the disk, or raise the memory budget; the job restarts from its last checkpoint", err)
	if d.fault.CompareAndSwap(nil, e) {
		d.log.Error("the spill store has failed", "dir", d.dir, "error", err.Error())
	}
	d.dead.Store(true)
}

func (d *disk) close() error {
	d.once.Do(func() {})
	if d.db == nil {
		return nil
	}
	d.life.Lock()
	d.opened.Store(nil)
	d.life.Unlock()
	err := d.closeDB()
	if d.fault.Load() != nil {
		return nil // it was reported when it happened
	}
	return err
}

// closeDB closes Pebble, which panics when a failed write left it inconsistent.
func (d *disk) closeDB() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("close the spill store: %v", p)
		}
	}()
	return d.db.Close()
}

// get appends the stored value of a key to dst. The error is recorded as a fault.
func (d *disk) get(key, dst []byte) (val []byte, ok bool, err error) {
	db := d.open()
	if db == nil {
		return nil, false, d.fault.Load()
	}
	v, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, false, nil
	}
	if err != nil {
		d.fail(err)
		return nil, false, d.fault.Load()
	}
	dst = append(dst, v...)
	if err := closer.Close(); err != nil {
		d.fail(err)
		return nil, false, d.fault.Load()
	}
	return dst, true, nil
}

// apply commits a batch and closes it.
func (d *disk) apply(b *pebble.Batch) error {
	err := errors.Join(b.Commit(pebble.NoSync), b.Close())
	if err != nil {
		d.fail(err)
	}
	if f := d.fault.Load(); f != nil {
		return f
	}
	return nil
}

// drop forgets the spilled entries of a table.
func (d *disk) drop(t *Table) {
	if t.disk == nil {
		return
	}
	t.disk.filter.release(t.b.mem)
	db := d.open()
	if db == nil {
		return
	}
	lo := binary.BigEndian.AppendUint64(nil, t.disk.id)
	hi := binary.BigEndian.AppendUint64(nil, t.disk.id+1)
	if err := db.DeleteRange(lo, hi, pebble.NoSync); err != nil {
		d.fail(err)
	}
	t.disk = nil
	t.b.spillSeq++
}

// spillLogger keeps Pebble from ending the process.
type spillLogger struct{ d *disk }

// Infof implements pebble.Logger.
func (spillLogger) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (l spillLogger) Errorf(format string, args ...any) {
	l.d.log.Warn("spill store: " + fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger: the job stops, not the process.
func (l spillLogger) Fatalf(format string, args ...any) { l.d.fail(fmt.Errorf(format, args...)) }
