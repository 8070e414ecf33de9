package state

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// spillFS is the file system of the spill store. After the first failed write of
// the store everything in it is worthless, but Pebble would repeat the write for
// ever and block whoever waits for it. Then writes pretend to succeed, so that
// Pebble comes to an end; the store itself answers with the error from then on.
type spillFS struct {
	vfs.FS
	dead *atomic.Bool
	void vfs.FS // takes files that cannot be created any more
}

func (f *spillFS) wrap(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &spillFile{file, f.dead}, nil
}

// Create implements vfs.FS.
func (f *spillFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f.dead.Load() {
		return f.void.Create("void", c)
	}
	return f.wrap(f.FS.Create(name, c))
}

// ReuseForWrite implements vfs.FS.
func (f *spillFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f.dead.Load() {
		return f.void.Create("void", c)
	}
	return f.wrap(f.FS.ReuseForWrite(old, name, c))
}

// OpenDir implements vfs.FS.
func (f *spillFS) OpenDir(name string) (vfs.File, error) { return f.wrap(f.FS.OpenDir(name)) }

// Rename implements vfs.FS.
func (f *spillFS) Rename(old, name string) error {
	if err := f.FS.Rename(old, name); err != nil && !f.dead.Load() {
		return err
	}
	return nil
}

// Remove implements vfs.FS.
func (f *spillFS) Remove(name string) error {
	if err := f.FS.Remove(name); err != nil && !f.dead.Load() {
		return err
	}
	return nil
}

// Unwrap implements vfs.FS.
func (f *spillFS) Unwrap() vfs.FS { return f.FS }

// spillFile is a file of a spillFS.
type spillFile struct {
	vfs.File
	dead *atomic.Bool
}

// excuse hides an error of a dead store.
func (f *spillFile) excuse(err error) error {
	if f.dead.Load() {
		return nil
	}
	return err
}

// Write implements vfs.File.
func (f *spillFile) Write(b []byte) (int, error) {
	if f.dead.Load() {
		return len(b), nil
	}
	return f.File.Write(b)
}

// Sync implements vfs.File.
func (f *spillFile) Sync() error { return f.excuse(f.File.Sync()) }

// SyncData implements vfs.File.
func (f *spillFile) SyncData() error { return f.excuse(f.File.SyncData()) }

// SyncTo implements vfs.File.
func (f *spillFile) SyncTo(n int64) (bool, error) {
	full, err := f.File.SyncTo(n)
	return full, f.excuse(err)
}

// Preallocate implements vfs.File.
func (f *spillFile) Preallocate(off, n int64) error { return f.excuse(f.File.Preallocate(off, n)) }

// Close implements vfs.File.
func (f *spillFile) Close() error { return f.excuse(f.File.Close()) }
