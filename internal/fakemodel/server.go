package fakemodel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
)

// Options of a server. The zero value listens on a free port of 127.0.0.1.
type Options struct {
	// Listen is HOST:PORT; "" is 127.0.0.1:0.
	Listen string
	// Insecure allows an address that other machines reach.
	Insecure bool
	Script   Script
	// LogFile, if not "", is a file to which the books are appended. What earlier
	// servers wrote to it counts.
	LogFile string
	// Logger hears of what goes wrong in the server itself; nil is nobody.
	Logger *slog.Logger
	// Clock is that of latencies, phases and the books; nil is the real one.
	Clock clock.Clock

	// MaxBody bounds the bodies of requests, in bytes; 0 is 64 MiB.
	MaxBody int64
	// MaxItems bounds the inputs or messages of a request; 0 is 65,536.
	MaxItems int
	// MaxKeys bounds the idempotency keys that are counted; 0 is 4,000,000.
	MaxKeys int
	// MaxCalls bounds the calls that are remembered one by one, per key; 0 is
	// 1,000,000. The oldest are forgotten first.
	MaxCalls int
	// MaxConnections bounds the open connections; 0 is 4,096. More wait.
	MaxConnections int

	transfer time.Duration // for tests; 0 is transferTimeout
}

// Limits of HTTP that are not options.
const (
	headerTimeout = 10 * time.Second
	// transferTimeout bounds the time for the body of a request, and that for each piece
	// of an answer.
	transferTimeout = 30 * time.Second
	idleTimeout     = 2 * time.Minute
	maxHeader       = 4 << 20 // of keys, mostly
	maxKeyLen       = 512
	maxScript       = 4 << 20
)

func (o *Options) complete() error {
	for _, d := range []struct {
		value *int
		least int
	}{{&o.MaxItems, 1 << 16}, {&o.MaxKeys, 4_000_000}, {&o.MaxCalls, 1_000_000}, {&o.MaxConnections, 4096}} {
		if *d.value < 0 {
			return &base.Error{Code: codeValue, What: "an option of the fake model server is negative", Next: "use 0 for the default"}
		}
		if *d.value == 0 {
			*d.value = d.least
		}
	}
	if o.MaxBody == 0 {
		o.MaxBody = 64 << 20
	}
	if o.MaxBody < 0 {
		return &base.Error{Code: codeValue, What: "an option of the fake model server is negative", Next: "use 0 for the default"}
	}
	if o.transfer == 0 {
		o.transfer = transferTimeout
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	return o.Script.Validate()
}

// Server is a running fake model server. All methods are safe for concurrent use.
type Server struct {
	opts     Options
	l        net.Listener
	loopback bool
	srv      *http.Server
	program  atomic.Pointer[program]
	book     *book
	stop     chan struct{} // closed when the server stops
	stopping sync.Once
	done     chan struct{} // closed when Serve has returned
}

// Start begins to serve. Errors are of the kind *base.Error, with the codes
// WEIR-0202 (script, log or option), WEIR-0206 (an address that other machines reach)
// and WEIR-0207 (an address that cannot be had).
func Start(o Options) (*Server, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Server{opts: o, book: newBook(o.Clock, o.MaxKeys, o.MaxCalls), stop: make(chan struct{}), done: make(chan struct{})}
	s.program.Store(newProgram(o.Script, o.Clock, o.MaxKeys))
	if err := s.listen(); err != nil {
		return nil, err
	}
	if o.LogFile != "" {
		if err := s.book.openLog(o.LogFile); err != nil {
			return nil, errors.Join(err, s.l.Close())
		}
	}
	s.srv = &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(s.done)
		if err := s.srv.Serve(s.l); !errors.Is(err, http.ErrServerClosed) {
			o.Logger.Error("the fake model server stopped", "error", err)
		}
	}()
	return s, nil
}

func (s *Server) listen() error {
	host, _, err := net.SplitHostPort(s.opts.Listen)
	if err != nil {
		return &base.Error{Code: codeValue, What: fmt.Sprintf("the listen address %q is not HOST:PORT", s.opts.Listen), Next: "write 127.0.0.1:0"}
	}
	s.loopback = isLoopback(host)
	if !s.loopback && !s.opts.Insecure {
		return &base.Error{
			Code: codeListen, What: "the fake model server would be reachable from other machines, and it has no authentication",
			Where: s.opts.Listen, Next: "listen on 127.0.0.1, or say that the network is trusted",
		}
	}
	l, err := net.Listen("tcp", s.opts.Listen)
	if err != nil {
		e := &base.Error{Code: codeInUse, What: "the fake model server cannot listen", Where: s.opts.Listen, Cause: err, Next: "choose another address"}
		if errors.Is(err, syscall.EADDRINUSE) {
			e.What, e.Cause = "the address of the fake model server is in use", nil
			e.Next = "stop the process that holds it, or choose another port; port 0 takes a free one"
		}
		return e
	}
	s.l = &limitedListener{Listener: l, free: make(chan struct{}, s.opts.MaxConnections)}
	return nil
}

// isLoopback reports whether a host is this machine for sure; a name other than
// localhost is not looked up.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// Addr is the address as HOST:PORT.
func (s *Server) Addr() string { return s.l.Addr().String() }

// URL is the base URL, without a slash at its end. OpenAI's clients want /v1 behind it.
func (s *Server) URL() string {
	host, port, _ := net.SplitHostPort(s.Addr()) // a listener's address has both
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// SetScript replaces the script. Its first phase begins now; calls under way go on as
// the old one said.
func (s *Server) SetScript(script Script) error {
	if err := script.Validate(); err != nil {
		return err
	}
	s.program.Store(newProgram(script, s.opts.Clock, s.opts.MaxKeys))
	return nil
}

// Script returns the script.
func (s *Server) Script() Script { return s.program.Load().script }

// Calls returns what is remembered of each call, per key, in order of arrival.
func (s *Server) Calls() []Call { return s.book.calls(func(*Call) bool { return true }) }

// Count says how often an idempotency key was seen.
func (s *Server) Count(key string) KeyCount { return s.book.count(key) }

// Counts returns the keys that were seen at least so often, sorted.
func (s *Server) Counts(least int) []KeyCount { return s.book.counts(least) }

// Stats returns the totals.
func (s *Server) Stats() Stats {
	out := s.book.totals()
	out.Phase = s.program.Load().current()
	return out
}

// Close stops the server: calls that hang end at once, others when they are answered
// or ctx is done.
func (s *Server) Close(ctx context.Context) error {
	s.stopping.Do(func() { close(s.stop) })
	err := s.srv.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.srv.Close())
	}
	<-s.done
	return errors.Join(err, s.book.close())
}

// localHostOnly refuses requests by a name that is not this machine's: a page that a
// browser loaded from elsewhere could otherwise point its own name here.
func localHostOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if !isLoopback(strings.Trim(host, "[]")) {
			http.Error(w, "this server answers to localhost only", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// limitedListener bounds the open connections: Accept waits while there are as many as
// free holds.
type limitedListener struct {
	net.Listener
	free chan struct{}
}

// Accept implements net.Listener. When the server stops it closes its connections,
// which ends the wait here.
func (l *limitedListener) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &limitedConn{Conn: c, free: l.free}, nil
}

type limitedConn struct {
	net.Conn
	free chan struct{}
	once sync.Once
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.once.Do(func() { <-c.free })
	return c.Conn.Close()
}

// reset closes the connection such that the client sees it break.
func (c *limitedConn) reset() error {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // it only fails on a closed connection
	}
	return c.Close()
}
