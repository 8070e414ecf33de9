package weir

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/nab"
	"github.com/weirflow/weir/operators/anomaly"
)

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Run a public benchmark",
		Args:  args(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(benchNABCommand())
	return cmd
}

// nabFlags are the flags of bench nab.
type nabFlags struct {
	data     string
	detector word
	asJSON   bool
}

// Words of --detector.
const (
	nabDefault = "default"
	nabBest    = "best"
	nabBoth    = "both"
)

func benchNABCommand() *cobra.Command {
	f := &nabFlags{detector: word{value: nabBoth, allowed: []string{nabDefault, nabBest, nabBoth}}}
	cmd := &cobra.Command{
		Use:   "nab --data DIR",
		Short: "Score the anomaly detectors on the Numenta Anomaly Benchmark",
		Long: `Score anomaly detectors on the Numenta Anomaly Benchmark, whose directory --data
names: data/GROUP/SERIES.csv, or .csv.gz, and labels/combined_windows.json.

The detectors run as a job, in which each series is a key. All keys have the same
parameters, and no row is judged by what comes after it. The scores are those of
the benchmark's three profiles, each at the threshold that is best for the whole
corpus. The parameters were chosen on this corpus, as those of all entries on its
scoreboard were: a score compares detectors, and promises nothing elsewhere.

Published scores are shown beside them when the directory has them
(final_results.json in expected/ or results/), computed anew where raw scores are
there too (DETECTOR.scores.tsv.gz).`,
		Args: args(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.data, "data", "", "directory of the benchmark; required")
	fl.Var(&f.detector, "detector", "declaration of package anomaly to run")
	fl.BoolVar(&f.asJSON, "json", false, "as JSON")
	return cmd
}

func (f *nabFlags) run(cmd *cobra.Command) error {
	if f.data == "" {
		return &base.Error{
			Code: codeValue, What: "it is not said where the benchmark is", Where: "flag --data",
			Next: "clone https://github.com/numenta/NAB and name its directory",
		}
	}
	c, err := nab.Load(f.data)
	if err != nil {
		return err
	}
	published, err := nab.LoadPublished(f.data)
	if err != nil {
		return err
	}
	v := &nabView{
		Data: f.data, Series: len(c.Series), Rows: c.Rows(), Windows: c.Windows(),
		Parallelism: min(runtime.GOMAXPROCS(0), len(c.Series), MaxParallelism),
	}
	names := []string{nabDefault, nabBest}
	if f.detector.value != nabBoth {
		names = []string{f.detector.value}
	}
	if err := v.detect(cmd.Context(), c, names); err != nil {
		return err
	}
	if err := v.compare(c, published); err != nil {
		return err
	}
	if f.asJSON {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	return v.table(cmd.OutOrStdout())
}

// nabView is what bench nab found.
type nabView struct {
	Data        string `json:"data"`
	Series      int    `json:"series"`
	Rows        int    `json:"rows"`
	Windows     int    `json:"windows"`
	Parallelism int    `json:"parallelism"`
	// Seconds is how long the job ran, with its start and its end.
	Seconds   float64   `json:"seconds"`
	Detectors []nabLine `json:"detectors"`
}

// nabLine is a detector of this program, which has scores, or one of others.
type nabLine struct {
	Detector string `json:"detector"`
	// Weir says that a job of this program ran it.
	Weir bool `json:"weir"`
	// Scores were computed here; nil when there is nothing to compute them from.
	Scores    *nabScores `json:"scores,omitempty"`
	Published *nabScores `json:"published,omitempty"`
	// Thresholds are those of Scores; left out where detecting nothing is best.
	Thresholds *nabScores `json:"thresholds,omitempty"`
}

// nabScores is a number for each profile.
type nabScores struct {
	Standard float64 `json:"standard"`
	LowFP    float64 `json:"reward_low_FP_rate"`
	LowFN    float64 `json:"reward_low_FN_rate"`
}

// computed puts what the scorer found into a line.
func (l *nabLine) computed(s []nab.Score) {
	l.Scores = &nabScores{s[0].Value, s[1].Value, s[2].Value}
	t := &nabScores{s[0].Threshold, s[1].Threshold, s[2].Threshold}
	if !math.IsInf(max(t.Standard, t.LowFP, t.LowFN), 1) {
		l.Thresholds = t
	}
}

// detect runs detectors and scores them.
func (v *nabView) detect(ctx context.Context, c *nab.Corpus, names []string) error {
	began := clock.Real().Now()
	raw, err := runNAB(ctx, c, names, v.Parallelism)
	if err != nil {
		return err
	}
	v.Seconds = time.Duration(clock.Real().Now() - began).Seconds()
	for i, name := range names {
		s, err := c.EvaluateAll(raw[i])
		if err != nil {
			return nabError(v.Data, err)
		}
		l := nabLine{Detector: name, Weir: true}
		l.computed(s)
		v.Detectors = append(v.Detectors, l)
	}
	return nil
}

func nabError(where string, err error) error {
	return &base.Error{
		Code: nab.CodeData, What: "the benchmark cannot be scored", Where: where, Cause: err,
		Next: "take the files of the benchmark as they are published",
	}
}

// compare adds the detectors of others.
func (v *nabView) compare(c *nab.Corpus, published []nab.Published) error {
	for _, p := range published {
		l := nabLine{Detector: p.Detector, Published: &nabScores{p.Scores[0], p.Scores[1], p.Scores[2]}}
		if p.File != "" {
			raw, err := nab.LoadScores(p.File, c)
			if err != nil {
				return err
			}
			s, err := c.EvaluateAll(raw)
			if err != nil {
				return nabError(p.File, err)
			}
			l.computed(s)
		}
		v.Detectors = append(v.Detectors, l)
	}
	return nil
}

// nabRow is a record of the job: a row of a series.
type nabRow struct {
	Series string
	Row    int
	At     time.Time
	Value  float64
}

// nabScore is what a detector makes of it.
type nabScore struct {
	Series string
	Row    int
	Score  float64
}

// nabDetector returns the declaration of that name.
func nabDetector(name string) anomaly.Spec {
	if name == nabBest {
		return anomaly.Best()
	}
	return anomaly.Default()
}

// runNAB runs detectors over the corpus as one job: every series is a split of the
// source and a key, every detector an operator. It returns a score for each
// detector, series and row.
func runNAB(ctx context.Context, c *nab.Corpus, detectors []string, parallelism int) (scores [][][]float64, err error) {
	src := memory.NewSource[nabRow](c.Names()...)
	for i := range c.Series {
		s := &c.Series[i]
		rows := make([]memory.Record[nabRow], 0, len(s.Values))
		for row, value := range s.Values {
			rows = append(rows, memory.Record[nabRow]{Value: nabRow{s.Name, row, s.Times[row], value}})
		}
		src.AppendRecords(s.Name, rows...)
	}
	src.Finish()
	sinks := make([]*memory.Sink[nabScore], 0, len(detectors))
	for range detectors {
		sinks = append(sinks, memory.NewSink[nabScore]())
	}
	job := NewJob("bench-nab", func(j *Job) {
		in := From(j, "rows", src, Ascending(func(r nabRow) time.Time { return r.At }), Parallelism(parallelism))
		bySeries := KeyBy(in, "by-series", func(r nabRow) string { return r.Series })
		for i, name := range detectors {
			judged := Anomalies(bySeries, name, anomaly.ProcessSpec[nabRow]{
				Detector: nabDetector(name),
				Input:    func(r nabRow) anomaly.Input { return anomaly.Input{Value: r.Value} },
			})
			To(Map(judged, name+"-score", func(s anomaly.Scored[string, nabRow]) nabScore {
				return nabScore{s.Key, s.Record.Row, s.Score}
			}), name+"-scores", sinks[i].Sink())
		}
	})
	dir, err := os.MkdirTemp("", "weir-nab-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if rerr := os.RemoveAll(dir); err == nil {
			err = rerr
		}
	}()
	if err := Run(ctx, job, Options{DataDir: dir, Parallelism: parallelism}); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("stopped before the end: %w", err)
	}
	for _, s := range sinks {
		scores = append(scores, gatherNAB(c, s.Visible()))
	}
	return scores, nil
}

