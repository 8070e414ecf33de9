package weir

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirflow/weir/operators/feature"
)

// vectorSchema is the vector of an operator of the job, for people.
type vectorSchema struct {
	operator string
	schema   *feature.Schema
}

func (c *cli) featuresCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "features",
		Short: "Explain the rolling features of a job, and read those of a key in a running one",
	}
	cmd.AddCommand(c.featuresExplainCommand(), featuresGetCommand())
	return cmd
}

func (c *cli) featuresExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [JOB]",
		Short: "List the features of a job, their windows, and how exact they are",
		Long: `List the features of a job. A window is never shorter than its horizon, and longer
by less than its hop where it has one. Approx is the relative error of a percentile
and the standard error of a distinct count.`,
		Args: args(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := c.pick(args)
			if err != nil {
				return err
			}
			j, err := compile(spec)
			if err != nil {
				return err
			}
			return writeFeatures(cmd.OutOrStdout(), j.vectors)
		},
	}
}

func writeFeatures(w io.Writer, vectors []vectorSchema) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "OPERATOR\tFEATURE\tKIND\tHORIZON\tHOP\tAPPROX")
	for _, v := range vectors {
		for _, f := range v.schema.Fields {
			horizon, hop, approx := "", "exact", ""
			if f.Horizon > 0 {
				horizon = f.Horizon.String()
			}
			if f.Hop > 0 {
				hop = f.Hop.String()
			}
			if f.Horizon == 0 {
				hop = ""
			}
			if f.Approx > 0 {
				approx = fmt.Sprintf("%.2g %%", 100*f.Approx)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", v.operator, f.Name, f.Kind, horizon, hop, approx)
		}
	}
	return t.Flush()
}

func featuresGetCommand() *cobra.Command {
	q := question{verb: "computes the features"}
	var at int64
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Read the features of a key in a running job",
		Args:  args(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			arg, err := json.Marshal(feature.VectorRequest{At: at})
			if err != nil {
				return err
			}
			var v feature.VectorView
			raw, err := q.ask(cmd.Context(), feature.AskVector, arg, &v)
			if err != nil {
				return err
			}
			if q.json {
				return writeIndented(cmd.OutOrStdout(), raw)
			}
			return writeVector(cmd.OutOrStdout(), &v)
		},
	}
	q.flags(cmd)
	cmd.Flags().Int64Var(&at, "at-ms", 0, "as of this event time in milliseconds since the epoch (default: the key's last record)")
	return cmd
}

func writeVector(w io.Writer, v *feature.VectorView) error {
	var b bytes.Buffer
	if !v.Known {
		fmt.Fprintln(&b, "nothing is known of the key")
	}
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, f := range v.Features {
		value, err := json.Marshal(f.Value)
		if err != nil {
			return err
		}
		fmt.Fprintf(t, "%s\t%s\n", f.Name, value)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := b.WriteTo(w)
	return err
}
