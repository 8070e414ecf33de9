package weir

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/pattern"
)

// explained is a pattern of a job, for people.
type explained struct {
	operator, name, text, mermaid string
}

// codeInspect: a running job did not answer a question.
const codeInspect = "WEIR-0210"

func (c *cli) patternsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "patterns",
		Short: "Explain the patterns of a job, and look into a running one",
	}
	cmd.AddCommand(c.patternsExplainCommand(), patternsRunsCommand(), patternsTraceCommand())
	return cmd
}

func (c *cli) patternsExplainCommand() *cobra.Command {
	format := word{value: "text", allowed: []string{"text", "mermaid"}}
	cmd := &cobra.Command{
		Use:   "explain [JOB]",
		Short: "Show what the patterns of a job mean and how their state grows",
		Args:  args(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := c.pick(args)
			if err != nil {
				return err
			}
			j, err := compile(spec)
			if err != nil {
				return err
			}
			for i, e := range j.explained {
				text := e.text
				if format.value == "mermaid" {
					text = e.mermaid
				}
				head := fmt.Sprintf("pattern %s, operator %s", e.name, e.operator)
				if format.value == "mermaid" {
					head = "%% " + head
				}
				if i > 0 {
					head = "\n" + head
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s\n", head, strings.TrimRight(text, "\n")); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().Var(&format, "format", "form of the output")
	return cmd
}

// question is what a command asks a running job about a key.
type question struct {
	// verb says what the operator does that is asked.
	verb               string
	url, operator, key string
	json               bool
}

func (q *question) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&q.url, "url", "http://"+defaultListen, "where the running job serves HTTP")
	fl.StringVar(&q.operator, "operator", "", "name of the operator that "+q.verb)
	fl.StringVar(&q.key, "key", "", "the key: its text, or JSON if it is not a text")
	fl.BoolVar(&q.json, "json", false, "write JSON")
	for _, name := range []string{"operator", "key"} {
		_ = cmd.MarkFlagRequired(name) // it exists
	}
}

func patternsRunsCommand() *cobra.Command {
	q := question{verb: "detects the patterns"}
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List the partial matches of a key in a running job, and what each waits for",
		Args:  args(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var runs []pattern.RunView
			raw, err := q.ask(cmd.Context(), pattern.AskRuns, nil, &runs)
			if err != nil {
				return err
			}
			if q.json {
				return writeIndented(cmd.OutOrStdout(), raw)
			}
			return writeRuns(cmd.OutOrStdout(), runs)
		},
	}
	q.flags(cmd)
	return cmd
}

func patternsTraceCommand() *cobra.Command {
	q := question{verb: "detects the patterns"}
	var record string
	var at int64
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Tell what a record would do to the partial matches of a key, and why",
		Long: `Tell what a record would do to the partial matches of a key in a running job, and
why: which would take it, drop it or end by it, and whether it would begin one.
Nothing is changed.`,
		Args: args(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			body := record
			if file, ok := strings.CutPrefix(record, "@"); ok {
				b, err := os.ReadFile(file)
				if err != nil {
					return &base.Error{Code: codeValue, What: "the record cannot be read", Cause: err}
				}
				body = string(b)
			}
			if !json.Valid([]byte(body)) {
				return &base.Error{Code: codeValue, What: "--record is not JSON", Where: body, Next: "write the record as JSON, or @FILE"}
			}
			arg, err := json.Marshal(pattern.TraceRequest{Record: json.RawMessage(body), At: at})
			if err != nil {
				return err
			}
			var traces []pattern.TraceView
			raw, err := q.ask(cmd.Context(), pattern.AskTrace, arg, &traces)
			if err != nil {
				return err
			}
			if q.json {
				return writeIndented(cmd.OutOrStdout(), raw)
			}
			return writeTraces(cmd.OutOrStdout(), traces)
		},
	}
	q.flags(cmd)
	cmd.Flags().StringVar(&record, "record", "", "the record as JSON, or @FILE")
	cmd.Flags().Int64Var(&at, "at-ms", 0, "its event time in milliseconds since the epoch (default: where event time is)")
	_ = cmd.MarkFlagRequired("record") // it exists
	return cmd
}

// askTimeout is how long a running job has for an answer.
const askTimeout = 10 * time.Second

// ask asks the job and returns the answer, also as it came.
func (q *question) ask(ctx context.Context, what string, arg []byte, into any) ([]byte, error) {
	u, err := url.Parse(q.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &base.Error{Code: codeValue, What: "--url is not a URL of HTTP", Where: q.url, Next: "write http://127.0.0.1:8484"}
	}
	u = u.JoinPath(inspectPath)
	u.RawQuery = url.Values{"operator": {q.operator}, "question": {what}, "key": {q.key}}.Encode()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(arg))
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, &base.Error{
			Code: codeInspect, What: "the job does not answer", Where: q.url, Cause: err,
			Next: "start the job, or say with --url where it serves HTTP: run prints the address",
		}
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		var e inspectError
		_ = json.Unmarshal(body, &e) // another server's answer is shown as it is
		return nil, &base.Error{Code: codeInspect, What: cmp.Or(e.Error, strings.TrimSpace(string(body))), Where: q.url}
	}
	return body, json.Unmarshal(body, into)
}

func writeIndented(w io.Writer, raw []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return err
	}
	_, err := b.WriteTo(w)
	return err
}

func writeFound(w io.Writer, found []pattern.StageView) {
	for _, s := range found {
		for _, r := range s.Records {
			fmt.Fprintf(w, "  %-12s %s\n", s.Stage, r)
		}
	}
}

func writeRuns(w io.Writer, runs []pattern.RunView) error {
	var b bytes.Buffer
	if len(runs) == 0 {
		b.WriteString("no partial matches\n")
	}
	for _, r := range runs {
		fmt.Fprintf(&b, "%s since %s", r.Pattern, r.Since.Format(time.RFC3339Nano))
		if r.Ends != nil {
			fmt.Fprintf(&b, ", ends %s", r.Ends.Format(time.RFC3339Nano))
		}
		b.WriteString("\n")
		writeFound(&b, r.Found)
		fmt.Fprintf(&b, "  waits for %s\n", r.Waits)
	}
	_, err := b.WriteTo(w)
	return err
}

func writeTraces(w io.Writer, traces []pattern.TraceView) error {
	var b bytes.Buffer
	for _, t := range traces {
		what := "no partial match"
		if len(t.Found) > 0 {
			what = "a partial match"
		}
		fmt.Fprintf(&b, "%s: %s\n", t.Pattern, what)
		writeFound(&b, t.Found)
		fmt.Fprintf(&b, "  waits for %s\n", t.Waits)
		for _, s := range t.Steps {
			fmt.Fprintf(&b, "  → %s\n", s)
		}
	}
	_, err := b.WriteTo(w)
	return err
}
