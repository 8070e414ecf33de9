package anomaly_test

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/anomaly"
)

var seed = flag.Uint64("seed", 1, "seed of the random series")

// specs has one declaration of each kind, with windows that are short enough for a
// series of a few hundred values to go through all phases.
func specs() map[string]anomaly.Spec {
	return map[string]anomaly.Spec{
		"zscore":      anomaly.ZScore{Limit: 3, Mean: 7, Weight: 1.3, Alpha: 0.02},
		"welford":     anomaly.ZScore{Limit: 3, Alpha: -1},
		"robust":      anomaly.Robust{Window: 60, Limit: 4},
		"seasonal":    anomaly.Seasonal{Bins: 12, Limit: 3},
		"knn":         anomaly.KNN{Window: 70, Dim: 5, Neighbours: 4, Rank: 0.97},
		"forest":      anomaly.Forest{Window: 40, Trees: 5, Depth: 4, Limit: 2.5},
		"cusum":       anomaly.CUSUM{Limit: 5},
		"pagehinkley": anomaly.PageHinkley{Lambda: 20},
		"adwin":       anomaly.ADWIN{Every: 8},
		"rate":        anomaly.Rate{Interval: time.Hour, Probability: 1e-3},
		"threshold":   anomaly.Threshold{Above: anomaly.Limit(14), Below: anomaly.Limit(2)},
		"any": anomaly.AnyOf{
			anomaly.ZScore{Limit: 3}, anomaly.Robust{Window: 50, Limit: 4}, anomaly.Warmup{Of: anomaly.CUSUM{}, Records: 100},
		},
		"all wrappers": anomaly.Rest{Records: 20, Of: anomaly.Feedback{Of: anomaly.Consecutive{Records: 2, Of: anomaly.Warmup{
			Records: 30, Of: anomaly.Range{Min: -100, Max: 100, Of: anomaly.ZScore{Limit: 1.5}},
		}}}},
		"custom":  anomaly.Custom{Name: "every-9th", New: func() (anomaly.Detector, error) { return &ninth{}, nil }},
		"default": anomaly.Default(),
		"best":    anomaly.Best(),
	}
}

// ninth is a detector of a program.
type ninth struct{ n byte }

func (d *ninth) Observe(time.Time, float64) anomaly.Result {
	d.n = (d.n + 1) % 9
	return anomaly.Result{Alert: d.n == 0, By: "ninth"}
}
func (d *ninth) AppendState(b []byte) []byte { return append(b, d.n) }
func (d *ninth) LoadState(b []byte) error {
	if len(b) != 1 {
		return fmt.Errorf("%d bytes", len(b))
	}
	d.n = b[0]
	return nil
}

