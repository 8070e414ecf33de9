// Command torture runs a job under a storm of kills and judges what a reader saw:
//
//	torture -kills 30 [-seed N] [-dir DIR]
//	torture check DIR
//
// The second form judges the files of a run again. The exit code is 0 when
// nothing was lost, duplicated, reordered or wrong.
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
	torture.Child()
	if len(os.Args) == 3 && os.Args[1] == "check" {
		os.Exit(check(os.Args[2]))
	}
	var cfg torture.Config
	flag.IntVar(&cfg.Kills, "kills", 30, "processes to kill")
	flag.Uint64Var(&cfg.Seed, "seed", uint64(time.Now().UnixNano()), "seed of records and faults")
	flag.StringVar(&cfg.Dir, "dir", "", "directory for the files of the run; a temporary one, removed after success, if not set")
	flag.IntVar(&cfg.Rate, "rate", 0, "records per second (default 400)")
	flag.IntVar(&cfg.Keys, "keys", 0, "number of keys (default 2000)")
	flag.DurationVar(&cfg.Interval, "checkpoint-interval", 0, "checkpoint interval of the job (default 150ms)")
	flag.DurationVar(&cfg.Limit, "limit", 0, "bound of the whole run (default 1 min and 6 s per kill)")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	os.Exit(run(cfg))
}

func run(cfg torture.Config) int {
	temporary := cfg.Dir == ""
	if temporary {
		dir, err := os.MkdirTemp("", "weir-torture-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		cfg.Dir = dir
	}
	cfg.Log = os.Stdout
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	res, err := torture.Run(ctx, cfg)
	fmt.Println(res.Summary())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if !res.OK() || err != nil {
		fmt.Println(res.Details())
		fmt.Println("files are kept in", cfg.Dir)
		return 1
	}
	if temporary {
		_ = os.RemoveAll(cfg.Dir) // what is left lies in the system's temporary directory
	}
	return 0
}

func check(dir string) int {
	rep, _, err := torture.CheckDir(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	fmt.Println(rep)
	if !rep.OK() {
		fmt.Println(rep.Details())
		return 1
	}
	return 0
}
