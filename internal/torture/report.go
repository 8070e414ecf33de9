package torture

import (
	"fmt"
	"strings"
)

// Fault is a way in which an output may be wrong.
type Fault uint8

// The faults that Check tells apart.
const (
	// Lost: a result, or a record's part in one, is missing.
	Lost Fault = iota
	// Duplicated: a result or a record's part in one is there twice.
	Duplicated
	// Reordered: results of a key come in the wrong order.
	Reordered
	// Torn: a result does not continue the visible one before it: output of one
	// attempt was followed by the state of another.
	Torn
	// Wrong: a result has another value than it must have.
	Wrong

	numFaults
)

// String returns the fault in lower case.
func (f Fault) String() string {
	return [...]string{"lost", "duplicated", "reordered", "torn", "wrong"}[f]
}

// Report is the verdict on an output.
type Report struct {
	// Records and Results count the lines of input and output.
	Records, Results int
	Counts           [numFaults]int
	// Examples describes the first faults, at most maxExamples.
	Examples []string
}

// maxExamples bounds Report.Examples.
const maxExamples = 20

// OK says that nothing is wrong.
func (r *Report) OK() bool { return r.Counts == [numFaults]int{} }

// String renders the counts on one line.
func (r *Report) String() string {
	parts := []string{fmt.Sprintf("records %d, results %d", r.Records, r.Results)}
	for f := range numFaults {
		parts = append(parts, fmt.Sprintf("%s %d", f, r.Counts[f]))
	}
	return strings.Join(parts, ", ")
}

// Details renders the examples, one a line.
func (r *Report) Details() string { return strings.Join(r.Examples, "\n") }

func (r *Report) add(f Fault, n int, format string, args ...any) {
	r.Counts[f] += n
	if len(r.Examples) < maxExamples {
		r.Examples = append(r.Examples, f.String()+": "+fmt.Sprintf(format, args...))
	}
}
