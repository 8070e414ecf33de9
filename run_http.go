package weir

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/engine/metrics"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
)

// Limits of the HTTP server. It serves short answers to few clients.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = time.Minute
	maxHeader      = 16 << 10
	maxConnections = 64
	// profileTimeout leaves room for a CPU profile of a minute.
	profileTimeout = 90 * time.Second
)

// httpServer serves the health and the metrics of one job.
type httpServer struct {
	l        net.Listener
	loopback bool
	srv      *http.Server
	done     chan struct{} // closed when Serve has returned
}

// checkListen refuses an address that other machines reach, unless insecure.
func checkListen(addr string, insecure bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return &base.Error{
			Code: codeValue, What: "the listen address " + strconv.Quote(addr) + " is not HOST:PORT",
			Next: "write 127.0.0.1:8484, or port 0 for a free one",
		}
	}
	if isLoopback(host) || insecure {
		return nil
	}
	return &base.Error{
		Code: codeListen, What: "the HTTP server would be reachable from other machines, and it has no authentication", Where: addr,
		Next: "listen on 127.0.0.1, or add --insecure-listen where the network is trusted",
	}
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

// listen takes the port. Nothing is served yet.
func listen(o Options) (*httpServer, error) {
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", o.Listen)
	if errors.Is(err, syscall.EADDRINUSE) && o.listenElse {
		l, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		e := &base.Error{
			Code: codeInUse, What: "the HTTP server cannot listen", Where: o.Listen, Cause: err,
			Next: "choose another address with --listen",
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			e.What, e.Cause = "the address of the HTTP server is in use", nil
			e.Next = "stop the process that holds it, or choose another port with --listen; port 0 takes a free one"
		}
		return nil, e
	}
	return &httpServer{l: &limitedListener{Listener: l, free: make(chan struct{}, maxConnections)}, loopback: isLoopback(host)}, nil
}

// url is the base URL for clients on this machine.
func (s *httpServer) url() string {
	addr := s.l.Addr().(*net.TCPAddr)
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(addr.Port))
}

// serve begins to answer for a job.
func (s *httpServer) serve(j *engine.Job, clk clock.Clock, o *Options) error {
	v := buildVersion()
	reg := metrics.NewRegistry(v.Version, v.Go)
	if err := reg.Add(metrics.New(j, clk)); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", reg.Handler())
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, j.Phase() != engine.Ended, j.Phase())
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, j.Phase() == engine.Running, j.Phase())
	})
	if s.loopback { // it shows the job's data, and there is no authentication
		mux.HandleFunc("POST "+inspectPath, inspectHandler(j))
	}
	timeout := writeTimeout
	if o.Debug && s.loopback {
		timeout = profileTimeout
		for path, h := range map[string]http.HandlerFunc{
			"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
			"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
		} {
			mux.HandleFunc("GET "+path, h)
		}
	}
	var h http.Handler = mux
	if s.loopback {
		h = localHostOnly(mux)
	}
	s.srv = &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: timeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		if err := s.srv.Serve(s.l); !errors.Is(err, http.ErrServerClosed) {
			o.Logger.Error("the HTTP server stopped", "error", err)
		}
	}()
	return nil
}

func answer(w http.ResponseWriter, ok bool, p engine.Phase) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write([]byte(p.String() + "\n")) // the client may be gone
}

// localHostOnly refuses requests by a name that is not this machine's: a page
// that a browser loaded from elsewhere could otherwise point its own name here
// and read the answers.
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

// close stops the server. A scrape under way gets a moment to end.
func (s *httpServer) close() error {
	if s.srv == nil {
		return s.l.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := clock.Real().AfterFunc(time.Second, cancel)
	defer t.Stop()
	defer cancel()
	if err := s.srv.Shutdown(ctx); err != nil {
		_ = s.srv.Close()
	}
	<-s.done
	return nil
}

// limitedListener bounds the open connections: Accept waits while there are as
// many as free holds.
type limitedListener struct {
	net.Listener
	free chan struct{}
}

// Accept implements net.Listener.
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
