package weir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/datadir"
	"github.com/weirflow/weir/internal/natsd"
	"github.com/weirflow/weir/state/blob"
)

// Options say how Run runs a job. The zero value runs it with everything
// embedded, in weir-data/JOB.
type Options struct {
	// DataDir holds everything of the job on this machine: checkpoints, the
	// embedded server's streams, working state. One job at a time uses it. The
	// default is weir-data/JOB in the current directory.
	DataDir string
	// NATS names the server for sources and sinks that name none themselves.
	// The zero value is a server inside the process, with its files in the data
	// directory and every write synced; it starts when the job first needs it.
	NATS jetstream.Config
	// NATSPort lets other processes of this machine use the embedded server: the
	// port of 127.0.0.1, -1 for a free one, 0 (the default) for none.
	NATSPort int
	// CreateStreams makes the streams that the job declares (JobSpec.WithStreams)
	// also on a server named by NATS; on the embedded one they always are.
	CreateStreams bool
	// Memory bounds keyed state in memory, in bytes; 1 GiB by default, at least
	// MinMemory. State may be larger than that.
	Memory int64
	// Parallelism is the number of subtasks of keyed operators that do not set
	// it; 1 by default. It may differ from that of the checkpoint.
	Parallelism int
	// Interval is the time between the starts of two checkpoints, at least
	// MinInterval; 1 s by default. Retain is the number of checkpoints kept; 3
	// by default.
	Interval time.Duration
	Retain   int
	// DropState names states, as "operator/state", that a restore may leave out
	// although the checkpoint has them.
	DropState []string
	// Logger takes structured logs; they are discarded by default.
	Logger *slog.Logger
	// Listen is the address, such as 127.0.0.1:8484, of an HTTP server with
	// /metrics, /livez and /readyz; "" (the default) for none, port 0 for a free
	// one. There is no authentication: an address that other machines reach is
	// refused unless InsecureListen is set.
	Listen         string
	InsecureListen bool
	// Debug adds /debug/pprof to the HTTP server when it is on loopback.
	Debug bool
	// StopTimeout bounds the final checkpoint after ctx is done; 10 s by
	// default.
	StopTimeout time.Duration
	// Progress takes one plain line every 5 s on what the job does; nil for none.
	Progress io.Writer
	// Started is called once the job runs, before any record is read or while
	// the first ones are.
	Started func(Started)

	// listenElse takes any port of the host when Listen is in use.
	listenElse bool
}

// Started tells where a job that was started can be reached.
type Started struct {
	// DataDir is the absolute path of the data directory.
	DataDir string
	// HTTP is the base URL of the HTTP server, such as http://127.0.0.1:8484; ""
	// without one.
	HTTP string
	// NATS is the server's address without secrets; "" for an embedded server
	// that has no port or has not been needed yet.
	NATS string
	// Resumed says that the data directory held a checkpoint of the job.
	Resumed bool
}

// Bounds and defaults of Options.
const (
	MinMemory   = 16 << 20
	MinInterval = 10 * time.Millisecond

	defaultStopTimeout = 10 * time.Second
)

// WithStreams returns the job with the JetStream streams that it reads and
// writes. Run creates those that are absent when it embeds the server.
func (s JobSpec) WithStreams(streams ...jetstream.StreamSpec) JobSpec {
	s.streams = append(s.streams[:len(s.streams):len(s.streams)], streams...)
	return s
}

// Run runs a job until its input ends, it fails for good, or ctx is done; then it
// makes a final checkpoint and returns nil. A second run goes on from the last
// checkpoint. Jobs of a process do not disturb each other as long as each has its
// own data directory.
//
// Everything is checked before anything starts. Errors are *Error or join several
// of them; the job is only started over by itself when that may help.
func Run(ctx context.Context, job JobSpec, opts Options) error {
	r := &runner{spec: job, opts: opts, clk: clock.Real()}
	if err := r.check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := r.open(ctx)
	if err == nil {
		err = r.run(ctx)
	}
	return errors.Join(err, r.close())
}

// runner is one call of Run.
type runner struct {
	spec JobSpec
	opts Options
	clk  clock.Clock
	plan *engine.Plan

	dir      *datadir.Dir
	blob     blob.Store
	provider jetstream.Provider
	natsURL  func() string
	http     *httpServer
	// closers undo open, last first.
	closers []func() error
	started atomic.Bool
}

