package rollout

import (
	"cmp"
	"fmt"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model"
)

// Phase says where a rollout is.
type Phase uint8

// Phases of a rollout.
const (
	// Waiting: the first report has not come.
	Waiting Phase = iota
	// Running: a step is under way.
	Running
	// Promoted: the candidate has taken over.
	Promoted
	// RolledBack: the candidate has been taken out.
	RolledBack
	// Superseded: a routing is in effect that the rollout did not make.
	Superseded
)

// String names a phase.
func (p Phase) String() string {
	return [...]string{"waiting", "running", "promoted", "rolled back", "superseded"}[min(p, Superseded)]
}

// State is where a rollout is, and what it has seen. Its size does not grow with what is
// seen.
type State struct {
	Plan  string `msgpack:"plan"`
	Phase Phase  `msgpack:"phase"`
	// Step counts from 0. Routing is the version of its routing, Known the highest that
	// was seen or made.
	Step           int    `msgpack:"step"`
	Routing, Known uint64 `msgpack:",omitempty"`
	// Decided is when the step was decided, Since when the candidate was first seen in
	// it, or, after a rollback, the baseline under its routing; 0 for not yet. Last is
	// the end of the last report.
	Decided, Since, Last base.Timestamp `msgpack:",omitempty"`
	// Due, in the event time of the operator, is when the step has had its MaxTime, as
	// Plan.Due said; 0: nothing is due.
	Due base.Timestamp `msgpack:",omitempty"`
	// Looks counts the reports that were held against the limits.
	Looks    int64      `msgpack:"looks"`
	Evidence []Evidence `msgpack:"evidence"`
}

// Evidence is what was seen under the routing of one step.
type Evidence struct {
	Routing                     uint64
	Step                        int
	Baseline, Candidate, Shadow Side
}

// Side is what was seen of one arm.
type Side struct {
	Counts Counts
	Hist   []int64
}

func (s *Side) add(c *Counts, h []int64) {
	s.Counts.merge(c)
	addHist(&s.Hist, h)
}

// Action is what a decision does.
type Action string

// Actions.
const (
	// Hold: nothing changes.
	Hold Action = "hold"
	// Start: the first step begins. Promote: the next one does.
	Start   Action = "start"
	Promote Action = "promote"
	// Finish: the last step was passed; its routing stays.
	Finish Action = "finish"
	// RollBack: the baseline answers for all keys again.
	RollBack Action = "roll-back"
	// GiveUp: somebody else has changed the routing, which stays.
	GiveUp Action = "give-up"
)

// Decision is what a rollout makes of a report.
type Decision struct {
	Plan   string `msgpack:"plan" json:"plan"`
	Model  string `msgpack:"model" json:"model"`
	Action Action `msgpack:"action" json:"action"`
	// Step, from 1, is the one that the decision was made in.
	Step   int    `msgpack:"step" json:"step"`
	Reason string `msgpack:"reason" json:"reason"`
	// Routing is the new routing; its Version is 0 where nothing changes.
	Routing model.Routing `msgpack:"routing" json:"routing"`
	// At is the end of the window of the report, or of the time for the step.
	At base.Timestamp `msgpack:"at" json:"at"`
}

// Advance takes in a report, in the order of their ends, and decides. The plan is valid.
// A report of another model, or of a window that was seen, changes nothing, and ok is
// false.
func (p *Plan) Advance(s *State, r *Report) (d Decision, ok bool) {
	if s.Plan != p.Name {
		*s = State{Plan: p.Name, Known: s.Known, Last: s.Last}
	}
	if r.Model != p.Model || r.End <= s.Last {
		return Decision{}, false
	}
	s.Last = r.End
	s.Step = min(s.Step, len(p.Steps)-1) // the plan may have lost steps
	d = Decision{Plan: p.Name, Model: p.Model, Action: Hold, Step: s.Step + 1, At: r.End}
	news := s.collect(p, r)
	switch {
	case s.Phase == Waiting:
		s.begin(p, 0, r.End)
		d.Action, d.Reason, d.Routing = Start, "the rollout begins", p.routing(s.Routing, p.Steps[0])
	case s.Phase == RolledBack && p.refused(s, r):
		p.rollBack(s, &d, "the rollback was not accepted, as a routing of its version or a newer one gives the candidate keys")
	case s.Phase != Running:
		d.Reason = "the rollout has ended: " + s.Phase.String()
	case s.Known > s.Routing:
		s.Phase = Superseded
		d.Action, d.Reason = GiveUp, fmt.Sprintf("routing %d is in effect, which is newer than the rollout's %d", s.Known, s.Routing)
	default:
		p.decide(s, &d, news)
	}
	return d, true
}

// collect adds what a report has on the routings of this rollout, and says whether there
// was anything.
func (s *State) collect(p *Plan, r *Report) (news bool) {
	for i := range r.Arms {
		a := &r.Arms[i]
		s.Known = max(s.Known, a.Routing)
		for k := range s.Evidence {
			e := &s.Evidence[k]
			side := e.side(p, a)
			if side == nil {
				continue
			}
			side.add(&a.Counts, a.Hist)
			news = true
			if e.Routing == s.Routing && a.Arm == p.Candidate && s.Since == 0 {
				s.Since = r.End
			}
		}
	}
	return news
}

