package jetstream

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/weirflow/weir/connectors"
)

// On makes a source or sink use a server of its own instead of the job's. The
// connection is opened when it is first needed and closed when the last reader or
// writer of the connector is.
func On(c Config) ConnOption { return ConnOption{c} }

// ConnOption is an option of Stream and of Publish.
type ConnOption struct{ cfg Config }

// ServerOf returns the server that a target of this package uses by its option On, to
// be used for another source or sink, or nil when that is the job's.
func ServerOf(t connectors.Target) *Config {
	switch t := t.(type) {
	case laneTarget:
		return t.cfg
	case directTarget:
		return t.cfg
	}
	return nil
}

// link is the connection of one connector: the job's, or one of its own that is
// counted. The zero value is the job's.
type link struct {
	cfg *Config // nil: the job's

	mu   sync.Mutex
	nc   *nats.Conn // open while refs > 0
	refs int
}

// acquire returns the connection and a function that gives it back, which may be
// called more than once.
func (l *link) acquire(ctx context.Context) (*nats.Conn, func(), error) {
	if l.cfg == nil {
		nc, err := fromContext(ctx)
		return nc, func() {}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refs == 0 {
		nc, err := Dial(*l.cfg)
		if err != nil {
			return nil, nil, err
		}
		l.nc = nc
	}
	l.refs++
	return l.nc, sync.OnceFunc(l.release), nil
}

func (l *link) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refs--; l.refs > 0 {
		return
	}
	if l.cfg.Conn == nil {
		l.nc.Close()
	}
	l.nc = nil
}
