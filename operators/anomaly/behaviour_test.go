package anomaly_test

import (
	"bufio"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/weirflow/weir/operators/anomaly"
)

var start = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC) // a Monday

// alerts returns the indices of the values that are alerts, one value a minute.
func alerts(t *testing.T, spec anomaly.Spec, values ...float64) []int {
	t.Helper()
	d := build(t, spec)
	var out []int
	for i, v := range values {
		if d.Observe(start.Add(time.Duration(i)*time.Minute), v).Alert {
			out = append(out, i)
		}
	}
	return out
}

func wantAlerts(t *testing.T, what string, got []int, want ...int) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: alerts at %v, want %v", what, got, want)
	}
}

// noise returns n normal values about 10.
func noise(n int) []float64 {
	r := rand.New(rand.NewPCG(11, 11))
	out := make([]float64, n)
	for i := range out {
		out[i] = 10 + r.NormFloat64()
	}
	return out
}

func TestChangesOfTheReferenceStream(t *testing.T) {
	f, err := os.Open("testdata/drift/stream.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var values []float64
	for sc := bufio.NewScanner(f); sc.Scan(); {
		v, err := strconv.ParseFloat(sc.Text(), 64)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, v)
	}
	if len(values) != 2000 {
		t.Fatalf("%d values", len(values))
	}
	wantAlerts(t, "ADWIN", alerts(t, anomaly.ADWIN{}, values...), 1023)
	wantAlerts(t, "Page-Hinkley", alerts(t, anomaly.PageHinkley{}, values...), 1006)
}

func TestAWindowCutHasTheNewMean(t *testing.T) {
	values := noise(3000)
	for i := 2000; i < 3000; i++ {
		values[i] += 0.5
	}
	got := alerts(t, anomaly.ADWIN{}, values...)
	if len(got) == 0 || got[0] < 2000 || got[0] > 2300 {
		t.Errorf("a shift of half a deviation at 2000 was found at %v", got)
	}
}

func TestOutliers(t *testing.T) {
	values := noise(1500)
	values[1200] = 25
	values[1300] = -5
	for name, spec := range map[string]anomaly.Spec{
		"ewma":     anomaly.ZScore{Limit: 6},
		"welford":  anomaly.ZScore{Limit: 6, Alpha: -1},
		"robust":   anomaly.Robust{},
		"seasonal": anomaly.Seasonal{Period: time.Hour, Bins: 4, Limit: 6},
	} {
		wantAlerts(t, name, alerts(t, spec, values...), 1200, 1300)
	}
	// Values that become usual are none: a third of 20 among the tens.
	for i := 1000; i < 1500; i += 3 {
		values[i] = 20
	}
	if got := alerts(t, anomaly.ZScore{Limit: 3, Alpha: 0.05}, values[:1190]...); len(got) == 0 || got[len(got)-1] > 1060 {
		t.Errorf("ewma: values that are usual by now are alerts: %v", got)
	}
}

func TestTheShortMeanFindsSmallShifts(t *testing.T) {
	values := noise(1500)
	for i := 1200; i < 1300; i++ {
		values[i] += 2
	}
	wantAlerts(t, "values alone", alerts(t, anomaly.ZScore{Limit: 6}, values...))
	got := alerts(t, anomaly.ZScore{Limit: 6, Mean: 20}, values...)
	if len(got) == 0 || got[0] < 1205 || got[0] > 1230 {
		t.Errorf("short mean: alerts at %v", got)
	}
	got = alerts(t, anomaly.Rest{Records: 200, Of: anomaly.CUSUM{Limit: 12}}, values...)
	if len(got) != 1 || got[0] < 1203 || got[0] > 1225 {
		t.Errorf("CUSUM: alerts at %v", got)
	}
}

// TestSeasonKnowsTheHour: what is usual at noon is an alert at night.
func TestSeasonKnowsTheHour(t *testing.T) {
	d := build(t, anomaly.Seasonal{Limit: 6})
	r := rand.New(rand.NewPCG(5, 5))
	at := start
	for ; at.Before(start.AddDate(0, 0, 14)); at = at.Add(10 * time.Minute) {
		v := 100 + 50*math.Sin(2*math.Pi*float64(at.Hour())/24) + r.NormFloat64()
		if res := d.Observe(at, v); res.Alert && at.After(start.AddDate(0, 0, 3)) {
			t.Fatalf("%v: a usual value is an alert: %+v", at, res)
		}
	}
	if res := d.Observe(at, 148); at.Hour() != 0 || !res.Alert || res.By != "seasonal" {
		t.Errorf("the value of 6 o'clock at midnight: %+v", res)
	}
}