func build(t testing.TB, s anomaly.Spec) anomaly.Learner {
	t.Helper()
	d, err := anomaly.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

type point struct {
	at time.Time
	v  float64
}

// series is a daily curve with noise, outliers, shifts and a flat stretch, a value
// every 20 minutes or so.
func series(r *rand.Rand, n int) []point {
	out := make([]point, n)
	at, level := time.Date(2026, 3, 1, 5, 0, 0, 0, time.UTC), 8.0
	for i := range out {
		at = at.Add(time.Duration(15+r.IntN(10)) * time.Minute)
		v := level + 3*math.Sin(2*math.Pi*float64(at.Hour())/24) + r.NormFloat64()
		switch {
		case r.IntN(60) == 0:
			v += 12 * r.Float64()
		case r.IntN(200) == 0:
			level += 4 * r.NormFloat64()
		case i > n/2 && i < n/2+30:
			v = level
		}
		out[i] = point{at, v}
	}
	return out
}

// TestStateIsEverything holds a detector against one that is made anew from the
// state of the one before at every value, and against one that loads the state at
// random, over whatever it had.
func TestStateIsEverything(t *testing.T) {
	for name, spec := range specs() {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(*seed, base.HashString(name)))
			pts := series(r, 900)
			whole, dirty := build(t, spec), build(t, spec)
			blob := whole.AppendState(nil)
			alerts := 0
			for i, p := range pts {
				fresh := build(t, spec)
				if err := fresh.LoadState(blob); err != nil {
					t.Fatalf("value %d: %v", i, err)
				}
				if again := fresh.AppendState(nil); !bytes.Equal(again, blob) {
					t.Fatalf("value %d: the state loaded is written in another way", i)
				}
				if r.IntN(5) == 0 {
					dirty.Observe(p.at, 50*r.NormFloat64())
					if err := dirty.LoadState(blob); err != nil {
						t.Fatal(err)
					}
				}
				want, got, third := whole.Observe(p.at, p.v), fresh.Observe(p.at, p.v), dirty.Observe(p.at, p.v)
				if want != got || want != third {
					t.Fatalf("value %d (seed %d): %+v, after a restore %+v and %+v", i, *seed, want, got, third)
				}
				if want.Alert {
					alerts++
					for _, d := range []anomaly.Learner{whole, fresh, dirty} {
						d.Learn(anomaly.Verdict(1 + i%2))
					}
				}
				if blob = fresh.AppendState(nil); !bytes.Equal(blob, whole.AppendState(nil)) {
					t.Fatalf("value %d: states differ", i)
				}
			}
			t.Logf("%d alerts, state of %d bytes", alerts, len(blob))
			if alerts == 0 && name != "default" {
				t.Error("no alert: the test shows little")
			}
		})
	}
}

// TestNoLookAhead changes the values that come later: what was said before stays.
func TestNoLookAhead(t *testing.T) {
	for name, spec := range specs() {
		r := rand.New(rand.NewPCG(*seed, base.HashString(name)))
		pts := series(r, 400)
		a, b := build(t, spec), build(t, spec)
		cut := 100 + r.IntN(200)
		var first []anomaly.Result
		for _, p := range pts[:cut] {
			first = append(first, a.Observe(p.at, p.v))
		}
		for i, p := range append(pts[:cut:cut], series(r, 100)...) {
			if got := b.Observe(p.at, p.v); i < cut && got != first[i] {
				t.Errorf("%s: value %d is judged by what comes after it", name, i)
				break
			}
		}
	}
}

// TestScores checks what a Result promises, on values of all sizes.
func TestScores(t *testing.T) {
	for name, spec := range specs() {
		r := rand.New(rand.NewPCG(*seed, base.HashString(name)))
		d := build(t, spec)
		for i, p := range series(r, 600) {
			v := p.v
			switch r.IntN(30) {
			case 0:
				v = math.Pow(10, float64(r.IntN(620)-310)) * float64(1-2*r.IntN(2))
			case 1:
				v = []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, math.MaxFloat64, math.SmallestNonzeroFloat64}[r.IntN(6)]
			}
			res := d.Observe(p.at, v)
			if !(res.Score >= 0 && res.Score <= 1) || name != "custom" && res.Alert != (res.Score >= 0.5) {
				t.Fatalf("%s: value %d, %g: %+v", name, i, v, res)
			}
			if err := d.LoadState(d.AppendState(nil)); err != nil {
				t.Fatalf("%s: value %d, %g: the state cannot be loaded: %v", name, i, v, err)
			}
		}
	}
}

func TestStateThatDoesNotFitIsRefused(t *testing.T) {
	all := specs()
	blobs := map[string][]byte{}
	for name, spec := range all {
		d := build(t, spec)
		for _, p := range series(rand.New(rand.NewPCG(1, 1)), 300) {
			d.Observe(p.at, p.v)
		}
		blobs[name] = d.AppendState(nil)
	}
	for name, spec := range all {
		for other, blob := range blobs {
			same := other == name
			if err := build(t, spec).LoadState(blob); (err == nil) != same {
				t.Errorf("state of %s into %s: %v", other, name, err)
			} else if err != nil && base.CodeOf(err) != anomaly.CodeState {
				t.Errorf("state of %s into %s: error without code: %v", other, name, err)
			}
		}
		for cut := range min(len(blobs[name]), 400) {
			if build(t, spec).LoadState(blobs[name][:cut]) == nil {
				t.Errorf("%s: a state cut off at %d was loaded", name, cut)
			}
		}
	}
	if build(t, anomaly.ZScore{Limit: 4}).LoadState(build(t, anomaly.ZScore{Limit: 9}).AppendState(nil)) != nil {
		t.Error("another limit makes the state unusable")
	}
}

