package weir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/datadir"
	"github.com/weirflow/weir/internal/natsd"
)

// Error codes of dlq.
const (
	codeNoQueue   = "WEIR-0240" // no stream of dead letters
	codeNoLetter  = "WEIR-0241" // a dead letter that does not exist, or is not open
	codeNotWhole  = "WEIR-0242" // a dead letter that cannot be retried
	codeTakenOver = "WEIR-0243" // somebody else decided on a letter meanwhile
)

// dlqFlags are the flags that all commands below dlq have.
type dlqFlags struct {
	job, stream, dir string
	server           jetstream.Config
	timeout          time.Duration
	json             bool
}

func (c *cli) dlqCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "Look at dead letters, send them back or drop them",
		Long: `Look at the dead letters of a job: the records that its operators refused. They are
in the JetStream stream that the job names by weir.DeadLetters. Decisions on them go to
the stream NAME-RETRY, which the job reads; nothing is deleted from the stream itself.

The streams are looked for on the server that --nats names, or else in the data
directory of a job that does not run. A job with an embedded server that runs is
reached by --nats when it was started with --nats-port.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			cmd.SuggestionsMinimumDistance = 2
			return unknown(cmd, "command", "dlq "+args[0], cmd.SuggestionsFor(args[0]))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.dlqLsCommand(), c.dlqShowCommand(),
		c.dlqDecideCommand("retry", "Send dead letters back into the operators that refused them"),
		c.dlqDecideCommand("drop", "Close dead letters without sending them back"))
	return cmd
}

// add adds the flags to a command.
func (f *dlqFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.job, "job", "", "the job, if the binary has several")
	fl.StringVar(&f.stream, "stream", "", "stream of the dead letters (default that of the job)")
	fl.StringVar(&f.dir, "data-dir", "", "data directory of the job, which must not run (default weir-data/JOB)")
	serverFlags(fl, &f.server)
	u := fl.Lookup("nats")
	f.server.URL, u.DefValue, u.Usage = "", "", "URL of the NATS server with the streams, in place of --data-dir; several are separated by commas"
	fl.DurationVar(&f.timeout, "timeout", time.Minute, "time for the command")
}

// open finds the streams and connects to their server; close must be called.
func (f *dlqFlags) open(ctx context.Context, c *cli) (q *letterQueue, closeAll func(), err error) {
	if f.timeout <= 0 {
		return nil, nil, &base.Error{Code: codeValue, What: fmt.Sprintf("the time for the command is %v", f.timeout), Where: "flag --timeout"}
	}
	own, err := f.find(c)
	if err != nil {
		return nil, nil, err
	}
	if f.server.URL == "" && f.server != (jetstream.Config{}) {
		return nil, nil, &base.Error{Code: codeValue, What: "credentials or TLS files are given, and no server", Where: "flag --nats", Next: "add --nats URL"}
	}
	log, release, err := f.connect(own)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	closeAll = func() {
		cancel()
		release()
	}
	q = &letterQueue{ctx: ctx, log: log, stream: f.stream, retries: retryStreamOf(f.stream).Name}
	if err := q.load(); err != nil {
		closeAll()
		return nil, nil, err
	}
	return q, closeAll, nil
}

// find sets the stream and the data directory from the job, and returns the server
// that the job's own configuration names for its dead letters, if it does.
func (f *dlqFlags) find(c *cli) (own *jetstream.Config, err error) {
	var pick []string
	if f.job != "" {
		pick = []string{f.job}
	}
	job, err := c.pick(pick)
	if err != nil {
		if f.stream == "" {
			return nil, err
		}
		if f.server.URL == "" && f.dir == "" {
			return nil, &base.Error{Code: codeValue, What: "it is not known where the streams are", Next: "give --nats or --data-dir"}
		}
		return nil, nil
	}
	if f.dir == "" {
		f.dir = filepath.Join("weir-data", job.name)
	}
	if f.stream != "" {
		return nil, nil
	}
	j, err := compile(job)
	if err != nil {
		return nil, err
	}
	none := func(what, next string) error {
		return &base.Error{Code: codeNoQueue, What: what, Where: "job " + job.name, Next: next}
	}
	if j.dead.queue == nil {
		return nil, none("the job has no dead letters", "give operators the option OnError(DeadLetter), and the job weir.DeadLetters")
	}
	t, ok := j.dead.queue.sink.Target.(interface{ Stream() string })
	if !ok {
		return nil, none("the dead letters of the job do not go to a JetStream stream", "use weir.DeadLetterStream, or read them where they go")
	}
	f.stream = t.Stream()
	return jetstream.ServerOf(j.dead.queue.sink.Target), nil
}

// connect connects to the server that was named, to the one of the job's
// configuration, or to one that it starts in the data directory.
func (f *dlqFlags) connect(own *jetstream.Config) (*jetstream.Log, func(), error) {
	if f.server.URL == "" && own != nil {
		f.server = *own
	}
	if f.server != (jetstream.Config{}) {
		nc, err := jetstream.Dial(f.server)
		if err != nil {
			return nil, nil, err
		}
		return jetstream.NewLog(nc), nc.Close, nil
	}
	path := filepath.Join(f.dir, natsDir)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, &base.Error{
			Code: codeNoQueue, What: "there are no streams of an embedded server", Where: path,
			Next: "check --data-dir; if the job uses another server, name it with --nats",
		}
	}
	dir, err := datadir.Open(f.dir)
	if base.CodeOf(err) == datadir.CodeLocked {
		e := &base.Error{Code: datadir.CodeLocked, What: "the job runs, and has its streams to itself", Where: f.dir, Cause: err}
		e.Next = "give --nats with the address that run shows, which it has with --nats-port; or stop the job first"
		return nil, nil, e
	}
	if err != nil {
		return nil, nil, err
	}
	srv, err := natsd.Start(natsd.Defaults(dir.Path(natsDir)))
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	release := func() {
		srv.Shutdown()
		_ = dir.Close() // the lock goes with the process in any case
	}
	nc, err := srv.Connect()
	if err != nil {
		release()
		return nil, nil, err
	}
	return jetstream.NewLog(nc), func() { nc.Close(); release() }, nil
}
