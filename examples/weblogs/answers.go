package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// output is everything that the job found.
type output struct {
	hours           []Hour
	sessions        []Session
	statuses, paths []Day
	bursts          []Burst
}

// Answers are the questions and answers of testdata/reference.json.
type Answers struct {
	Rows           int64            `json:"rows"`
	Addresses      int              `json:"distinct_ip"`
	Sessions       int              `json:"sessions_gap_1800s_by_ip(gap>1800 starts new)"`
	Single         int              `json:"single_event_sessions"`
	LongestSeconds int64            `json:"longest_session_s"`
	MostInSession  int64            `json:"max_events_in_session"`
	Hours          int              `json:"tumbling_1h_windows_nonempty"`
	MostInHour     int64            `json:"max_1h_count"`
	MostNotFound   int64            `json:"max_1h_404"`
	Status         map[string]int64 `json:"status"`
	// Top holds the five paths that were requested most, each as path and count.
	Top [][2]any `json:"top5_paths"`
}

// answers sums up what the job found.
func (o *output) answers() Answers {
	a := Answers{Sessions: len(o.sessions), Hours: len(o.hours), Status: map[string]int64{}}
	addresses := map[string]bool{}
	for _, s := range o.sessions {
		addresses[s.Address] = true
		if s.Requests == 1 {
			a.Single++
		}
		a.LongestSeconds = max(a.LongestSeconds, s.Last-s.First)
		a.MostInSession = max(a.MostInSession, s.Requests)
	}
	a.Addresses = len(addresses)
	for _, h := range o.hours {
		a.Rows += h.Requests
		a.MostInHour = max(a.MostInHour, h.Requests)
		a.MostNotFound = max(a.MostNotFound, h.NotFound)
	}
	for _, d := range o.statuses {
		a.Status[d.Value] += d.Count
	}
	for _, d := range top(o.paths, 5) {
		a.Top = append(a.Top, [2]any{d.Value, float64(d.Count)})
	}
	return a
}

// top adds up days and returns the n greatest sums.
func top(days []Day, n int) []Day {
	sums := map[string]int64{}
	for _, d := range days {
		sums[d.Value] += d.Count
	}
	var list []Day
	for v, c := range sums {
		list = append(list, Day{Value: v, Count: c})
	}
	slices.SortFunc(list, func(a, b Day) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value)) })
	return list[:min(n, len(list))]
}

func sortBursts(list []Burst) {
	slices.SortFunc(list, func(a, b Burst) int { return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.From, b.From)) })
}

// print writes the answers for people.
func (o *output) print(w io.Writer) {
	a := o.answers()
	fmt.Fprintf(w, "%d requests of %d addresses, in %d hours with requests: at most %d in an hour, at most %d answered with 404\n",
		a.Rows, a.Addresses, a.Hours, a.MostInHour, a.MostNotFound)
	fmt.Fprintf(w, "%d sessions, %d of a single request; the longest took %d s, the fullest has %d requests\n", a.Sessions, a.Single, a.LongestSeconds, a.MostInSession)
	fmt.Fprint(w, "status ")
	for _, d := range top(o.statuses, 10) {
		fmt.Fprintf(w, "  %s: %d", d.Value, d.Count)
	}
	fmt.Fprintln(w, "\nmost requested")
	for _, t := range a.Top {
		fmt.Fprintf(w, "  %6.0f  %s\n", t[1], t[0])
	}
	minutes := map[string]int{}
	most := map[string]int64{}
	for _, b := range o.bursts {
		minutes[b.Address]++
		most[b.Address] = max(most[b.Address], b.Count)
	}
	fmt.Fprintf(w, "404 bursts: %d windows, of %d addresses\n", len(o.bursts), len(minutes))
	for _, address := range slices.SortedFunc(keys(minutes), func(a, b string) int { return cmp.Or(cmp.Compare(most[b], most[a]), strings.Compare(a, b)) }) {
		fmt.Fprintf(w, "  %-16s %d times in a minute at most, in %d windows\n", address, most[address], minutes[address])
	}
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// readOutput reads the part files of the job's sinks.
func readOutput(dir string) (*output, error) {
	var o output
	for _, err := range []error{
		readParts(dir+"/hours", &o.hours), readParts(dir+"/sessions", &o.sessions), readParts(dir+"/bursts", &o.bursts),
		readParts(dir+"/statuses", &o.statuses), readParts(dir+"/paths", &o.paths),
	} {
		if err != nil {
			return nil, err
		}
	}
	sortBursts(o.bursts)
	return &o, nil
}

// readParts reads all part files of one sink.
func readParts[T any](dir string, to *[]T) error {
	files, err := filepath.Glob(filepath.Join(dir, "part-*.jsonl"))
	if err != nil {
		return err
	}
	for _, name := range files {
		if err := readLines(name, to); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func readLines[T any](name string, to *[]T) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		var v T
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			return err
		}
		*to = append(*to, v)
	}
	return s.Err()
}
