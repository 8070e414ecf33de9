// Command training writes what the models of examples/storefront are trained on: a
// line of CSV for every moment of a play that the job asks a model about, with its
// features, and whether a hesitation about the same item follows within ten minutes.
//
//	go run ./internal/storefront/training -seed 1 > moments.csv
//	python3 examples/storefront/models/train.py moments.csv
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"

	"github.com/weirflow/weir/internal/storefront/proof"
	"github.com/weirflow/weir/internal/storefront/script"
)

func main() {
	c := script.Config{Rate: 1000, Speed: 120}
	flag.Uint64Var(&c.Seed, "seed", 1, "of the play")
	chapters := flag.Uint64("chapters", 8, "hours of the play")
	flag.Parse()
	moments := play(c, *chapters*c.ChapterLen())
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(out, "kind,price,hesitates,views_10m,removes_1h,spent_1h,label")
	for _, line := range lines(moments) {
		fmt.Fprintln(out, line)
	}
	if err := out.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// play returns the moments of the first n events, in order.
func play(c script.Config, n uint64) []proof.Moment {
	var out []proof.Moment
	m, p := proof.NewModel(), script.Play(c, 0)
	for i := range n {
		e, _ := p.Next()
		m.Take(e, int64(i), func(r proof.Result) {
			if r.Moment != nil {
				out = append(out, *r.Moment)
			}
		})
	}
	return out
}

// lines makes the table. Nothing is known of what follows the last moments, which are
// left out.
func lines(moments []proof.Moment) []string {
	type pair struct{ user, item string }
	ends := map[pair][]int64{}
	last := int64(0)
	for _, m := range moments {
		if m.Hesitates {
			ends[pair{m.User, m.Item}] = append(ends[pair{m.User, m.Item}], m.At)
		}
		last = max(last, m.At)
	}
	var out []string
	for _, m := range moments {
		if m.At+script.Within > last {
			continue
		}
		label := 0
		for _, at := range ends[pair{m.User, m.Item}] {
			if at > m.At && at <= m.At+script.Within {
				label = 1
			}
		}
		r := m.Row()
		out = append(out, fmt.Sprintf("%v,%v,%v,%v,%v,%v,%d", r[0], r[1], r[2], r[3], r[4], r[5], label))
	}
	return out
}