// TestShapes: a run of values each of which is usual, in an order that is not.
func TestShapes(t *testing.T) {
	values := make([]float64, 2000)
	r := rand.New(rand.NewPCG(6, 6))
	for i := range values {
		values[i] = 10*math.Sin(2*math.Pi*float64(i)/24) + 0.3*r.NormFloat64()
	}
	for i := 1700; i < 1724; i++ {
		values[i] = -values[i] // the other way up
	}
	wantAlerts(t, "z", alerts(t, anomaly.ZScore{}, values...))
	got := alerts(t, anomaly.Rest{Records: 300, Of: anomaly.KNN{}}, values...)
	if i, _ := slices.BinarySearch(got, 1700); i == len(got) || got[i] > 1712 {
		t.Errorf("KNN: alerts at %v, none right after 1700", got)
	}
	got = alerts(t, anomaly.Warmup{Records: 1000, Of: anomaly.Forest{Dim: 2, Limit: 6}}, values...)
	if len(got) == 0 || got[0] < 1700 || got[0] > 1730 {
		t.Errorf("Forest: alerts at %v", got)
	}
}

func TestRate(t *testing.T) {
	d := build(t, anomaly.Rate{Interval: time.Minute})
	var got []time.Duration
	feed := func(at time.Duration, n float64) {
		if d.Observe(start.Add(at), n).Alert {
			got = append(got, at)
		}
	}
	for m := range 30 {
		for s := range 20 {
			feed(time.Duration(m)*time.Minute+time.Duration(s)*3*time.Second, 1)
		}
	}
	if len(got) != 0 {
		t.Fatalf("20 a minute alert at %v", got)
	}
	for s := range 60 { // 60 in a minute: once
		feed(30*time.Minute+time.Duration(s)*time.Second, 1)
	}
	if len(got) != 1 || got[0] < 30*time.Minute+40*time.Second {
		t.Fatalf("60 in a minute alert at %v", got)
	}
	got = nil
	feed(31*time.Minute, 20)
	feed(33*time.Minute, 20) // minute 32 was empty
	if len(got) != 1 || got[0] != 33*time.Minute {
		t.Fatalf("an empty minute alerts at %v", got)
	}
	feed(33*time.Minute+time.Hour*24*365, 1) // returns soon, though a year is half a million intervals
	got = nil
	d = build(t, anomaly.Rate{Interval: time.Minute, OnlyMore: true})
	for m := range 30 {
		feed(time.Duration(m)*time.Minute, 20)
	}
	if feed(40*time.Minute, 20); len(got) != 0 {
		t.Errorf("OnlyMore: too few alert at %v", got)
	}
}

func TestWrappers(t *testing.T) {
	above := anomaly.Threshold{Above: anomaly.Limit(5)}
	values := []float64{9, 9, 1, 9, 9, 9, 9, 1, 9}
	wantAlerts(t, "threshold", alerts(t, above, values...), 0, 1, 3, 4, 5, 6, 8)
	wantAlerts(t, "warm-up", alerts(t, anomaly.Warmup{Of: above, Records: 4}, values...), 4, 5, 6, 8)
	wantAlerts(t, "rest", alerts(t, anomaly.Rest{Of: above, Records: 3}, values...), 0, 4, 8)
	wantAlerts(t, "consecutive", alerts(t, anomaly.Consecutive{Of: above, Records: 3}, values...), 5, 6)
	wantAlerts(t, "range", alerts(t, anomaly.Range{Of: anomaly.Threshold{Above: anomaly.Limit(0.5)}, Min: 0, Max: 10},
		4, 6, -1, 11, 5), 1, 2, 3, 4)
	low := anomaly.Threshold{Below: anomaly.Limit(0)}
	wantAlerts(t, "any of", alerts(t, anomaly.AnyOf{above, low}, 1, 6, -1, 2), 1, 2)
}

func TestFeedback(t *testing.T) {
	d := build(t, anomaly.Rest{Records: 1, Of: anomaly.Feedback{Step: 2, Of: anomaly.ZScore{Limit: 4, Deviation: 1, Alpha: 1e-9}}})
	see := func(v float64) bool { return d.Observe(start, v).Alert }
	for range 50_000 {
		see(0) // outliers hardly move this mean
	}
	for _, step := range []struct {
		v       float64
		want    bool
		verdict anomaly.Verdict
	}{
		{5, true, anomaly.FalseAlarm},  // the limit is 8 now
		{7, false, 0},                  //
		{9, true, anomaly.FalseAlarm},  // 16
		{15, false, 0},                 //
		{17, true, anomaly.Confirmed},  // 11.3
		{13, true, anomaly.Confirmed},  // 8
		{9, true, anomaly.Confirmed},   // 5.7
		{6, true, anomaly.Confirmed},   // 4
		{4.5, true, anomaly.Confirmed}, // no lower
		{3.5, false, 0},
	} {
		if got := see(step.v); got != step.want {
			t.Fatalf("%g: alert %v, want %v", step.v, got, step.want)
		}
		if step.verdict != 0 {
			d.Learn(step.verdict)
		}
		see(0) // the rest
	}
}
