package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/natsd"
)

// Exit codes of a job process.
const (
	exitFailed      = 1
	exitOrphan      = 2
	exitUnreachable = 3 // the server cannot be reached
	exitRestarts    = 4 // it failed too often, such as because the server was killed
)

// Child runs the role that this process was started for and exits. In any other
// process it returns at once. A binary that calls Run or Matrix calls it first.
func Child() {
	role := os.Getenv(roleEnv)
	if role == "" {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch args := []byte(os.Getenv(argsEnv)); role {
	case "nats":
		err = withArgs(args, func(a natsArgs) error {
			o := natsd.Options{Dir: a.Dir, Port: a.Port, SyncAlways: true, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
			return natsd.Serve(ctx, o, os.Stdout, os.Stdin)
		})
	case "generator":
		go dieWithParent()
		err = withArgs(args, func(a generatorArgs) error { return generate(ctx, a) })
	case "reader":
		go dieWithParent()
		err = withArgs(args, func(a readerArgs) error { return read(ctx, a) })
	case "job":
		go dieWithParent()
		err = withArgs(args, func(a jobArgs) error { return runJob(ctx, a) })
	default:
		err = errUsage
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s ends: %v\n", role, err)
	}
	os.Exit(exitCodeOf(err))
}

func withArgs[A any](text []byte, f func(A) error) error {
	var a A
	if err := json.Unmarshal(text, &a); err != nil {
		return err
	}
	return f(a)
}

func exitCodeOf(err error) int {
	switch base.CodeOf(err) {
	case jetstream.CodeDial:
		return exitUnreachable
	case "WEIR-0703":
		return exitRestarts
	}
	if err != nil {
		return exitFailed
	}
	return 0
}

// dieWithParent ends the process when its standard input does.
func dieWithParent() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(exitOrphan)
}

type natsArgs struct {
	Dir  string
	Port int
}

// jobArgs say how a job process runs.
type jobArgs struct {
	URL     string
	Streams Streams
	DataDir string
	// Last is where the input ends; 0 for never.
	Last        uint64
	Parallelism int
	Interval    time.Duration
	Retain      int
	// HitsFile, when set, gets the number of hits of every crash point at the end.
	HitsFile string
}

func runJob(ctx context.Context, a jobArgs) error {
	if err := crash.ArmFromEnv(); err != nil {
		return err
	}
	if a.HitsFile != "" {
		defer crash.Arm()()
	}
	err := weir.Run(ctx, Job(a.Streams, a.Last), weir.Options{
		DataDir: a.DataDir, NATS: jetstream.Config{URL: a.URL}, Memory: weir.MinMemory, Parallelism: a.Parallelism,
		Interval: a.Interval, Retain: a.Retain, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if a.HitsFile != "" && err == nil {
		var b []byte
		if b, err = json.Marshal(crash.Hits()); err == nil {
			err = os.WriteFile(a.HitsFile, b, 0o600)
		}
	}
	return err
}

// connect opens a plain connection that is kept up through every restart of the
// server.
func connect(ctx context.Context, url, name string) (*nats.Conn, error) {
	for {
		nc, err := nats.Connect(url, nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
			nats.ReconnectBufSize(-1), nats.Timeout(5*time.Second), nats.PingInterval(2*time.Second),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err == nil {
			return nc, nil
		}
		if serr := sleep(ctx, 50*time.Millisecond); serr != nil {
			return nil, fmt.Errorf("%w, after: %w", serr, err)
		}
	}
}

// sleep waits for d, or for the end of ctx, whose error it then returns.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
