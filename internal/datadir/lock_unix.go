//go:build unix

package datadir

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weirflow/weir/internal/base"
)

// takeLock takes the lock or says who holds it.
func takeLock(name, dir string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, dirError(dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, dirError(dir, err)
		}
		return nil, lockedError(f, dir)
	}
	if err := writePID(f); err != nil {
		return nil, errors.Join(dirError(dir, err), f.Close())
	}
	return f, nil
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// lockedError names the holder by what it wrote into the lock file.
func lockedError(f *os.File, dir string) error {
	e := &base.Error{
		Code: CodeLocked, What: "another process uses the data directory", Where: dir,
		Next: "stop that process, or choose another directory with --data-dir",
	}
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0) // a short read is the rule
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	switch {
	case err != nil: // its holder is about to write it
	case pid == os.Getpid():
		e.What = "another job of this process uses the data directory"
		e.Next = "give each job a directory of its own"
	default:
		e.What = "process " + strconv.Itoa(pid) + " uses the data directory"
	}
	return e
}
