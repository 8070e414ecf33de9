// Package invariants holds assertions about Weir's own correctness. They cost
// nothing unless the program is built with the tag "invariants": Enabled is a
// constant, so the compiler drops every guarded branch.
//
// An assertion is for programmer errors only. What a user, a file or a peer can
// cause is an error value, never a failed assertion.
//
//	if invariants.Enabled {
//		invariants.Check(sorted(keys), "keys of a delta are sorted")
//	}
//
// The guard matters where computing the condition costs something: arguments are
// evaluated even when the check itself is off.
package invariants

import "fmt"

// Check panics with msg when cond is false. Without the build tag it does nothing.
func Check(cond bool, msg string) {
	if Enabled && !cond {
		panic("invariant violated: " + msg)
	}
}

// Checkf is Check with a formatted message. The arguments escape to the heap, so
// it belongs inside an "if invariants.Enabled" block on hot paths.
func Checkf(cond bool, format string, args ...any) {
	if Enabled && !cond {
		panic("invariant violated: " + fmt.Sprintf(format, args...))
	}
}

// Mangle overwrites b with a pattern, so that a caller that kept a buffer which
// it had to give back reads garbage at once instead of rarely. Without the build
// tag it does nothing.
func Mangle(b []byte) {
	if Enabled {
		for i := range b {
			b[i] = 0xcc
		}
	}
}
