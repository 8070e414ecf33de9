package storefront

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/examples/storefront"
	"github.com/weirflow/weir/internal/natsd"
	"github.com/weirflow/weir/internal/storefront/proof"
)

// exitOrphan is the exit status of a child whose supervisor is gone.
const exitOrphan = 3

// Child runs a child process of the demo to its end. in and out are its standard
// input and output.
func Child(role string, in io.Reader, out io.Writer) error {
	buffered := bufio.NewReader(in)
	line, err := buffered.ReadBytes('\n')
	if err != nil {
		os.Exit(exitOrphan)
	}
	var cfg childConfig
	if err := json.Unmarshal(line, &cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if role == roleNATS {
		o := natsd.Defaults(cfg.Dir)
		o.Port = -1
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
		return natsd.Serve(context.Background(), o, out, buffered)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	reader := make(chan proof.Command, 16)
	go commands(buffered, func(c command) {
		if c.Stop {
			cancel()
			return
		}
		reader <- c.Command
	})
	switch role {
	case roleGenerator:
		return generate(ctx, cfg)
	case roleJob:
		return runJob(ctx, cfg, out)
	case roleReader:
		enc := json.NewEncoder(out)
		return proof.Read(ctx, cfg.Reader, reader, func(r *proof.Report) error { return enc.Encode(r) })
	}
	return fmt.Errorf("there is no role %q", role)
}

// commands hands on what the supervisor says, and ends the process with it.
func commands(in *bufio.Reader, do func(command)) {
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			os.Exit(exitOrphan)
		}
		var c command
		if err := json.Unmarshal(line, &c); err != nil {
			fmt.Fprintln(os.Stderr, "command:", err)
			continue
		}
		do(c)
	}
}

// jobMemory is the budget for keyed state: far more than the demo needs, and
// little enough for a laptop.
const jobMemory = 128 << 20

// runJob runs the job until ctx is done and it has made its final checkpoint.
func runJob(ctx context.Context, cfg childConfig, out io.Writer) error {
	spec := storefront.Job()
	if cfg.AtLeastOnce {
		spec = storefront.JobAtLeastOnce()
	}
	return weir.Run(ctx, spec, weir.Options{
		DataDir: filepath.Join(cfg.Dir, "job"), NATS: jetstream.Config{URL: cfg.URL, Name: "storefront"},
		Memory: jobMemory, Parallelism: cfg.Parallelism, Interval: cfg.Interval,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})),
		Started: func(s weir.Started) {
			_ = json.NewEncoder(out).Encode(jobStarted{Resumed: s.Resumed}) // whoever does not hear it sees the results
		},
	})
}
