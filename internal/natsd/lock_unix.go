//go:build unix

package natsd

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weirflow/weir/internal/base"
)

// dirLock is the exclusive use of a directory. The kernel drops it with the
// process, so a kill leaves nothing to clean up.
type dirLock struct{ f *os.File }

// lockDir takes the lock of dir or says who holds it. The file also shows that
// the directory can be written.
func lockDir(dir string) (*dirLock, error) {
	name := filepath.Join(dir, "weir-nats.lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, dirError(dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, dirError(dir, err)
		}
		return nil, &base.Error{Code: CodeLocked, What: "another NATS server uses the directory" + holder(f), Where: dir,
			Next: "stop that process, or choose another directory"}
	}
	if err := writePID(f); err != nil {
		f.Close()
		return nil, dirError(dir, err)
	}
	return &dirLock{f}, nil
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder names the process that wrote the lock file, when it is readable.
func holder(f *os.File) string {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0)
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n]))); err == nil {
		return " (process " + strconv.Itoa(pid) + ")"
	}
	return ""
}

// release gives the lock back. The file stays: removing it would race with the
// next holder.
func (l *dirLock) release() { l.f.Close() }
