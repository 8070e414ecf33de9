package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
)

// Mem is a store in memory, for tests: it survives a simulated crash of a job
// because it outlives the job.
type Mem struct {
	// Before and After, when set, are called around every write with the verb
	// ("put-if-absent", "put", "delete") and the name. An error of Before is
	// returned instead of writing; one of After is returned although the write
	// happened. Set them before use.
	Before, After func(verb, name string) error

	mu sync.Mutex
	m  map[string][]byte
}

// Memory returns an empty store.
func Memory() *Mem { return &Mem{m: map[string][]byte{}} }

// write runs a write between the hooks.
func (s *Mem) write(ctx context.Context, verb, name string, f func()) error {
	if err := errors.Join(ctx.Err(), CheckName(name)); err != nil {
		return err
	}
	if s.Before != nil {
		if err := s.Before(verb, name); err != nil {
			return err
		}
	}
	s.mu.Lock()
	f()
	s.mu.Unlock()
	if s.After != nil {
		return s.After(verb, name)
	}
	return nil
}

// PutIfAbsent implements Store.
func (s *Mem) PutIfAbsent(ctx context.Context, name string, data []byte) (created bool, err error) {
	err = s.write(ctx, "put-if-absent", name, func() {
		if _, ok := s.m[name]; !ok {
			s.m[name], created = bytes.Clone(data), true
		}
	})
	return created, err
}

// Put implements Store.
func (s *Mem) Put(ctx context.Context, name string, data []byte) error {
	return s.write(ctx, "put", name, func() { s.m[name] = bytes.Clone(data) })
}

// PutFrom implements Store.
func (s *Mem) PutFrom(ctx context.Context, name string, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return s.Put(ctx, name, data)
}

// Get implements Store.
func (s *Mem) Get(ctx context.Context, name string) ([]byte, error) {
	if err := errors.Join(ctx.Err(), CheckName(name)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.m[name]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return bytes.Clone(data), nil
}

// Open implements Store.
func (s *Mem) Open(ctx context.Context, name string) (Object, error) {
	data, err := s.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return memObject{bytes.NewReader(data)}, nil
}

type memObject struct{ *bytes.Reader }

// Size implements Object.
func (o memObject) Size() int64 { return o.Reader.Size() }

// Close implements Object.
func (memObject) Close() error { return nil }

// Delete implements Store.
func (s *Mem) Delete(ctx context.Context, name string) error {
	var missing bool
	err := s.write(ctx, "delete", name, func() {
		_, ok := s.m[name]
		missing = !ok
		delete(s.m, name)
	})
	if err == nil && missing {
		return fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return err
}

// List implements Store.
func (s *Mem) List(ctx context.Context, prefix string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for n := range s.m {
		if strings.HasPrefix(n, prefix) {
			out = append(out, n)
		}
	}
	sort.Strings(out)
	return out, nil
}
