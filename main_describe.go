package weir

import (
	"context"
	"fmt"
	"io"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
)

// The JSON forms below are for programs: fields are only added to them. A
// checkpoint carries no time of day; its epoch is its place in time.

type checkpointView struct {
	Epoch      base.Epoch `json:"epoch"`
	Attempt    string     `json:"attempt"`
	Generation uint64     `json:"generation"`
	Tasks      int        `json:"tasks"`
	Lanes      int        `json:"lanes"`
	// NewBytes is what the epoch added to the store, FullBytes what it refers
	// to in all, its manifest not counted.
	NewBytes  uint64 `json:"new_bytes"`
	FullBytes uint64 `json:"full_bytes"`
	// Final is "", "stop" or "end".
	Final string `json:"final,omitempty"`
}

func summary(m *protocol.Manifest) checkpointView {
	v := checkpointView{
		Epoch: m.Epoch, Attempt: m.Attempt.String(), Generation: uint64(m.Gen), Tasks: len(m.Tasks), Lanes: len(m.Lanes), Final: finalName(m.Final),
	}
	for i := range m.Tasks {
		for _, o := range m.Tasks[i].Objects {
			v.FullBytes += o.Size
			if o.Epoch == m.Epoch {
				v.NewBytes += o.Size
			}
		}
		for _, n := range m.Tasks[i].Named {
			v.FullBytes += n.Size
			v.NewBytes += n.Size
		}
	}
	for i := range m.Lanes {
		v.FullBytes += m.Lanes[i].Block.Bytes
		v.NewBytes += m.Lanes[i].Block.Bytes
	}
	return v
}

func finalName(f protocol.Final) string {
	switch f {
	case protocol.FinalStop:
		return "stop"
	case protocol.FinalEnd:
		return "end"
	}
	return ""
}

func listCheckpoints(ctx context.Context, q *storeQuery) error {
	first, last, err := q.rangeOf(ctx)
	if err != nil {
		return err
	}
	list := []checkpointView{}
	for n := first; n <= last; n++ {
		rec, _, found, err := q.record(ctx, n)
		if err != nil {
			return err
		}
		if !found {
			continue // deleted meanwhile, or lost: verify tells
		}
		m, err := q.manifest(ctx, rec)
		if err != nil {
			if q.deleted(ctx, n) {
				continue
			}
			return err
		}
		list = append(list, summary(m))
	}
	return q.write(list, func(w io.Writer) {
		fmt.Fprintln(w, "EPOCH\tATTEMPT\tGENERATION\tTASKS\tLANES\tNEW\tFULL\tFINAL")
		for _, v := range list {
			final := v.Final
			if final == "" {
				final = "-"
			}
			fmt.Fprintf(w, "%d\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", v.Epoch, v.Attempt, v.Generation, v.Tasks, v.Lanes,
				formatBytes(int64(v.NewBytes)), formatBytes(int64(v.FullBytes)), final)
		}
	})
}

// deleted reports whether an epoch was given up by retention in the meantime.
func (q *storeQuery) deleted(ctx context.Context, n base.Epoch) bool {
	floor, err := q.rec.Floor(ctx)
	return err == nil && n < floor
}

type detailView struct {
	checkpointView
	Manifest string            `json:"manifest"`
	Objects  []objectView      `json:"objects"`
	Named    []namedView       `json:"operator_states"`
	Splits   []splitView       `json:"splits"`
	Outputs  []laneView        `json:"outputs"`
	Schemas  []stateSchemaView `json:"states"`
}

type objectView struct {
	Task  string     `json:"task"`
	Range string     `json:"range"`
	Kind  string     `json:"kind"`
	Since base.Epoch `json:"since"`
	Epoch base.Epoch `json:"epoch"`
	Size  uint64     `json:"size"`
	// Object is the name in the store; "" for one that the manifest holds itself.
	Object string `json:"object,omitempty"`
}

type namedView struct {
	Task string `json:"task"`
	Name string `json:"name"`
	Size uint64 `json:"size"`
}

type splitView struct {
	Source    string `json:"source"`
	Split     string `json:"split"`
	Offset    uint64 `json:"offset"`
	Finished  bool   `json:"finished"`
	Watermark string `json:"watermark"`
}

type laneView struct {
	Sink string `json:"sink"`
	Lane int    `json:"lane"`
	// Messages is what the epoch publishes, Before what was published earlier.
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
	Before   uint64 `json:"before"`
	Object   string `json:"object,omitempty"`
}

type stateSchemaView struct {
	Operator string `json:"operator"`
	State    string `json:"state"`
	Schema   string `json:"schema"`
}

