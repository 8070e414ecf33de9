package weir

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
)

// dlqDecideCommand is retry or drop.
func (c *cli) dlqDecideCommand(action, short string) *cobra.Command {
	f, only, all := &dlqFlags{}, letterFilter{}, false
	long := `Close dead letters, named by the beginnings of their IDs or chosen by flags, without
sending them back. They stay in the stream; dlq ls does not list them any more.`
	if action == operators.RetryAction {
		long = `Send dead letters back, named by the beginnings of their IDs or chosen by flags, each
into the operator that refused it, and no other, with the event time that it had: a
record that could not be decoded is decoded again. The job takes them when it runs. One
that is refused again becomes a dead letter with the next number of attempt.`
	}
	cmd := &cobra.Command{
		Use: action + " [ID...]", Short: short, Long: long,
		RunE: func(cmd *cobra.Command, ids []string) error {
			if err := checkChoice(cmd, ids, all || only != (letterFilter{})); err != nil {
				return err
			}
			q, done, err := f.open(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer done()
			return q.decideOn(cmd.OutOrStdout(), action, ids, only)
		},
	}
	f.add(cmd)
	only.add(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all open letters")
	return cmd
}

// checkChoice wants letters chosen in one way.
func checkChoice(cmd *cobra.Command, ids []string, flags bool) error {
	e := &base.Error{Code: codeUsage, Where: cmd.CommandPath(), Next: "give IDs, or --all, or one of --operator and --code"}
	switch {
	case len(ids) == 0 && !flags:
		e.What = "which dead letters?"
	case len(ids) > 0 && flags:
		e.What = "letters are named and chosen by flags"
	default:
		for _, id := range ids {
			if len(id) < minPrefix || strings.Trim(id, "0123456789abcdef") != "" {
				e.What, e.Next = fmt.Sprintf("%q is not the beginning of an ID", id), fmt.Sprintf("give at least %d hexadecimal digits of it", minPrefix)
				return e
			}
		}
		return nil
	}
	return e
}

// minPrefix is the least number of digits that name a letter to decide on.
const minPrefix = 4

// decideOn decides on the open letters that are named or chosen.
func (q *letterQueue) decideOn(w io.Writer, action string, ids []string, only letterFilter) error {
	named, err := q.resolve(ids)
	if err != nil {
		return err
	}
	var done, cut int
	_, err = q.letters(func(l *DeadLetterRecord, state string) error {
		switch {
		case state != "open" || !only.takes(l) || named != nil && !named[l.ID]:
			return nil
		case action == operators.RetryAction && l.Truncated():
			cut++
			return nil
		}
		if err := q.decide(l, action); err != nil {
			return err
		}
		done++
		return nil
	})
	if err != nil {
		return fmt.Errorf("after %s: %w", plural(done, "dead letter"), err)
	}
	verb := "dropped"
	if action == operators.RetryAction {
		verb = "sent back"
	}
	if _, err := fmt.Fprintf(w, "%s %s\n", plural(done, "dead letter"), verb); err != nil {
		return err
	}
	if cut > 0 {
		return &base.Error{
			Code: codeNotWhole, What: plural(cut, "dead letter") + " cannot be sent back, because the record was larger than its source or the sink takes",
			Next: "publish the record anew at its source, which dlq show names, and drop the letter",
		}
	}
	return nil
}

// resolve returns the IDs that begin as the given ones do; nil for none given. All
// must be open.
func (q *letterQueue) resolve(prefixes []string) (map[string]bool, error) {
	if len(prefixes) == 0 {
		return nil, nil
	}
	found, states := make([]string, len(prefixes)), make([]string, len(prefixes))
	_, err := q.letters(func(l *DeadLetterRecord, state string) error {
		for i, p := range prefixes {
			switch {
			case !strings.HasPrefix(l.ID, p):
			case found[i] != "" && found[i] != l.ID:
				return ambiguous(p, found[i], l.ID)
			default:
				found[i], states[i] = l.ID, state
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for i, p := range prefixes {
		switch {
		case found[i] == "":
			return nil, noLetter(p)
		case states[i] != "open":
			return nil, &base.Error{Code: codeNoLetter, What: fmt.Sprintf("dead letter %s was %s before", found[i], states[i]), Next: "dlq ls lists those that are open"}
		}
		ids[found[i]] = true
	}
	for _, d := range q.decided {
		d.seen = 0 // the stream is read once more
	}
	return ids, nil
}
