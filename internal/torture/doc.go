// Package torture kills a job and its server again and again and judges from the
// outside whether every record counted exactly once.
//
// Four kinds of processes take part, all of this binary: a NATS server, a
// generator that keeps a log of what it published, the job, and a reader that
// shares no code with the engine. A nemesis kills job and server at random and at
// named crash points, by a schedule that follows from a seed. What remains are
// three files, input.jsonl, output.jsonl and faults.jsonl, whose form is described
// in README.md; Check compares the first two, and so can anybody else.
//
// The job has several branches on one source, after the jobs of the verification
// programme:
//
//	j1   keyed echo
//	j2   keyed count and sum, with a hash chain and a list of the latest records
//	j3t  tumbling windows with allowed lateness; j3l, what came too late for them
//	j3s  sliding windows with allowed lateness
//	j7   a nondeterministic operator: random numbers and the wall clock in state
//	     and output, processing-time timers
//	j8   event-time timers, map state, state with a time to live
//
// Matrix runs the same job once per crash point, and Mutants plants bugs in the
// engine to see that they are found.
//
// Left out: partitions of the network, pauses of processes, full disks, clock
// jumps, and more than one process per job.
package torture
