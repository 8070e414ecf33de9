package weir

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
)

// letterFilter says which letters a command is about.
type letterFilter struct{ operator, code string }

func (f *letterFilter) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.operator, "operator", "", "only letters of this operator")
	cmd.Flags().StringVar(&f.code, "code", "", "only letters with this error code, such as WEIR-0702")
}

func (f *letterFilter) takes(l *DeadLetterRecord) bool {
	return (f.operator == "" || f.operator == l.Operator) && (f.code == "" || f.code == l.Code)
}

// letterView is a letter as --json shows it. Fields are only added to it.
type letterView struct {
	ID        string `json:"id"`
	State     string `json:"state"`
	Job       string `json:"job"`
	Version   string `json:"job_version,omitempty"`
	Plan      string `json:"plan"`
	Operator  string `json:"operator"`
	Kind      string `json:"kind"`
	Source    string `json:"source,omitempty"`
	Origin    string `json:"origin"`
	EventTime string `json:"event_time,omitempty"`
	KeyHash   string `json:"key_hash"`
	Attempt   int    `json:"attempt"`
	Refused   string `json:"refused"`
	Code      string `json:"code"`
	Error     string `json:"error"`
	Stack     string `json:"stack,omitempty"`
	Size      int    `json:"size"`
	Truncated bool   `json:"truncated,omitempty"`
	// ContentType, Schema, Raw (base64), Record and Headers are shown for one letter.
	ContentType string       `json:"content_type,omitempty"`
	Schema      string       `json:"schema,omitempty"`
	Raw         []byte       `json:"raw,omitempty"`
	Record      any          `json:"record,omitempty"`
	Headers     base.Headers `json:"headers,omitempty"`
}

func viewOfLetter(l *DeadLetterRecord, state string, all bool) letterView {
	v := letterView{
		ID: l.ID, State: state, Job: l.Job, Version: l.JobVersion, Plan: l.Plan, Operator: l.Operator, Kind: l.Kind, Source: l.Source,
		Origin: l.Origin, KeyHash: l.KeyHash, Attempt: l.Attempt, Refused: l.Refused.UTC().Format(time.RFC3339Nano), Code: l.Code,
		Error: l.Error, Size: l.Size, Truncated: l.Truncated(),
	}
	if !l.EventTime.IsZero() {
		v.EventTime = l.EventTime.UTC().Format(time.RFC3339Nano)
	}
	if all {
		v.Stack, v.ContentType, v.Schema, v.Raw, v.Headers = l.Stack, l.ContentType, l.Schema, l.Raw, l.Headers
		v.Record = readable(l)
	}
	return v
}

// readable returns the record for people: what its MessagePack or JSON holds, or its
// text; nil for other bytes.
func readable(l *DeadLetterRecord) any {
	var v any
	switch {
	case l.Truncated() || len(l.Raw) == 0:
		return nil
	case l.ContentType == operators.MsgPackContent:
		v, err := codec.Readable(l.Raw, codec.Limits{MaxRecord: operators.RetryLimits.MaxRecord})
		if err != nil {
			return nil
		}
		if _, err := json.Marshal(v); err != nil { // such as NaN
			return fmt.Sprintf("%v", v)
		}
		return v
	case json.Unmarshal(l.Raw, &v) == nil:
		return v
	case utf8.Valid(l.Raw):
		return string(l.Raw)
	}
	return nil
}

func (c *cli) dlqLsCommand() *cobra.Command {
	f, only := &dlqFlags{}, letterFilter{}
	all, limit := false, 100
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the open dead letters",
		Long:  "List the dead letters that were neither sent back nor dropped, oldest first.",
		Args:  args(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, done, err := f.open(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer done()
			return q.list(cmd.OutOrStdout(), only, all, limit, f.json)
		},
	}
	f.add(cmd)
	only.add(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "also those that were sent back or dropped")
	cmd.Flags().IntVar(&limit, "limit", limit, "most letters to list; all are counted")
	cmd.Flags().BoolVar(&f.json, "json", false, "write a JSON array")
	return cmd
}

