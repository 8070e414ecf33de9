package weir

import (
	"fmt"
	"time"

	"github.com/weirflow/weir/operators/model/rollout"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/window"
)

// Compare reports how the arms of a model do, for every window of event time: how often
// they fail or have to be answered for, how their scores are spread and how far that is
// from the baseline's, how often shadows agree with the answer that counts, and how good
// answers were by their outcomes, which may come days later. Everything is joined by the
// ID of the prediction.
//
//	seen := weir.Union("seen",
//		weir.Map(predictions, "answers", func(p model.Prediction[Input, float64]) rollout.Seen { return rollout.OfPrediction(p, p.Out) }),
//		weir.Map(failures, "failures", func(f model.Failed[Payment]) rollout.Seen { return rollout.OfFailure("fraud", f) }),
//		weir.Map(shadowed, "shadowed", func(s model.Shadow[float64]) rollout.Seen { return rollout.OfShadow(s, s.Out) }),
//		weir.Map(labels, "labels", func(l Label) rollout.Seen { return rollout.OfOutcome(l.Prediction, l.Fraud) }))
//	reports := weir.Compare(seen, "compare", rollout.Config{Baseline: "stable", Tolerance: 0.05, Horizon: 24 * time.Hour})
//
// A report has the event time of its window's end, and comes when the watermark has
// passed that, so that it is the same in every replay, but for what shadows have said:
// they are not in checkpoints. What comes behind the watermark and later than its window
// does not count.
//
// The state has every prediction for Config.Grace, and for Config.Horizon as well until
// its outcome is known.
func Compare(seen Stream[rollout.Seen], name string, c rollout.Config) Stream[rollout.Report] {
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		seen.j.fail(caller(1), "WEIR-0130", fmt.Sprintf("compare %s: %v", name, err), "correct its rollout.Config")
		return newStream[rollout.Report](seen.j, seen.chain, seen.uid, true)
	}
	var out Stream[rollout.Report]
	Scope(seen.j, name, func(*Job) {
		byID := KeyBy(seen, "by-id", func(s rollout.Seen) string { return s.ID })
		facts := Process(byID, "join", func() KeyedProcess[string, rollout.Seen, rollout.Fact] { return &compareJoin{c: &c} })
		bySeries := KeyBy(facts, "by-series", func(f rollout.Fact) rollout.Series { return f.Series })
		parts := Aggregate(bySeries, "count", window.Tumbling(c.Window), AggregateFunction[rollout.Fact, rollout.Acc, rollout.Acc](compareCount{}))
		byModel := KeyBy(parts, "by-model", func(w comparePart) string { return w.Key.Model })
		all := Aggregate(byModel, "gather", window.Tumbling(c.Window),
			AggregateFunction[comparePart, rollout.Tally, rollout.Tally](compareGather{bins: c.Bins.Count()}))
		out = Map(all, "report", func(w Windowed[string, rollout.Tally]) rollout.Report {
			return w.Value.Report(&c, w.Key, w.Start.UnixNano(), w.End.UnixNano())
		})
	})
	return out
}

// comparePart is what one part of a series has counted in a window.
type comparePart = Windowed[rollout.Series, rollout.Acc]

// compareJoin joins what is seen of a prediction. Facts come by timers of event time, so
// that they do not depend on the order in which records of several streams come.
type compareJoin struct {
	c      *rollout.Config
	joined *state.Value[rollout.Joined]
}

// Declare implements KeyedProcess.
func (p *compareJoin) Declare(d *Declarer) { p.joined = ValueState[rollout.Joined](d, "joined") }

// OnRecord implements KeyedProcess.
func (p *compareJoin) OnRecord(ctx *Context[string, rollout.Fact], s rollout.Seen) error {
	j, _ := p.joined.Get()
	due, ok := j.Take(p.c, &s, ctx.Timestamp().UnixNano())
	if !ok {
		return nil
	}
	p.joined.Set(j)
	for _, t := range due {
		ctx.RegisterEventTimer(time.Unix(0, t))
	}
	return nil
}

// OnTimer implements KeyedProcess.
func (p *compareJoin) OnTimer(ctx *Context[string, rollout.Fact], t Timer) error {
	j, ok := p.joined.Get()
	if !ok {
		return nil
	}
	if j.Due(p.c, t.Time.UnixNano(), ctx.Emit) {
		p.joined.Clear()
		return nil
	}
	p.joined.Set(j)
	return nil
}

// compareCount counts the facts of a series.
type compareCount struct{}

// Add implements AggregateFunction.
func (compareCount) Add(a *rollout.Acc, f rollout.Fact) { a.Add(&f) }

// Merge implements AggregateFunction.
func (compareCount) Merge(dst, src *rollout.Acc) { dst.Merge(src) }

// Result implements AggregateFunction.
func (compareCount) Result(a *rollout.Acc) rollout.Acc { return *a }

// compareGather puts the parts of all series of a model together.
type compareGather struct{ bins int }

// Add implements AggregateFunction.
func (g compareGather) Add(t *rollout.Tally, w comparePart) { t.Add(w.Key, &w.Value, g.bins) }

// Merge implements AggregateFunction.
func (compareGather) Merge(dst, src *rollout.Tally) { dst.Merge(src) }

// Result implements AggregateFunction.
func (compareGather) Result(t *rollout.Tally) rollout.Tally { return *t }
