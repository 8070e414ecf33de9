//go:build !unix

package state

// mapMemory allocates from the Go heap: pointer-free, so the collector does not
// scan it, but it counts for the pace of collections.
func mapMemory(size int) ([]byte, error) { return make([]byte, size), nil }

func unmapMemory([]byte) {}

func adviseHuge([]byte) {}

func dropPages([]byte) {}
