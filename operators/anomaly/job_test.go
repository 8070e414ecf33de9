package anomaly_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/anomaly"
	"github.com/weirflow/weir/weirtest"
)

type noSource struct{ connectors.Source[timed] }

func (noSource) Kind() string { return "none" }

type noTarget struct{}

func (noTarget) Kind() string            { return "none" }
func (noTarget) Class() connectors.Class { return connectors.AtLeastOnce }

type timed struct {
	Sensor string
	Value  float64
	At     time.Time
}

// TestScoresSurviveCrashes runs the operator in a job that crashes, is restored
// and rescaled, and holds each score against a detector that runs through.
func TestScoresSurviveCrashes(t *testing.T) {
	spec := anomaly.Rest{Records: 5, Of: anomaly.AnyOf{
		anomaly.ZScore{Limit: 3, Mean: 5}, anomaly.KNN{Window: 40, Dim: 3, Neighbours: 3, Rank: 0.97}, anomaly.Seasonal{Limit: 4},
	}}
	type scored = anomaly.Scored[string, timed]
	mk, err := anomaly.Process[string](anomaly.ProcessSpec[timed]{
		Detector: spec, Input: func(v timed) anomaly.Input { return anomaly.Input{Value: v.Value} },
	})
	if err != nil {
		t.Fatal(err)
	}
	job := weir.NewJob("sensors", func(j *weir.Job) {
		in := weir.From(j, "values", noSource{}, weir.BoundedOutOfOrderness(time.Hour, func(v timed) time.Time { return v.At }))
		byKey := weir.KeyBy(in, "by-sensor", func(v timed) string { return v.Sensor })
		weir.To(weir.Process(byKey, "detect", mk), "scores", connectors.Sink[scored]{
			Target: noTarget{},
			Encode: func(*connectors.Message, *base.Meta, *scored) error { return errors.New("written in a test") },
		})
	})
	var steps []weirtest.Step
	want := map[timed]anomaly.Result{}
	r := rand.New(rand.NewPCG(*seed, 2))
	pts := map[string][]point{"a": series(r, 120), "b": series(r, 120), "c": series(r, 120)}
	own := map[string]anomaly.Learner{}
	alerts := 0
	for i := range 120 {
		for _, sensor := range []string{"a", "b", "c"} {
			if own[sensor] == nil {
				own[sensor] = build(t, spec)
			}
			p := pts[sensor][i]
			v := timed{sensor, p.v, p.at}
			steps = append(steps, weirtest.Value(v))
			want[v] = own[sensor].Observe(p.at, p.v)
			if want[v].Alert {
				alerts++
			}
		}
	}
	if alerts < 5 {
		t.Errorf("%d alerts: the test shows little", alerts)
	}
	weirtest.Matrix(t, job, steps, func(tb testing.TB, run *weirtest.Run) {
		tb.Helper()
		got := weirtest.Collect[scored](run, "scores")
		if len(got) != len(want) {
			tb.Fatalf("%d scores for %d values", len(got), len(want))
		}
		for _, s := range got {
			if w := want[s.Record]; w != (anomaly.Result{Score: s.Score, Alert: s.Alert, By: s.By}) || s.Key != s.Record.Sensor {
				tb.Fatalf("%+v, want %+v", s, w)
			}
		}
	}, weirtest.Source[timed]("values"), weirtest.Sink[scored]("scores"), weirtest.InKeyOrder("scores"))
}
