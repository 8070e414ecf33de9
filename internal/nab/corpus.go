package nab

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirflow/weir/internal/base"
)

// CodeData is the error code of a corpus that cannot be read.
const CodeData = "WEIR-0615"

// Series is one file of the corpus.
type Series struct {
	// Name is the path of the file below the data directory, such as
	// "realTweets/Twitter_volume_AAPL.csv".
	Name   string
	Times  []time.Time
	Values []float64
	// Windows are the labelled anomalies: first and last row, both included, in
	// order and not overlapping.
	Windows [][2]int
}

// Probation returns how many of the first n rows of a series count for nothing:
// 15 %, at most 750.
func Probation(n int) int { return min(n*15/100, 750) }

// Corpus is a set of series, ordered by name.
type Corpus struct{ Series []Series }

// Windows returns the number of labelled windows.
func (c *Corpus) Windows() int {
	n := 0
	for i := range c.Series {
		n += len(c.Series[i].Windows)
	}
	return n
}

// Names returns the names of the series.
func (c *Corpus) Names() []string {
	out := make([]string, 0, len(c.Series))
	for i := range c.Series {
		out = append(out, c.Series[i].Name)
	}
	return out
}

// Rows returns the number of rows of all series.
func (c *Corpus) Rows() int {
	n := 0
	for i := range c.Series {
		n += len(c.Series[i].Values)
	}
	return n
}

// Load reads the corpus in dir: data/<group>/<series>.csv, or .csv.gz, and
// labels/combined_windows.json. Series without labels, and labels without series
// of a group that is there, are errors.
func Load(dir string) (*Corpus, error) {
	windows, err := loadWindows(filepath.Join(dir, "labels", "combined_windows.json"))
	if err != nil {
		return nil, dataError(dir, err)
	}
	root := filepath.Join(dir, "data")
	c := &Corpus{}
	loaded := map[string]bool{}
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = strings.TrimSuffix(filepath.ToSlash(name), ".gz")
		if !strings.HasSuffix(name, ".csv") {
			return nil
		}
		labels, ok := windows[name]
		if !ok {
			return fmt.Errorf("series %s has no entry among the labels", name)
		}
		if loaded[name] {
			return fmt.Errorf("series %s is there twice, packed and plain", name)
		}
		loaded[name] = true
		s, err := loadSeries(path, name, labels)
		if err != nil {
			return fmt.Errorf("series %s: %w", name, err)
		}
		c.Series = append(c.Series, *s)
		return nil
	})
	if err == nil && len(c.Series) == 0 {
		err = errors.New("no series found")
	}
	if err == nil {
		err = c.complete(windows)
	}
	if err != nil {
		return nil, dataError(dir, err)
	}
	slices.SortFunc(c.Series, func(a, b Series) int { return strings.Compare(a.Name, b.Name) })
	return c, nil
}

// complete checks that of each group that is there all labelled series are.
func (c *Corpus) complete(windows map[string][][2]time.Time) error {
	groups, names := map[string]bool{}, map[string]bool{}
	for i := range c.Series {
		groups[path.Dir(c.Series[i].Name)], names[c.Series[i].Name] = true, true
	}
	for _, name := range slices.Sorted(maps.Keys(windows)) {
		if groups[path.Dir(name)] && !names[name] {
			return fmt.Errorf("series %s has labels and no file", name)
		}
	}
	return nil
}

func dataError(dir string, err error) error {
	return &base.Error{
		Code: CodeData, What: "cannot read the Numenta Anomaly Benchmark", Where: dir, Cause: err,
		Next: "name the directory of the benchmark that holds data/ and labels/",
	}
}

// loadWindows reads the labels: two times for each window of each series.
func loadWindows(file string) (map[string][][2]time.Time, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var raw map[string][][2]string
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	out := make(map[string][][2]time.Time, len(raw))
	for name, ws := range raw {
		out[name] = nil
		for _, w := range ws {
			from, err := parseTime(w[0])
			if err != nil {
				return nil, fmt.Errorf("label of %s: %w", name, err)
			}
			to, err := parseTime(w[1])
			if err != nil {
				return nil, fmt.Errorf("label of %s: %w", name, err)
			}
			out[name] = append(out[name], [2]time.Time{from, to})
		}
	}
	return out, nil
}

// parseTime reads a time with or without a fraction of a second.
func parseTime(s string) (time.Time, error) {
	return time.Parse("2006-01-02 15:04:05", s)
}

func loadSeries(path, name string, labels [][2]time.Time) (*Series, error) {
	r, err := openMaybeGzip(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	s := &Series{Name: name}
	sc := bufio.NewScanner(r)
	for row := 0; sc.Scan(); row++ {
		if row == 0 {
			continue // the header
		}
		at, value, ok := strings.Cut(sc.Text(), ",")
		if !ok {
			return nil, fmt.Errorf("line %d has no comma", row+1)
		}
		t, err := parseTime(at)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", row+1, err)
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", row+1, err)
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("line %d: the value is %g", row+1, v)
		}
		s.Times, s.Values = append(s.Times, t), append(s.Values, v)
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if len(s.Values) == 0 {
		return nil, errors.New("it has no rows")
	}
	return s, s.label(labels)
}

// label turns windows in time into windows of rows.
func (s *Series) label(labels [][2]time.Time) error {
	for _, w := range labels {
		l := slices.IndexFunc(s.Times, func(t time.Time) bool { return !t.Before(w[0]) })
		r := slices.IndexFunc(s.Times, func(t time.Time) bool { return !t.Before(w[1]) })
		if l < 0 || r < l {
			return fmt.Errorf("the window %s to %s holds no row", w[0], w[1])
		}
		if n := len(s.Windows); n > 0 && s.Windows[n-1][1] >= l {
			return fmt.Errorf("the window from %s overlaps the one before", w[0])
		}
		s.Windows = append(s.Windows, [2]int{l, r})
	}
	return nil
}

type readCloser struct {
	io.Reader
	close func() error
}

func (r readCloser) Close() error { return r.close() }

// openMaybeGzip opens a file, unpacked when its name ends in .gz.
func openMaybeGzip(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil || !strings.HasSuffix(path, ".gz") {
		return f, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return readCloser{z, f.Close}, nil
}

// LoadScores reads the raw scores of a detector: a line for each series, its name,
// a tab, and a score for each row with spaces between. The result has the scores
// in the order of the corpus.
func LoadScores(path string, c *Corpus) ([][]float64, error) {
	r, err := openMaybeGzip(path)
	if err != nil {
		return nil, dataError(path, err)
	}
	defer r.Close()
	byName := map[string][]float64{}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		name, rest, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if ok {
			var scores []float64
			for f := range strings.FieldsSeq(rest) {
				v, perr := strconv.ParseFloat(f, 64)
				if perr != nil {
					return nil, dataError(path, perr)
				}
				scores = append(scores, v)
			}
			byName[name] = scores
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, dataError(path, err)
		}
	}
	out := make([][]float64, len(c.Series))
	for i := range c.Series {
		out[i] = byName[c.Series[i].Name]
		if len(out[i]) != len(c.Series[i].Values) {
			return nil, dataError(path, fmt.Errorf("%s has %d scores for %d rows", c.Series[i].Name, len(out[i]), len(c.Series[i].Values)))
		}
	}
	return out, nil
}
