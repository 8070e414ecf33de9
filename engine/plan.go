// Package engine runs a type-free plan on a process, exactly once.
//
// The DSL compiles a job to a Plan. The engine turns it into subtasks connected
// by ports, restores them from the last claimed epoch, injects barriers, and
// commits the sinks of an epoch once it is durable. It declares no type
// parameters: records are opaque batches to it.
package engine

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/cespare/xxhash/v2"

	"github.com/weirflow/weir/operators"
)

// Plan is what a job compiles to. It is built anew in every process and holds
// closures; what must survive a process is in the manifest.
type Plan struct {
	// Job is the job's name.
	Job   string
	Tasks []Task
	Edges []Edge
	// Operators lists all operators in the order of their declaration.
	Operators []Operator
	// Sinks lists the exactly-once sinks.
	Sinks []operators.LaneSink
}

// Task is a chain of fused operators with one degree of parallelism.
type Task struct {
	// UID is the name of the chain's first operator.
	UID         string
	Parallelism int
	// Source is set for a chain that starts at a source, Keyed for one that has
	// keyed state.
	Source, Keyed bool
	// In and Out are indices of edges, in the order of the chain's inputs and
	// outputs.
	In, Out []int
	// Build builds the chain of one subtask.
	Build func(*operators.Subtask) error
}

// Edge connects two tasks.
type Edge struct {
	From, To  int
	Partition operators.Partition
	// Make makes an empty batch of the edge's type.
	Make func() operators.Batch
}

// Operator describes an operator for plans, metrics and manifests.
type Operator struct {
	// UID is the operator's name, Kind its verb ("map", "aggregate"), Detail a
	// few words on its arguments.
	UID, Kind, Detail string
	// Task is the index of the task it is fused into, Inputs the UIDs it reads.
	Task   int
	Inputs []string
	// States lists the declared states with their schemas.
	States []State
	// Where is the file and line of the declaration.
	Where string
}

// State is one declared state of an operator.
type State struct {
	Name, Schema string
}

// Hash fingerprints the plan: names, edges and state schemas, not parallelism.
// All workers of one generation must agree on it.
func (p *Plan) Hash() uint64 {
	h := xxhash.New()
	put := func(parts ...string) {
		for _, s := range parts {
			_ = binary.Write(h, binary.LittleEndian, uint32(len(s)))
			_, _ = h.WriteString(s)
		}
	}
	ops := append([]Operator(nil), p.Operators...)
	sort.Slice(ops, func(i, j int) bool { return ops[i].UID < ops[j].UID })
	put(p.Job)
	for _, o := range ops {
		put(o.UID, o.Kind)
		put(o.Inputs...)
		for _, s := range o.States {
			put(s.Name, s.Schema)
		}
	}
	for _, s := range p.Sinks {
		put(s.UID, fmt.Sprint(s.Lanes))
	}
	return h.Sum64()
}
