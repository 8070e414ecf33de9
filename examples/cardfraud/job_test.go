package main

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/file"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/weirtest"
)

// kit replaces everything that the job reads and writes.
var kit = []weirtest.Option{
	weirtest.Source[Payment]("payments"), weirtest.Sink[Scored]("scored"), weirtest.Sink[Judged]("predictions"), weirtest.Sink[Testing]("testings"), weirtest.Sink[Alert]("alerts"),
}

var jobUnderTest = job(file.JSONL[Payment]("unused"), "unused")

// collect returns what a run published, in one order whatever its own.
func collect(r *weirtest.Run) *output {
	o := &output{
		scored: weirtest.Collect[Scored](r, "scored"), predictions: weirtest.Collect[Judged](r, "predictions"), testings: weirtest.Collect[Testing](r, "testings"), alerts: weirtest.Collect[Alert](r, "alerts"),
	}
	o.sort()
	return o
}

func (o *output) sort() {
	slices.SortFunc(o.scored, func(a, b Scored) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(o.predictions, func(a, b Judged) int { return cmp.Compare(a.ID, b.ID) })
	sortTestings(o.testings)
	sortAlerts(o.alerts)
}

// want is what the model finds in payments.
func want(payments []Payment) *output {
	m, o := newOracle(), &output{testings: tests(payments)}
	trees := readTrees()
	for _, p := range payments {
		s := score(p, m.history(p))
		o.scored = append(o.scored, s)
		o.predictions = append(o.predictions, Judged{ID: s.ID, Card: s.Card, Reasons: s.Reasons, Prediction: model.Prediction[[]float64, float64]{Out: trees(row(s))}})
	}
	o.alerts = alertsOf(o.predictions, o.scored, o.testings)
	return o
}

// check compares an output with the model's. Everything is equal to the last bit but
// the standard deviation, and what is derived from it.
func check(tb testing.TB, got, want *output) {
	tb.Helper()
	if len(got.scored) != len(want.scored) {
		tb.Fatalf("%d payments were scored, want %d", len(got.scored), len(want.scored))
	}
	bad := 0
	for i, g := range got.scored {
		w := want.scored[i]
		if near(g.Stddev30d, w.Stddev30d, w.Mean30d) && near(g.Deviation, w.Deviation, 1) {
			g.Stddev30d, g.Deviation = w.Stddev30d, w.Deviation
		}
		if g != w && bad < 5 {
			bad++
			tb.Errorf("payment %d:\n got %+v\nwant %+v", w.ID, g, w)
		}
	}
	if len(got.predictions) != len(want.predictions) {
		tb.Fatalf("%d predictions, want %d", len(got.predictions), len(want.predictions))
	}
	for i, g := range got.predictions {
		w := want.predictions[i]
		if p := g.Prediction; p.V != model.EnvelopeVersion || p.ID == "" || p.ModelVersion != "1" || p.Arm != "trees" || p.FeatureHash == 0 || p.Features != nil || p.Propensity != 1 {
			tb.Fatalf("payment %d has the envelope %+v", g.ID, p)
		}
		if g.ID != w.ID || g.Card != w.Card || g.Reasons != w.Reasons || !near(g.Prediction.Out, w.Prediction.Out, 1) {
			tb.Errorf("prediction %d:\n got %+v\nwant %+v", i, g, w)
			break
		}
	}
	if !reflect.DeepEqual(got.testings, want.testings) {
		tb.Errorf("matches:\n got %+v\nwant %+v", got.testings, want.testings)
	}
	if !reflect.DeepEqual(got.alerts, want.alerts) {
		tb.Errorf("alerts:\n got %+v\nwant %+v", got.alerts, want.alerts)
	}
}

func near(got, want, scale float64) bool {
	return math.Abs(got-want) <= 1e-9*(math.Abs(want)+math.Abs(scale))
}

// TestMatrix runs the job with checkpoints, crashes, other parallelism and everything
// encoded. Every leg must find what the model does, and the pattern exactly what was
// planted.
func TestMatrix(t *testing.T) {
	c := Config{Seed: 5, Cards: 24, Days: 36}
	payments, plants := play(c)
	truth := &truth{Config: c, Payments: len(payments), Plants: plants}
	var steps []weirtest.Step
	for _, p := range payments {
		steps = append(steps, weirtest.Value(p))
	}
	right := want(payments)
	t.Logf("seed %d: %d payments, %d matches, %d alerts", c.Seed, len(payments), len(right.testings), len(right.alerts))
	weirtest.Matrix(t, jobUnderTest, steps, func(tb testing.TB, r *weirtest.Run) {
		tb.Helper()
		o := collect(r)
		check(tb, o, right)
		result := truth.judge(o)
		if err := result.err(); err != nil {
			tb.Error(err)
		}
		if p := result.patterns; p.recall.whole != len(right.testings) {
			tb.Errorf("%d matches were planted, and the model finds %d", p.recall.whole, len(right.testings))
		}
	}, kit...)
}

// TestRun runs the job over files, at full speed, with checkpoints and more subtasks.
func TestRun(t *testing.T) {
	dir, c := t.TempDir(), Config{Seed: 9, Cards: 40, Days: 20}
	truth, err := prepare(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	spec := job(file.JSONL[Payment](dir+"/"+paymentsFile), dir+"/out")
	if err := weir.Run(t.Context(), spec, weir.Options{DataDir: dir + "/weir", Parallelism: 3, Interval: 20 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	o, err := readOutput(dir + "/out")
	if err != nil {
		t.Fatal(err)
	}
	if err := truth.judge(o).err(); err != nil {
		t.Error(err)
	}
	o.sort()
	payments, _ := play(c)
	check(t, o, want(payments))
	if _, err := prepare(dir, c); err != nil {
		t.Errorf("the same payments again: %v", err)
	}
	c.Seed++
	if _, err := prepare(dir, c); err == nil {
		t.Error("other payments were taken for those in the directory")
	}
}

// TestScript holds what was planted against the model, and the disorder against its
// bound.
func TestScript(t *testing.T) {
	for seed := range uint64(20) {
		c := Config{Seed: seed, Cards: 20 + int(seed)*5, Days: 10 + int(seed)}
		payments, plants := play(c)
		again, _ := play(c)
		if !slices.Equal(payments, again) {
			t.Fatalf("seed %d: another script", seed)
		}
		planted, kinds := map[string]bool{}, map[string]bool{}
		for _, p := range plants {
			kinds[p.Kind] = true
			if p.Testing {
				planted[fmt.Sprint(p.Match)] = true
			}
		}
		if len(kinds) != len(testingKinds)+5 {
			t.Errorf("seed %d: %d kinds", seed, len(kinds))
		}
		found := tests(payments)
		for _, f := range found {
			if match := fmt.Sprint(append(f.Small, f.Large)); !planted[match] {
				t.Errorf("seed %d: %s was not planted", seed, match)
			}
		}
		if len(found) != len(planted) {
			t.Errorf("seed %d: %d matches of %d planted", seed, len(found), len(planted))
		}
		latest, disorder := int64(0), int64(0)
		for i, p := range payments {
			if p.ID != int64(i+1) {
				t.Fatalf("seed %d: payment %d has the number %d", seed, i, p.ID)
			}
			latest = max(latest, p.At)
			disorder = max(disorder, latest-p.At)
		}
		if disorder < 2000 || disorder >= bound.Milliseconds() {
			t.Errorf("seed %d: payments are out of order by %d ms", seed, disorder)
		}
	}
}

// TestEdges goes over the edges of the pattern by hand.
func TestEdges(t *testing.T) {
	five := testingWithin.Milliseconds()
	pay := func(at, amount int64) Payment {
		return Payment{Card: "c", Merchant: "m", Country: "DE", Amount: amount, At: begin + at}
	}
	small := func(at int64) Payment { return pay(at, smallMost) }
	large := func(at int64) Payment { return pay(at, largeLeast) }
	for _, tc := range []struct {
		name     string
		payments []Payment
		want     []int // number of small payments of each match
	}{
		{"plain", []Payment{small(0), small(1), small(2), large(3)}, []int{3}},
		{"five minutes", []Payment{small(0), small(1), small(2), large(five)}, []int{3}},
		{"a millisecond more", []Payment{small(0), small(1), small(2), large(five + 1)}, nil},
		{"the first one too early", []Payment{small(0), small(1), small(2), small(3), large(five + 1)}, []int{3}},
		{"four", []Payment{small(0), small(1), small(2), small(3), large(five)}, []int{4}},
		{"another in between", []Payment{small(0), small(1), pay(2, smallMost+1), small(3), pay(4, largeLeast-1), large(5)}, []int{3}},
		{"two", []Payment{small(0), small(1), large(3)}, nil},
		{"not enough after the first large one", []Payment{small(0), small(1), large(2), small(3), large(4)}, []int{3}},
		{"used up", []Payment{small(0), small(1), small(2), large(3), large(4)}, []int{3}},
		{"again", []Payment{small(0), small(1), small(2), large(3), small(4), small(5), small(6), large(7)}, []int{3, 3}},
		{"out of order", []Payment{large(9000), small(3000), small(2000), small(1000)}, []int{3}},
		{"out of order the other way", []Payment{small(1000), small(2000), small(9000), large(8000)}, nil},
		{"late by the bound", []Payment{small(0), small(1), large(12_000), small(2_000), large(12_001)}, []int{3}},
		{"too late", []Payment{small(0), small(1), large(12_000), small(1_999), large(12_001)}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run := weirtest.New(t, jobUnderTest, kit...)
			for i, p := range tc.payments {
				p.ID = int64(i + 1)
				run.Do(weirtest.Value(p))
			}
			run.Do(weirtest.EndOfInput())
			var got []int
			for _, m := range weirtest.Collect[Testing](run, "testings") {
				got = append(got, len(m.Small))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("matches of %v small payments, want %v", got, tc.want)
			}
		})
	}
}

func TestReasons(t *testing.T) {
	r := Velocity | MerchantTesting
	b, err := r.MarshalJSON()
	if err != nil || string(b) != `["velocity","merchant-testing"]` {
		t.Errorf("%s, %v", b, err)
	}
	var back Reasons
	if err := back.UnmarshalJSON(b); err != nil || back != r {
		t.Errorf("%v, %v", back, err)
	}
	if err := back.UnmarshalJSON([]byte(`7`)); err == nil {
		t.Error("a number was read as reasons")
	}
}
