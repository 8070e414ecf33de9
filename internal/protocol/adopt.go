package protocol

import (
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// AdoptionFacts is what a new coordinator knows when it decides whether the
// running generation can go on under it. The order of reading matters: first the
// term is claimed, then every task is asked, then generation and tip are read.
// A task that has answered refuses the old coordinator from then on, so nothing
// it does afterwards is missing here, except a claim that is already under way;
// that one makes this coordinator's own claim fail later.
type AdoptionFacts struct {
	// Gen is the record of the highest generation.
	Gen GenRecord
	// PlanHash is that of this binary.
	PlanHash SHA
	// Tip is the newest durable epoch; zero when there is none.
	Tip EpochRecord
	// Reports are the answers, at most one per task.
	Reports []TaskReport
}

// TaskReport is one task's answer to KindQuery.
type TaskReport struct {
	Task   TaskID
	Gen    base.Generation
	Status Status
}

// Adoption is what an adopting coordinator starts with.
type Adoption struct {
	// Abort lists the tries that are open in some task, ascending.
	Abort []Try
	// Finished lists the source tasks that have read their last record.
	Finished []TaskID
}

// Adopt decides whether the running generation continues from the tip. An error
// that is base.ErrFatal ends the job; any other says why the job has to be
// deployed anew, as the next generation, from the tip.
//
// Every task must answer, under the generation it was deployed with, and must
// hold the very attempt that became the tip: one that has given it up, because
// an abort reached it before the claim was known, has already folded the
// epoch's records into its next block, and would publish them twice.
func Adopt(f AdoptionFacts) (Adoption, error) {
	var a Adoption
	if f.Gen.PlanHash != f.PlanHash {
		return a, fmt.Errorf("generation %d runs plan %s, this binary has %s", f.Gen.Gen, f.Gen.PlanHash.Short(), f.PlanHash.Short())
	}
	if f.Tip.Gen > f.Gen.Gen {
		return a, fmt.Errorf("epoch %d was made by generation %d", f.Tip.Epoch, f.Tip.Gen)
	}
	for _, p := range f.Gen.Tasks {
		i := slices.IndexFunc(f.Reports, func(r TaskReport) bool { return r.Task == p.Task })
		if i < 0 {
			return a, fmt.Errorf("task %s did not answer", p.Task)
		}
		r := &f.Reports[i]
		switch {
		case r.Gen != p.Gen:
			return a, fmt.Errorf("task %s runs as generation %d, want %d", p.Task, r.Gen, p.Gen)
		case r.Status.PlanHash != f.PlanHash:
			return a, fmt.Errorf("task %s runs plan %s, want %s", p.Task, r.Status.PlanHash.Short(), f.PlanHash.Short())
		case r.Status.Confirmed > f.Tip.Epoch:
			return a, base.Fatal(&base.Error{
				Code: "WEIR-0390", Where: "task " + p.Task.String(),
				What: fmt.Sprintf("epoch %d was durable, but the newest one in the checkpoint store is %d", r.Status.Confirmed, f.Tip.Epoch),
				Next: "the checkpoint store lost data; restore it from a copy",
			})
		case f.Tip.Epoch > 0 && !slices.Contains(r.Status.Held, f.Tip.Try()):
			return a, fmt.Errorf("task %s does not continue from %s", p.Task, f.Tip.Try())
		}
		for _, t := range r.Status.Held {
			if t.Epoch > f.Tip.Epoch {
				a.Abort = append(a.Abort, t)
			}
		}
		if r.Status.Finished {
			a.Finished = append(a.Finished, p.Task)
		}
	}
	slices.SortFunc(a.Abort, func(x, y Try) int {
		switch {
		case x == y:
			return 0
		case y.Newer(x):
			return -1
		}
		return 1
	})
	a.Abort = slices.Compact(a.Abort)
	return a, nil
}

// SchemaChange is a state whose stored form differs from what the job wants.
type SchemaChange struct {
	Have, Want Schema
}

// MatchSchemas compares the states of a checkpoint with those a job wants.
// States in both with different fingerprints are returned for migration; states
// that only the job has start empty. A state that only the checkpoint has is
// refused, unless drop names it as "operator" or "operator/state": losing state
// is never an accident.
func MatchSchemas(have, want []Schema, drop []string) ([]SchemaChange, error) {
	var changes []SchemaChange
	var lost []string
	for _, h := range have {
		i := slices.IndexFunc(want, func(w Schema) bool { return w.Operator == h.Operator && w.State == h.State })
		name := h.Operator + "/" + h.State
		switch {
		case i >= 0 && want[i].Fingerprint != h.Fingerprint:
			changes = append(changes, SchemaChange{h, want[i]})
		case i < 0 && !slices.Contains(drop, h.Operator) && !slices.Contains(drop, name):
			lost = append(lost, name)
		}
	}
	if lost != nil {
		return nil, base.Fatal(&base.Error{
			Code: "WEIR-0391", Where: "job and checkpoint",
			What: fmt.Sprintf("the checkpoint has state that the job does not declare: %q", lost),
			Next: "restore the operator under its name, or name the state to drop",
		})
	}
	return changes, nil
}