// list writes the letters that the filter takes.
func (q *letterQueue) list(w io.Writer, only letterFilter, all bool, limit int, asJSON bool) error {
	var shown []letterView
	n := 0
	strange, err := q.letters(func(l *DeadLetterRecord, state string) error {
		if !only.takes(l) || state != "open" && !all {
			return nil
		}
		if n++; n <= limit {
			shown = append(shown, viewOfLetter(l, state, false))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if asJSON {
		if shown == nil {
			shown = []letterView{}
		}
		return writeJSON(w, shown)
	}
	if n == 0 {
		_, err := fmt.Fprintln(w, "no dead letters"+strangeNote(strange))
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := "ID\tOPERATOR\tATTEMPT\tCODE\tREFUSED\tERROR"
	if all {
		head = "STATE\t" + head
	}
	fmt.Fprintln(tw, head)
	for _, l := range shown {
		if all {
			fmt.Fprint(tw, l.State+"\t")
		}
		fmt.Fprintf(tw, "%s\t%s\t%d\t%s\t%s\t%s\n", short(l.ID), plain(l.Operator), l.Attempt, plain(l.Code), l.Refused, cutTo(plain(l.Error), 80))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	what := "open dead letter"
	if all {
		what = "dead letter"
	}
	if n > len(shown) {
		what = fmt.Sprintf("%s, %d of them shown", plural(n, what), len(shown))
	} else {
		what = plural(n, what)
	}
	_, err = fmt.Fprintln(w, what+strangeNote(strange))
	return err
}

func strangeNote(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %s of the stream %s none", plural(n, "message"), map[bool]string{true: "is", false: "are"}[n == 1])
}

// short is the part of an ID that lists show; it is enough to name a letter.
func short(id string) string { return plain(id[:min(len(id), 12)]) }

func cutTo(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (c *cli) dlqShowCommand() *cobra.Command {
	f := &dlqFlags{}
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show all that is known of a dead letter",
		Long:  "Show all that is known of a dead letter. ID is its ID or the beginning of it.",
		Args:  args(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &base.Error{Code: codeUsage, What: "which dead letter?", Next: "give an ID that dlq ls shows"}
			}
			q, done, err := f.open(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer done()
			found, state, err := q.one(args[0])
			if err != nil {
				return err
			}
			v := viewOfLetter(found, state, true)
			if f.json {
				return writeJSON(cmd.OutOrStdout(), v)
			}
			return v.write(cmd.OutOrStdout())
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.json, "json", false, "write JSON")
	return cmd
}

// one finds a letter by the beginning of its ID; an open one comes before others of
// the same ID.
func (q *letterQueue) one(prefix string) (found *DeadLetterRecord, state string, err error) {
	_, err = q.letters(func(l *DeadLetterRecord, s string) error {
		switch {
		case !strings.HasPrefix(l.ID, prefix):
		case found == nil || found.ID == l.ID && state != "open":
			c := *l
			found, state = &c, s
		case found.ID != l.ID:
			return ambiguous(prefix, found.ID, l.ID)
		}
		return nil
	})
	if err == nil && found == nil {
		err = noLetter(prefix)
	}
	return found, state, err
}

func ambiguous(prefix, a, b string) error {
	return &base.Error{Code: codeNoLetter, What: fmt.Sprintf("several dead letters begin with %q", prefix), Next: "give more of the ID: " + a + " or " + b}
}

func noLetter(id string) error {
	return &base.Error{Code: codeNoLetter, What: fmt.Sprintf("there is no dead letter %q", id), Next: "dlq ls --all lists those there are"}
}

// maxDump bounds the bytes of a record that show prints.
const maxDump = 4 << 10

// write renders a letter for people.
func (v *letterView) write(w io.Writer) error {
	var b strings.Builder
	row := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-11s %s\n", name, plain(text))
		}
	}
	row("id", v.ID)
	row("state", v.State)
	row("job", strings.TrimSpace(v.Job+", plan "+v.Plan+" "+v.Version))
	row("operator", v.Operator)
	row("kind", v.Kind)
	row("attempt", fmt.Sprint(v.Attempt))
	row("refused", v.Refused)
	row("event time", v.EventTime)
	row("from", v.Source)
	row("origin", v.Origin)
	row("key hash", v.KeyHash)
	for _, h := range v.Headers {
		row("header", h.Name+": "+h.Value)
	}
	row("error", v.Code+" "+v.Error)
	if v.Stack != "" {
		b.WriteString("stack\n")
		for line := range strings.Lines(v.Stack) {
			b.WriteString("  " + plain(strings.ReplaceAll(strings.TrimRight(line, "\n"), "\t", "  ")) + "\n")
		}
	}
	what := plural(v.Size, "byte") + ", " + v.ContentType
	if v.Truncated {
		what += fmt.Sprintf(", only %d of them are here, so it cannot be retried", len(v.Raw))
	}
	row("record", what)
	row("schema", v.Schema)
	switch rec := v.Record.(type) {
	case nil:
		b.WriteString(hex.Dump(v.Raw[:min(len(v.Raw), maxDump)]))
	case string:
		b.WriteString(plain(cutTo(rec, maxDump)) + "\n")
	default:
		text, err := json.MarshalIndent(rec, "", "  ")
		if err != nil {
			return err
		}
		b.Write(text)
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
