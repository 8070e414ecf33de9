package weir_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/anomaly"
)

type reading struct {
	Sensor string
	Level  int
	At     time.Time
}

func unusual(spec anomaly.ProcessSpec[reading], opts ...weir.ProcessOption) (weir.JobSpec, *memory.Source[reading], *memory.Sink[anomaly.Scored[string, reading]]) {
	in, out := memory.NewSource[reading](), memory.NewSink[anomaly.Scored[string, reading]]()
	return weir.NewJob("levels", func(j *weir.Job) {
		readings := weir.From(j, "readings", in, weir.Ascending(func(c reading) time.Time { return c.At }))
		bySensor := weir.KeyBy(readings, "by-sensor", func(c reading) string { return c.Sensor })
		weir.To(weir.Anomalies(bySensor, "unusual", spec, opts...), "out", out.Sink())
	}), in, out
}

func level(c reading) anomaly.Input { return anomaly.Input{Value: float64(c.Level)} }

func TestAnomalies(t *testing.T) {
	job, in, out := unusual(anomaly.ProcessSpec[reading]{Detector: anomaly.ZScore{Learn: 5, Limit: 3}, Input: level, OnlyAlerts: true})
	for i := range 40 {
		for sensor, usual := range map[string]int{"a": 100, "b": 9000} {
			c := reading{Sensor: sensor, Level: usual + i%3, At: time.Unix(int64(i), 0).UTC()}
			if i == 30 && sensor == "a" {
				c.Level = 9000
			}
			in.Append("0", 0, c)
		}
	}
	in.Finish()
	if err := weir.Run(t.Context(), job, weir.Options{DataDir: t.TempDir(), Parallelism: 2}); err != nil {
		t.Fatal(err)
	}
	got := out.Visible()
	if len(got) != 1 || got[0].Key != "a" || got[0].Record.Level != 9000 || !got[0].Alert || got[0].By != "z-score" || !got[0].Time.Equal(time.Unix(30, 0)) {
		t.Errorf("alerts: %+v", got)
	}
}

func TestAnomaliesOnError(t *testing.T) {
	spec := anomaly.ProcessSpec[reading]{Detector: anomaly.Default(), Input: func(c reading) anomaly.Input {
		return anomaly.Input{Value: math.Log(float64(c.Level))}
	}}
	job, in, out := unusual(spec, weir.OnError(weir.Skip))
	for _, p := range []int{1, 0, 2} { // the logarithm of 0 is infinite
		in.Append("0", 0, reading{Sensor: "a", Level: p, At: time.Unix(0, 0)})
	}
	in.Finish()
	if err := weir.Run(t.Context(), job, weir.Options{DataDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, s := range out.Visible() {
		got = append(got, s.Record.Level)
	}
	if !slices.Equal(got, []int{1, 2}) {
		t.Errorf("judged levels %v", got)
	}
}

func TestAnomaliesMistakesAreBuildErrors(t *testing.T) {
	for name, c := range map[string]struct {
		spec anomaly.ProcessSpec[reading]
		says string
	}{
		"no detector":   {anomaly.ProcessSpec[reading]{Input: level}, "no detector"},
		"no input":      {anomaly.ProcessSpec[reading]{Detector: anomaly.Default()}, "Input is missing"},
		"a wrong limit": {anomaly.ProcessSpec[reading]{Detector: anomaly.Rest{Of: anomaly.ZScore{Limit: -1}, Records: 3}, Input: level}, "Limit -1 is not positive"},
		"negative TTL":  {anomaly.ProcessSpec[reading]{Detector: anomaly.Default(), Input: level, TTL: -1}, "TTL"},
	} {
		t.Run(name, func(t *testing.T) {
			job, _, _ := unusual(c.spec)
			_, err := weir.Compile(job)
			if err == nil {
				t.Fatal("it compiles")
			}
			e, ok := errors.AsType[*base.Error](err)
			if !ok || e.Code != anomaly.CodeSpec || !strings.Contains(e.Where, "anomaly_test.go:") || e.Next == "" ||
				!strings.Contains(e.What, "unusual") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error: %+v", err)
			}
			if joined, ok := err.(interface{ Unwrap() []error }); ok && len(joined.Unwrap()) != 1 {
				t.Errorf("one mistake is told as several: %v", err)
			}
		})
	}
	good := anomaly.ProcessSpec[reading]{Detector: anomaly.Default(), Input: level}
	job, _, _ := unusual(good)
	plan, err := weir.Compile(job)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range plan.Operators {
		if o.UID == "unusual" {
			if o.Kind != "anomalies" || len(o.States) != 1 || o.States[0].Name != "detector" || !strings.Contains(o.Where, "anomaly_test.go:") {
				t.Errorf("the plan has %+v", o)
			}
		}
	}
	twice := weir.NewJob("twice", func(j *weir.Job) {
		readings := weir.From(j, "readings", memory.NewSource[reading](), weir.Ascending(func(c reading) time.Time { return c.At }))
		bySensor := weir.KeyBy(readings, "by-sensor", func(c reading) string { return c.Sensor })
		weir.To(weir.Anomalies(bySensor, "by-sensor", good), "out", memory.NewSink[anomaly.Scored[string, reading]]().Sink())
	})
	if _, err := weir.Compile(twice); base.CodeOf(err) != "WEIR-0105" {
		t.Errorf("a name used twice: %v", err)
	}
}
