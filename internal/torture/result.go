package torture

import (
	"fmt"
	"strings"
	"time"
)

// Result is what a run came to.
type Result struct {
	Seed uint64
	Dir  string
	Took time.Duration
	// JobKills, NATSKills and CrashKills count processes killed: the job at random,
	// the server at random, the job at an armed point.
	JobKills, NATSKills, CrashKills int
	// DuringRecovery counts faults before the first result after the one before.
	DuringRecovery int
	// NotReached counts armed points that the job did not come to in time, Exits
	// how often it exited by itself because the server was away.
	NotReached, Exits int
	// LongestGap is the longest time without a new result while the storm lasted.
	LongestGap time.Duration
	// Epochs is the number of the last checkpoint.
	Epochs uint64
	// Points counts the processes that came to each crash point, as far as their
	// log goes.
	Points map[string]int
	// Judged says that the run came to its end and everything was compared.
	Judged bool
	// Report is the verdict on the output; nil when the run did not get that far.
	Report *Report
	// State is how the state of the last checkpoint differs from the model; "" if
	// it does not.
	State string
}

// Kills returns how many processes were killed.
func (r *Result) Kills() int { return r.JobKills + r.NATSKills + r.CrashKills }

// OK says that the run found nothing.
func (r *Result) OK() bool { return r.Judged && r.Report.OK() && r.State == "" }

// Summary renders the result on one line.
func (r *Result) Summary() string {
	verdict := "FAILED"
	if r.OK() {
		verdict = "ok"
	}
	state := "equal"
	if r.State != "" {
		state = "DIFFERENT"
	}
	rep := "not judged"
	if r.Report != nil {
		rep = r.Report.String()
	}
	return fmt.Sprintf("%s: seed %d, %d kills (job %d, server %d, crash points %d; %d amid recovery) in %s: %s; state %s; "+
		"%d epochs, longest time without a result %s, %d crash points passed, %d exits for want of a server",
		verdict, r.Seed, r.Kills(), r.JobKills, r.NATSKills, r.CrashKills, r.DuringRecovery, r.Took.Round(time.Second/10), rep, state,
		r.Epochs, r.LongestGap.Round(time.Second/100), len(r.Points), r.Exits)
}

// Details renders what went wrong, one line each.
func (r *Result) Details() string {
	var parts []string
	if r.Report != nil && !r.Report.OK() {
		parts = append(parts, r.Report.Details())
	}
	if r.State != "" {
		parts = append(parts, "state: "+r.State)
	}
	return strings.Join(parts, "\n")
}
