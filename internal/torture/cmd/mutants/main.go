// Command mutants plants bugs in the engine, one at a time, and checks that a test
// finds each:
//
//	mutants [-matrix] [-list] [NAME...]
//
// It is run in the root of the module and needs the go command. The exit code is
// 0 when every bug was found.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/weirflow/weir/internal/torture"
)

func main() {
	cfg := torture.MutantsConfig{Root: ".", Log: os.Stdout}
	flag.BoolVar(&cfg.Matrix, "matrix", false, "let the crash matrix find those that it can find, too")
	list := flag.Bool("list", false, "list the mutants")
	flag.Parse()
	if *list {
		for _, m := range torture.Mutants {
			fmt.Printf("%-34s %s\n", m.Name, m.What)
		}
		return
	}
	cfg.Only = flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	began := time.Now()
	missed, err := torture.RunMutants(ctx, cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Printf("%d mutants not found, in %s\n", missed, time.Since(began).Round(time.Second))
	if missed > 0 {
		os.Exit(1)
	}
}
