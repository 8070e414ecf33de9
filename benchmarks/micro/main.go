// Command micro measures the hot path: each figure beside a hand-written loop in
// the same run, as the median of five interleaved repetitions. Ratios are what
// counts; the machine's speed drifts.
//
//	go run ./benchmarks/micro            all, as a table
//	go run ./benchmarks/micro -run keyed -reps 3 -json out.json
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"sort"
	"time"
)

// bench is one comparison.
type bench struct {
	name string
	// unit of the figures: "ns/record", "ms".
	unit string
	// arms are measured in turn; the first is Weir, the others baselines.
	arms []arm
	// bars are the acceptance bars, checked on medians.
	bars []bar
}

// arm is one measured variant.
type arm struct {
	name string
	run  func() (float64, error)
}

// bar compares medians: ok(weir, baseline of index arm).
type bar struct {
	text string
	// value computes the figure to judge from the medians of all arms.
	value func(m []float64) float64
	min   float64 // the figure must be at least min, if set
	max   float64 // and at most max, if set
}

// result is what is written as JSON.
type result struct {
	Name    string               `json:"name"`
	Unit    string               `json:"unit"`
	Medians map[string]float64   `json:"medians"`
	All     map[string][]float64 `json:"all"`
	Bars    []judged             `json:"bars"`
}

type judged struct {
	Text  string  `json:"text"`
	Value float64 `json:"value"`
	OK    bool    `json:"ok"`
}

func main() {
	pattern := flag.String("run", ".", "run the benchmarks whose name matches")
	reps := flag.Int("reps", 5, "repetitions of every arm")
	out := flag.String("json", "", "write the results to a file")
	flag.Parse()
	re, err := regexp.Compile(*pattern)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Printf("%s %s/%s, %d cores, %d repetitions, %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH,
		runtime.GOMAXPROCS(0), *reps, time.Now().UTC().Format(time.RFC3339))
	var results []result
	for _, b := range all() {
		if !re.MatchString(b.name) {
			continue
		}
		r, err := measure(b, *reps)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", b.name, err)
			os.Exit(1)
		}
		results = append(results, r)
	}
	if *out != "" {
		data, err := json.MarshalIndent(results, "", "  ")
		if err == nil {
			err = os.WriteFile(*out, data, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// measure runs all arms in turn and prints the medians.
func measure(b bench, reps int) (result, error) {
	r := result{Name: b.name, Unit: b.unit, Medians: map[string]float64{}, All: map[string][]float64{}}
	for range reps {
		for _, a := range b.arms {
			runtime.GC()
			v, err := a.run()
			if err != nil {
				return r, fmt.Errorf("%s: %w", a.name, err)
			}
			r.All[a.name] = append(r.All[a.name], v)
		}
	}
	fmt.Printf("\n%s (%s)\n", b.name, b.unit)
	var medians []float64
	for _, a := range b.arms {
		m := median(r.All[a.name])
		medians = append(medians, m)
		r.Medians[a.name] = m
		s := append([]float64(nil), r.All[a.name]...)
		sort.Float64s(s)
		fmt.Printf("  %-44s %10.2f   (%.2f … %.2f)\n", a.name, m, s[0], s[len(s)-1])
	}
	for _, bar := range b.bars {
		v := bar.value(medians)
		j := judged{bar.text, v, (bar.min == 0 || v >= bar.min) && (bar.max == 0 || v <= bar.max)}
		r.Bars = append(r.Bars, j)
		mark := "meets"
		if !j.OK {
			mark = "MISSES"
		}
		if bar.min == 0 && bar.max == 0 { // for information
			mark = "no part of"
		}
		fmt.Printf("  %-44s %10.3f   %s the bar\n", bar.text, v, mark)
	}
	return r, nil
}

func median(v []float64) float64 {
	s := append([]float64(nil), v...)
	sort.Float64s(s)
	return s[len(s)/2]
}

// all lists the benchmarks in the order they run.
func all() []bench {
	var out []bench
	out = append(out, chainBench(), exchangeBench())
	out = append(out, keyedBenches()...)
	out = append(out, largeBenches()...)
	out = append(out, slidingBench())
	out = append(out, featureBenches()...)
	out = append(out, patternBenches()...)
	return out
}
