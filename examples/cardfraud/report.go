package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// output is everything that the job found.
type output struct {
	scored      []Scored
	predictions []Judged
	testings    []Testing
	alerts      []Alert
}

// truth is a script and what it planted.
type truth struct {
	Config   Config  `json:"config"`
	Payments int     `json:"payments"`
	Plants   []Plant `json:"plants"`
}

// same fails when a file holds another truth.
func (t *truth) same(name string) error {
	was, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	is, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if !bytes.Equal(bytes.TrimSpace(was), is) {
		return fmt.Errorf("%s holds other payments than these flags make; use another -dir", filepath.Dir(name))
	}
	return nil
}

// ratio is a part of a whole.
type ratio struct{ part, whole int }

func (r ratio) String() string {
	if r.whole == 0 {
		return "none"
	}
	return fmt.Sprintf("%.3f (%d of %d)", float64(r.part)/float64(r.whole), r.part, r.whole)
}

func (r *ratio) count(yes bool) {
	r.whole++
	if yes {
		r.part++
	}
}

// kindResult is what became of the plants of a kind.
type kindResult struct {
	name                          string
	fraud                         bool
	plants                        int
	pattern, rules, model, alerts int // plants in which each found something
}

// result is how what was found compares with what was planted.
type result struct {
	truth    *truth
	kinds    []*kindResult
	frauds   int // payments
	patterns struct{ precision, recall ratio }
	// rules and model are about the payments that each would make an alert of alone;
	// alerts about alerts. Recall is about plants in all of them.
	rules, model, alerts struct{ precision, recall ratio }
}

// judge compares an output with the truth.
func (t *truth) judge(o *output) *result {
	r := &result{truth: t}
	plantOf, fraud := map[int64]int{}, map[int64]bool{}
	want := map[string]bool{}
	for i, p := range t.Plants {
		for _, id := range p.Payments {
			plantOf[id], fraud[id] = i, p.Fraud
			if p.Fraud {
				r.frauds++
			}
		}
		if p.Testing {
			want[fmt.Sprint(p.Match)] = true
		}
	}
	byPattern, byRules, byModel, byAlert := map[int]bool{}, map[int]bool{}, map[int]bool{}, map[int]bool{}
	mark := func(in map[int]bool, id int64) {
		if i, ok := plantOf[id]; ok {
			in[i] = true
		}
	}
	matched := map[string]bool{}
	for _, m := range o.testings {
		match := fmt.Sprint(append(slices.Clone(m.Small), m.Large))
		r.patterns.precision.count(want[match] && !matched[match])
		matched[match] = true
		mark(byPattern, m.Large)
	}
	for _, s := range o.scored {
		if s.Score >= ruledOut {
			r.rules.precision.count(fraud[s.ID])
			mark(byRules, s.ID)
		}
	}
	for _, j := range o.predictions {
		if j.certainty() >= alertScore {
			r.model.precision.count(fraud[j.ID])
			mark(byModel, j.ID)
		}
	}
	for _, a := range o.alerts {
		r.alerts.precision.count(slices.ContainsFunc(a.Payments, func(id int64) bool { return fraud[id] }))
		for _, id := range a.Payments {
			mark(byAlert, id)
		}
	}
	for i, p := range t.Plants {
		k := r.kind(p)
		k.plants++
		k.pattern, k.rules, k.model, k.alerts = k.pattern+one(byPattern[i]), k.rules+one(byRules[i]), k.model+one(byModel[i]), k.alerts+one(byAlert[i])
		if p.Testing {
			r.patterns.recall.count(matched[fmt.Sprint(p.Match)])
		}
		if p.Fraud {
			r.rules.recall.count(byRules[i])
			r.model.recall.count(byModel[i])
			r.alerts.recall.count(byAlert[i])
		}
	}
	return r
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// kind returns the result of a plant's kind.
func (r *result) kind(p Plant) *kindResult {
	i := slices.IndexFunc(r.kinds, func(k *kindResult) bool { return k.name == p.Kind })
	if i < 0 {
		i = len(r.kinds)
		r.kinds = append(r.kinds, &kindResult{name: p.Kind, fraud: p.Fraud})
	}
	return r.kinds[i]
}

// err is an error unless the pattern found everything that was planted for it, and
// nothing else.
func (r *result) err() error {
	p := r.patterns
	if p.recall.whole == 0 || p.recall.part != p.recall.whole || p.precision.part != p.precision.whole {
		return fmt.Errorf("the pattern has precision %v and recall %v; both must be 1", p.precision, p.recall)
	}
	return nil
}

// print writes the result for people.
func (r *result) print(w io.Writer) {
	c := r.truth.Config
	fmt.Fprintf(w, "%d payments of %d cards in %d days, seed %d; %d plants, %d payments of them frauds\n\n",
		r.truth.Payments, c.Cards, c.Days, c.Seed, len(r.truth.Plants), r.frauds)
	fmt.Fprintf(w, "%-46s %7s %8s %6s %6s %7s\n", "planted", "", "pattern", "rules", "model", "alerts")
	for _, fraud := range []bool{true, false} {
		for _, k := range r.kinds {
			if k.fraud == fraud {
				fmt.Fprintf(w, "%-5s  %-39s %7d %8d %6d %6d %7d\n", map[bool]string{true: "fraud", false: ""}[fraud], k.name, k.plants, k.pattern, k.rules, k.model, k.alerts)
			}
		}
	}
	fmt.Fprintf(w, "\n%-44s %-24s %s\n", "", "precision", "recall")
	fmt.Fprintf(w, "%-44s %-24v %v\n", "pattern: matches, against planted tests", r.patterns.precision, r.patterns.recall)
	fmt.Fprintf(w, "%-44s %-24v %v\n", "rules: payments, against all frauds", r.rules.precision, r.rules.recall)
	fmt.Fprintf(w, "%-44s %-24v %v\n", "model: payments, against all frauds", r.model.precision, r.model.recall)
	fmt.Fprintf(w, "%-44s %-24v %v\n", "alerts: cases, against all frauds", r.alerts.precision, r.alerts.recall)
}

// readOutput reads the part files of the job's sinks.
func readOutput(dir string) (*output, error) {
	var o output
	for _, err := range []error{
		readParts(dir+"/scored", &o.scored), readParts(dir+"/predictions", &o.predictions),
		readParts(dir+"/testings", &o.testings), readParts(dir+"/alerts", &o.alerts),
	} {
		if err != nil {
			return nil, err
		}
	}
	return &o, nil
}

// readParts reads all part files of one sink.
func readParts[T any](dir string, to *[]T) error {
	files, err := filepath.Glob(filepath.Join(dir, "part-*.jsonl"))
	if err != nil {
		return err
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for d := json.NewDecoder(bytes.NewReader(b)); ; {
			var v T
			if err := d.Decode(&v); err == io.EOF {
				break
			} else if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			*to = append(*to, v)
		}
	}
	return nil
}

// writeLines writes values as JSON lines.
func writeLines[T any](name string, list []T) error {
	return writeFile(name, func(w io.Writer) error {
		b := bufio.NewWriter(w)
		enc := json.NewEncoder(b)
		for i := range list {
			if err := enc.Encode(list[i]); err != nil {
				return err
			}
		}
		return b.Flush()
	})
}

// writeFile makes a file with what write writes.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	return f.Close()
}
