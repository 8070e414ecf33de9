package guard_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/guard"
	"github.com/weirflow/weir/operators/model/oip"
	"github.com/weirflow/weir/weirtest/fakemodel"
)

// verdict is what becomes of a record: a result of the model, a degraded one, or a failure.
type verdict struct {
	ID       int
	Degraded bool
	By       string
	Failed   string // kind
}

const outageRecords = 400

// outage is a job whose model's server misbehaves as a script says.
type outage struct {
	script   fakemodel.Script
	policy   guard.Policy
	access   model.Access
	fallback bool // a default value answers what the model does not

	clients sync.Mutex
	guards  []*guard.Client[int, float64]
}

func (o *outage) spec(url string, out *memory.Sink[verdict]) weir.JobSpec {
	return weir.NewJob("outage", func(j *weir.Job) {
		in := weir.From(j, "in", generator.New(func(i uint64) int { return int(i) }, generator.Count(outageRecords), generator.Rate(200)), weir.ProcessingTime[int]())
		by := weir.KeyBy(in, "by", func(i int) int { return i % 20 })
		failed := weir.NewTag[model.Failed[int]]("failed")
		scores := weir.Infer(by, "score", func(e model.Env) (model.Client[int, float64], error) { return o.client(url) }, func(i int) int { return i },
			func(i int, r model.Result[float64]) verdict { return verdict{ID: i, Degraded: r.Degraded, By: r.By} },
			weir.FailuresTo(failed), weir.CallDeadline(20*time.Second))
		all := weir.Union("all", scores, weir.Map(weir.SideOutput(scores, failed), "failures", func(f model.Failed[int]) verdict {
			return verdict{ID: f.Record, Failed: f.Kind}
		}))
		weir.To(all, "out", out.Sink())
	})
}

func (o *outage) client(url string) (model.Client[int, float64], error) {
	o.access.Allow = []string{"loopback"}
	inner, err := oip.New(oip.Endpoint{URL: url, Model: "m", Access: o.access}, oip.Codec[int, float64]{
		Inputs: []oip.Column[int]{oip.Scalar("x", func(i *int) float64 { return float64(*i) })},
		Decode: func(row *oip.Row) (float64, error) { return row.Float("score"), nil },
	})
	if err != nil {
		return nil, err
	}
	var opts []guard.Option[int, float64]
	if o.fallback {
		opts = append(opts, guard.Default[int]("default", "0", func(int) (float64, bool) { return 0.5, true }))
	}
	g, err := guard.Wrap[int, float64](inner, o.policy, opts...)
	o.clients.Lock()
	defer o.clients.Unlock()
	o.guards = append(o.guards, g)
	return g, err
}

