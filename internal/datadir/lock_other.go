//go:build !unix

package datadir

import "os"

// takeLock shows that the directory can be written; it guards nothing here.
func takeLock(name, dir string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, dirError(dir, err)
	}
	return f, nil
}
