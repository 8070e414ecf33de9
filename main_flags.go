package weir

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirflow/weir/internal/base"
)

// cli is the command line of a binary with some jobs.
type cli struct{ jobs []JobSpec }

func (c *cli) names() []string {
	out := make([]string, 0, len(c.jobs))
	for _, j := range c.jobs {
		out = append(out, j.name)
	}
	return out
}

// pick returns the job that the arguments name; a binary with one job needs no
// name.
func (c *cli) pick(args []string) (JobSpec, error) {
	have := "this binary has " + strings.Join(c.names(), ", ")
	switch {
	case len(c.jobs) == 0:
		return JobSpec{}, &base.Error{Code: codeJob, What: "this binary has no jobs", Next: "give some to weir.Main"}
	case len(args) == 0 && len(c.jobs) == 1:
		return c.jobs[0], nil
	case len(args) == 0:
		return JobSpec{}, &base.Error{Code: codeJob, What: "which job?", Next: have}
	}
	for _, j := range c.jobs {
		if j.name == args[0] {
			return j, nil
		}
	}
	return JobSpec{}, &base.Error{Code: codeJob, What: fmt.Sprintf("there is no job %q", args[0]), Next: have}
}

// args refuses more than max arguments.
func args(most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= most {
			return nil
		}
		return &base.Error{
			Code: codeUsage, What: fmt.Sprintf("%q is one argument too many", args[most]), Where: cmd.CommandPath(),
			Next: "usage: " + cmd.UseLine(),
		}
	}
}

var (
	unknownFlag  = regexp.MustCompile(`^unknown flag: --(.*)$|^unknown shorthand flag: '(.)'`)
	invalidValue = regexp.MustCompile(`(?s)^invalid argument (".*") for "(.*?)" flag: (.*)$`)
)

// flagError gives the errors of the flag parser a code and a next step.
func flagError(cmd *cobra.Command, err error) error {
	help := "run " + cmd.CommandPath() + " --help"
	if m := unknownFlag.FindStringSubmatch(err.Error()); m != nil {
		name := "-" + m[2]
		if m[2] == "" {
			name = "--" + m[1]
		}
		return unknown(cmd, "flag", name, similarFlags(cmd, m[1]))
	}
	m := invalidValue.FindStringSubmatch(err.Error())
	if m == nil {
		return &base.Error{Code: codeUsage, What: err.Error(), Where: cmd.CommandPath(), Next: help}
	}
	out := &base.Error{Code: codeValue, What: m[1] + " is not a value", Where: "flag " + m[2], Next: help, Cause: errors.New(m[3])}
	if e, ok := errors.AsType[*base.Error](err); ok {
		out.What, out.Next, out.Cause = e.What, e.Next, nil
	}
	return out
}

// similarFlags lists the flags of a command that a mistyped name may mean.
func similarFlags(cmd *cobra.Command, name string) []string {
	var out []string
	for line := range strings.Lines(cmd.Flags().FlagUsages()) {
		_, flag, ok := strings.Cut(line, "--")
		if !ok {
			continue
		}
		if i := strings.IndexAny(flag, " \n["); i >= 0 {
			flag = flag[:i]
		}
		if d := distance(name, flag); d <= 2 || len(name) > 3 && strings.HasPrefix(flag, name) {
			out = append(out, "--"+flag)
		}
	}
	sort.Strings(out)
	return out
}

// distance is the number of letters to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// byteSize is a flag whose value is a number of bytes with a unit.
type byteSize int64

// String implements the flag's value.
func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return strings.ReplaceAll(formatBytes(int64(*b)), " ", "")
}

// Type implements the flag's value.
func (b *byteSize) Type() string { return "size" }

// Set implements the flag's value.
func (b *byteSize) Set(s string) error {
	n, err := parseBytes(s)
	*b = byteSize(n)
	return err
}

var byteUnits = map[string]float64{
	"B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}

// parseBytes reads a size such as 512MiB or 1.5GiB. A bare number is refused: it
// is more often a mistake than a number of bytes.
func parseBytes(s string) (int64, error) {
	bad := func(what string) (int64, error) {
		return 0, &base.Error{Code: codeValue, What: what, Next: "write a number with a unit, such as 512MiB or 8GiB (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB)"}
	}
	text := strings.TrimSpace(s)
	i := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if i < 0 {
		return bad(fmt.Sprintf("the size %q has no unit", s))
	}
	n, err := strconv.ParseFloat(text[:i], 64)
	if err != nil {
		return bad(fmt.Sprintf("the size %q does not begin with a number", s))
	}
	unit, ok := byteUnits[strings.ToUpper(strings.TrimSpace(text[i:]))]
	if !ok {
		return bad(fmt.Sprintf("the size %q has the unit %q, which is none", s, strings.TrimSpace(text[i:])))
	}
	if n*unit > math.MaxInt64/2 {
		return bad(fmt.Sprintf("the size %q is too large", s))
	}
	return int64(n * unit), nil
}

// word is a flag with a fixed set of values.
type word struct {
	value   string
	allowed []string
}

// String implements the flag's value.
func (w *word) String() string { return w.value }

// Type implements the flag's value.
func (w *word) Type() string { return strings.Join(w.allowed, "|") }

// Set implements the flag's value.
func (w *word) Set(s string) error {
	for _, a := range w.allowed {
		if s == a {
			w.value = s
			return nil
		}
	}
	return &base.Error{Code: codeValue, What: fmt.Sprintf("%q is not one of its values", s), Next: "use " + strings.Join(w.allowed, ", ")}
}

// level returns the slog level of a word.
func level(s string) slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(s)) // the flag takes no other words
	return l
}

// checkStateName reports why a state cannot be called that.
func checkStateName(s string) error {
	op, name, ok := cutLast(s, "/")
	ok = ok && name != ""
	for part := range strings.SplitSeq(op, "/") {
		ok = ok && base.CheckUID(part) == nil
	}
	if ok {
		return nil
	}
	return &base.Error{
		Code: codeValue, What: fmt.Sprintf("%q does not name a state", s),
		Next: "write operator/state; the command plan lists the states of a job, checkpoint describe those of a checkpoint",
	}
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