// run runs the job and counts what became of the records.
func (o *outage) run(t *testing.T) (answered, degraded int, failed map[string]int, s guard.Stats, server fakemodel.Stats) {
	t.Helper()
	fake := fakemodel.Start(t, o.script)
	out := memory.NewSink[verdict]()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := weir.Run(ctx, o.spec(fake.URL(), out), weir.Options{DataDir: filepath.Join(t.TempDir(), "data"), Interval: 100 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if len(o.guards) != 1 {
		t.Errorf("the client was made %d times: the job has restarted", len(o.guards))
	}
	failed = map[string]int{}
	seen := map[int]bool{}
	for _, v := range out.Visible() {
		if seen[v.ID] {
			t.Errorf("record %d came out twice", v.ID)
		}
		seen[v.ID] = true
		switch {
		case v.Failed != "":
			failed[v.Failed]++
		case v.Degraded:
			degraded++
			if v.By != "default" {
				t.Errorf("a degraded result is by %q", v.By)
			}
		default:
			answered++
		}
	}
	if len(seen) != outageRecords {
		t.Errorf("%d of %d records came out", len(seen), outageRecords)
	}
	return answered, degraded, failed, o.guards[0].Stats(), fake.Stats()
}

// TestOutages has the server down, overloaded, limited, hanging and talking nonsense.
// Every record ends by the policy, nothing restarts, retries keep their budget, and what
// the fallback has answered says so. Times are a thirtieth of a real outage's.
func TestOutages(t *testing.T) {
	all := func(r fakemodel.Rule) []fakemodel.Rule { return []fakemodel.Rule{r} }
	// Only what hangs is to run out of time, however slow the machine is.
	quick := guard.Policy{
		Name: "m", AttemptTimeout: 10 * time.Second, Deadline: 15 * time.Second,
		Retry:   guard.Retry{Base: 10 * time.Millisecond, Max: 100 * time.Millisecond, MaxAttempts: 4},
		Breaker: guard.Breaker{OpenFor: 200 * time.Millisecond},
	}
	hasty := quick
	hasty.AttemptTimeout, hasty.Deadline = 200*time.Millisecond, 2*time.Second
	generous := quick
	generous.Retry.Ratio, generous.Retry.MaxAttempts = 1, 8
	down := []fakemodel.Phase{
		{Calls: 50}, {Calls: 15, Rules: all(fakemodel.Rule{Fault: fakemodel.Reset})}, {},
	}
	for name, c := range map[string]struct {
		outage *outage
		check  func(t *testing.T, answered, degraded int, failed map[string]int, s guard.Stats, server fakemodel.Stats)
	}{
		"down for a while, with a fallback": {
			&outage{script: fakemodel.Script{Phases: down}, policy: quick, fallback: true},
			func(t *testing.T, answered, degraded int, failed map[string]int, s guard.Stats, _ fakemodel.Stats) {
				if len(failed) > 0 || degraded < 20 || answered < 40 || s.BreakerOpened == 0 {
					t.Errorf("%d answered, %d degraded, %v failed, the breaker opened %d times", answered, degraded, failed, s.BreakerOpened)
				}
			},
		},
		"30 % 503, repeated": {
			&outage{script: fakemodel.Script{Seed: 1, Rules: all(fakemodel.Rule{Share: 0.3, Status: 503})}, policy: generous},
			func(t *testing.T, answered, degraded int, failed map[string]int, s guard.Stats, _ fakemodel.Stats) {
				if answered < outageRecords-10 || degraded > 0 || s.Retries < 50 {
					t.Errorf("%d answered, %d degraded, %v failed, %d retries", answered, degraded, failed, s.Retries)
				}
			},
		},
		"30 % 503, and a small budget of retries": {
			&outage{script: fakemodel.Script{Seed: 1, Rules: all(fakemodel.Rule{Share: 0.3, Status: 503})}, policy: quick, fallback: true},
			func(t *testing.T, answered, degraded int, failed map[string]int, s guard.Stats, _ fakemodel.Stats) {
				if len(failed) > 0 || degraded < 20 || s.RetriesRefused == 0 {
					t.Errorf("%d answered, %d degraded, %v failed, %d retries refused", answered, degraded, failed, s.RetriesRefused)
				}
			},
		},
		"429 with Retry-After": {
			&outage{script: fakemodel.Script{Phases: []fakemodel.Phase{{Calls: 20}, {Calls: 1, Rules: all(fakemodel.Rule{Status: 429, RetryAfter: 1})}, {}}}, policy: quick},
			func(t *testing.T, answered, degraded int, failed map[string]int, s guard.Stats, server fakemodel.Stats) {
				if answered != outageRecords || server.Outcomes[fakemodel.Failed] > 5 {
					t.Errorf("%d answered, %v failed, %d refused by the server", answered, failed, server.Outcomes[fakemodel.Failed])
				}
			},
		},
		"every call hangs": {
			&outage{script: fakemodel.Script{Phases: []fakemodel.Phase{{Calls: 50}, {Rules: all(fakemodel.Rule{Fault: fakemodel.Hang})}}}, policy: hasty, fallback: true},
			func(t *testing.T, answered, degraded int, failed map[string]int, s guard.Stats, _ fakemodel.Stats) {
				if len(failed) > 0 || degraded < outageRecords/2 || s.BreakerOpened == 0 {
					t.Errorf("%d answered, %d degraded, %v failed", answered, degraded, failed)
				}
			},
		},
		"garbage": {
			&outage{script: fakemodel.Script{Phases: []fakemodel.Phase{{Calls: 50}, {Rules: all(fakemodel.Rule{Fault: fakemodel.HTML})}}}, policy: quick},
			func(t *testing.T, answered, degraded int, failed map[string]int, s guard.Stats, _ fakemodel.Stats) {
				if answered < 40 || degraded > 0 || failed["invalid"] == 0 || failed["permanent"] > 0 {
					t.Errorf("%d answered, %d degraded, %v failed, %d retries", answered, degraded, failed, s.Retries)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answered, degraded, failed, s, server := c.outage.run(t)
			t.Logf("%d answered, %d degraded, %v failed; %d requests, %d retries, %d refused; the breaker opened %d times", answered, degraded, failed, s.Requests, s.Retries, s.RetriesRefused, s.BreakerOpened)
			c.check(t, answered, degraded, failed, s, server)
			ratio := c.outage.policy.Retry.Ratio
			if ratio == 0 {
				ratio = 0.1
			}
			if most := ratio*float64(s.Calls) + 10; float64(s.Retries) > most {
				t.Errorf("%d retries of %d calls: the budget has %.0f", s.Retries, s.Calls, most)
			}
			if s.Degraded != int64(degraded) || s.Calls != outageRecords {
				t.Errorf("the guard counts %d degraded of %d calls, want %d", s.Degraded, s.Calls, degraded)
			}
		})
	}
}
