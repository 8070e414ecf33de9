//go:build !unix

package natsd

import (
	"os"
	"path/filepath"
)

// dirLock shows that the directory can be written; it guards nothing here.
type dirLock struct{ f *os.File }

func lockDir(dir string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "weir-nats.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, dirError(dir, err)
	}
	return &dirLock{f}, nil
}

func (l *dirLock) release() { l.f.Close() }
