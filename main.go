package weir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/crash"
)

// Error codes of configuration and command line.
const (
	codeUsage   = "WEIR-0201" // an unknown command or flag, or too many arguments
	codeValue   = "WEIR-0202" // a value that cannot be used
	codeJob     = "WEIR-0203" // which job is meant
	codeListen  = "WEIR-0206" // an address that is refused
	codeInUse   = "WEIR-0207" // an address that cannot be had
	codeNoStore = "WEIR-0208" // a data directory without checkpoints
	codeNoEpoch = "WEIR-0209" // a checkpoint that does not exist
)

// Exit codes of a binary that calls Main.
const (
	// ExitOK: the job ended, or was stopped with a final checkpoint.
	ExitOK = 0
	// ExitFailed: the job or the command failed.
	ExitFailed = 1
	// ExitUsage: the command line or the configuration is wrong; nothing ran.
	ExitUsage = 2
	// ExitUnreachable: the NATS server cannot be reached.
	ExitUnreachable = 3
)

// Main is the main function of a binary with these jobs: the commands run, plan,
// checkpoint, features, patterns, dlq, bench, fakemodel, trace and version. The first SIGINT or SIGTERM
// stops a running job with a final checkpoint, the second ends the process at once.
// It does not return.
func Main(jobs ...JobSpec) { os.Exit(Execute(NewCommand(jobs...))) }

// NewCommand returns the command line that Main executes, for binaries that add
// commands of their own and hand it to Execute.
func NewCommand(jobs ...JobSpec) *cobra.Command {
	c := &cli{jobs: jobs}
	root := &cobra.Command{
		Use:           strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe"),
		Short:         "Run stateful streaming jobs, exactly once",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	if len(jobs) > 0 {
		root.Long = root.Short + ".\n\nJobs of this binary: " + strings.Join(c.names(), ", ") + "."
	}
	root.PersistentFlags().Bool("debug", false, "show stack traces, log everything, and serve /debug/pprof on loopback")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(c.runCommand(), c.planCommand(), c.checkpointCommand(), c.featuresCommand(), c.patternsCommand(), c.dlqCommand(), benchCommand(), fakeModelCommand(), traceCommand(), versionCommand())
	return root
}

// Execute runs the command line, prints its error, and returns the exit code.
func Execute(root *cobra.Command) int {
	err := crash.ArmFromEnv()
	if err == nil {
		ctx, stop := signalContext(root.ErrOrStderr())
		defer stop()
		err = execute(ctx, root)
	}
	if err == nil {
		return ExitOK
	}
	show, _ := root.PersistentFlags().GetBool("debug")
	printError(root.ErrOrStderr(), err, show)
	return exitCode(err)
}

// signalContext returns a context that ends with the first signal. The second
// ends the process.
func signalContext(out io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			cancel()
		case <-done:
			return
		}
		select {
		case <-signals:
			fmt.Fprintln(out, "second signal: exit without a final checkpoint; the next run goes on from the last one")
			os.Exit(ExitFailed)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}

// execute runs the command and turns what cobra says into errors with a code.
func execute(ctx context.Context, root *cobra.Command) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &panicError{value: r, stack: debug.Stack()}
		}
	}()
	err = root.ExecuteContext(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command ") {
		return commandError(root, err)
	}
	return err
}

// panicError is a panic of a command, such as of a job's build function.
type panicError struct {
	value any
	stack []byte
}

// Error implements error.
func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// commandError makes an error with suggestions from cobra's "unknown command".
func commandError(root *cobra.Command, err error) error {
	quoted, qerr := strconv.QuotedPrefix(strings.TrimPrefix(err.Error(), "unknown command "))
	name, uerr := strconv.Unquote(quoted)
	if qerr != nil || uerr != nil {
		return &base.Error{Code: codeUsage, What: err.Error()}
	}
	root.SuggestionsMinimumDistance = 2
	return unknown(root, "command", name, root.SuggestionsFor(name))
}

// unknown is the error for a command or flag that does not exist.
func unknown(cmd *cobra.Command, kind, name string, like []string) error {
	e := &base.Error{Code: codeUsage, What: fmt.Sprintf("unknown %s %q", kind, name)}
	e.Next = "run " + cmd.CommandPath() + " --help"
	if len(like) > 0 {
		e.Next = "did you mean " + strings.Join(like, " or ") + "? Otherwise " + e.Next
	}
	return e
}

// printError prints errors one by one: code and what, then where, why and what
// to do next. Traces are shown only on request.
func printError(w io.Writer, err error, debugging bool) {
	for _, e := range flatten(err) {
		printOne(w, e)
		if p, ok := errors.AsType[*panicError](e); ok && debugging {
			fmt.Fprintf(w, "%s\n", p.stack)
		}
	}
}

// flatten splits joined errors.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, flatten(e)...)
	}
	return out
}

func printOne(w io.Writer, err error) {
	e, ok := errors.AsType[*base.Error](err)
	if p, isPanic := errors.AsType[*panicError](err); isPanic {
		e, ok = &base.Error{
			Code: "WEIR-0713", What: fmt.Sprintf("the program panicked: %v", p.value), Next: "run again with --debug for the stack trace",
		}, true
	}
	if !ok {
		fmt.Fprintf(w, "error: %v\n", err)
		return
	}
	where := e.Where
	// What callers put in front of the error says where it came from.
	if at, found := strings.CutSuffix(err.Error(), e.Error()); found {
		if at = strings.TrimSuffix(strings.TrimSpace(at), ":"); at != "" {
			where = strings.TrimSuffix(at+"; "+where, "; ")
		}
	}
	fmt.Fprintf(w, "error %s: %s\n", e.Code, e.What)
	for _, line := range []struct{ name, text string }{{"where", where}, {"why", causeOf(e)}, {"next", e.Next}} {
		if line.text != "" {
			fmt.Fprintf(w, "  %-5s  %s\n", line.name, strings.ReplaceAll(line.text, "\n", "\n         "))
		}
	}
}

func causeOf(e *base.Error) string {
	if e.Cause == nil {
		return ""
	}
	return e.Cause.Error()
}

// exitCode says in a number what kind of error it is.
func exitCode(err error) int {
	code := ExitFailed
	for _, e := range flatten(err) {
		switch base.CodeOf(e) {
		case codeUsage, codeValue, codeJob, codeListen, jetstream.CodeConfig:
			return ExitUsage
		case jetstream.CodeDial:
			code = ExitUnreachable
		}
	}
	return code
}