// gatherNAB puts scores in the order of the corpus. Rows without one have NaN,
// which the scorer refuses.
func gatherNAB(c *nab.Corpus, got []nabScore) [][]float64 {
	out, index := make([][]float64, len(c.Series)), make(map[string]int, len(c.Series))
	for i := range c.Series {
		out[i] = make([]float64, len(c.Series[i].Values))
		for row := range out[i] {
			out[i][row] = math.NaN()
		}
		index[c.Series[i].Name] = i
	}
	for _, s := range got {
		out[index[s.Series]][s.Row] = s.Score
	}
	return out
}

// nabWhole is the number of windows of the whole benchmark.
const nabWhole = 116

func (v *nabView) table(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "%d series, %s, %s: one job with a key for each series, parallelism %d, %.1f s\n\n",
		v.Series, plural(v.Rows, "row"), plural(v.Windows, "labelled window"), v.Parallelism, v.Seconds)
	others := slices.ContainsFunc(v.Detectors, func(l nabLine) bool { return l.Published != nil })
	if others {
		fmt.Fprintf(out, "%-20s%-30s%s\n", "", "   computed here", "   published")
	}
	titles := []string{"standard", "low FP", "low FN"}
	for i := -1; i < len(v.Detectors); i++ {
		name, ours, theirs := "detector", titles, titles
		if i >= 0 {
			l := &v.Detectors[i]
			name, ours, theirs = l.Detector, l.Scores.cells(), l.Published.cells()
			if l.Weir {
				name = "weir " + name
			}
		}
		if !others {
			theirs = nil
		}
		fmt.Fprintf(out, "%-20s", name)
		for _, cell := range slices.Concat(ours, theirs) {
			fmt.Fprintf(out, "%10s", cell)
		}
		fmt.Fprintln(out)
	}
	if others && v.Windows != nabWhole {
		fmt.Fprintf(out, "\nPublished scores are for all %d windows of the benchmark; there are %d here.\n", nabWhole, v.Windows)
	}
	return out.Flush()
}

// cells are the columns of scores; dashes for none.
func (s *nabScores) cells() []string {
	if s == nil {
		return []string{"-", "-", "-"}
	}
	f := func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
	return []string{f(s.Standard), f(s.LowFP), f(s.LowFN)}
}
