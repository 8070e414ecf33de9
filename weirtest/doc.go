// Package weirtest runs a job in a test: the same graph on the same engine, in
// the process of the test, on virtual time, with its sources and sinks replaced
// by name and its checkpoints in memory.
//
//	run := weirtest.New(t, job, weirtest.Source[Click]("clicks"), weirtest.Sink[Nudge]("nudges"))
//	weirtest.Feed(run, "clicks",
//		weirtest.Value(view(0)), weirtest.Value(view(1)),
//		weirtest.Checkpoint(), weirtest.Value(view(2)),
//		weirtest.Crash(), weirtest.Restore(3), weirtest.Value(add(3)),
//		weirtest.EndOfInput())
//	got := weirtest.Collect[Nudge](run, "nudges")
//
// A test is a list of steps. Before the next step is taken the job has done
// everything that follows from the one before: records have gone all the way,
// watermarks have reached every operator, due timers have fired. Nothing depends
// on the speed of the machine, and no clock runs: AdvanceClock moves processing
// time from timer to timer. After a crash the sources hand the records that the
// last checkpoint does not cover over again, one step after another in their old
// order, also across sources.
//
// Matrix runs one list of steps in four ways, with checkpoints, crashes, other
// parallelism and everything encoded, and demands the same output of all.
//
// What the kit does not do: simulate brokers, networks or disks that fail, or
// run more than one process. Output is what a reader that sees only committed
// records sees, so it appears with a checkpoint.
package weirtest