func FuzzLoadState(f *testing.F) {
	names := []string{}
	for name := range specs() {
		names = append(names, name)
	}
	for i, name := range names {
		d := build(f, specs()[name])
		for _, p := range series(rand.New(rand.NewPCG(1, 1)), 200) {
			d.Observe(p.at, p.v)
		}
		f.Add(uint8(i), d.AppendState(nil)[9:])
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		d := build(t, specs()[names[int(which)%len(names)]])
		if d.LoadState(append(d.AppendState(nil)[:9], b...)) != nil {
			return
		}
		for _, p := range series(rand.New(rand.NewPCG(2, 2)), 20) {
			if r := d.Observe(p.at, p.v); !(r.Score >= 0 && r.Score <= 1) {
				t.Fatalf("score %g", r.Score)
			}
		}
	})
}

func TestDeclarations(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		spec anomaly.Spec
		want string
	}{
		{nil, "no detector"},
		{anomaly.ZScore{Alpha: 2}, "Alpha 2 is above 1"},
		{anomaly.ZScore{Limit: -1}, "Limit -1"},
		{anomaly.ZScore{Limit: nan}, "Limit NaN"},
		{anomaly.ZScore{Mean: 1 << 20}, "Mean"},
		{anomaly.Robust{Window: 3}, "Window 3"},
		{anomaly.Seasonal{Bins: 99999}, "Bins"},
		{anomaly.Seasonal{Period: -time.Hour}, "Period"},
		{anomaly.Seasonal{Level: 3}, "weight 3"},
		{anomaly.KNN{Window: 30}, "Window 30 holds no"},
		{anomaly.KNN{Rank: 1}, "Rank 1"},
		{anomaly.Forest{Depth: 40}, "Depth 40"},
		{anomaly.CUSUM{Slack: 5}, "Clip 4 is not above Slack 5"},
		{anomaly.PageHinkley{Forget: 1.5}, "Forget"},
		{anomaly.ADWIN{Delta: 1}, "Delta"},
		{anomaly.Rate{}, "Interval 0s"},
		{anomaly.Threshold{}, "neither Above nor Below"},
		{anomaly.Threshold{Above: anomaly.Limit(1), Below: anomaly.Limit(2)}, "Below is not less"},
		{anomaly.AnyOf{}, "names no detector"},
		{anomaly.AnyOf{anomaly.ZScore{}, nil}, "Of is missing"},
		{anomaly.Rest{Of: anomaly.ZScore{}}, "Records 0"},
		{anomaly.Rest{Records: 4, Of: anomaly.Warmup{Records: 1, Of: anomaly.ZScore{Alpha: 7}}}, "Rest: Warmup: ZScore: Alpha 7"},
		{anomaly.Range{Of: anomaly.ZScore{}, Min: 2, Max: 1}, "Min 2 is not below Max 1"},
		{anomaly.Consecutive{Of: anomaly.ZScore{}, Records: 1}, "Records 1"},
		{anomaly.Feedback{Of: anomaly.ZScore{}, Step: 0.5}, "Step 0.5"},
		{anomaly.Custom{}, "Name and New"},
	} {
		_, err := anomaly.New(c.spec)
		if err == nil || !strings.Contains(err.Error(), c.want) || base.CodeOf(err) != anomaly.CodeSpec {
			t.Errorf("%#v: error %v, want %q", c.spec, err, c.want)
		}
	}
}
