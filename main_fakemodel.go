package weir

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/fakemodel"
)

// fakeModelStop is how long calls may go on when the fake model server stops.
const fakeModelStop = 5 * time.Second

func fakeModelCommand() *cobra.Command {
	var script string
	o := fakemodel.Options{Listen: "127.0.0.1:0"}
	cmd := &cobra.Command{
		Use:   "fakemodel",
		Short: "Serve fake models that fail as a script says, for tests",
		Long: `Serve fake models until a signal comes: the Open Inference Protocol (REST), OpenAI's
chats and embeddings, TensorFlow Serving's REST, and plain JSON below /json/MODEL.
Answers are functions of model, version and input. The script, which may also be
replaced by PUT /control/script, says how calls are delayed and fail; /control/calls,
/control/keys and /control/stats say who asked for what. docs/reference/fakemodel.md
describes all of it.

The first line on standard output is the base URL. The server has no authentication;
OpenAI's clients may send any key, and want /v1 behind the URL.`,
		Args: args(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := readFakeScript(script)
			if err != nil {
				return err
			}
			if o.Script, err = fakemodel.ParseScript(text); err != nil {
				return inFile(err, script)
			}
			return serveFakeModel(cmd, o)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&o.Listen, "listen", o.Listen, "address; port 0 is a free one")
	fl.BoolVar(&o.Insecure, "insecure-listen", false, "allow --listen an address that other machines reach, without authentication")
	fl.StringVar(&script, "script", "", "file with the script, as JSON; without one, nothing fails")
	fl.StringVar(&o.LogFile, "log", "", "file to which each call is appended as it begins and ends; what it already holds counts")
	return cmd
}

// maxFakeScript bounds a script; it has at most some thousand rules.
const maxFakeScript = 4 << 20

// readFakeScript reads the script; without a file it is the empty one.
func readFakeScript(path string) ([]byte, error) {
	if path == "" {
		return []byte("{}"), nil
	}
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var text []byte
		if text, err = io.ReadAll(io.LimitReader(f, maxFakeScript+1)); err == nil && len(text) <= maxFakeScript {
			return text, nil
		}
		if err == nil {
			err = fmt.Errorf("it is larger than %d bytes", maxFakeScript)
		}
	}
	return nil, &base.Error{Code: codeValue, What: "the script cannot be read", Where: path, Cause: err, Next: "name a file with a script after --script"}
}

// inFile says in which file the script is.
func inFile(err error, path string) error { return fmt.Errorf("%s: %w", path, err) }

// serveFakeModel runs the server until a signal.
func serveFakeModel(cmd *cobra.Command, o fakemodel.Options) error {
	if err := checkListen(o.Listen, o.Insecure); err != nil {
		return err
	}
	out := cmd.ErrOrStderr()
	o.Logger = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := fakemodel.Start(o)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), s.URL())
	fmt.Fprintf(out, "  control  %s/control/stats, calls, keys and script\n  Ctrl-C stops the server\n", s.URL())
	<-cmd.Context().Done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t := clock.Real().AfterFunc(fakeModelStop, cancel)
	defer t.Stop()
	err = s.Close(ctx)
	st := s.Stats()
	fmt.Fprintf(out, "  served   %s for %s; %s seen again\n", plural(int(st.Calls), "call"), plural(len(st.Models), "model"), plural(st.Repeated, "key"))
	if err != nil {
		return fmt.Errorf("calls were under way when the fake model server stopped: %w", err)
	}
	return nil
}
