package weir

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/base"
)

// codeNoTrace: no stream has an event of the chain.
const codeNoTrace = "WEIR-0230"

// traceFlags are the flags of trace.
type traceFlags struct {
	server   jetstream.Config
	streams  []string
	limit    int
	payloads bool
	json     bool
	timeout  time.Duration
}

func traceCommand() *cobra.Command {
	f := &traceFlags{}
	cmd := &cobra.Command{
		Use:   "trace ID",
		Short: "Show what happened in a chain of steps, by its correlation ID",
		Long: `Show the events of a chain of steps (weir.Event) in the order of causation: when each
was made and how long after the event that caused it, by which attempt, the retries
that were requested, what was given up, and dead letters with one of the events in
them. ID is the correlation ID.

The streams of the server are searched, or those named by --streams. Where events are
on subjects that end with their correlation ID, as Event.Subject makes them, only those
of the chain are read; other streams are read from the beginning. Events may be JSON
or MessagePack, also in blocks.`,
		Args: args(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "" {
				return &base.Error{Code: codeUsage, What: "which chain?", Next: "give its correlation ID: " + cmd.CommandPath() + " ID"}
			}
			return f.run(cmd, args[0])
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	serverFlags(fl, &f.server)
	fl.StringSliceVar(&f.streams, "streams", nil, "streams to search, separated by commas (default all but key-value and object stores)")
	fl.IntVar(&f.limit, "limit", 10_000, "most events to show; there may be more")
	fl.BoolVar(&f.payloads, "payload", false, "show the payloads of the events")
	fl.BoolVar(&f.json, "json", false, "write JSON")
	fl.DurationVar(&f.timeout, "timeout", time.Minute, "time for the search")
	return cmd
}

// defaultNATS is where a NATS server listens unless told otherwise.
const defaultNATS = "nats://127.0.0.1:4222"

// serverFlags are the flags that name a NATS server that runs already.
func serverFlags(fl *pflag.FlagSet, c *jetstream.Config) {
	fl.StringVar(&c.URL, "nats", defaultNATS, "URL of the NATS server; several are separated by commas")
	fl.StringVar(&c.Credentials, "nats-creds", "", "file with NATS credentials (.creds)")
	fl.StringVar(&c.NKey, "nats-nkey", "", "file with an nkey seed")
	fl.StringVar(&c.Cert, "nats-tls-cert", "", "file with the client certificate (PEM)")
	fl.StringVar(&c.Key, "nats-tls-key", "", "file with the client key (PEM)")
	fl.StringVar(&c.CA, "nats-tls-ca", "", "file with the certificates to trust (PEM)")
}

func (f *traceFlags) run(cmd *cobra.Command, id string) error {
	for _, v := range []struct {
		flag string
		bad  bool
		what string
	}{
		{"limit", f.limit < 1 || f.limit > maxTraced, fmt.Sprintf("%d events are to be shown; 1 to %d can be", f.limit, maxTraced)},
		{"timeout", f.timeout <= 0, fmt.Sprintf("the time for the search is %v", f.timeout)},
		{"nats", f.server.URL == "", "the URL is empty"},
	} {
		if v.bad {
			return &base.Error{Code: codeValue, What: v.what, Where: "flag --" + v.flag}
		}
	}
	nc, err := jetstream.Dial(f.server)
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	t, err := newTracer(id, f.limit, f.payloads)
	if err != nil {
		return err
	}
	searched, err := t.search(f.streams).Run(ctx, nc)
	if err != nil {
		if ctx.Err() != nil && cmd.Context().Err() == nil {
			return &base.Error{Code: codeInspect, What: fmt.Sprintf("the search took longer than %v", f.timeout), Where: f.server.String(), Cause: err,
				Next: "name the streams with --streams, or give it more time with --timeout"}
		}
		return err
	}
	if len(t.found) == 0 {
		return &base.Error{
			Code: codeNoTrace, What: fmt.Sprintf("no event has the correlation ID %q", id),
			Where: fmt.Sprintf("%s, streams: %s", f.server, cmpOr(strings.Join(searched, ", "), "none")),
			Next:  "check the ID and, with --nats and --streams, where it was looked for; retention may have removed the events",
		}
	}
	tr := t.trace()
	if f.json {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(tr)
	}
	return tr.write(cmd.OutOrStdout())
}

func cmpOr(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// Trace is a chain of events as `weir trace --json` writes it.
type Trace struct {
	Correlation string `json:"correlation_id"`
	// Began and Ended are when the first and the last event were made, in milliseconds
	// since the epoch.
	Began int64 `json:"began_ts"`
	Ended int64 `json:"ended_ts"`
	// Retries counts requested retries, Failures steps that gave up, DeadLetters records
	// in dead-letter streams, Repeated events that were found more than once, which
	// exactly-once sinks never write.
	Retries     int `json:"retries"`
	Failures    int `json:"failures"`
	DeadLetters int `json:"dead_letters"`
	Repeated    int `json:"repeated"`
	// Cut says that there may be more events than those here.
	Cut bool `json:"cut,omitempty"`
	// Events are in the order of causation: none comes before its cause. Those that do
	// not depend on each other are in the order of time.
	Events []TracedEvent `json:"events"`
}

// TracedEvent is one event of a Trace.
type TracedEvent struct {
	Event
	// Stream and Seq say where it is, StoredAt when it became visible there, in
	// milliseconds since the epoch.
	Stream   string `json:"stream"`
	Seq      uint64 `json:"seq"`
	StoredAt int64  `json:"stored_ts"`
	// After is the time since its cause was made, in milliseconds; 0 without a cause.
	After int64 `json:"after_ms"`
	// Cause is the place of its cause in Events, from 0; -1 if there is none or it was
	// not found.
	Cause int `json:"cause"`
	// Note says in words what a control event or a dead letter wants.
	Note string `json:"note,omitempty"`
	// Dead says that it is a dead letter and no event of a step.
	Dead bool `json:"dead_letter,omitempty"`
}

// trace puts what was found in order.
func (t *tracer) trace() *Trace {
	tr := &Trace{Correlation: t.id, Cut: t.cut, Events: inOrder(t.found)}
	tr.Began, tr.Ended = tr.Events[0].At, tr.Events[0].At
	seen := map[string]bool{}
	for i := range tr.Events {
		e := &tr.Events[i]
		tr.Began, tr.Ended = min(tr.Began, e.At), max(tr.Ended, e.At)
		switch {
		case e.Dead:
			tr.DeadLetters++
		case seen[e.ID]:
			tr.Repeated++
		case e.Type == RetryRequestedType:
			tr.Retries++
		case e.Type == StepFailedType:
			tr.Failures++
		}
		seen[e.ID] = seen[e.ID] || !e.Dead
	}
	return tr
}

// inOrder sorts events so that none comes before its cause, and otherwise by time, and
// fills in what follows from the order.
func inOrder(found []TracedEvent) []TracedEvent {
	slices.SortStableFunc(found, func(a, b TracedEvent) int {
		for _, d := range []int64{a.At - b.At, a.StoredAt - b.StoredAt} {
			if d != 0 {
				return int(max(min(d, 1), -1))
			}
		}
		return strings.Compare(a.ID, b.ID)
	})
	byID := map[string]int{} // the first with the ID
	for i, e := range found {
		if _, dup := byID[e.ID]; !dup && !e.Dead {
			byID[e.ID] = i
		}
	}
	const waits, busy, done = 0, 1, 2
	at := make([]int, len(found)) // place in out
	progress := make([]int, len(found))
	out := make([]TracedEvent, 0, len(found))
	// Causes first, then in the order of time. The stack is explicit: a chain may be
	// long. Events that cause each other, which no step makes, end where they began.
	for i := range found {
		stack := []int{i}
		for len(stack) > 0 {
			n := stack[len(stack)-1]
			cause, ok := byID[found[n].Causation]
			if ok && progress[cause] == waits && cause != n && progress[n] == waits {
				progress[n] = busy
				stack = append(stack, cause)
				continue
			}
			stack = stack[:len(stack)-1]
			if progress[n] == done {
				continue
			}
			e := found[n]
			if e.Cause = -1; ok && progress[cause] == done {
				e.Cause, e.After = at[cause], e.At-found[cause].At
			}
			at[n], progress[n] = len(out), done
			out = append(out, e)
		}
	}
	return out
}
