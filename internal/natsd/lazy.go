package natsd

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
)

// Lazy is a server that starts when its first connection is asked for, so that a
// job without any pays nothing for it. Its methods may be called from any
// goroutine.
type Lazy struct {
	o       Options
	started func(*Server)

	mu     sync.Mutex
	s      *Server
	nc     *nats.Conn
	closed bool
}

// NewLazy returns a server that is not running. started, which may be nil, is
// called once it is.
func NewLazy(o Options, started func(*Server)) *Lazy { return &Lazy{o: o, started: started} }

// Conn starts the server if it does not run, and returns a connection inside the
// process, the same for all callers. It stays open until Shutdown.
func (l *Lazy) Conn(context.Context) (*nats.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, context.Canceled
	}
	if l.s == nil {
		s, err := Start(l.o)
		if err != nil {
			return nil, err
		}
		l.s = s
		if l.started != nil {
			l.started(s)
		}
	}
	if l.nc == nil {
		nc, err := l.s.Connect(nats.MaxReconnects(-1), nats.ReconnectBufSize(-1),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err != nil {
			return nil, err
		}
		l.nc = nc
	}
	return l.nc, nil
}

// Shutdown closes the connection and stops the server, if it runs. Later calls
// of Conn fail.
func (l *Lazy) Shutdown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.nc != nil {
		l.nc.Close()
	}
	if l.s != nil {
		l.s.Shutdown()
	}
}
