// Package datadir guards the directory that holds everything of a job on this
// machine: checkpoints, the embedded NATS server's files, and working state. One
// process uses a directory at a time; a lock that the kernel drops with the
// process sees to that (on Unix; elsewhere the directory is not guarded).
package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/weirflow/weir/internal/base"
)

// Error codes of this package.
const (
	// CodeDir: the directory cannot be created, written or protected.
	CodeDir = "WEIR-0204"
	// CodeLocked: another process, or another job of this one, uses the directory.
	CodeLocked = "WEIR-0205"
)

// Dir is a data directory in use.
type Dir struct {
	path string
	lock *os.File
}

// lockFile holds the lock and the holder's process ID. Its name must not change:
// two releases of the program must see each other.
const lockFile = "weir.lock"

// Open creates the directory if it is absent, keeps other users out of it, and
// takes its lock. It fails with WEIR-0204 when the directory cannot be used and
// with WEIR-0205, which names the process, when it is in use.
func Open(path string) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, dirError(path, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, dirError(abs, err)
	}
	lock, err := takeLock(filepath.Join(abs, lockFile), abs)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(abs, 0o700); err != nil {
		return nil, errors.Join(dirError(abs, err), lock.Close())
	}
	return &Dir{path: abs, lock: lock}, nil
}

// Path returns the absolute path of a file or directory inside.
func (d *Dir) Path(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// Close gives the directory back. The lock file stays: removing it would race
// with the next holder.
func (d *Dir) Close() error { return d.lock.Close() }

func dirError(dir string, err error) error {
	e := &base.Error{
		Code: CodeDir, What: "the data directory cannot be used", Where: dir, Cause: err,
		Next: "check its owner and permissions, or choose another with --data-dir",
	}
	if errors.Is(err, syscall.ENOSPC) {
		e.Next = "free disk space, or choose another directory with --data-dir"
	}
	return e
}
