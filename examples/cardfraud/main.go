// Command cardfraud looks for misuse of payment cards: features of every payment
// over horizons from a minute to thirty days, by card, by merchant and by both; what a
// model of trees makes of them; a pattern, several small payments and then a large one
// within five minutes; and alerts that join the two.
//
//	go run ./examples/cardfraud
//	go run ./examples/cardfraud -seed 7 -cards 500 -days 60 -dir data
//
// The program makes the payments itself, with frauds of several kinds planted among
// them, and things that just miss being one. The job reads them from a file and
// writes files of JSON lines, exactly once; the program then compares what is in
// them with what was planted and prints precision and recall. It fails if the
// pattern missed anything or found anything else. With -dir everything stays there,
// and a run that was interrupted goes on where it stopped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/file"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	var c Config
	flag.Uint64Var(&c.Seed, "seed", 1, "seed of the payments")
	flag.IntVar(&c.Cards, "cards", 200, "number of cards, at least 20")
	flag.IntVar(&c.Days, "days", 45, "days of payments, at least 10")
	parallelism := flag.Int("parallelism", 1, "subtasks of keyed operators")
	dir := flag.String("dir", "", "directory for payments, output and checkpoints (default a temporary one)")
	table := flag.String("table", "", "file for a table of inputs and frauds, to train a model with models/train.py")
	flag.Parse()
	if c.Cards < 20 || c.Days < 10 {
		return errors.New("-cards must be at least 20, and -days at least 10")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "cardfraud-"); err != nil {
			return err
		}
		defer os.RemoveAll(*dir)
	}
	t, err := prepare(*dir, c)
	if err != nil {
		return err
	}
	out := filepath.Join(*dir, "out")
	opts := weir.Options{DataDir: filepath.Join(*dir, "weir"), Parallelism: *parallelism}
	if err := weir.Run(ctx, job(file.JSONL[Payment](filepath.Join(*dir, paymentsFile)), out), opts); err != nil {
		return err
	}
	if ctx.Err() != nil {
		fmt.Println("stopped with a final checkpoint; with -dir the next run goes on from there")
		return nil
	}
	o, err := readOutput(out)
	if err != nil {
		return err
	}
	if *table != "" {
		return writeFile(*table, func(w io.Writer) error { return t.writeTable(w, o.scored) })
	}
	r := t.judge(o)
	r.print(os.Stdout)
	return r.err()
}

const (
	paymentsFile = "payments.jsonl"
	truthFile    = "truth.json"
)

// prepare writes the payments of a script into a directory, with what was planted,
// unless it has them already.
func prepare(dir string, c Config) (*truth, error) {
	payments, plants := play(c)
	t := &truth{Config: c, Payments: len(payments), Plants: plants}
	if _, err := os.Stat(filepath.Join(dir, truthFile)); err == nil {
		return t, t.same(filepath.Join(dir, truthFile))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := writeLines(filepath.Join(dir, paymentsFile), payments); err != nil {
		return nil, err
	}
	// The truth comes last: where it is, the payments are complete.
	return t, writeLines(filepath.Join(dir, truthFile), []*truth{t})
}
