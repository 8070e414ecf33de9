package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirflow/weir/internal/storefront"
	"github.com/weirflow/weir/internal/storefront/proof"
)

// childCommand is the hidden command by which the demo starts its processes.
const childCommand = "child"

// demoCommand is `weir demo`.
func demoCommand(began time.Time) *cobra.Command {
	o := storefront.Options{Began: began}
	o.Script.Rate, o.Script.Speed = storefront.DefaultRate, storefront.DefaultSpeed
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a job, kill it again and again, and prove that its results are right",
		Long: `Run the storefront job on an embedded NATS server, kill it with -9 and start it
again about every seven seconds, and compare everything that it publishes with a
model of the generator's own log.

Event time runs faster than the clock, so that patterns of ten minutes show within
seconds. Exit code 0 says that every result was right, 1 that one was not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			o.Command = []string{exe, cmd.Name(), childCommand}
			o.Out = cmd.OutOrStdout()
			if !once {
				o.Once = 0
			}
			return storefront.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&once, "once", false, "end after --duration and exit with 0 only if everything was right")
	f.DurationVar(&o.Once, "duration", storefront.DefaultOnce, "how long --once takes")
	f.IntVar(&o.Script.Rate, "rate", o.Script.Rate, "events per second")
	f.Uint64Var(&o.Script.Seed, "seed", 1, "seed of the events and of the times of the kills")
	f.IntVar(&o.Script.Speed, "speed", o.Script.Speed, "how many times faster than the clock event time runs")
	f.DurationVar(&o.KillEvery, "kill-every", storefront.DefaultKillEvery, "mean time between two kills of the job, 0 for none")
	f.StringVar(&o.Dir, "dir", "", "keep everything in this directory and go on with what it holds (default a temporary one)")
	f.DurationVar(&o.Interval, "checkpoint-interval", storefront.DefaultInterval, "time between two checkpoints of the job")
	f.IntVar(&o.Parallelism, "parallelism", storefront.DefaultParallelism, "subtasks of the job's keyed operators")
	f.BoolVar(&o.AtLeastOnce, "at-least-once", false, "publish at least once instead of exactly once, to see the difference")
	f.StringVar(&o.Fault, "fault", "", "falsify one result before it is compared, to see the proof fail: one of "+list(proof.Faults))
	if err := f.MarkHidden("fault"); err != nil {
		panic(err)
	}
	cmd.AddCommand(&cobra.Command{
		Use: childCommand + " ROLE", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return storefront.Child(args[0], cmd.InOrStdin(), cmd.OutOrStdout())
		},
	})
	return cmd
}

func list(names []string) string {
	out := ""
	for i, n := range names {
		if i > 0 {
			out += ", "
		}
		out += n
	}
	return out
}
