package file

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// maxSmall bounds the files that are read whole: owners and markers.
const maxSmall = 2 << 20

// staged returns the path of a new staged file. Its name is random, because
// writers that do not know each other stage in one directory, and two of them
// must never write one file.
func (w *laneWriter) staged(suffix string) string {
	var name [16]byte
	_, _ = rand.Read(name[:]) // never fails, says its documentation
	return w.t.path(adminDir, stagedDir, hex.EncodeToString(name[:])+suffix)
}

// discard removes a staged file that nothing names.
func (w *laneWriter) discard(name string) error {
	err := w.t.fs.Remove(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// fileWriter collects bytes for a file. It copies them, because a vfs.File may
// change what it is given.
type fileWriter struct {
	f   vfs.File
	buf []byte
	err error
}

func (w *fileWriter) write(p []byte) {
	w.buf = append(w.buf, p...)
	if len(w.buf) >= 256<<10 {
		w.flush()
	}
}

func (w *fileWriter) flush() {
	if w.err == nil && len(w.buf) > 0 {
		_, w.err = w.f.Write(w.buf)
	}
	w.buf = w.buf[:0]
}

// writeFile writes a new file and syncs it, but not its directory.
func writeFile(fs vfs.FS, name string, body func(*fileWriter)) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w := &fileWriter{f: f}
	body(w)
	w.flush()
	if w.err == nil {
		w.err = f.Sync()
	}
	return errors.Join(w.err, f.Close())
}

// readFile reads a small file.
func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(b) > maxSmall {
		err = errors.New("the file is far too large: " + name)
	}
	return b, errors.Join(err, f.Close())
}

// syncDir makes the entries of a directory durable.
func syncDir(fs vfs.FS, name string) error {
	d, err := fs.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
