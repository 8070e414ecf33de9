package weir

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/base"
)

// defaultListen is where run serves metrics and health unless told otherwise; a
// free port is taken when another process has it.
const defaultListen = "127.0.0.1:8484"

// runFlags are the flags of run.
type runFlags struct {
	opts     Options
	memory   byteSize
	interval time.Duration
	logLevel word
	logForm  word
}

func (c *cli) runCommand() *cobra.Command {
	f := &runFlags{
		logLevel: word{allowed: []string{"debug", "info", "warn", "error"}},
		logForm:  word{value: "text", allowed: []string{"text", "json"}},
	}
	cmd := &cobra.Command{
		Use:   "run [JOB]",
		Short: "Run a job until its input ends or a signal stops it",
		Long: `Run a job. It goes on from its last checkpoint if the data directory has one.

SIGINT (Ctrl-C) and SIGTERM stop it with a final checkpoint, within --stop-timeout;
a second signal ends the process at once, which loses nothing either. Progress and
logs go to standard error.`,
		Args: args(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := c.pick(args)
			if err != nil {
				return err
			}
			return f.run(cmd, job)
		},
	}
	fl := cmd.Flags()
	o := &f.opts
	fl.SortFlags = false
	fl.StringVar(&o.DataDir, "data-dir", "", "directory for checkpoints, the embedded server and working state (default weir-data/JOB)")
	fl.IntVar(&o.Parallelism, "parallelism", 1, "subtasks of keyed operators that do not set it themselves")
	fl.Var(&f.memory, "memory", "budget of keyed state in memory (default 1GiB); state may be larger")
	fl.DurationVar(&f.interval, "checkpoint-interval", engine.DefaultInterval, "time between two checkpoints")
	fl.IntVar(&o.Retain, "retain", 3, "checkpoints to keep")
	fl.StringArrayVar(&o.DropState, "drop-state", nil, "a state, as operator/state, that the restore may leave out; repeatable")
	fl.DurationVar(&o.StopTimeout, "stop-timeout", defaultStopTimeout, "time for the final checkpoint")
	fl.StringVar(&o.NATS.URL, "nats", "", "URL of a NATS server instead of the embedded one; several are separated by commas")
	fl.StringVar(&o.NATS.Credentials, "nats-creds", "", "file with NATS credentials (.creds)")
	fl.StringVar(&o.NATS.NKey, "nats-nkey", "", "file with an nkey seed")
	fl.StringVar(&o.NATS.Cert, "nats-tls-cert", "", "file with the client certificate (PEM)")
	fl.StringVar(&o.NATS.Key, "nats-tls-key", "", "file with the client key (PEM)")
	fl.StringVar(&o.NATS.CA, "nats-tls-ca", "", "file with the certificates to trust (PEM)")
	fl.IntVar(&o.NATSPort, "nats-port", -1, "port of the embedded server on 127.0.0.1; -1 for a free one, 0 for none")
	fl.BoolVar(&o.CreateStreams, "create-streams", false, "create the job's streams that are absent also on the server that --nats names")
	fl.StringVar(&o.Listen, "listen", defaultListen, "address for /metrics, /livez and /readyz; empty for none, port 0 for a free one")
	fl.BoolVar(&o.InsecureListen, "insecure-listen", false, "allow --listen an address that other machines reach, without authentication")
	fl.Var(&f.logLevel, "log-level", "least severe log to show (default warn, with --log json info)")
	fl.Var(&f.logForm, "log", "form of the logs; json leaves the progress lines out")
	return cmd
}

// run runs the job with the flags.
func (f *runFlags) run(cmd *cobra.Command, job JobSpec) error {
	o := f.opts
	out := cmd.ErrOrStderr()
	o.Debug, _ = cmd.Flags().GetBool("debug")
	if err := f.complete(cmd, &o); err != nil {
		return err
	}
	o.Logger = f.logger(out, o.Debug)
	if f.logForm.value == "text" {
		o.Progress = out
		o.Started = func(s Started) { greet(out, job.name, s) }
	}
	// The limit of the Go heap is a matter of the whole process, so the library
	// leaves it alone. Keyed state lives outside the heap.
	if f.memory > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(max(int64(f.memory)/2, minHeap))
	}
	return Run(cmd.Context(), job, o)
}

// minHeap is the least limit of the Go heap that goes with a memory budget.
const minHeap = 128 << 20

// complete checks what the flags say together and fills in the options.
func (f *runFlags) complete(cmd *cobra.Command, o *Options) error {
	changed := cmd.Flags().Changed
	bad := func(flag, what, next string) error {
		return &base.Error{Code: codeValue, What: what, Where: "flag --" + flag, Next: next}
	}
	o.Memory, o.Interval = int64(f.memory), f.interval
	if o.Parallelism < 1 {
		return bad("parallelism", fmt.Sprintf("the parallelism is %d", o.Parallelism), fmt.Sprintf("use 1 to %d", MaxParallelism))
	}
	if o.Interval < MinInterval {
		return bad("checkpoint-interval", fmt.Sprintf("the checkpoint interval is %v", o.Interval), fmt.Sprintf("use at least %v", MinInterval))
	}
	if o.Retain < 1 {
		return bad("retain", fmt.Sprintf("%d checkpoints are to be retained", o.Retain), "use 1 or more")
	}
	if o.StopTimeout <= 0 {
		return bad("stop-timeout", fmt.Sprintf("the stop timeout is %v", o.StopTimeout), "use a positive duration")
	}
	if changed("memory") && o.Memory < MinMemory {
		return bad("memory", "the memory budget is "+formatBytes(o.Memory), "use at least "+formatBytes(MinMemory))
	}
	if o.NATS.URL == "" && o.NATS != (jetstream.Config{}) {
		return bad("nats", "credentials or TLS files are given, and no server", "add --nats URL")
	}
	if changed("nats") && o.NATS.URL == "" {
		return bad("nats", "the URL is empty", "write --nats nats://HOST:4222, or leave it out for the embedded server")
	}
	if o.NATS.URL != "" && changed("nats-port") {
		return bad("nats-port", "it is for the embedded server, and --nats names another", "drop one of them")
	}
	o.listenElse = !changed("listen")
	return nil
}

// logger writes logs to out. Stack traces in them are for --debug only.
func (f *runFlags) logger(out io.Writer, debugging bool) *slog.Logger {
	name := f.logLevel.value
	if name == "" {
		name = "warn"
		if f.logForm.value == "json" {
			name = "info"
		}
		if debugging {
			name = "debug"
		}
	}
	h := &slog.HandlerOptions{Level: level(name)}
	if !debugging {
		h.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == "stack" || a.Key == "stacks" {
				return slog.Attr{}
			}
			return a
		}
	}
	if f.logForm.value == "json" {
		return slog.New(slog.NewJSONHandler(out, h))
	}
	return slog.New(slog.NewTextHandler(out, h))
}

// greet says where the job can be reached.
func greet(out io.Writer, job string, s Started) {
	fmt.Fprintf(out, "%s · job %s\n", buildVersion(), job)
	how := "new"
	if s.Resumed {
		how = "goes on from its last checkpoint"
	}
	fmt.Fprintf(out, "  data     %s (%s)\n", s.DataDir, how)
	if s.HTTP != "" {
		fmt.Fprintf(out, "  metrics  %s/metrics\n  ready    %s/readyz\n", s.HTTP, s.HTTP)
	}
	if s.NATS != "" {
		fmt.Fprintf(out, "  nats     %s\n", s.NATS)
	}
	fmt.Fprintln(out, "  Ctrl-C makes a final checkpoint and exits")
}
