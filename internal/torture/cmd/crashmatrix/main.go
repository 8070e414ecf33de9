// Command crashmatrix lets a job die at every crash point, and its server when the
// job is there, and judges the results of each run:
//
//	crashmatrix [-short] [-run REGEXP] [-workers 2] [-seed N] [-dir DIR]
//
// The exit code is 0 when every point was reached and every result is exact.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"

	"github.com/weirflow/weir/internal/torture"
)

func main() {
	torture.Child()
	var cfg torture.MatrixConfig
	var only string
	flag.BoolVar(&cfg.Short, "short", false, "one death of the job per point")
	flag.StringVar(&only, "run", "", "run only cells whose name matches")
	flag.IntVar(&cfg.Workers, "workers", 2, "cells at a time")
	flag.Uint64Var(&cfg.Seed, "seed", 1, "seed of the records")
	flag.StringVar(&cfg.Dir, "dir", "", "directory for the files; a temporary one, removed after success, if not set")
	flag.Parse()
	var err error
	if only != "" {
		if cfg.Only, err = regexp.Compile(only); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	os.Exit(run(cfg))
}

func run(cfg torture.MatrixConfig) int {
	temporary := cfg.Dir == ""
	if temporary {
		dir, err := os.MkdirTemp("", "weir-crashmatrix-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		cfg.Dir = dir
	}
	cfg.Log = os.Stdout
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	res, err := torture.Matrix(ctx, cfg)
	for point, why := range res.Excused {
		fmt.Printf("excused: %s: %s\n", point, why)
	}
	for _, point := range res.Missed {
		fmt.Println("never reached:", point)
	}
	for i := range res.Cells {
		if c := &res.Cells[i]; !c.OK() {
			fmt.Println("failed:", c.Cell)
		}
	}
	fmt.Println(res.Summary())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || !res.OK() {
		fmt.Println("files are kept in", cfg.Dir)
		return 1
	}
	if temporary {
		_ = os.RemoveAll(cfg.Dir) // what is left lies in the system's temporary directory
	}
	return 0
}
