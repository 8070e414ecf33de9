package weir

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/operators"
)

func (c *cli) planCommand() *cobra.Command {
	format := word{value: "ascii", allowed: []string{"ascii", "mermaid", "json"}}
	parallelism := 1
	cmd := &cobra.Command{
		Use:   "plan [JOB]",
		Short: "Show how a job is put together",
		Long: `Show a job's tasks: which operators are fused, how records are spread between
tasks, and what the sinks guarantee. Nothing is run and no server is asked.`,
		Args: args(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := c.pick(args)
			if err != nil {
				return err
			}
			plan, err := Compile(job, WithParallelism(parallelism))
			if err != nil {
				return err
			}
			return writePlan(cmd.OutOrStdout(), plan, format.value)
		},
	}
	cmd.Flags().Var(&format, "format", "form of the output")
	cmd.Flags().IntVar(&parallelism, "parallelism", 1, "subtasks of keyed operators that do not set it themselves")
	return cmd
}

func writePlan(w io.Writer, plan *engine.Plan, format string) error {
	v := viewOf(plan)
	switch format {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	case "mermaid":
		_, err := io.WriteString(w, v.mermaid())
		return err
	}
	if _, err := io.WriteString(w, v.title()+"\n\n"+draw(v)); err != nil {
		return err
	}
	return v.writeTables(w)
}

// planView is what the command shows of a plan. Its JSON form is for programs:
// fields are only added to it.
type planView struct {
	Job string `json:"job"`
	// Hash fingerprints names, edges and schemas; it does not depend on the
	// parallelism.
	Hash  string     `json:"hash"`
	Tasks []taskView `json:"tasks"`
	Edges []edgeView `json:"edges"`
	Sinks []sinkView `json:"sinks"`
}

type taskView struct {
	Name        string         `json:"name"`
	Parallelism int            `json:"parallelism"`
	Source      bool           `json:"source"`
	Keyed       bool           `json:"keyed"`
	Operators   []operatorView `json:"operators"`
}

type operatorView struct {
	Name   string      `json:"name"`
	Kind   string      `json:"kind"`
	Detail string      `json:"detail,omitempty"`
	Inputs []string    `json:"inputs,omitempty"`
	States []stateView `json:"states,omitempty"`
	Where  string      `json:"where,omitempty"`
}

type stateView struct {
	Name   string `json:"name"`
	Schema string `json:"schema"`
}

// edgeView is an edge between two tasks, by their names.
type edgeView struct {
	From      string `json:"from"`
	To        string `json:"to"`
	Partition string `json:"partition"`
}

type sinkView struct {
	Name      string `json:"name"`
	Connector string `json:"connector"`
	Guarantee string `json:"guarantee"`
	// Lanes is 0 for a sink that has none.
	Lanes int `json:"lanes,omitempty"`
}

func viewOf(plan *engine.Plan) planView {
	v := planView{Job: plan.Job, Hash: fmt.Sprintf("%016x", plan.Hash()), Edges: []edgeView{}, Sinks: []sinkView{}}
	for _, t := range plan.Tasks {
		v.Tasks = append(v.Tasks, taskView{Name: t.UID, Parallelism: t.Parallelism, Source: t.Source, Keyed: t.Keyed})
	}
	lanes := map[string]int{}
	for _, s := range plan.Sinks {
		lanes[s.UID] = s.Lanes
	}
	for _, o := range plan.Operators {
		ov := operatorView{Name: o.UID, Kind: o.Kind, Detail: o.Detail, Inputs: o.Inputs, Where: o.Where}
		for _, s := range o.States {
			ov.States = append(ov.States, stateView{Name: s.Name, Schema: s.Schema})
		}
		t := &v.Tasks[o.Task]
		t.Operators = append(t.Operators, ov)
		if o.Kind == "to" {
			connector, guarantee, _ := cutLast(o.Detail, ", ")
			v.Sinks = append(v.Sinks, sinkView{Name: o.UID, Connector: connector, Guarantee: guarantee, Lanes: lanes[o.UID]})
		}
	}
	for _, e := range plan.Edges {
		v.Edges = append(v.Edges, edgeView{From: plan.Tasks[e.From].UID, To: plan.Tasks[e.To].UID, Partition: partitionName(e.Partition.Kind)})
	}
	return v
}

// partitionName says in words which subtask of the receiving task gets a record.
func partitionName(k operators.PartitionKind) string {
	switch k {
	case operators.ByHash:
		return "by key"
	case operators.Forward:
		return "forward"
	case operators.ByLane:
		return "by lane of the key"
	case operators.BySplitLane:
		return "by lane of the split"
	case operators.Broadcast:
		return "to all"
	}
	return fmt.Sprintf("partition %d", k)
}

func (v *planView) title() string {
	subtasks := 0
	for _, t := range v.Tasks {
		subtasks += t.Parallelism
	}
	return fmt.Sprintf("job %s: %s, %s", v.Job, plural(len(v.Tasks), "task"), plural(subtasks, "subtask"))
}

// plural renders "1 task", "2 tasks".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// writeTables lists what does not fit into the picture.
func (v *planView) writeTables(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var states []string
	fmt.Fprintln(tw, "\nOPERATOR\tKIND\tTASK\tDETAIL")
	for _, t := range v.Tasks {
		for _, o := range t.Operators {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", o.Name, o.Kind, t.Name, o.Detail)
			for _, s := range o.States {
				states = append(states, fmt.Sprintf("%s/%s\t%s", o.Name, s.Name, s.Schema))
			}
		}
	}
	if len(states) > 0 {
		fmt.Fprintf(tw, "\nSTATE\tSCHEMA\n%s\n", strings.Join(states, "\n"))
	}
	if len(v.Sinks) > 0 {
		fmt.Fprintln(tw, "\nSINK\tGUARANTEE\tCONNECTOR\tLANES")
		for _, s := range v.Sinks {
			lanes := "-"
			if s.Lanes > 0 {
				lanes = fmt.Sprint(s.Lanes)
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", s.Name, s.Guarantee, s.Connector, lanes)
		}
	}
	return tw.Flush()
}

// mermaid renders the plan as a flow chart: a box of operators for each task.
func (v *planView) mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart TD\n")
	ids, taskOf := map[string]string{}, map[string]string{}
	for ti, t := range v.Tasks {
		fmt.Fprintf(&b, "  subgraph t%d[\"%s ×%d\"]\n", ti, t.Name, t.Parallelism)
		for _, o := range t.Operators {
			id := fmt.Sprintf("o%d", len(ids))
			ids[o.Name], taskOf[o.Name] = id, t.Name
			fmt.Fprintf(&b, "    %s[\"%s<br/>%s\"]\n", id, mermaidText(o.Kind), mermaidText(o.Name))
		}
		b.WriteString("  end\n")
	}
	part := map[[2]string]string{}
	for _, e := range v.Edges {
		part[[2]string{e.From, e.To}] = e.Partition
	}
	for _, t := range v.Tasks {
		for _, o := range t.Operators {
			for _, in := range o.Inputs {
				if p := part[[2]string{taskOf[in], t.Name}]; p != "" && taskOf[in] != t.Name {
					fmt.Fprintf(&b, "  %s -->|%s| %s\n", ids[in], p, ids[o.Name])
				} else {
					fmt.Fprintf(&b, "  %s --> %s\n", ids[in], ids[o.Name])
				}
			}
		}
	}
	return b.String()
}

// mermaidText escapes what would end a label.
func mermaidText(s string) string {
	return strings.NewReplacer(`"`, "#quot;", "<", "#lt;", ">", "#gt;").Replace(s)
}