// side returns where a part of a report belongs; nil for nowhere.
func (e *Evidence) side(p *Plan, a *ArmReport) *Side {
	switch {
	case e.Routing != a.Routing:
	case a.Arm == p.Candidate && a.Shadow:
		return &e.Shadow
	case a.Arm == p.Candidate:
		return &e.Candidate
	case a.Arm == p.Baseline && !a.Shadow:
		return &e.Baseline
	}
	return nil
}

// begin begins a step.
func (s *State) begin(p *Plan, step int, at base.Timestamp) {
	s.Known++
	s.Phase, s.Step, s.Routing, s.Decided, s.Since = Running, step, s.Known, at, 0
	s.Evidence = append(s.Evidence, Evidence{Routing: s.Routing, Step: step})
	// A plan that lost and got steps while it ran may have more evidence than steps.
	s.Evidence = s.Evidence[max(0, len(s.Evidence)-maxSteps):]
}

// decide is Advance in a step that is under way.
func (p *Plan) decide(s *State, d *Decision, news bool) {
	step := &p.Steps[s.Step]
	if news {
		s.Looks++
		// Each look is at all steps, which may be more than the plan still has.
		z := quantile(p.alpha()/float64(max(len(p.Steps), len(s.Evidence))), s.Looks)
		for i := range s.Evidence {
			if why := p.broken(s, &s.Evidence[i], z); why != "" {
				p.rollBack(s, d, why)
				return
			}
		}
	}
	e := &s.Evidence[len(s.Evidence)-1]
	why := p.missing(s, e, d.At)
	switch {
	case why == "" && s.Step == len(p.Steps)-1:
		s.Phase = Promoted
		d.Action, d.Reason = Finish, p.summary(s, e)
	case why == "":
		d.Action, d.Reason = Promote, p.summary(s, e)
		s.begin(p, s.Step+1, d.At)
		d.Routing = p.routing(s.Routing, p.Steps[s.Step])
	case step.MaxTime > 0 && d.At-s.Decided >= int64(step.MaxTime):
		p.timeUp(s, d, why)
	default:
		d.Reason = why
	}
}

// Due says when the step under way has had its MaxTime, if event time is now as the last
// report comes; 0 if it has no end. Whoever calls Advance calls Expire then, for without
// an answer there is no report.
func (p *Plan) Due(s *State, now base.Timestamp) base.Timestamp {
	if s.Phase != Running {
		return 0
	}
	m := int64(p.Steps[s.Step].MaxTime)
	if left := m - (s.Last - s.Decided); m > 0 && now < base.MaxTime-left {
		return now + left
	}
	return 0
}

// Expire rolls back a step that has had its MaxTime. ok is false if there is none any
// more that can expire.
func (p *Plan) Expire(s *State) (d Decision, ok bool) {
	if s.Plan != p.Name || s.Phase != Running {
		return Decision{}, false
	}
	s.Step = min(s.Step, len(p.Steps)-1)
	step := &p.Steps[s.Step]
	if step.MaxTime == 0 {
		return Decision{}, false
	}
	d = Decision{Plan: p.Name, Model: p.Model, Step: s.Step + 1, At: s.Decided + int64(step.MaxTime)}
	p.timeUp(s, &d, cmp.Or(p.missing(s, &s.Evidence[len(s.Evidence)-1], d.At), "no report says more"))
	return d, true
}

func (p *Plan) timeUp(s *State, d *Decision, why string) {
	p.rollBack(s, d, fmt.Sprintf("the step had %v, and %s", p.Steps[s.Step].MaxTime, why))
}

func (p *Plan) rollBack(s *State, d *Decision, why string) {
	s.Known++
	s.Phase, s.Routing, s.Since = RolledBack, s.Known, 0
	d.Action, d.Reason, d.Routing = RollBack, why, p.routing(s.Routing, Step{})
}

// refused says whether a report shows that the rollback did not come into effect, as an
// operator accepts no routing that is not newer than its own: the candidate has keys
// under the version of the rollback, which gives it none, or under a newer one before
// anything was seen of the rollback.
func (p *Plan) refused(s *State, r *Report) bool {
	newer := false
	for i := range r.Arms {
		a := &r.Arms[i]
		switch {
		case a.Routing < s.Routing || a.Shadow:
		case a.Arm == p.Candidate && a.Routing == s.Routing:
			return true
		case a.Arm == p.Candidate:
			newer = true
		case a.Arm == p.Baseline && a.Routing == s.Routing && s.Since == 0:
			s.Since = r.End
		}
	}
	return newer && s.Since == 0
}

func (p *Plan) alpha() float64 {
	if p.Alpha == 0 {
		return DefaultAlpha
	}
	return p.Alpha
}