// check validates the options and compiles the job.
func (r *runner) check() error {
	o := &r.opts
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = defaultStopTimeout
	}
	if o.DataDir == "" {
		o.DataDir = filepath.Join("weir-data", r.spec.name)
	}
	if o.Parallelism == 0 {
		o.Parallelism = 1
	}
	errs := o.check()
	if r.spec.build == nil {
		return errors.Join(append(errs, &base.Error{
			Code: "WEIR-0101", What: "the job has no build function", Where: "job " + r.spec.name, Next: "make it with weir.NewJob",
		})...)
	}
	plan, err := Compile(r.spec, WithParallelism(o.Parallelism))
	r.plan = plan
	return errors.Join(append(errs, err)...)
}

func (o *Options) check() []error {
	var errs []error
	bad := func(what, next string) { errs = append(errs, &base.Error{Code: codeValue, What: what, Next: next}) }
	if o.Memory != 0 && o.Memory < MinMemory {
		bad(fmt.Sprintf("the memory budget is %s", formatBytes(o.Memory)), "use at least "+formatBytes(MinMemory))
	}
	if o.Interval != 0 && o.Interval < MinInterval {
		bad(fmt.Sprintf("the checkpoint interval is %v", o.Interval), fmt.Sprintf("use at least %v", MinInterval))
	}
	if o.Retain < 0 {
		bad(fmt.Sprintf("%d checkpoints are to be retained", o.Retain), "use 1 or more")
	}
	if o.StopTimeout < 0 {
		bad(fmt.Sprintf("the stop timeout is %v", o.StopTimeout), "use a positive duration")
	}
	if o.NATSPort < -1 || o.NATSPort > 65535 {
		bad(fmt.Sprintf("the port of the embedded NATS server is %d", o.NATSPort), "use 1 to 65535, 0 for none or -1 for a free one")
	}
	for _, s := range o.DropState {
		if err := checkStateName(s); err != nil {
			errs = append(errs, err)
		}
	}
	if o.Listen != "" {
		if err := checkListen(o.Listen, o.InsecureListen); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// open takes everything that the job needs from the outside: the server, the data
// directory, the port, the streams. What is named by configuration alone comes
// first, so that a mistake in it leaves no traces.
func (r *runner) open(ctx context.Context) error {
	embedded := r.opts.NATS == (jetstream.Config{})
	if !embedded {
		nc, err := jetstream.Dial(r.opts.NATS)
		if err != nil {
			return err
		}
		if r.opts.NATS.Conn == nil {
			r.onClose(func() error { nc.Close(); return nil })
		}
		r.provider, r.natsURL = jetstream.FromConn(nc), r.opts.NATS.String
	}
	var err error
	if r.dir, err = datadir.Open(r.opts.DataDir); err != nil {
		return err
	}
	r.onClose(r.dir.Close)
	store := r.dir.Path(checkpointDir)
	if err := blob.Private(store); err != nil {
		return storeError(store, err)
	}
	// The lock makes the tag unique: what a killed run left in the making under
	// it is cleared away by the next.
	if r.blob, err = blob.NewDir(vfs.Default, store, "run"); err != nil {
		return storeError(store, err)
	}
	if r.opts.Listen != "" {
		if r.http, err = listen(r.opts); err != nil {
			return err
		}
		r.onClose(r.http.close)
	}
	if embedded {
		if err := r.embedNATS(ctx); err != nil {
			return err
		}
	}
	if embedded || r.opts.CreateStreams {
		return r.ensureStreams(ctx)
	}
	return nil
}

// Directories in a data directory. They must not change, because data directories
// outlive binaries.
const (
	checkpointDir = "checkpoints"
	natsDir       = "nats"
	stateDir      = "state"
	journalDir    = "journal"
)

func storeError(dir string, err error) error {
	return &base.Error{
		Code: datadir.CodeDir, What: "the checkpoint store cannot be used", Where: dir, Cause: err,
		Next: "check its owner and permissions and the free space, or choose another directory with --data-dir",
	}
}

// ensureStreams makes the streams that the job declares.
func (r *runner) ensureStreams(ctx context.Context) error {
	if len(r.spec.streams) == 0 {
		return nil
	}
	nc, err := r.provider.Conn(ctx)
	if err != nil {
		return err
	}
	for _, s := range r.spec.streams {
		created, err := jetstream.Ensure(ctx, nc, s)
		if err != nil {
			return err
		}
		if created {
			r.opts.Logger.Info("stream created", "stream", s.Name, "subjects", s.Subjects)
		}
	}
	return nil
}

func (r *runner) embedNATS(ctx context.Context) error {
	o := natsd.Defaults(r.dir.Path(natsDir))
	o.Port, o.Logger = r.opts.NATSPort, r.opts.Logger
	var url atomic.Value
	lazy := natsd.NewLazy(o, func(s *natsd.Server) {
		url.Store(s.URL())
		if s.URL() != "" && r.started.Load() { // Started tells of an earlier one
			r.say("NATS at " + s.URL())
		}
		r.opts.Logger.Info("embedded NATS server started", "url", s.URL(), "dir", o.Dir)
	})
	r.onClose(func() error { lazy.Shutdown(); return nil })
	r.provider = lazy
	r.natsURL = func() string {
		s, _ := url.Load().(string)
		return s
	}
	if r.opts.NATSPort <= 0 {
		return nil
	}
	// Whoever names a port expects the server to be there.
	_, err := lazy.Conn(ctx)
	return err
}

func (r *runner) onClose(f func() error) { r.closers = append(r.closers, f) }

func (r *runner) close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	return errors.Join(errs...)
}

// run runs the job to its end.
func (r *runner) run(ctx context.Context) error {
	o := &r.opts
	resumed := r.hasCheckpoint(ctx)
	// The end of ctx asks for a final checkpoint, which needs a context that goes on.
	jctx, cancel := context.WithCancel(jetstream.WithProvider(context.WithoutCancel(ctx), r.provider))
	defer cancel()
	j, err := engine.Start(jctx, r.plan, engine.Options{
		Clock: r.clk, Logger: o.Logger, Blob: r.blob, StateDir: r.dir.Path(stateDir), JournalDir: r.dir.Path(journalDir), Memory: o.Memory,
		Interval: o.Interval, Retain: o.Retain, DropState: o.DropState, Holder: holder(),
	})
	if err != nil {
		return err
	}
	st := Started{DataDir: r.dir.Path(), NATS: r.natsURL(), Resumed: resumed}
	if r.http != nil {
		if err := r.http.serve(j, r.clk, o); err != nil {
			j.Kill()
			return err
		}
		st.HTTP = r.http.url()
	}
	o.Logger.Info("job started", "job", r.spec.name, "data_dir", st.DataDir, "parallelism", o.Parallelism,
		"http", st.HTTP, "nats", st.NATS, "resumed", resumed)
	r.started.Store(true)
	if o.Started != nil {
		o.Started(st)
	}
	stopProgress := r.reportProgress(j)
	select {
	case <-j.Done():
		err = j.Wait()
	case <-ctx.Done():
		err = r.stop(j)
	}
	stopProgress(err)
	return err
}

// stop ends the job with a final checkpoint.
func (r *runner) stop(j *engine.Job) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	timer := r.clk.AfterFunc(r.opts.StopTimeout, cancel)
	defer timer.Stop()
	r.say("stopping with a final checkpoint")
	err := j.Stop(ctx)
	if err == nil || ctx.Err() == nil {
		return err
	}
	_, cause := j.Restarts()
	return &base.Error{
		Code: "WEIR-0714", What: fmt.Sprintf("the final checkpoint was not committed within %v", r.opts.StopTimeout),
		Where: "job " + r.spec.name, Cause: cause,
		Next: "nothing is lost: the next run goes on from the last checkpoint and publishes what it did not",
	}
}

// hasCheckpoint tells, for the greeting only, whether there is something to go
// on from.
func (r *runner) hasCheckpoint(ctx context.Context) bool {
	uid, err := lookupUID(ctx, r.blob, r.spec.name)
	if err != nil {
		return false
	}
	names, err := r.blob.List(ctx, "jobs/"+uid+"/epochs/")
	return err == nil && len(names) > 0
}

// holder describes this process in the term record.
func holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%.64s, process %d", host, os.Getpid())
}
