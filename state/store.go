package state

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state/blob"
)

// DefaultMemory is the budget of a store for which none is given, in bytes.
const DefaultMemory = 512 << 20

// Options configure a Store.
type Options struct {
	// FS holds Dir; nil is the file system of the operating system.
	FS vfs.FS
	// Dir is where state that does not fit in memory goes. It is disposable:
	// it is emptied when the store is opened, and recovery never reads it. ""
	// forbids spilling: the budget is exceeded instead.
	Dir string
	// Memory is the budget in bytes for tables, spill store and copy buffers
	// together; 0 is DefaultMemory.
	Memory int64
	// Blob receives checkpoint objects. With nil, nothing is tracked and Freeze
	// is refused.
	Blob blob.Store
	// Job is the uid under which objects are named; see protocol.ObjectKey.
	Job string
	// DropState names states, as "operator/state", that a restore leaves out
	// although the checkpoint has them.
	DropState []string
	// Clock measures turns; nil is the real one.
	Clock clock.Clock
	// Logger receives what happens in the background; nil is slog.Default.
	Logger *slog.Logger
}

// Store holds what all keyed subtasks of a process share: the memory, its budget,
// the spill store and the writer of checkpoint objects. Its methods are safe for
// concurrent use.
type Store struct {
	opts   Options
	mem    *allocator
	writer *writer
	disk   *disk
	limit  int64 // of mem.used
	share  atomic.Int64

	mu       sync.Mutex
	backends map[*Backend]struct{}
	closed   bool
}

// OpenStore opens a store and empties its directory.
func OpenStore(opts Options) (*Store, error) {
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	if opts.Memory == 0 {
		opts.Memory = DefaultMemory
	}
	if opts.Clock == nil {
		opts.Clock = clock.Real()
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	s := &Store{opts: opts, mem: newAllocator(), backends: map[*Backend]struct{}{}}
	var err error
	if s.disk, s.limit, err = openDisk(&s.opts); err != nil {
		return nil, err
	}
	s.writer = newWriter(s)
	return s, nil
}

// Close waits for the background writer and frees all memory: no table of the
// store may be used afterwards, and the owners of its backends must have stopped. Snapshots that are not
// durable yet are given up.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	left := s.backends
	s.backends = map[*Backend]struct{}{}
	s.mu.Unlock()
	s.writer.close()
	for b := range left {
		b.sweep.close() // its owner has stopped without closing it
	}
	err := s.disk.close()
	s.mem.close()
	return err
}

// BackendOptions configure a Backend.
type BackendOptions struct {
	// Task names the subtask in messages, as "operator#index".
	Task string
	// Range holds the hashes that the subtask owns.
	Range base.HashRange
	// OnSnapshot is called for each Freeze, in their order, when the snapshot is
	// durable or has failed. It is called on the writer's goroutine and must not
	// block, nor call back into the store.
	OnSnapshot func(Snapshot, error)
}

// Snapshot is the keyed state of a subtask at one barrier, ready to be restored.
type Snapshot struct {
	Epoch base.Epoch
	// Chain is complete: restoring its objects in this order gives the state at
	// the barrier. Small objects are inline.
	Chain []protocol.ObjectRef
	// Bytes and Entries count what this epoch added to the chain. BaseBytes and
	// BaseEntries are the part of them that did not change in the epoch and was
	// written again so that older objects can go.
	Bytes, BaseBytes     int64
	Entries, BaseEntries int64
}

// Chain is the keyed state of one subtask of the deployment that is restored.
type Chain struct {
	// Task is the old subtask, for messages.
	Task string
	// Range holds the hashes that it owned.
	Range base.HashRange
	// Objects are those of the manifest.
	Objects []protocol.ObjectRef
}

// NewBackend returns the state of one keyed subtask.
func (s *Store) NewBackend(opts BackendOptions) (*Backend, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	b := newBackend(s, opts)
	s.backends[b] = struct{}{}
	s.setShare()
	s.writer.grant(len(s.backends))
	return b, nil
}

// setShare computes how much memory a backend may use when all want more than
// there is. Guarded by mu.
func (s *Store) setShare() { s.share.Store(s.limit / int64(max(1, len(s.backends)))) }

// MemoryUsed returns the bytes outside the Go heap that tables and copy buffers
// use now.
func (s *Store) MemoryUsed() int64 { return s.mem.used.Load() }
