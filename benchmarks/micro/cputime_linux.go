package main

import "golang.org/x/sys/unix"

// threadNanos is the CPU time that the calling thread has used, in nanoseconds. A
// goroutine that is locked to its thread sees by it how long it worked itself,
// without what the kernel or the Go scheduler took away.
func threadNanos() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return t.Nano()
}
