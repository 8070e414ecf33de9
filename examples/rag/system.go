package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/natsd"
)

// system runs steps in this process.
type system struct {
	dir      string
	config   config
	interval time.Duration
	out      io.Writer
	log      *slog.Logger
	mu       sync.Mutex // of out
}

func (s *system) printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, format, args...)
}

// job runs one job until ctx is done.
func (s *system) job(ctx context.Context, spec weir.JobSpec, server jetstream.Config) error {
	err := weir.Run(ctx, spec, weir.Options{
		DataDir: filepath.Join(s.dir, spec.Name()), NATS: server, Interval: s.interval, Memory: 64 << 20, Logger: s.log,
		Listen:  "127.0.0.1:0",
		Started: func(st weir.Started) { s.printf("step %s %s\n", spec.Name(), st.HTTP) },
	})
	if err != nil {
		err = fmt.Errorf("step %s: %w", spec.Name(), err)
	}
	return err
}

// whole is the chain with a server and somebody who asks.
type whole struct {
	*system
	port   int
	script script
	// stay goes on after the last prompt of the script has been answered.
	stay bool
	// ended is called when it has, with the server's address.
	ended func(ctx context.Context, url string, js natsjs.JetStream) error
}

// run runs the steps of the chain on a server of its own. They share a process here and
// nothing else; each is a job with a directory of its own.
func (w *whole) run(ctx context.Context) error {
	srv, err := natsd.Start(natsd.Options{Dir: filepath.Join(w.dir, "nats"), Port: w.port, SyncAlways: true})
	if err != nil {
		return err
	}
	defer srv.Shutdown()
	nc, err := srv.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		return err
	}
	w.printf("nats %s\n", srv.URL())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := group{cancel: cancel}
	server := jetstream.Config{Conn: nc}
	for _, st := range steps() {
		if !st.extra {
			g.add(func() error { return w.job(ctx, st.job(w.config), server) })
		}
	}
	g.add(func() error { return w.ask(ctx, nc, js, server) })
	g.add(func() error {
		defer func() {
			if !w.stay {
				cancel()
			}
		}()
		if err := untilEnded(ctx, js, w.script); err != nil || w.ended == nil {
			return ignoreDone(ctx, err)
		}
		return ignoreDone(ctx, w.ended(ctx, srv.URL(), js))
	})
	return g.wait()
}

// ask publishes the documents and, once they can be found, the prompts.
func (w *whole) ask(ctx context.Context, nc *nats.Conn, js natsjs.JetStream, server jetstream.Config) error {
	if w.script.documents > 0 {
		if err := w.job(ctx, w.script.documentsJob(), server); err != nil {
			return err
		}
		if err := poll(ctx, func() (bool, error) {
			n, err := chains(ctx, js, documentEmbedded)
			return n >= w.script.documents, err
		}); err != nil {
			return ignoreDone(ctx, err)
		}
	}
	if w.script.total() == 0 || ctx.Err() != nil {
		return nil
	}
	return w.job(ctx, w.script.promptsJob(), server)
}

// untilEnded waits until each prompt of the script has been answered or abandoned.
func untilEnded(ctx context.Context, js natsjs.JetStream, s script) error {
	return poll(ctx, func() (bool, error) {
		n := 0
		for _, typ := range []string{notified, abandoned} {
			m, err := chains(ctx, js, typ)
			if err != nil {
				return false, err
			}
			n += m
		}
		return n >= s.total(), nil
	})
}

// chains counts the chains that have an event of a type: each has a subject of its own
// in the type's stream. The sinks' commit markers have others.
func chains(ctx context.Context, js natsjs.JetStream, typ string) (int, error) {
	s, err := js.Stream(ctx, stream(typ))
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	info, err := s.Info(ctx, natsjs.WithSubjectFilter("weir.>"))
	if err != nil {
		return 0, err
	}
	return int(info.State.NumSubjects) - len(info.State.Subjects), nil
}

// poll asks five times a second until something is so.
func poll(ctx context.Context, ready func() (bool, error)) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := ready(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// ignoreDone takes the end of ctx for no error.
func ignoreDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// group runs functions; when one fails, the others stop.
type group struct {
	cancel func()
	wg     sync.WaitGroup
	mu     sync.Mutex
	errs   []error
}

func (g *group) add(f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.mu.Lock()
			g.errs = append(g.errs, err)
			g.mu.Unlock()
			g.cancel()
		}
	})
}

func (g *group) wait() error {
	g.wg.Wait()
	return errors.Join(g.errs...)
}
