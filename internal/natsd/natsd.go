// Package natsd embeds a NATS server with JetStream on disk: the durable log and
// key-value store of a Weir process that was given no other server.
//
// The server listens on 127.0.0.1 or not at all, takes no signals, and syncs each
// acknowledged write to disk unless told otherwise. One directory belongs to one
// server: a lock file keeps a second process out (on Unix; elsewhere the
// directory is not guarded). Clusters, TLS and accounts are out of scope: who
// needs them runs a server of their own and names it by URL.
package natsd

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/weirflow/weir/internal/base"
)

// Error codes of this package and of the connection configuration.
const (
	// CodePort: the port cannot be listened on.
	CodePort = "WEIR-0801"
	// CodeLocked: another process uses the directory.
	CodeLocked = "WEIR-0802"
	// CodeDir: the directory cannot be created or written.
	CodeDir = "WEIR-0803"
	// CodeStart: the server did not start for another reason.
	CodeStart = "WEIR-0804"
)

// Options configure a server. The zero value with a Dir is a server without a
// port whose writes are not synced; callers normally set SyncAlways.
type Options struct {
	// Dir holds the streams. It is created with mode 0700 when absent.
	Dir string
	// Port of 127.0.0.1 to listen on: 0 for none (in-process connections only),
	// -1 for a free one that the system chooses.
	Port int
	// SyncAlways makes an acknowledgement wait for fsync, so that it survives a
	// power cut and not only the death of the process.
	SyncAlways bool
	// MaxStore limits the bytes on disk; 0 means three quarters of what is free.
	MaxStore int64
	// MaxPayload is the largest message in bytes; 0 means 1 MiB.
	MaxPayload int32
	// Logger receives warnings and errors of the server, and its notices at
	// level debug. nil discards them.
	Logger *slog.Logger
	// ReadyTimeout bounds the start, which includes the recovery of the streams;
	// 0 means one minute.
	ReadyTimeout time.Duration
}

// Defaults returns the options of the embedded server: no port, always synced.
func Defaults(dir string) Options { return Options{Dir: dir, SyncAlways: true} }

// Server is a running NATS server.
type Server struct {
	ns   *server.Server
	lock *dirLock
	stop sync.Once
}

// Start starts a server and returns when it accepts connections and all streams
// are recovered. Errors carry the codes of this package.
func Start(o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, &base.Error{Code: CodeDir, What: "the NATS server has no directory", Next: "set a data directory"}
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, dirError(o.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, dirError(dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s, err := start(o, dir, lock)
	if err != nil {
		lock.release()
		return nil, err
	}
	return s, nil
}

func start(o Options, dir string, lock *dirLock) (*Server, error) {
	if err := checkPort(o.Port); err != nil {
		return nil, err
	}
	ns, err := server.NewServer(serverOptions(o, dir))
	if err != nil {
		return nil, &base.Error{Code: CodeStart, What: "the NATS server refused its configuration", Where: dir, Cause: err}
	}
	log := &logger{to: o.Logger}
	ns.SetLoggerV2(log, false, false, false)
	wait := o.ReadyTimeout
	if wait == 0 {
		wait = time.Minute
	}
	ns.Start()
	if !ns.ReadyForConnections(wait) || ns.JetStreamConfig() == nil {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, startError(o, dir, log.firstFatal())
	}
	return &Server{ns: ns, lock: lock}, nil
}

func serverOptions(o Options, dir string) *server.Options {
	so := &server.Options{
		ServerName: "weir",
		Host:       "127.0.0.1",
		Port:       o.Port,
		DontListen: o.Port == 0,
		NoSigs:     true,
		NoLog:      true,
		JetStream:  true,
		StoreDir:   dir,
		SyncAlways: o.SyncAlways,
		MaxPayload: o.MaxPayload,

		JetStreamMaxStore:  o.MaxStore,
		JetStreamMaxMemory: 256 << 20,
		// A client that dies in a batch leaves it open for ten seconds. Processes
		// that crash in a loop must not use up the stock defaults of 50 and 1,000.
		JetStreamLimits: server.JSLimitOpts{
			MaxBatchSize:              10_000,
			MaxBatchInflightPerStream: 1_000,
			MaxBatchInflightTotal:     10_000,
		},
		DisableJetStreamBanner: true,
	}
	if o.MaxPayload > 0 {
		so.MaxPending = 2 * int64(o.MaxPayload)
		so.MaxPending = max(so.MaxPending, server.MAX_PENDING_SIZE)
	}
	return so
}

// checkPort reports a port that is taken in words that name it; the server itself
// would only log it.
func checkPort(port int) error {
	if port <= 0 {
		return nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		e := &base.Error{Code: CodePort, What: "the NATS server cannot listen on 127.0.0.1:" + strconv.Itoa(port),
			Next: "choose another port, or 0 for none", Cause: err}
		if errors.Is(err, syscall.EADDRINUSE) {
			e.What = "port " + strconv.Itoa(port) + " of 127.0.0.1 is in use"
			e.Next = "stop the process that holds it, or choose another port"
		}
		return e
	}
	return l.Close()
}

func startError(o Options, dir, fatal string) error {
	e := &base.Error{Code: CodeStart, What: "the NATS server did not become ready", Where: dir,
		Next: "look at the log; a large store needs time to recover"}
	if fatal != "" {
		e.Cause = errors.New(fatal)
		e.Next = "correct the cause and start again"
	}
	if o.Port > 0 && checkPort(o.Port) != nil {
		return checkPort(o.Port)
	}
	return e
}

func dirError(dir string, err error) error {
	e := &base.Error{Code: CodeDir, What: "the NATS directory cannot be used", Where: dir, Cause: err,
		Next: "check its owner and permissions, or choose another directory"}
	if errors.Is(err, syscall.ENOSPC) {
		e.Next = "free disk space"
	}
	return e
}

// URL returns the address for clients, such as nats://127.0.0.1:4222, or "" for a
// server without a port.
func (s *Server) URL() string {
	if a, ok := s.ns.Addr().(*net.TCPAddr); ok && a != nil {
		return "nats://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(a.Port))
	}
	return ""
}

// Connect opens a connection inside the process, without a socket.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect("", append([]nats.Option{nats.InProcessServer(s.ns)}, opts...)...)
	if err != nil {
		return nil, &base.Error{Code: CodeStart, What: "no connection to the embedded NATS server", Cause: err}
	}
	return nc, nil
}

// Shutdown stops the server and returns when its files are closed. Close
// connections first: theirs are cut. Later calls do nothing.
func (s *Server) Shutdown() {
	s.stop.Do(func() {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
		s.lock.release()
	})
}

// logger hands the server's messages to slog and remembers the first fatal one.
type logger struct {
	to    *slog.Logger
	mu    sync.Mutex
	fatal string
}

func (l *logger) firstFatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}
