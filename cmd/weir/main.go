// Command weir runs the example jobs of the repository and looks at their
// checkpoints. A job of your own is a program of your own that calls weir.Main;
// its commands are the same.
package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/examples/storefront"
)

func main() {
	root := weir.NewCommand(jobs()...)
	root.Use = "weir"
	root.AddCommand(commands()...)
	os.Exit(weir.Execute(root))
}

// jobs lists the jobs that this binary runs.
func jobs() []weir.JobSpec { return []weir.JobSpec{storefront.Job()} }

// commands lists the commands that this binary has besides those of weir.Main.
func commands() []*cobra.Command { return []*cobra.Command{demoCommand(began)} }

// began is about when the process was started.
var began = time.Now()
