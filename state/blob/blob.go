// Package blob holds checkpoint stores: named, immutable or replaceable byte
// strings with a durable put-if-absent, which is all that the protocol asks of a
// store.
//
// Listing is advisory: nothing is decided from it alone.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrNotFound says that no object has the name.
var ErrNotFound = errors.New("no such object")

// MaxName bounds the length of a name in bytes.
const MaxName = 512

// Store keeps objects. Names are paths of parts of a-z, 0-9, "-", "_" and ".",
// joined by "/". All methods may be called from several goroutines at once, and
// return only after what they did is durable.
type Store interface {
	// PutIfAbsent creates an object and reports whether it did; false means that
	// the name is taken. After an error the object may exist.
	PutIfAbsent(ctx context.Context, name string, data []byte) (created bool, err error)
	// Put creates or replaces an object, atomically.
	Put(ctx context.Context, name string, data []byte) error
	// PutFrom is Put of everything that r gives, for objects too large to be
	// held in memory.
	PutFrom(ctx context.Context, name string, r io.Reader) error
	// Get returns an object whole. ErrNotFound if there is none.
	Get(ctx context.Context, name string) ([]byte, error)
	// Open opens an object for random reads. ErrNotFound if there is none.
	Open(ctx context.Context, name string) (Object, error)
	// Delete removes an object. ErrNotFound if there is none.
	Delete(ctx context.Context, name string) error
	// List returns the names that begin with prefix, at any depth, sorted. It
	// may miss new objects and show deleted ones.
	List(ctx context.Context, prefix string) ([]string, error)
}

// Object is an open object.
type Object interface {
	io.ReaderAt
	io.Closer
	// Size is the length in bytes.
	Size() int64
}

// CheckName reports why a name cannot be used.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("an object name has 1 to %d bytes, not %d", MaxName, len(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("the object name %q has the part %q", name, part)
		}
		for i := range len(part) {
			c := part[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
				return fmt.Errorf("the object name %q has the byte %q", name, c)
			}
		}
	}
	return nil
}
