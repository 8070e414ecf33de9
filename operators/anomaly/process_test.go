package anomaly_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/anomaly"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// reading is the record of the tests; verdict is taken instead of the value.
type reading struct {
	Sensor  string
	Value   float64
	Verdict anomaly.Verdict
}

type scored = anomaly.Scored[string, reading]

func input(r reading) anomaly.Input { return anomaly.Input{Value: r.Value, Verdict: r.Verdict} }

// job is a subtask with the operator.
type job struct {
	t    *testing.T
	s    *operators.Subtask
	fn   swap
	make func() operators.KeyedProcess[string, reading, scored]
	keys *codec.KeyCodec[string]
	mk   func() operators.Batch
	out  []scored
	pos  uint64
}

// swap lets a test put another function in place of the running one.
type swap struct {
	operators.KeyedProcess[string, reading, scored]
}

func newJob(t *testing.T, spec anomaly.ProcessSpec[reading], policy operators.ErrorPolicy) *job {
	t.Helper()
	j := &job{t: t}
	var err error
	if j.make, err = anomaly.Process[string](spec); err != nil {
		t.Fatal(err)
	}
	j.fn.KeyedProcess = j.make()
	if j.keys, err = codec.KeyFor[string](); err != nil {
		t.Fatal(err)
	}
	if j.mk, err = operators.NewBatch[reading](); err != nil {
		t.Fatal(err)
	}
	clk := clock.NewVirtual(1)
	logger := slog.New(slog.DiscardHandler)
	store, err := state.OpenStore(state.Options{FS: vfs.NewMem(), Dir: "state", Memory: 16 << 20, Blob: blob.Memory(), Clock: clk, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	backend, err := store.NewBackend(state.BackendOptions{Task: "sensors/0", Range: base.FullRange})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(backend.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	j.s = operators.NewSubtask(operators.Env{
		Ctx: t.Context(), JobName: "test", Task: "sensors", Parallelism: 1, Range: base.FullRange, Clock: clk,
		Backend: backend, Logger: logger, Stats: &base.TaskStats{}, Wake: func() {},
	})
	operators.Head(j.s, operators.Process(j.s, operators.ProcessSpec[string, reading, scored]{
		UID: "detect", Key: func(r reading) string { return r.Sensor }, Keys: j.keys, OnError: policy,
		New: func() operators.KeyedProcess[string, reading, scored] { return &j.fn },
	}, operators.Consumer[scored]{One: func(_ *base.Meta, v *scored) { j.out = append(j.out, *v) }}))
	if err := errors.Join(j.s.Err(), backend.Restore(context.Background(), nil), j.s.Open(operators.Restore{})); err != nil {
		t.Fatal(err)
	}
	return j
}

// detectorState returns the stored state of a sensor.
func (j *job) detectorState(sensor string) (b []byte) {
	j.t.Helper()
	err := operators.ReadState(j.s, "detect", "detector", j.keys, sensor, func(v *state.Value[[]byte]) { b, _ = v.Get() })
	if err != nil {
		j.t.Fatal(err)
	}
	return slices.Clone(b)
}

func (j *job) feed(at time.Time, r reading) error {
	batch := j.mk().(*operators.TypedBatch[reading])
	j.pos++
	batch.Vals = append(batch.Vals, r)
	batch.Metas = append(batch.Metas, base.Meta{Time: at.UnixNano(), Hash: j.keys.Hash(r.Sensor), Origin: base.Origin{Split: 1, Pos: j.pos}})
	return j.s.Process(0, batch)
}

// TestEveryKeyHasADetector interleaves more series than detectors are kept, and
// holds each against one detector of its own.
func TestEveryKeyHasADetector(t *testing.T) {
	spec := anomaly.AnyOf{anomaly.ZScore{Limit: 3}, anomaly.KNN{Window: 40, Dim: 3, Neighbours: 3, Rank: 0.97}}
	j := newJob(t, anomaly.ProcessSpec[reading]{Detector: spec, Input: input}, connectors.FailOnBad)
	const keys = 400
	r := rand.New(rand.NewPCG(*seed, 1))
	own, pts := make([]anomaly.Learner, keys), make([][]point, keys)
	for k := range keys {
		own[k], pts[k] = build(t, spec), series(r, 300)
		if k%3 == 0 && k > 0 {
			pts[k] = pts[k-1] // two keys with the same series have the same state
		}
	}
	next := make([]int, keys)
	name := func(k int) string { return string(rune('A'+k%26)) + string(rune('a'+k/26)) }
	for range 40_000 {
		k := r.IntN(keys)
		if next[k] == len(pts[k]) {
			continue
		}
		p := pts[k][next[k]]
		next[k]++
		if err := j.feed(p.at, reading{Sensor: name(k), Value: p.v}); err != nil {
			t.Fatal(err)
		}
		want := own[k].Observe(p.at, p.v)
		got := j.out[len(j.out)-1]
		if got.Score != want.Score || got.Alert != want.Alert || got.By != want.By || got.Key != name(k) || got.Value != p.v || !got.Time.Equal(p.at) {
			t.Fatalf("key %s value %d: %+v, want %+v", name(k), next[k], got, want)
		}
		if r.IntN(1000) == 0 {
			j.restart()
		}
	}
	for k := range keys {
		if next[k] > 0 && !bytes.Equal(j.detectorState(name(k)), own[k].AppendState(nil)) {
			t.Fatalf("key %s: its state is not that of a detector of its own", name(k))
		}
	}
}

// restart replaces the function by a new one, over the state as it is.
func (j *job) restart() {
	fn := j.make()
	fn.(interface {
		StateOf(operators.KeyedProcess[string, reading, scored])
	}).StateOf(j.fn.KeyedProcess)
	j.fn.KeyedProcess = fn
}

func TestOnlyAlertsVerdictsAndBadValues(t *testing.T) {
	j := newJob(t, anomaly.ProcessSpec[reading]{
		Detector:   anomaly.Feedback{Step: 4, Of: anomaly.ZScore{Limit: 5, Deviation: 1}},
		Input:      input,
		OnlyAlerts: true,
	}, connectors.FailOnBad)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	feed := func(r reading) {
		t.Helper()
		at = at.Add(time.Second)
		if err := j.feed(at, r); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		feed(reading{Sensor: "a"})
		feed(reading{Sensor: "b"})
	}
	feed(reading{Sensor: "a", Value: 7})
	feed(reading{Sensor: "b", Value: 3})
	if len(j.out) != 1 || j.out[0].Key != "a" || !j.out[0].Alert || j.out[0].By != "z-score" {
		t.Fatalf("emitted %+v", j.out)
	}
	feed(reading{Sensor: "a", Verdict: anomaly.FalseAlarm})
	feed(reading{Sensor: "a", Value: 7})
	feed(reading{Sensor: "b", Value: 7})
	if len(j.out) != 2 || j.out[1].Key != "b" {
		t.Fatalf("after a verdict for a, emitted %+v", j.out[1:])
	}
	if err := j.feed(at, reading{Sensor: "a", Value: math.NaN()}); !hasCode(err, anomaly.CodeValue) {
		t.Errorf("a value that is no number: error %v", err)
	}
}

func hasCode(err error, code string) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if e, ok := err.(*base.Error); ok && e.Code == code {
			return true
		}
	}
	return false
}

func TestProcessDeclarations(t *testing.T) {
	for _, spec := range []anomaly.ProcessSpec[reading]{
		{Input: input},
		{Detector: anomaly.ZScore{}},
		{Detector: anomaly.ZScore{Limit: -1}, Input: input},
		{Detector: anomaly.ZScore{}, Input: input, TTL: -1},
	} {
		if _, err := anomaly.Process[string](spec); base.CodeOf(err) != anomaly.CodeSpec {
			t.Errorf("%+v: error %v", spec, err)
		}
	}
	mk, err := anomaly.Process[string](anomaly.ProcessSpec[reading]{Detector: anomaly.Default(), Input: input})
	if err != nil {
		t.Fatal(err)
	}
	states, err := operators.DescribeStates("detect", mk().Declare)
	if err != nil || len(states) != 1 || states[0].Name != "detector" {
		t.Errorf("declares %v, %v", states, err)
	}
}
