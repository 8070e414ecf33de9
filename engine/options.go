package engine

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/state/blob"
)

// Options says how a plan runs. The zero value of each field has the stated
// default; Blob is required.
type Options struct {
	// Clock is the job's clock; the operating system's by default.
	Clock clock.Clock
	// Logger takes structured logs; discarded by default.
	Logger *slog.Logger
	// Blob is the checkpoint store.
	Blob blob.Store
	// FS and StateDir hold the working state, which is disposable; the
	// operating system's file system by default.
	FS       vfs.FS
	StateDir string
	// JournalDir holds what operators keep on this machine until a checkpoint covers
	// it, such as results of models; it outlives the working state. "", the default,
	// for none.
	JournalDir string
	// Memory bounds keyed state in memory, in bytes; 1 GiB by default.
	Memory int64
	// Interval is the time between the starts of two checkpoints; 1 s by
	// default. Manual checkpoints nothing by itself.
	Interval time.Duration
	Manual   bool
	// Timeout gives a checkpoint attempt up; 10 minutes by default.
	Timeout time.Duration
	// MaxUncommitted is the number of durable epochs that may wait for a sink
	// before the sources pause; 8 by default.
	MaxUncommitted int
	// Retain is the number of durable epochs kept; 3 by default.
	Retain int
	// MaxRestarts in RestartWindow end the job; 10 in 10 minutes by default.
	// Negative never restarts.
	MaxRestarts   int
	RestartWindow time.Duration
	// StuckAfter is how long one call of a job's function may take before the
	// watchdog complains; 30 s by default.
	StuckAfter time.Duration
	// Encode carries every batch and control message through its encoding, as
	// between processes; for tests.
	Encode bool
	// DropState names states, as "operator/state", that a restore may leave out.
	DropState []string
	// Holder describes this process in the term record.
	Holder string
}

// Defaults.
const (
	DefaultInterval       = time.Second
	DefaultMemory         = 1 << 30
	defaultTimeout        = 10 * time.Minute
	defaultMaxUncommitted = 8
	defaultRetain         = 3
	defaultMaxRestarts    = 10
	defaultWindow         = 10 * time.Minute
	defaultStuckAfter     = 30 * time.Second
)

func (o *Options) setDefaults() {
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	o.Timeout = cmp.Or(o.Timeout, defaultTimeout)
	o.MaxUncommitted = cmp.Or(o.MaxUncommitted, defaultMaxUncommitted)
	o.Retain = cmp.Or(o.Retain, defaultRetain)
	o.MaxRestarts = cmp.Or(o.MaxRestarts, defaultMaxRestarts)
	o.RestartWindow = cmp.Or(o.RestartWindow, defaultWindow)
	o.StuckAfter = cmp.Or(o.StuckAfter, defaultStuckAfter)
}

// Bounds of what sinks stage in memory, in bytes: an eighth of the memory budget
// within these.
const (
	minStaged = 4 << 20
	maxStaged = 256 << 20
)

// staged bounds the output that waits in memory for a durable checkpoint. Beyond it
// sources pause; what is under way then still comes on top.
func (o *Options) staged() int64 { return min(max(o.Memory/8, minStaged), maxStaged) }

// creditNanos is how much work may be under way on an edge: 20 ms or a quarter
// of the checkpoint interval, whichever is less.
func (o *Options) creditNanos() int64 {
	return int64(min(20*time.Millisecond, o.Interval/4))
}
