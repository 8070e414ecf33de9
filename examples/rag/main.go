// Command rag answers questions from documents: prompt → retrieve → rerank → generate →
// evaluate → store → notify. Each step is a Weir job of its own, connected to the others
// by events on JetStream only. README.md says what is shown.
//
//	go run ./examples/rag
//	go run ./examples/rag --stay
//	go run ./examples/rag check
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/fakemodel"
)

func main() { os.Exit(weir.Execute(command())) }

// flags are those that commands have in common.
type flags struct {
	dir      string
	config   config
	interval time.Duration
	verbose  bool
}

func (f *flags) add(fl *pflag.FlagSet) {
	fl.SortFlags = false
	fl.StringVar(&f.dir, "dir", "", "directory for everything that is kept (default a temporary one)")
	m := &f.config.models
	fl.StringVar(&m.endpoint, "endpoint", "", "base URL of an OpenAI-compatible server, with /v1 (default a fake one that fails in 30 of 100 requests); "+keyVariable+" has the key")
	fl.StringVar(&m.chat, "model", "fake-chat", "model that answers")
	fl.StringVar(&m.embedding, "embeddings-model", "fake-embeddings", "model that makes vectors of texts")
	fl.DurationVar(&m.timeout, "timeout", 0, "time for one request (default 60s, or 500ms with the fake server)")
	fl.IntVar(&m.inFlight, "in-flight", 32, "most requests of a step at once")
	fl.Float64Var(&m.perSecond, "per-second", 0, "most requests of a step in a second; 0 is no bound")
	r := &f.config.retry
	r.DeadLetters = true
	fl.IntVar(&r.Attempts, "attempts", 12, "most attempts of a step for an event")
	fl.DurationVar(&r.Backoff, "backoff", 250*time.Millisecond, "wait before the second attempt, doubled each time")
	fl.DurationVar(&r.MaxBackoff, "max-backoff", 5*time.Second, "longest wait before an attempt")
	fl.DurationVar(&r.Within, "step-timeout", time.Hour, "time that a step has for an event, all attempts together")
	fl.DurationVar(&f.interval, "checkpoint-interval", 200*time.Millisecond, "time between two checkpoints of a step; each event waits for one in each step")
	fl.BoolVar(&f.verbose, "verbose", false, "log to standard error")
}

// system prepares what the flags say; done cleans up.
func (f *flags) system(cmd *cobra.Command) (s *system, done func(), err error) {
	done = func() {}
	if f.dir == "" {
		if f.dir, err = os.MkdirTemp("", "rag-"); err != nil {
			return nil, done, err
		}
		done = func() { _ = os.RemoveAll(f.dir) }
	}
	m := &f.config.models
	if m.timeout == 0 {
		m.timeout = time.Minute
		if m.endpoint == "" {
			m.timeout = 500 * time.Millisecond
		}
	}
	s = &system{dir: f.dir, config: f.config, interval: f.interval, out: cmd.OutOrStdout(), log: slog.New(slog.DiscardHandler)}
	if f.verbose {
		s.log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	return s, done, nil
}

// fake starts a fake server where no other is named.
func (s *system) fake(seed uint64) (stop func(), err error) {
	if s.config.models.endpoint != "" {
		return func() {}, nil
	}
	srv, err := fakemodel.Start(fakemodel.Options{Script: failures(seed)})
	if err != nil {
		return nil, err
	}
	s.config.models.endpoint = srv.URL() + "/v1"
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = srv.Close(ctx) // the process ends anyway
	}, nil
}

func command() *cobra.Command {
	var jobs []weir.JobSpec
	for _, st := range steps() {
		jobs = append(jobs, st.job(config{models: models{inFlight: 32, timeout: time.Minute}}))
	}
	root := weir.NewCommand(jobs...)
	run := runCommand()
	root.RunE = run.RunE
	root.Flags().AddFlagSet(run.Flags())
	root.Short = "Answer questions from documents by a chain of jobs"
	root.Long = root.Short + ".\n\nWithout a command, all steps run in this process. Steps: " + names() + "."
	root.AddCommand(stepCommand(), askCommand(), checkCommand())
	return root
}

func names() string {
	var out []string
	for _, s := range steps() {
		out = append(out, s.name)
	}
	return strings.Join(out, ", ")
}

