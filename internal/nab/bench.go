package nab

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/weirflow/weir/operators/anomaly"
)

// Entry is a detector on the scoreboard.
type Entry struct {
	Name string
	// Spec declares the detector of a series. The shipped detectors are the same
	// for all.
	Spec func(s *Series) anomaly.Spec
}

// Entries returns the default detector, the best one, and the parts that they
// could be made of, each with the rest after an alert that suits the benchmark.
func Entries() []Entry {
	same := func(name string, s anomaly.Spec) Entry {
		return Entry{name, func(*Series) anomaly.Spec { return s }}
	}
	rested := func(name string, s anomaly.Spec) Entry {
		return same(name, anomaly.Rest{Records: 120, Of: s})
	}
	return []Entry{
		same("default", anomaly.Default()),
		same("best", anomaly.Best()),
		rested("z-score", anomaly.ZScore{}),
		rested("robust", anomaly.Robust{}),
		rested("seasonal-day", anomaly.Seasonal{}),
		rested("seasonal-week", anomaly.Seasonal{Period: 7 * 24 * time.Hour, Bins: 168}),
		rested("forest", anomaly.Forest{}),
		rested("cusum", anomaly.CUSUM{}),
		rested("adwin", anomaly.ADWIN{}),
		rested("knn-cad", anomaly.KNN{}),
		// As on the published scoreboard, where it is told how long the probation is.
		{"knn-cad-probation", func(s *Series) anomaly.Spec {
			p := Probation(len(s.Values))
			return anomaly.Rest{Records: max(p/5, 1), Of: anomaly.KNN{Window: p}}
		}},
	}
}

// Line is how one detector did.
type Line struct {
	Detector string
	// Scores are those under Profiles.
	Scores []Score
	// StateBytes is the largest state of a series at its end.
	StateBytes int
}

// Report is the scoreboard of a corpus.
type Report struct {
	Series, Rows, Windows int
	Lines                 []Line
}

// String renders the report as a table.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d series, %d rows, %d windows; scores: standard, few false alarms, few misses\n", r.Series, r.Rows, r.Windows)
	fmt.Fprintf(&b, "%-18s %9s %9s %9s %10s %12s\n", "detector", "standard", "low-FP", "low-FN", "threshold", "state bytes")
	for _, l := range r.Lines {
		fmt.Fprintf(&b, "%-18s", l.Detector)
		for _, s := range l.Scores {
			fmt.Fprintf(&b, " %9.2f", s.Value)
		}
		fmt.Fprintf(&b, " %10.4f %12d\n", l.Scores[0].Threshold, l.StateBytes)
	}
	return b.String()
}

// Bench runs the shipped detectors over the corpus in dir; see Load and Entries.
func Bench(dir string) (Report, error) {
	c, err := Load(dir)
	if err != nil {
		return Report{}, err
	}
	return c.Bench(Entries())
}

// Bench runs detectors over the corpus.
func (c *Corpus) Bench(entries []Entry) (Report, error) {
	r := Report{Series: len(c.Series), Windows: c.Windows()}
	r.Rows = c.Rows()
	for _, e := range entries {
		scores, bytes, err := c.Run(e)
		if err != nil {
			return Report{}, fmt.Errorf("detector %s: %w", e.Name, err)
		}
		l := Line{Detector: e.Name, StateBytes: bytes}
		if l.Scores, err = c.EvaluateAll(scores); err != nil {
			return Report{}, fmt.Errorf("detector %s: %w", e.Name, err)
		}
		r.Lines = append(r.Lines, l)
	}
	return r, nil
}

// Run returns the scores of a detector for each row of each series, and the size
// of its largest state.
func (c *Corpus) Run(e Entry) (scores [][]float64, stateBytes int, err error) {
	scores = make([][]float64, len(c.Series))
	sizes, errs := make([]int, len(c.Series)), make([]error, len(c.Series))
	var all sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range c.Series {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			scores[i], sizes[i], errs[i] = c.Series[i].run(e)
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, 0, fmt.Errorf("series %s: %w", c.Series[i].Name, err)
		}
		stateBytes = max(stateBytes, sizes[i])
	}
	return scores, stateBytes, nil
}

func (s *Series) run(e Entry) (scores []float64, stateBytes int, err error) {
	d, err := anomaly.New(e.Spec(s))
	if err != nil {
		return nil, 0, err
	}
	scores = make([]float64, len(s.Values))
	for i, v := range s.Values {
		scores[i] = d.Observe(s.Times[i], v).Score
	}
	return scores, len(d.AppendState(nil)), nil
}