func describeCheckpoint(ctx context.Context, q *storeQuery) error {
	if q.epoch == 0 {
		if q.epoch = q.rec.EpochHint(ctx); q.epoch == 0 {
			return noEpoch(q, "latest")
		}
	}
	rec, _, found, err := q.record(ctx, q.epoch)
	if err != nil {
		return err
	}
	if !found {
		return noEpoch(q, fmt.Sprint(q.epoch))
	}
	m, err := q.manifest(ctx, rec)
	if err != nil {
		return err
	}
	v := details(m, rec.Manifest)
	return q.write(v, v.table)
}

func details(m *protocol.Manifest, sum protocol.SHA) *detailView {
	v := &detailView{
		checkpointView: summary(m), Manifest: sum.String(), Objects: []objectView{}, Named: []namedView{}, Splits: []splitView{},
		Outputs: []laneView{}, Schemas: []stateSchemaView{},
	}
	for i := range m.Tasks {
		t := &m.Tasks[i]
		for _, o := range t.Objects {
			ov := objectView{Task: t.Task.String(), Range: o.Range.String(), Kind: "delta", Since: o.Since, Epoch: o.Epoch, Size: o.Size}
			if o.Kind == protocol.KindBase {
				ov.Kind = "base"
			}
			if len(o.Inline) == 0 {
				ov.Object = protocol.ObjectKey(m.Job, o.SHA)
			}
			v.Objects = append(v.Objects, ov)
		}
		for _, n := range t.Named {
			v.Named = append(v.Named, namedView{t.Task.String(), n.Name, n.Size})
		}
	}
	for _, s := range m.Splits {
		v.Splits = append(v.Splits, splitView{s.Source, s.Split, s.Offset, s.Finished, base.FormatTime(s.Watermark)})
	}
	for i := range m.Lanes {
		b := m.Lanes[i].Block
		lv := laneView{Sink: b.Lane.Sink, Lane: b.Lane.Lane, Messages: b.Count(), Bytes: b.Bytes, Before: m.Lanes[i].Before}
		if !b.Empty() {
			lv.Object = protocol.ObjectKey(m.Job, b.SHA)
		}
		v.Outputs = append(v.Outputs, lv)
	}
	for _, s := range m.Schemas {
		v.Schemas = append(v.Schemas, stateSchemaView{s.Operator, s.State, s.Detail})
	}
	return v
}

func (v *detailView) table(w io.Writer) {
	fmt.Fprintf(w, "epoch\t%d\nattempt\t%s\ngeneration\t%d\nnew\t%s\nfull\t%s\nmanifest\t%s\n", v.Epoch, v.Attempt, v.Generation,
		formatBytes(int64(v.NewBytes)), formatBytes(int64(v.FullBytes)), v.Manifest)
	if v.Final != "" {
		fmt.Fprintf(w, "final\t%s\n", v.Final)
	}
	section(w, "\nSPLIT\tOFFSET\tWATERMARK\tFINISHED", v.Splits, func(s splitView) string {
		return fmt.Sprintf("%s/%s\t%d\t%s\t%v", s.Source, s.Split, s.Offset, s.Watermark, s.Finished)
	})
	section(w, "\nSTATE\tSCHEMA", v.Schemas, func(s stateSchemaView) string { return s.Operator + "/" + s.State + "\t" + s.Schema })
	section(w, "\nTASK\tKIND\tEPOCHS\tSIZE\tRANGE\tOBJECT", v.Objects, func(o objectView) string {
		name := o.Object
		if name == "" {
			name = "in the manifest"
		}
		return fmt.Sprintf("%s\t%s\t%d-%d\t%s\t%s\t%s", o.Task, o.Kind, o.Since, o.Epoch, formatBytes(int64(o.Size)), o.Range, name)
	})
	section(w, "\nTASK\tOPERATOR STATE\tSIZE", v.Named, func(n namedView) string {
		return fmt.Sprintf("%s\t%s\t%s", n.Task, n.Name, formatBytes(int64(n.Size)))
	})
	section(w, "\nLANE\tMESSAGES\tSIZE\tBEFORE", v.Outputs, func(l laneView) string {
		return fmt.Sprintf("%s/%d\t%d\t%s\t%d", l.Sink, l.Lane, l.Messages, formatBytes(int64(l.Bytes)), l.Before)
	})
}

// section writes a list under its head, and nothing when it is empty.
func section[T any](w io.Writer, head string, list []T, row func(T) string) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintln(w, head)
	for _, e := range list {
		fmt.Fprintln(w, row(e))
	}
}
