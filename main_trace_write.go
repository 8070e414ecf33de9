package weir

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// clockTime shows a time, in milliseconds since the epoch, in UTC.
func clockTime(ms int64) string { return time.UnixMilli(ms).UTC().Format("15:04:05.000") }

// write writes the trace as a table.
func (t *Trace) write(w io.Writer) error {
	var b bytes.Buffer
	first := time.UnixMilli(t.Began).UTC()
	fmt.Fprintf(&b, "chain %s: %s in %s, from %s\n", t.Correlation, countOf(len(t.Events), "event"), seconds(t.Ended-t.Began), first.Format(time.RFC3339Nano))
	fmt.Fprintf(&b, "%s requested, %s given up, %s", countOf(t.Retries, "retry"), countOf(t.Failures, "step"), countOf(t.DeadLetters, "dead letter"))
	if t.Repeated > 0 {
		fmt.Fprintf(&b, ", %s found more than once", countOf(t.Repeated, "event"))
	}
	if t.Cut {
		b.WriteString("; there may be more events, see --limit")
	}
	b.WriteString("\n\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "#\tmade\tafter its cause\tcause\tattempt\tevent\tstream\t\n")
	for i, e := range t.Events {
		cause, after := "", ""
		switch {
		case e.Cause >= 0:
			cause, after = strconv.Itoa(e.Cause+1), seconds(e.After)
		case e.Causation != "":
			cause = "not found"
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%d\t%s\t%s %d\t%s\n", i+1, clockTime(e.At), after, cause, e.Attempt, plain(e.Type), e.Stream, e.Seq, plain(e.Note))
		if len(e.Payload) > 0 {
			fmt.Fprintf(table, "\t%s\n", plain(string(e.Payload)))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := io.WriteString(w, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func countOf(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if stem, ok := strings.CutSuffix(what, "y"); ok {
		what = stem + "ie"
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func seconds(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64) + " s" }

// plain makes a text from an event fit for one line of a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