// runCommand runs the whole chain.
func runCommand() *cobra.Command {
	f, w, seed := &flags{}, &whole{}, uint64(0)
	cmd := &cobra.Command{
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, done, err := f.system(cmd)
			if err != nil {
				return err
			}
			defer done()
			stop, err := s.fake(seed)
			if err != nil {
				return err
			}
			defer stop()
			w.system = s
			w.ended = func(ctx context.Context, url string, js natsjs.JetStream) error {
				return w.tell(ctx, cmd, url, js)
			}
			return w.run(cmd.Context())
		},
	}
	fl := cmd.Flags()
	f.add(fl)
	fl.IntVar(&w.port, "port", -1, "port of the embedded NATS server on 127.0.0.1; -1 for a free one")
	fl.IntVar(&w.script.documents, "documents", facts, "documents to add")
	fl.IntVar(&w.script.prompts, "prompts", 200, "prompts to ask")
	fl.IntVar(&w.script.poison, "refused", 2, "further prompts that the fake model refuses")
	fl.IntVar(&w.script.undeliverable, "undeliverable", 2, "further prompts whose answers cannot be delivered")
	fl.Float64Var(&w.script.rate, "rate", 0, "prompts per second; 0 is as fast as they are taken")
	fl.Uint64Var(&seed, "seed", 1, "seed of the failures of the fake server")
	fl.BoolVar(&w.stay, "stay", false, "go on until a signal comes, also when all prompts are answered")
	return cmd
}

// tell sums up, and shows one chain in which something was tried again.
func (w *whole) tell(ctx context.Context, cmd *cobra.Command, url string, js natsjs.JetStream) error {
	for _, typ := range []string{prompted, answered, memoryUpdated, notified, retryRequested, stepFailed, memoryUndone, abandoned} {
		events, err := readAll(ctx, js, typ)
		if err != nil {
			return err
		}
		w.printf("%7d %s\n", len(events), typ)
	}
	id, err := busiest(ctx, js)
	if err != nil || id == "" {
		return err
	}
	w.printf("\n$ weir trace %s --nats %s\n", id, url)
	trace := weir.NewCommand()
	trace.SetArgs([]string{"trace", id, "--nats", url})
	trace.SetOut(cmd.OutOrStdout())
	return trace.ExecuteContext(ctx)
}

// busiest is the chain of a prompt with the most retries, "" if there are none.
func busiest(ctx context.Context, js natsjs.JetStream) (id string, err error) {
	events, err := readAll(ctx, js, retryRequested)
	retries := map[string]int{}
	for _, e := range events {
		r, err := weir.EventPayload[weir.RetryRequested](e)
		if err != nil {
			return "", err
		}
		if r.Event.Type == documentAdded {
			continue
		}
		if retries[e.Correlation]++; retries[e.Correlation] > retries[id] {
			id = e.Correlation
		}
	}
	return id, err
}

// stepCommand runs one step.
func stepCommand() *cobra.Command {
	f, url := &flags{}, ""
	cmd := &cobra.Command{
		Use:   "step NAME",
		Short: "Run one step alone, on a NATS server that runs already",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			st, err := stepNamed(args[0])
			if err != nil {
				return err
			}
			s, done, err := f.system(cmd)
			if err != nil {
				return err
			}
			defer done()
			stop, err := s.fake(1)
			if err != nil {
				return err
			}
			defer stop()
			return s.job(cmd.Context(), st.job(s.config), jetstream.Config{URL: url})
		},
	}
	fl := cmd.Flags()
	f.add(fl)
	fl.StringVar(&url, "nats", "", "URL of the NATS server")
	_ = cmd.MarkFlagRequired("nats") // it exists
	return cmd
}

// askCommand asks one question.
func askCommand() *cobra.Command {
	var url, conversation string
	p := Prompt{Channel: "mail:you"}
	wait := time.Minute
	cmd := &cobra.Command{
		Use:   "ask QUESTION",
		Short: "Ask a question and wait for its answer",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), wait)
			defer cancel()
			nc, err := jetstream.Dial(jetstream.Config{URL: url})
			if err != nil {
				return err
			}
			defer nc.Close()
			p.Question = args[0]
			id, text, err := askOne(ctx, nc, conversation, p)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n$ weir trace %s --nats %s\n", text, id, url)
			return err
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&url, "nats", "", "URL of the NATS server")
	fl.StringVar(&conversation, "conversation", "you", "name of the conversation")
	fl.StringVar(&p.Collection, "collection", collections[0], "collection to look in")
	fl.DurationVar(&wait, "wait", wait, "time to wait for the answer")
	_ = cmd.MarkFlagRequired("nats") // it exists
	return cmd
}
